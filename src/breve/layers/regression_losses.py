"""Losses of distances and margins: EuclideanLoss, ContrastiveLoss, HingeLoss, SmoothL1Loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.loss import LossLayer, read_labels


class EuclideanLoss(LossLayer):
    """Half the mean squared distance of two blobs.

    Forward: loss = sum (a - b)^2 / (2 N).
    Backward: da = (a - b) loss_weight / N; db = -da.
    Blobs: bottoms a and b, (N, ...) with as many values each; top the scalar loss.
    Fields: none.
    Errors: bottoms of different sizes.
    Source: Caffe's euclidean_loss_layer.
    """

    unforced_bottoms: ClassVar[frozenset[int]] = frozenset()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the counts."""
        super().reshape(bottom, top)
        self.require_equal_counts(bottom)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum the squares."""
        a = bottom[0].data
        self.difference = a - bottom[1].data.reshape(a.shape)
        top[0].data[...] = np.square(self.difference, dtype=np.float64).sum() / (2 * max(1, a.shape[0]))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Pull both towards each other."""
        weight = self.dtype.type(top[0].diff[()] / max(1, bottom[0].shape[0]))
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1), strict=True):
            if wanted:
                blob.diff[...] = (self.difference * (sign * weight)).reshape(blob.shape)


class ContrastiveLoss(LossLayer):
    """Pulls pairs that are alike together, and pushes others a margin apart.

    Forward: loss = sum (y d^2 + (1 - y) max(margin - d, 0)^2) / (2 N), d = |a - b|, y = 1 for pairs alike, 0 for
        others; with `legacy_version` others count max(margin - d^2, 0).
    Backward: da = y (a - b) loss_weight / N for pairs alike; for others nearer than the margin
        da = -(margin - d) (a - b) / (d + 1e-4) loss_weight / N (legacy: -(a - b) loss_weight / N); db = -da.
    Blobs: bottoms a and b, (N, C) or (N, C, 1, 1), and y with N values; top the scalar loss.
    Fields: contrastive_loss_param: `margin` (1), `legacy_version` (false).
    Errors: bottoms of other shapes; a gradient wrt y.
    Source: Caffe's contrastive_loss_layer; Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an
        invariant mapping", 2006.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (3, 3)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({2})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that there are two vectors and one flag for each pair."""
        super().reshape(bottom, top)
        shape = bottom[0].shape
        if bottom[1].shape != shape or any(d != 1 for d in shape[2:]) or len(shape) < 2:
            raise LayerError("both vectors must be (N, C)", expected=bottom[0].shape, found=bottom[1].shape)
        if bottom[2].count != shape[0]:
            raise LayerError("there must be one flag for each pair", expected=shape[0], found=bottom[2].count)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Measure each pair."""
        param = self.param.contrastive_loss_param
        num = bottom[0].shape[0]
        self.difference = (bottom[0].data - bottom[1].data).reshape(bottom[0].shape[:2])
        self.alike = np.trunc(bottom[2].data.reshape(num)) != 0
        squared = np.square(self.difference).sum(axis=1)
        self.distance = np.sqrt(squared)
        reach = squared if param.legacy_version else self.distance
        self.missing = np.maximum(self.dtype.type(param.margin) - reach, 0)
        apart = self.missing if param.legacy_version else self.missing**2
        top[0].data[...] = np.where(self.alike, squared, apart).sum(dtype=np.float64) / (2 * max(1, num))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Pull or push along the difference."""
        self.refuse_label_gradient(propagate_down, label=2)
        weight = top[0].diff[()] / max(1, bottom[0].shape[0])
        push = np.where(self.missing > 0, self.dtype.type(-1), self.dtype.type(0))
        if not self.param.contrastive_loss_param.legacy_version:
            push = -self.missing / (self.distance + self.dtype.type(1e-4))
        diff = self.difference * (weight * np.where(self.alike, 1, push))[:, None].astype(self.dtype)
        for blob, wanted, sign in zip(bottom, propagate_down[:2], (1, -1), strict=False):
            if wanted:
                blob.diff[...] = (sign * diff).reshape(blob.shape)


class HingeLoss(LossLayer):
    """One-versus-all hinge loss of class scores.

    Forward: loss = sum_(n,k) max(0, 1 - s x)^p / N, s = 1 for the label's class, -1 for others; p = 1 (L1) or 2 (L2).
    Backward: L1: dx = -s loss_weight / N where 1 - s x > 0; L2: dx = -2 s max(0, 1 - s x) loss_weight / N.
    Blobs: bottoms scores (N, K) and N labels; top the scalar loss.
    Fields: hinge_loss_param: `norm` (L1).
    Errors: labels that are no class; a gradient wrt labels.
    Source: Caffe's hinge_loss_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum what is missing to the margins."""
        num = bottom[0].shape[0]
        scores = bottom[0].data.reshape(num, int(np.prod(bottom[0].shape[1:])))
        labels, _ = read_labels(bottom[1], (num,), scores.shape[1])
        self.sign = np.full(scores.shape, -1, self.dtype)
        self.sign[np.arange(num), labels] = 1
        self.missing = np.maximum(0, 1 - self.sign * scores)
        losses = self.missing if self._norm == 1 else np.square(self.missing)
        top[0].data[...] = losses.sum(dtype=np.float64) / max(1, num)

    @property
    def _norm(self) -> int:
        return self.param.hinge_loss_param.norm

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Push scores that miss their margin."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            weight = self.dtype.type(top[0].diff[()] / max(1, bottom[0].shape[0]))
            slope = np.sign(self.missing) if self._norm == 1 else 2 * self.missing
            bottom[0].diff[...] = (-weight * self.sign * slope).reshape(bottom[0].shape)


def smooth_l1(difference: np.ndarray, sigma: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes of sigma^2 d^2 / 2 where |d| < 1 / sigma^2, else |d| - 1 / (2 sigma^2)."""
    squared = difference.dtype.type(sigma**2)
    near = np.abs(difference) < 1 / squared
    values = np.where(near, squared * difference**2 / 2, np.abs(difference) - 1 / (2 * squared))
    return values, np.where(near, squared * difference, np.sign(difference))


class SmoothL1Loss(LossLayer):
    """A squared distance near zero, an absolute one further out: what box regressions are trained with.

    Forward: loss = sum outside f(inside (a - b)) / N, f(d) = sigma^2 d^2 / 2 where |d| < 1 / sigma^2, else
        |d| - 1 / (2 sigma^2).
    Backward: da = inside outside f'(inside (a - b)) loss_weight / N; db = -da.
    Blobs: bottoms a and b (N, ...), optionally weights `inside` and `outside` (1 each), all of one shape; top the
        scalar loss.
    Fields: smooth_l1_loss_param: `sigma` (1).
    Errors: bottoms of other sizes; a gradient wrt weights; sigma not positive.
    Source: Fast R-CNN's smooth_L1_loss_layer (four bottoms) and SSD's (two or three, sigma 1; there the gradient is not
        multiplied by `inside`, which is the same for the zeros and ones it is made of); Girshick, "Fast R-CNN", 2015.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 4)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({2, 3})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the counts."""
        super().reshape(bottom, top)
        for blob in bottom[1:]:
            self.require_equal_counts([bottom[0], blob])
        if self.param.smooth_l1_loss_param.sigma <= 0:
            raise LayerError("smooth_l1_loss_param.sigma must be positive", found=self.param.smooth_l1_loss_param.sigma)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum the distances; the slopes are kept for backward."""
        values: list[Any] = [blob.data.reshape(bottom[0].shape) for blob in bottom]
        a, b, inside, outside = [*values, self.dtype.type(1), self.dtype.type(1)][:4]
        losses, slope = smooth_l1(inside * (a - b), self.param.smooth_l1_loss_param.sigma)
        self.slope = inside * outside * slope
        top[0].data[...] = (outside * losses).sum(dtype=np.float64) / max(1, a.shape[0])

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale the slopes."""
        for label in (2, 3):
            self.refuse_label_gradient(propagate_down, label=label)
        weight = self.dtype.type(top[0].diff[()] / max(1, bottom[0].shape[0]))
        for blob, wanted, sign in zip(bottom[:2], propagate_down, (1, -1), strict=False):
            if wanted:
                blob.diff[...] = (sign * weight * self.slope).reshape(blob.shape)
