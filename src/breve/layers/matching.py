"""Which prior box stands for which object of the ground truth, and which stand for background, while SSD trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from breve.errors import DataError
from breve.layers import boxes

UNMATCHED, IGNORED = -1, -2


@dataclass(frozen=True)
class Truth:
    """The objects in one image: `labels` (G) and `boxes` (G, 4)."""

    labels: np.ndarray
    boxes: np.ndarray


def read_truth(
    rows: np.ndarray, num_images: int, num_classes: int, background: int, use_difficult: bool
) -> list[Truth]:
    """The objects of each image from rows (image, label, instance, xmin, ymin, xmax, ymax, difficult).

    Rows of image -1 are no objects.
    Raises DataError for a label that is no class or is the background, for an image beyond the batch, and for a box
    without an area.
    """
    rows = rows[rows[:, 0] != -1]
    wrong = np.flatnonzero(~((rows[:, 0] >= 0) & (rows[:, 0] < num_images)))
    if wrong.size:
        raise DataError(
            "an object belongs to no image of the batch", expected=f"0 to {num_images - 1}", found=rows[wrong[0], 0]
        )
    rows = rows if use_difficult else rows[rows[:, 7] == 0]
    labels = rows[:, 1]
    wrong = np.flatnonzero(~((labels >= 0) & (labels < num_classes) & (labels.astype(int) != background)))
    if wrong.size:
        raise DataError(
            "an object's label is no class, or is the background",
            expected=f"0 to {num_classes - 1} but {background}",
            found=f"{labels[wrong[0]]:g}",
        )
    wrong = np.flatnonzero(~(rows[:, 3:5] < rows[:, 5:7]).all(axis=1))
    if wrong.size:
        raise DataError(
            "an object's box has no area", expected="xmin < xmax, ymin < ymax", found=rows[wrong[0], 3:7].tolist()
        )
    images = rows[:, 0].astype(int)
    return [Truth(labels[images == n].astype(np.intp), rows[images == n, 3:7]) for n in range(num_images)]


def match(
    truth: np.ndarray, priors: np.ndarray, threshold: float | None, ignore_crossing: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """For each prior (P, 4) the object in `truth` (G, 4) it stands for, or UNMATCHED; and its overlap with the best.

    First each object gets the prior that overlaps it most, the greatest overlap of all first and no prior twice.
    Then, with a `threshold` (None: not), each prior left gets the object it overlaps most, if by that much. With
    `ignore_crossing` priors that leave the image are IGNORED. Source: the SSD fork's MatchBBox.
    """
    matches = np.full(len(priors), UNMATCHED)
    overlaps = boxes.overlap(priors[:, None], truth[None])
    if ignore_crossing:
        crossing = ((priors < 0) | (priors > 1)).any(axis=1)
        matches[crossing], overlaps[crossing] = IGNORED, 0
    overlaps[overlaps <= 1e-6] = 0
    best = overlaps.max(axis=1, initial=0)
    left = overlaps.copy()
    while left.any():
        prior, box = np.unravel_index(left.argmax(), left.shape)
        matches[prior], best[prior] = box, left[prior, box]
        left[prior], left[:, box] = 0, 0
    if threshold is not None and len(truth):
        nearest = overlaps.argmax(axis=1)
        reach = overlaps[np.arange(len(priors)), nearest]
        others = (matches == UNMATCHED) & (reach >= threshold) & (reach > 0)
        matches[others] = nearest[others]
    return matches, best


def hardest(eligible: np.ndarray, losses: np.ndarray, count: int) -> np.ndarray:
    """The `count` of the `eligible` positions with the highest losses, in ascending order."""
    return np.sort(eligible[np.argsort(-losses[eligible], kind="stable")[:count]])
