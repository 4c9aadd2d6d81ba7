"""Proposal: Faster R-CNN's regions of interest, from the predictions of its region proposal network."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers import boxes
from breve.layers.base import Layer

PAIRS = r"(\w+)['\"]?\s*:\s*([\[(][^\])]*[\])]|[^\s,}]+)"  # name: number or list, in YAML's or Python's form
BORDER = 1  # corners are pixels, both included: a box from 0 to 15 is 16 wide


@dataclass(frozen=True)
class Settings:
    """What `propose` is told. Defaults are py-faster-rcnn's for testing."""

    feat_stride: float = 16
    base_size: float = 16
    min_size: float = 16
    ratios: tuple[float, ...] = (0.5, 1, 2)
    scales: tuple[float, ...] = (8, 16, 32)
    pre_nms_topn: int = 6000
    post_nms_topn: int = 300
    nms_thresh: float = 0.7


def anchors(settings: Settings) -> np.ndarray:
    """Boxes (A, 4) around the first cell: for each ratio of height to width, for each scale; sides are whole pixels.

    >>> anchors(Settings(ratios=(1,), scales=(1, 2))).tolist()
    [[0.0, 0.0, 15.0, 15.0], [-8.0, -8.0, 23.0, 23.0]]
    """
    center = (settings.base_size - 1) / 2
    widths = np.rint(np.sqrt(settings.base_size**2 / np.array(settings.ratios, float)))
    heights = np.rint(widths * settings.ratios)
    shapes = np.stack([widths, heights], axis=1)[:, None] * np.array(settings.scales, float)[:, None]
    half = (shapes.reshape(-1, 2) - 1) / 2
    return np.concatenate([center - half, center + half], axis=1)


def propose(
    scores: np.ndarray, deltas: np.ndarray, image: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (R, 4) and scores (R) of one image, the highest score first.

    `scores` (A, H, W) say how sure each anchor is of an object, `deltas` (4 A, H, W) where it lies relative to the
    anchor, `image` is (height, width, scale).
    """
    height, width = scores.shape[1:]
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    shifts = np.stack([x, y, x, y], axis=-1)[:, :, None] * settings.feat_stride
    placed = (anchors(settings) + shifts).reshape(-1, 4)
    found = _moved(placed, deltas.transpose(1, 2, 0).reshape(-1, 4))
    found = np.clip(found, 0, np.array([image[1], image[0], image[1], image[0]]) - 1)
    score = scores.transpose(1, 2, 0).ravel()
    large = (found[:, 2:] - found[:, :2] + BORDER >= settings.min_size * image[2]).all(axis=1)
    found, score = found[large], score[large]
    kept = boxes.suppress(found, score, settings.nms_thresh, top_k=settings.pre_nms_topn, border=BORDER)
    kept = kept[: settings.post_nms_topn]
    return found[kept], score[kept]


def _moved(placed: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Anchors moved by (dx, dy) times their size, and scaled by (exp dw, exp dh)."""
    extent = placed[:, 2:] - placed[:, :2] + BORDER
    center = placed[:, :2] + extent / 2 + deltas[:, :2] * extent
    with np.errstate(over="ignore"):  # untrained predictions may be huge
        half = np.exp(deltas[:, 2:]) * extent / 2
    return np.concatenate([center - half, center + half], axis=1)


class Proposal(Layer):
    """Regions that may hold an object, from a region proposal network's predictions.

    Forward: anchors at each cell are moved and scaled by the predictions, cut to the image, dropped where smaller than
        `min_size` times the image's scale, and non-maximum suppression goes over the `pre_nms_topn` best; the first
        `post_nms_topn` remain.
    Backward: dx = 0: regions are taken as given, as approximate joint training does.
    Blobs: bottoms class scores (N, 2 A, H, W), background first; box predictions (N, 4 A, H, W); image sizes (N, 3):
        height, width, scale. Tops regions (R, 5): (image, xmin, ymin, xmax, ymax), and if wished their scores (R, 1).
    Fields: proposal_param: `feat_stride` (16), `base_size` (16), `min_size` (16), `ratio` (0.5, 1, 2), `scale`
        (8, 16, 32), `pre_nms_topn` (6000), `post_nms_topn` (300), `nms_thresh` (0.7).
    Errors: sizes that do not fit the anchors.
    Source: py-faster-rcnn's rpn/proposal_layer.py, and the fields of the forks that have it in C++; Ren et al., "Faster
        R-CNN", 2015. A Python layer of module `rpn.proposal_layer` is run by this one too, where that module is not at
        hand.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (3, 3)
    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the fields."""
        param = self.param.proposal_param
        names = ("feat_stride", "base_size", "min_size", "pre_nms_topn", "post_nms_topn", "nms_thresh")
        given: dict[str, Any] = {name: getattr(param, name) for name in names}
        given |= {"ratios": tuple(param.ratio)} if param.ratio else {}
        given |= {"scales": tuple(param.scale)} if param.scale else {}
        self.settings = Settings(**given)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the sizes; the number of regions is known after forward."""
        check_predictions(bottom, self.settings)
        for blob, size in zip(top, (5, 1), strict=False):
            blob.reshape(1, size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Propose image by image."""
        write_regions(bottom, top, self.settings)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Nothing flows back."""
        clear_diffs(propagate_down, bottom)


class ProposalLayer:
    """The same as py-faster-rcnn's Python layer `rpn.proposal_layer.ProposalLayer`, for prototxts that name it.

    `param_str` holds `feat_stride` and, if wished, `scales`; the other numbers are its configuration's, which keeps
    more regions in training. Raises LayerError for anything else in `param_str`.
    """

    param_str: str
    phase: int

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read `param_str`, YAML such as "'feat_stride': 16"."""
        given: dict[str, Any] = {key: ast.literal_eval(value) for key, value in re.findall(PAIRS, self.param_str)}
        if set(given) - {"feat_stride", "scales"}:
            raise LayerError("unknown names in param_str", expected="feat_stride, scales", found=sorted(given))
        if self.phase == 0:
            given |= {"pre_nms_topn": 12000, "post_nms_topn": 2000}
        self.settings = Settings(**given)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the sizes."""
        check_predictions(bottom, self.settings)
        for blob, size in zip(top, (5, 1), strict=False):
            blob.reshape(1, size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Propose."""
        write_regions(bottom, top, self.settings)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Nothing flows back."""
        clear_diffs(propagate_down, bottom)


def check_predictions(bottom: Sequence[Blob], settings: Settings) -> None:
    """Raise LayerError unless the three bottoms fit each other and the anchors."""
    num_anchors = len(settings.ratios) * len(settings.scales)
    scores, deltas, image = (blob.shape for blob in bottom)
    if len(scores) != 4 or scores[1] != 2 * num_anchors or deltas != (scores[0], 4 * num_anchors, *scores[2:]):
        n, _, h, w = scores if len(scores) == 4 else ("N", 0, "H", "W")
        raise LayerError(
            f"scores and boxes do not fit {num_anchors} anchors",
            expected=f"({n}, {2 * num_anchors}, {h}, {w}) and ({n}, {4 * num_anchors}, {h}, {w})",
            found=f"{scores} and {deltas}",
        )
    if len(image) != 2 or image[0] != scores[0] or image[1] < 3:
        raise LayerError("image sizes must be height, width, scale", expected=(scores[0], 3), found=image)


def write_regions(bottom: Sequence[Blob], top: Sequence[Blob], settings: Settings) -> None:
    """Shape and write the tops: regions, and scores where there is a second one."""
    regions, scores = [np.empty((0, 5))], [np.empty(0)]
    for n, (class_scores, deltas, image) in enumerate(zip(*(blob.data for blob in bottom), strict=True)):
        found, score = propose(class_scores[len(class_scores) // 2 :], deltas, image, settings)
        regions.append(np.insert(found, 0, n, axis=1))
        scores.append(score)
    for blob, rows in zip(top, (np.concatenate(regions), np.concatenate(scores)[:, None]), strict=False):
        blob.reshape(*rows.shape)
        blob.data[...] = rows


def clear_diffs(propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
    """Set wanted gradients to zero."""
    for blob, wanted in zip(bottom, propagate_down, strict=True):
        if wanted:
            blob.diff[...] = 0
