"""1x1 convolutions of stride 1 without padding: products of matrices, where rows are pixels.

Y = X W^T + b        dX = dY W        dW += dY^T X
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from breve.kernels.convolution.algorithm import Algorithm, is_fast_dtype
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.packed_weights import PackedWeights
from breve.kernels.convolution.weight_gradient import WeightGradient
from breve.kernels.gemm import multiply, pack, packed_size


class Pointwise(Algorithm):
    """Each pixel by itself, of images with any number of axes."""

    name: ClassVar[str] = "pointwise"
    _packed: PackedWeights

    @classmethod
    def refusal(cls, geometry: ConvGeometry, dtype: Any, pass_name: str) -> str:
        """It takes convolutions whose output has the pixels of the input."""
        if not is_fast_dtype(dtype):
            return "dtype is neither float32 nor float64"
        return "" if geometry.is_1x1 else "the kernel is not 1 x 1, or there is a stride, or padding"

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        super().__init__(geometry, dtype)
        g = geometry
        self._packed_size = packed_size(g.channels // g.group, g.num_output // g.group, dtype)
        self._packed = PackedWeights(g.group * self._packed_size, self._pack)

    @cached_property
    def _weights(self) -> WeightGradient:
        return WeightGradient(self.geometry, self.dtype)

    def _groups(self) -> Iterator[tuple[slice, slice, slice]]:
        """Channels of the bottom and of the top, and packed weights, of each group."""
        g = self.geometry
        for i in range(g.group):
            yield tuple(  # type: ignore[misc]
                slice(i * n, (i + 1) * n) for n in (g.channels // g.group, g.num_output // g.group, self._packed_size)
            )

    def _pack(self, weight: np.ndarray, packed: np.ndarray) -> None:
        for _, top, part in self._groups():
            pack(weight[top].reshape(top.stop - top.start, -1).T, packed[part])

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """A product of matrices for each group."""
        packed = self._packed.kept(weight)
        x, w, y = _rows(bottom_data), weight.reshape(len(weight), -1), _rows(top_data)
        for bottom, top, part in self._groups():
            multiply(
                x[:, bottom], w[top].T, y[:, top], None if bias is None else bias[top], relu,
                None if packed is None else packed[part],
            )  # fmt: skip

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """A product of matrices for each group."""
        dy, w, dx = _rows(top_diff), weight.reshape(len(weight), -1), _rows(bottom_diff)
        for bottom, top, _ in self._groups():
            multiply(dy[:, top], w[top], dx[:, bottom])

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """The sum over all pixels, cut into parts."""
        self._weights.add(top_diff, bottom_data, weight_diff, bias_diff)


def _rows(x: np.ndarray) -> np.ndarray:
    """(batch, *shape, channels) as (pixels, channels)."""
    return x.reshape(-1, x.shape[-1])
