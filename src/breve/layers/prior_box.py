"""PriorBox: the boxes that SSD's predictions are relative to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.base import Layer


class PriorBox(Layer):
    """Boxes of several sizes and shapes around each cell of a feature map.

    Forward: around ((w + offset) step_w, (h + offset) step_h), for each `min_size` a square of that side, with
        `max_size` one of side sqrt(min_size max_size), and for each further aspect ratio a a box min_size sqrt(a) wide
        and min_size / sqrt(a) high; corners as parts of the image. Sizes are cut to whole pixels.
    Backward: none; the values depend on shapes alone.
    Blobs: bottoms the feature map (N, C, H, W) and the image; top (1, 2, 4 H W K): corners of K boxes a cell, cell by
        cell, and their variances.
    Fields: prior_box_param: `min_size` (at least one), `max_size` (none, or one for each), `aspect_ratio` (1 always is
        one), `flip` (true: 1 / a for each a), `clip` (false: corners may leave the image), `variance` (0.1; one for
        all, or four), `img_size` or `img_h` and `img_w` (the image's), `step` or `step_h` and `step_w` (image /
        feature map), `offset` (0.5).
    Errors: no `min_size`; a `max_size` that is not above its `min_size`; another number of variances.
    Source: the SSD fork's prior_box_layer; Liu et al., "SSD: single shot multibox detector", 2016.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Work out the boxes of one cell, and the variances."""
        param = self.param.prior_box_param
        if not param.min_size or any(size <= 0 for size in param.min_size):
            raise LayerError("prior_box_param.min_size is missing or not positive", found=list(param.min_size))
        if param.max_size and (
            len(param.max_size) != len(param.min_size)
            or any(high <= low for low, high in zip(param.min_size, param.max_size, strict=True))
        ):
            raise LayerError(
                "prior_box_param needs no max_size, or a greater one for each min_size",
                expected=f"above {list(param.min_size)}",
                found=list(param.max_size),
            )
        if len(param.variance) not in (0, 1, 4) or any(v <= 0 for v in param.variance):
            raise LayerError("prior_box_param.variance must be one positive number or four", found=list(param.variance))
        self.variance = np.resize(list(param.variance) or [0.1], 4)
        self.shapes = self._shapes_of_a_cell()

    def _aspect_ratios(self) -> list[float]:
        """Aspect ratios other than 1, each once."""
        param, ratios = self.param.prior_box_param, [1.0]
        for ratio in param.aspect_ratio:
            if ratio <= 0:
                raise LayerError("prior_box_param.aspect_ratio must be positive", found=ratio)
            if all(abs(ratio - known) >= 1e-6 for known in ratios):
                ratios += [ratio, 1 / ratio] if param.flip else [ratio]
        return ratios[1:]

    def _shapes_of_a_cell(self) -> np.ndarray:
        """(K, 2): width and height of each box, in pixels."""
        param, ratios = self.param.prior_box_param, self._aspect_ratios()
        shapes: list[tuple[float, float]] = []
        for i, size in enumerate(int(s) for s in param.min_size):
            shapes.append((size, size))
            if param.max_size:
                shapes.append((math.sqrt(size * int(param.max_size[i])),) * 2)
            shapes += [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios]
        return np.array(shapes)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One box for each cell and shape."""
        if bottom[0].ndim != 4 or bottom[1].ndim != 4:
            raise LayerError(
                "PriorBox needs a feature map and an image",
                expected="four axes",
                found=(bottom[0].shape, bottom[1].shape),
            )
        top[0].reshape(1, 2, 4 * bottom[0].shape[2] * bottom[0].shape[3] * len(self.shapes))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Place the boxes."""
        param = self.param.prior_box_param
        height, width = bottom[0].shape[2:]
        image_h = param.img_h or param.img_size or bottom[1].shape[2]
        image_w = param.img_w or param.img_size or bottom[1].shape[3]
        step_h = param.step_h or param.step or image_h / max(1, height)
        step_w = param.step_w or param.step or image_w / max(1, width)
        x, y = np.meshgrid((np.arange(width) + param.offset) * step_w, (np.arange(height) + param.offset) * step_h)
        centers = np.stack([x, y], axis=-1)[:, :, None]
        boxes = np.concatenate([centers - self.shapes / 2, centers + self.shapes / 2], axis=-1)
        boxes /= (image_w, image_h, image_w, image_h)
        top[0].data[0, 0] = (np.clip(boxes, 0, 1) if param.clip else boxes).ravel()
        top[0].data[0, 1] = np.resize(self.variance, boxes.size)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Boxes do not depend on values."""
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff[...] = 0
