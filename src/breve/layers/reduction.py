"""Sums over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.layers.base import Layer


class Reduction(Layer):
    """One number for all axes from one on: a sum, a mean, a sum of absolute values or of squares.

    Forward: SUM: y = coeff sum x; ASUM: coeff sum |x|; SUMSQ: coeff sum x^2; MEAN: coeff sum x / count.
    Backward: SUM: dx = coeff dy; ASUM: coeff dy sign(x); SUMSQ: 2 coeff dy x; MEAN: coeff dy / count.
    Blobs: one bottom; top with its axes before `axis`.
    Fields: reduction_param: `operation` (SUM), `axis` (0), negative ones counted from the last, `coeff` (1).
    Source: Caffe's reduction_layer.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Drop the axes that are reduced."""
        param, shape = self.param.reduction_param, bottom[0].shape
        axis = self.canonical_axis(param.axis, len(shape))
        self.operation = type(param).ReductionOp.Name(param.operation)
        self.axes = tuple(range(axis, len(shape)))
        count = math.prod(shape[axis:]) if self.operation == "MEAN" else 1
        self.coeff = self.dtype.type(param.coeff / max(1, count))
        top[0].reshape(*shape[:axis])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum up."""
        x = bottom[0].data
        terms = {"ASUM": np.abs, "SUMSQ": np.square}.get(self.operation, np.asarray)(x)
        top[0].data[...] = terms.sum(axis=self.axes) * self.coeff

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Spread the gradient over what was summed."""
        if not propagate_down[0]:
            return
        scale = np.expand_dims(top[0].diff * self.coeff, self.axes)
        if self.operation == "ASUM":
            scale = scale * np.sign(bottom[0].data)
        elif self.operation == "SUMSQ":
            scale = 2 * scale * bottom[0].data
        bottom[0].diff[...] = scale
