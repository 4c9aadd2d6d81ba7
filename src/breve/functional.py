"""The operations of a convolution as plain functions on arrays, to learn from and to build with.

A convolution is one product of matrices. `im2col` lays the patch under the kernel at every output pixel into a column;
with the weights W as a matrix of one row per output channel,

    forward            Y  = W . im2col(X)
    gradient wrt data  dX = col2im(W^T . dY)
    gradient wrt W     dW = dY . im2col(X)^T

The second line follows from the first: gradients go through the transpose of the linear map that values went
through, and `col2im` is the transpose of `im2col`. Written out for stride 1 it is again a convolution: the full
correlation of dY with the kernel rotated by 180 degrees, input and output channels exchanged. The two forms are the
same numbers:

>>> rng = np.random.default_rng(0)
>>> W, dY = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal((1, 4, 5, 5))
>>> by_columns = col2im(W.reshape(4, -1).T @ dY.reshape(4, -1), (7, 7), kernel=3)
>>> rotated = W[:, :, ::-1, ::-1].swapaxes(0, 1)
>>> bool(np.allclose(by_columns, conv2d(dY, rotated, pad=2)[0]))
True

Arrays are in Caffe's order: X `(batch, channels, *in_shape)`, W `(num_output, channels / group, *kernel)`,
Y `(batch, num_output, *out_shape)`. Nothing here is bound to two spatial axes: one or three work as well. Sizes may
be given once for all axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from breve.errors import LayerError
from breve.kernels import convolution
from breve.kernels.convolution import ConvGeometry, ConvPlan
from breve.kernels.gemm import gemm as kernels_gemm

__all__ = ["col2im", "conv2d", "conv2d_backward_data", "conv2d_backward_weights", "gemm", "im2col"]

Size = int | Sequence[int]


def im2col(image: np.ndarray, kernel: Size, stride: Size = 1, pad: Size = 0, dilation: Size = 1) -> np.ndarray:
    """The matrix of an image's patches, one column for each output pixel.

    columns[(c, r, s), (y, x)] = image[c, y stride + r dilation - pad, x stride + s dilation - pad], 0 outside.
    `image` is `(channels, *in_shape)`; the result is `(channels * prod(kernel), prod(out_shape))`, as in Caffe.
    Raises LayerError when the kernel is larger than the padded image.

    >>> im2col(np.arange(6).reshape(1, 2, 3), kernel=2)
    array([[0, 1],
           [1, 2],
           [3, 4],
           [4, 5]])
    """
    sizes = (_sizes(size, image.ndim - 1) for size in (kernel, stride, pad, dilation))
    return convolution.im2col(image, *sizes)


def col2im(
    columns: np.ndarray, in_shape: Sequence[int], kernel: Size, stride: Size = 1, pad: Size = 0, dilation: Size = 1
) -> np.ndarray:
    """The transpose of `im2col`: each entry is added to the pixel it came from.

    `columns` is `(channels * prod(kernel), prod(out_shape))`; the result is `(channels, *in_shape)`. A pixel of m
    patches is summed m times, so `col2im(im2col(x))` counts patches instead of giving x back. Raises LayerError.

    >>> col2im(im2col(np.ones((1, 2, 3)), kernel=2), (2, 3), kernel=2)
    array([[[1., 2., 1.],
            [1., 2., 1.]]])
    """
    kernel, stride, pad, dilation = (_sizes(size, len(in_shape)) for size in (kernel, stride, pad, dilation))
    geometry = ConvGeometry(1, 1, 1, tuple(in_shape), kernel, stride, pad, dilation)
    rows, pixels = math.prod(kernel), math.prod(geometry.out_shape)
    if columns.ndim != 2 or columns.shape[0] % rows or columns.shape[1] != pixels:
        raise LayerError("columns do not fit", expected=f"(a multiple of {rows}, {pixels})", found=columns.shape)
    return convolution.col2im(columns, tuple(in_shape), kernel, stride, pad, dilation)


def conv2d(
    bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *,
    stride: Size = 1, pad: Size = 0, dilation: Size = 1, group: int = 1, algorithm: str | None = None,
) -> np.ndarray:  # fmt: skip
    """Convolution as networks mean it, a correlation: Y = W . im2col(X) + b.

    Y[n, k, y, x] = b[k] + sum over c, r, s of W[k, c, r, s] X[n, c, i, j], where tap (r, s) at output (y, x) meets
    pixel i = y stride + r dilation - pad, j = x stride + s dilation - pad, zero outside the image.
    With `group` g, output channels of the i-th of g equal parts see only the i-th part of the channels.
    `algorithm` names one of `breve.kernels.convolution.ALGORITHMS`; None takes the fastest. Raises LayerError,
    UnsupportedError.

    >>> X, W = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 3, 3))
    >>> conv2d(X, W)[0, 0]
    array([[45., 54.],
           [81., 90.]])
    """
    geometry = _geometry(bottom_data.shape, weight.shape, stride, pad, dilation, group)
    top_data = _feature_map((geometry.batch, geometry.num_output, *geometry.out_shape), weight.dtype)
    _plan(geometry, weight.dtype, algorithm).forward(bottom_data, weight, bias, top_data)
    return top_data


def conv2d_backward_data(
    top_diff: np.ndarray, weight: np.ndarray, in_shape: Sequence[int], *,
    stride: Size = 1, pad: Size = 0, dilation: Size = 1, group: int = 1, algorithm: str | None = None,
) -> np.ndarray:  # fmt: skip
    """The gradient wrt the data: dX = col2im(W^T . dY).

    dX[n, c, i, j] = sum over k, r, s of W[k, c, r, s] dY[n, k, y, x], for the output (y, x), if there is one, where tap
    (r, s) met pixel (i, j): i = y stride + r dilation - pad, j = x stride + s dilation - pad. `in_shape` is the spatial
    shape of X, which dY alone does not tell when stride > 1. It is the adjoint of the forward pass,
    <dY, conv2d(X)> = <dX, X>:

    >>> rng = np.random.default_rng(0)
    >>> X, W, dY = (rng.standard_normal(shape) for shape in ((2, 3, 6, 5), (4, 3, 3, 3), (2, 4, 3, 3)))
    >>> dX = conv2d_backward_data(dY, W, (6, 5), stride=2, pad=1)
    >>> bool(np.isclose(np.vdot(dY, conv2d(X, W, stride=2, pad=1)), np.vdot(dX, X)))
    True
    """
    bottom_shape = (top_diff.shape[0], weight.shape[1] * group, *in_shape)
    geometry = _geometry(bottom_shape, weight.shape, stride, pad, dilation, group)
    bottom_diff = _feature_map(bottom_shape, weight.dtype)
    _plan(geometry, weight.dtype, algorithm).backward_data(top_diff, weight, bottom_diff)
    return bottom_diff


def conv2d_backward_weights(
    top_diff: np.ndarray, bottom_data: np.ndarray, kernel: Size, *,
    stride: Size = 1, pad: Size = 0, dilation: Size = 1, group: int = 1, algorithm: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The gradients wrt weights and bias: dW = dY . im2col(X)^T, db = the sum of dY over images and pixels.

    dW[k, c, r, s] = sum over n, y, x of dY[n, k, y, x] X[n, c, i, j], i = y stride + r dilation - pad, j likewise:
    a weight answers for every output it had a part in, with the pixel it met there.

    >>> dW, db = conv2d_backward_weights(np.ones((1, 1, 2, 2)), np.arange(9.0).reshape(1, 1, 3, 3), kernel=2)
    >>> dW[0, 0], db
    (array([[ 8., 12.],
           [20., 24.]]), array([4.]))
    """
    channels = bottom_data.shape[1] // group
    weight_shape = (top_diff.shape[1], channels, *_sizes(kernel, bottom_data.ndim - 2))
    geometry = _geometry(bottom_data.shape, weight_shape, stride, pad, dilation, group)
    weight_diff, bias_diff = np.zeros(weight_shape, top_diff.dtype), np.zeros(weight_shape[0], top_diff.dtype)
    _plan(geometry, top_diff.dtype, algorithm).backward_weights(top_diff, bottom_data, weight_diff, bias_diff)
    return weight_diff, bias_diff


def gemm(a: np.ndarray, b: np.ndarray, *, trans_a: bool = False, trans_b: bool = False) -> np.ndarray:
    """The product of two matrices, either of them transposed: op(a) . op(b). Raises LayerError.

    >>> gemm(np.ones((3, 2)), np.ones((3, 4)), trans_a=True).shape
    (2, 4)
    """
    out = np.empty((a.shape[1 if trans_a else 0], b.shape[0 if trans_b else 1]), a.dtype)
    return kernels_gemm(a, b, out, trans_a, trans_b)


def _sizes(size: Size, axes: int) -> tuple[int, ...]:
    """One size for each spatial axis."""
    sizes = (int(size),) * axes if isinstance(size, int | np.integer) else tuple(int(s) for s in size)
    if len(sizes) != axes:
        raise LayerError("sizes do not fit the spatial axes", expected=f"1 or {axes} sizes", found=size)
    return sizes


def _geometry(
    bottom_shape: Sequence[int], weight_shape: Sequence[int], stride: Size, pad: Size, dilation: Size, group: int
) -> ConvGeometry:
    axes = len(bottom_shape) - 2
    if axes < 1 or len(weight_shape) != axes + 2:
        raise LayerError(
            "data and weights must have equal numbers of axes, 3 or more", found=(bottom_shape, weight_shape)
        )
    batch, channels, *in_shape = bottom_shape
    num_output, _, *kernel = weight_shape
    stride, pad, dilation = (_sizes(size, axes) for size in (stride, pad, dilation))
    return ConvGeometry(batch, channels, num_output, tuple(in_shape), tuple(kernel), stride, pad, dilation, group)


@lru_cache(maxsize=8)
def _plan(geometry: ConvGeometry, dtype: Any, algorithm: str | None) -> ConvPlan:
    """Plans of recent calls, for their packed weights and buffers."""
    return convolution.plan(geometry, dtype, algorithm)


def _feature_map(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An empty array in Caffe's order whose memory has the channels last, as the fast algorithms want it."""
    batch, channels, *spatial = shape
    return np.moveaxis(np.empty((batch, *spatial, channels), dtype), -1, 1)
