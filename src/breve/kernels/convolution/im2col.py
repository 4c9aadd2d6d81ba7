"""Caffe's own algorithm: unfold an image into a matrix of its patches, then multiply matrices.

    columns = im2col(image)         (channels * kernel, pixels): rows (c, r, s), columns the output pixels
    forward           top    = weight . columns
    backward_data     bottom = col2im(weight^T . top_diff)
    backward_weights  weight_diff += top_diff . columns^T

NumPy only, any number of spatial axes, any float dtype: the reference for the other algorithms, and what
`engine: CAFFE` asks for. After Caffe's im2col.cpp and base_conv_layer.cpp.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from breve.kernels.convolution.algorithm import Algorithm
from breve.kernels.convolution.geometry import ConvGeometry

Sizes = tuple[int, ...]
Index = tuple[Any, ...]


def im2col(image: np.ndarray, kernel: Sizes, stride: Sizes, pad: Sizes, dilation: Sizes) -> np.ndarray:
    """The matrix whose column p holds the patch under the kernel at output pixel p.

    columns[(c, r, s), (y, x)] = image[c, y stride + r dilation - pad, x stride + s dilation - pad], 0 outside.
    `image` is `(channels, *in_shape)`, the result `(channels * prod(kernel), prod(out_shape))`.
    """
    channels, *in_shape = image.shape
    geometry = ConvGeometry(1, channels, 1, tuple(in_shape), kernel, stride, pad, dilation)
    padded = np.pad(image, [(0, 0)] + [(p, p) for p in pad])
    columns = np.empty((channels, *kernel, *geometry.out_shape), image.dtype)
    for tap, pixels in taps(geometry):
        columns[tap] = padded[pixels]
    return columns.reshape(channels * math.prod(kernel), -1)


def col2im(
    columns: np.ndarray, in_shape: Sizes, kernel: Sizes, stride: Sizes, pad: Sizes, dilation: Sizes
) -> np.ndarray:
    """The transpose of im2col: every entry is added to the pixel it was copied from.

    `columns` is `(channels * prod(kernel), prod(out_shape))`, the result `(channels, *in_shape)`. It is no
    inverse: a pixel in m patches comes back m-fold.
    """
    channels = columns.shape[0] // math.prod(kernel)
    geometry = ConvGeometry(1, channels, 1, in_shape, kernel, stride, pad, dilation)
    columns = columns.reshape(channels, *kernel, *geometry.out_shape)
    padded = np.zeros((channels, *(i + 2 * p for i, p in zip(in_shape, pad, strict=True))), columns.dtype)
    for tap, pixels in taps(geometry):
        padded[pixels] += columns[tap]
    inside = (slice(None), *(slice(p, p + i) for i, p in zip(in_shape, pad, strict=True)))
    return padded[inside]


def taps(geometry: ConvGeometry) -> Iterator[tuple[Index, Index]]:
    """For each tap of the kernel its place in the columns, and the pixels of the padded image it meets."""
    steps = list(zip(geometry.stride, geometry.dilation, geometry.out_shape, strict=True))
    for tap in itertools.product(*map(range, geometry.kernel)):
        pixels = (slice(t * d, t * d + (o - 1) * s + 1, s) for t, (s, d, o) in zip(tap, steps, strict=True))
        yield (slice(None), *tap), (slice(None), *pixels)


class Im2col(Algorithm):
    """Convolution by im2col and products of matrices, one image and group at a time."""

    name: ClassVar[str] = "im2col"
    takes_nhwc: ClassVar[bool] = False

    @classmethod
    def refusal(cls, geometry: ConvGeometry, dtype: Any, pass_name: str) -> str:
        """It computes everything."""
        return ""

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """top[n] = weight . im2col(bottom[n]) + bias."""
        weight = self._by_group(weight)
        for bottom, top in zip(bottom_data, top_data, strict=True):
            top[...] = (weight @ self._columns(bottom)).reshape(top.shape)
            if bias is not None:
                top += bias.reshape(-1, *[1] * len(self.geometry.kernel))
        if relu:
            np.maximum(top_data, 0, out=top_data)

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """bottom_diff[n] = col2im(weight^T . top_diff[n])."""
        g = self.geometry
        weight = self._by_group(weight).swapaxes(1, 2)
        for top, bottom in zip(top_diff, bottom_diff, strict=True):
            columns = weight @ self._by_group(top)
            if g.is_1x1:
                bottom[...] = columns.reshape(bottom.shape)
            else:
                matrix = columns.reshape(-1, columns.shape[-1])
                bottom[...] = col2im(matrix, g.in_shape, g.kernel, g.stride, g.pad, g.dilation)

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """weight_diff += top_diff[n] . im2col(bottom[n])^T; bias_diff += the sum of top_diff over images and pixels."""
        for top, bottom in zip(top_diff, bottom_data, strict=True):
            product = self._by_group(top) @ self._columns(bottom).swapaxes(1, 2)
            weight_diff += product.reshape(weight_diff.shape)
        if bias_diff is not None:
            bias_diff += top_diff.sum((0, *range(2, top_diff.ndim)), dtype=np.result_type(top_diff, np.float64))

    def _columns(self, image: np.ndarray) -> np.ndarray:
        """The columns of one image, `(group, channels / group * prod(kernel), pixels)`; the image itself for 1x1."""
        g = self.geometry
        return self._by_group(image if g.is_1x1 else im2col(image, g.kernel, g.stride, g.pad, g.dilation))

    def _by_group(self, array: np.ndarray) -> np.ndarray:
        """One matrix for each group: weights, an image or its columns, split along their first axis."""
        group = self.geometry.group
        return array.reshape(group, len(array) // group, -1)
