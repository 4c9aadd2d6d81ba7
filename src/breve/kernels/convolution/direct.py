"""The default algorithm: sums of products as they stand in the definition, on NHWC, without a column buffer."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from breve.kernels.convolution.algorithm import Algorithm, is_fast_dtype
from breve.kernels.convolution.correlation import Correlation, plan_correlation
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.packed_weights import PackedWeights
from breve.kernels.convolution.taps import backward_axis, forward_axis
from breve.kernels.convolution.unseen import Unseen
from breve.kernels.convolution.weight_gradient import WeightGradient
from breve.kernels.scratch import scratch

ROW = 128  # pixels of a row, at most, where rows need not be those of the image: 7 pixels take 1.05 times as long


class Direct(Algorithm):
    """Batch-reduce GEMM over filter taps; stride, dilation and pad are offsets."""

    name: ClassVar[str] = "direct"
    _packed: PackedWeights

    @classmethod
    def refusal(cls, geometry: ConvGeometry, dtype: Any, pass_name: str) -> str:
        """It takes two-dimensional convolutions."""
        if not is_fast_dtype(dtype):
            return "dtype is neither float32 nor float64"
        return "" if len(geometry.kernel) == 2 else "it is not two-dimensional"

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        super().__init__(geometry, dtype)
        self._rows = _long_rows(geometry) if geometry.is_1x1 else geometry
        self._unseen = Unseen(geometry, dtype)
        self._packed = PackedWeights(self._forward.packed_size, self._pack)

    @cached_property
    def _forward(self) -> Correlation:
        g = self._rows
        axes = forward_axis(g, 0), forward_axis(g, 1)
        return plan_correlation(g.batch, axes, g.out_shape, g.channels, g.num_output, g.group, g.kernel[1], self.dtype)

    @cached_property
    def _backward(self) -> Correlation:
        g = self._rows
        axes = backward_axis(g, 0), backward_axis(g, 1)
        return plan_correlation(g.batch, axes, g.in_shape, g.num_output, g.channels, g.group, g.kernel[1], self.dtype)

    @cached_property
    def _weights(self) -> WeightGradient:
        return WeightGradient(self.geometry, self.dtype)

    def _pack(self, weight: np.ndarray, packed: np.ndarray) -> None:
        _, c, h, w = weight.shape
        self._forward.pack(weight, packed, k_stride=h * w, j_stride=c * h * w)

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """A row of top pixels at a time."""
        self._forward.run(bottom_data, self._packed.of(weight), top_data, bias, relu)

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """The correlation of the top's gradient with the rotated kernel, one for each phase of the stride."""
        _, c, h, w = weight.shape
        if self._backward.packed_size:  # or every output sees padding alone
            packed = scratch("weights", self._backward.packed_size, self.dtype)
            self._backward.pack(weight, packed, k_stride=c * h * w, j_stride=h * w)
            self._backward.run(top_diff, packed, bottom_diff)
        self._unseen.clear(top_diff, bottom_diff)

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """For each tap the product of what it sees by the top's gradient, summed over all pixels."""
        self._weights.add(top_diff, bottom_data, weight_diff, bias_diff)


def _long_rows(g: ConvGeometry) -> ConvGeometry:
    """A 1x1 convolution of the same pixels, in longer rows if they can be cut into such."""
    pixels, row = g.one_row.in_shape[1], g.in_shape[1]
    row = max([row, *(size for size in range(row, ROW + 1) if pixels % size == 0)])
    return replace(g.one_row, in_shape=(pixels // row, row))
