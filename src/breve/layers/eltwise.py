"""Blobs combined element by element."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise
from breve.layers.base import Layer


class Eltwise(Layer):
    """Sum, product or maximum of blobs of one shape.

    Forward: SUM: y = sum_i coeff_i x_i; PROD: y = prod_i x_i; MAX: y = max_i x_i.
    Backward: SUM: dx_i = coeff_i dy; PROD: dx_i = dy prod_(j != i) x_j, or dy y / x_i when not `stable_prod_grad`;
        MAX: dx_i = dy where x_i is the maximum, else 0; of a tie the first two bottoms leave it to the second, any
        later one needs to be greater.
    Blobs: two bottoms or more and a top, all of one shape.
    Fields: eltwise_param: `operation` (SUM), `coeff` (1 each; only for SUM), `stable_prod_grad` (true).
    Errors: bottoms of different shapes; coefficients for another operation, or not one for each bottom.
    Source: Caffe's eltwise_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, None)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the operation and its coefficients."""
        param = self.param.eltwise_param
        self.operation = type(param).EltwiseOp.Name(param.operation)
        if param.coeff and self.operation != "SUM":
            raise LayerError("eltwise_param.coeff is for sums only", expected="operation: SUM", found=self.operation)
        if param.coeff and len(param.coeff) != len(bottom):
            raise LayerError(
                "eltwise_param needs one coeff for each bottom", expected=len(bottom), found=len(param.coeff)
            )
        self.coeff = [self.dtype.type(c) for c in param.coeff or [1] * len(bottom)]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that all bottoms are alike."""
        for i, blob in enumerate(bottom[1:], 1):
            if (blob.shape, blob.memory_order) != (bottom[0].shape, bottom[0].memory_order):
                raise LayerError(
                    f"bottom {i} differs in shape from the first", expected=bottom[0].shape, found=blob.shape
                )
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Combine the bottoms."""
        inputs, y = [blob.memory for blob in bottom], top[0].memory
        if self.operation == "SUM":
            elementwise.weighted_sum(inputs[0], self.coeff[0], inputs[1], self.coeff[1], y)
            for x, coeff in zip(inputs[2:], self.coeff[2:], strict=True):
                elementwise.weighted_sum(y, self.dtype.type(1), x, coeff, y)
        elif self.operation == "PROD":
            np.multiply(inputs[0], inputs[1], out=y)
            for x in inputs[2:]:
                y *= x
        else:
            self._maximum(inputs, y)

    @property
    def adds_two(self) -> bool:
        """Whether it is a sum of two bottoms."""
        return self.operation == "SUM" and len(self.coeff) == 2

    def forward_rectified(self, bottom: Sequence[Blob], top: Blob) -> None:
        """The sum of two, clamped at zero: Eltwise and ReLU at once."""
        a, b = (blob.memory for blob in bottom)
        elementwise.rectified_sum(a, self.coeff[0], b, self.coeff[1], self.dtype.type(0), top.memory)

    def backward_rectified(self, top: Blob, bottom: Sequence[Blob]) -> None:
        """The gradient of that; the top's diff becomes that of the sum, as a ReLU in place would leave it."""
        da, db = (blob.diff_memory for blob in bottom)
        zero = self.dtype.type(0)
        elementwise.rectified_sum_backward(top.memory, top.diff_memory, zero, self.coeff[0], self.coeff[1], da, db)

    def _maximum(self, inputs: Sequence[np.ndarray], y: np.ndarray) -> None:
        self.winner = np.logical_not(inputs[0] > inputs[1]).astype(np.min_scalar_type(len(inputs)))
        np.maximum(inputs[0], inputs[1], out=y)
        for i, x in enumerate(inputs[2:], 2):
            self.winner[x > y] = i
            np.maximum(x, y, out=y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Give each bottom its share."""
        top_diff = top[0].diff_memory
        for i, blob in enumerate(bottom):
            if not propagate_down[i]:
                continue
            if self.operation == "SUM":
                elementwise.scaled(top_diff, self.coeff[i], blob.diff_memory)
            elif self.operation == "PROD":
                np.multiply(top_diff, self._product_without(i, bottom, top[0]), out=blob.diff_memory)
            else:
                np.multiply(top_diff, self.winner == i, out=blob.diff_memory)

    def _product_without(self, i: int, bottom: Sequence[Blob], top: Blob) -> np.ndarray:
        if self.param.eltwise_param.stable_prod_grad:
            return reduce(np.multiply, [blob.memory for j, blob in enumerate(bottom) if j != i])
        with np.errstate(divide="ignore", invalid="ignore"):
            return top.memory / bottom[i].memory
