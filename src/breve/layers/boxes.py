"""Boxes: arrays (..., 4) of corners (xmin, ymin, xmax, ymax). What detection layers do with them.

`border` is 0 for corners between pixels (SSD, in parts of the image) and 1 for corners that are pixels, both included
(Faster R-CNN).
"""

from __future__ import annotations

import numpy as np


def sizes(boxes: np.ndarray, border: float = 0) -> np.ndarray:
    """Area of each box; 0 where a maximum lies below its minimum."""
    extent = boxes[..., 2:] - boxes[..., :2]
    return np.where((extent >= 0).all(axis=-1), (extent + border).prod(axis=-1), 0)


def overlap(box: np.ndarray, boxes: np.ndarray, border: float = 0) -> np.ndarray:
    """Intersection over union (Jaccard overlap) of `box` with each of `boxes`, broadcast; 0 where they are apart."""
    low = np.maximum(box[..., :2], boxes[..., :2])
    high = np.minimum(box[..., 2:], boxes[..., 2:])
    common = np.maximum(high - low + border, 0).prod(axis=-1)
    union = sizes(box, border) + sizes(boxes, border) - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, *, top_k: int = -1, eta: float = 1, border: float = 0
) -> np.ndarray:
    """Non-maximum suppression: which boxes (n, 4) to keep, highest score first.

    A box is dropped where it overlaps one that was kept by more than `threshold`; of equal scores the first comes
    first. Only the `top_k` highest scores are looked at (-1: all). With `eta` below 1 the threshold shrinks by it after
    each box kept, as long as it is above 0.5. Source: the SSD fork's ApplyNMSFast.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[:top_k] if top_k > -1 else order
    ordered = boxes[order]
    most_overlap = np.zeros(len(order), boxes.dtype)
    kept = []
    for i, index in enumerate(order):
        if most_overlap[i] <= threshold:
            kept.append(index)
            most_overlap[i + 1 :] = np.maximum(most_overlap[i + 1 :], overlap(ordered[i], ordered[i + 1 :], border))
            threshold *= eta if eta < 1 and threshold > 0.5 else 1
    return np.array(kept, np.intp)


def centers(boxes: np.ndarray) -> np.ndarray:
    """Corners as (center x, center y, width, height)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def corners(boxes: np.ndarray) -> np.ndarray:
    """Centers as corners."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([center - half, center + half], axis=-1)


def encode(boxes: np.ndarray, priors: np.ndarray, variances: np.ndarray, code: str) -> np.ndarray:
    """What a net must predict so that `decode` gives `boxes`.

    CORNER: (box - prior) / variance; CORNER_SIZE: the same in units of the prior's width and height; CENTER_SIZE:
        centers
    in those units, and logarithms of ratios of sizes. Source: the SSD fork's EncodeBBox; Liu et al., "SSD", 2016.
    """
    if code == "CENTER_SIZE":
        box, prior = centers(boxes), centers(priors)
        shift = (box[..., :2] - prior[..., :2]) / prior[..., 2:]
        return np.concatenate([shift, np.log(box[..., 2:] / prior[..., 2:])], axis=-1) / variances
    return (boxes - priors) / (variances * _unit(priors, code))


def decode(predictions: np.ndarray, priors: np.ndarray, variances: np.ndarray, code: str) -> np.ndarray:
    """Boxes from predictions relative to priors: the inverse of `encode`."""
    if code == "CENTER_SIZE":
        prior, scaled = centers(priors), predictions * variances
        center = scaled[..., :2] * prior[..., 2:] + prior[..., :2]
        with np.errstate(all="ignore"):  # untrained predictions may be huge
            return corners(np.concatenate([center, np.exp(scaled[..., 2:]) * prior[..., 2:]], axis=-1))
    return priors + predictions * variances * _unit(priors, code)


def _unit(priors: np.ndarray, code: str) -> np.ndarray:
    """Widths and heights for CORNER_SIZE, ones for CORNER."""
    extent = priors[..., 2:] - priors[..., :2]
    return np.concatenate([extent, extent], axis=-1) if code == "CORNER_SIZE" else np.ones_like(priors)
