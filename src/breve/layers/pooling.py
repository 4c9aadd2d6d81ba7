"""Pooling and SPP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.base import Layer
from breve.layers.pooling_methods import METHODS, Average, AverageInside, PoolMethod, PoolWindow
from breve.layers.views import channels_last, image_shape, overwritten_channels_last
from breve.layers.window import pair


def pooled_size(size: int, kernel: int, stride: int, pad: int, *, padded: bool, floor: bool) -> int:
    """Output pixels along one axis, by Caffe's rule.

    (size + 2 pad - kernel) / stride, rounded up (down with `floor`), plus 1. Where either axis is `padded`, a last
    window that would start outside the image and its upper pad is dropped.

    >>> pooled_size(7, kernel=2, stride=2, pad=0, padded=False, floor=False)
    4
    """
    steps = size + 2 * pad - kernel
    pooled = (steps // stride if floor else -(-steps // stride)) + 1
    return pooled - 1 if padded and (pooled - 1) * stride >= size + pad else pooled


def pooled_shape(in_shape: tuple[int, int], window: PoolWindow, floor: bool = False) -> tuple[int, int]:
    """Height and width after pooling. Raises LayerError when nothing is left."""
    kernel, stride, pad = window[0:2], window[2:4], window[4:6]
    sizes = zip(in_shape, kernel, stride, pad, strict=True)
    height, width = (pooled_size(n, k, s, p, padded=any(pad), floor=floor) for n, k, s, p in sizes)
    if height < 1 or width < 1:
        raise LayerError("the pooling window is larger than the image", expected=f"at most {in_shape}", found=kernel)
    return height, width


class Pooling(Layer):
    """The maximum, average or a random value of each window of each channel.

    Forward: y[n,c,i,j] pools x[n,c,h,w] over the window of rows i stride - pad to i stride - pad + kernel - 1, likewise
        columns, as far as they are inside the image. MAX: the largest value (the lowest finite float32 where none is
        larger). AVE: the sum, divided by the number of pixels that the window has inside the padded image (inside the
        image with `avg_include_pad: false`). STOCHASTIC: in TRAIN a pixel drawn with a probability proportional to its
        value, in TEST the mean weighted by the values, sum x^2 / sum x. The output has
        ceil((in + 2 pad - kernel) / stride) + 1 pixels along an axis; with a pad, a last window that would start
        outside image and pad is dropped.
    Backward: MAX and STOCHASTIC in TRAIN: dy goes to the pixel whose value was taken, the first of equal maxima in
        order of rows. AVE: dy / divisor goes to each pixel inside. STOCHASTIC in TEST: dx = dy (2 x sum x - sum x^2) /
        (sum x)^2.
    Blobs: bottom (N, C, H, W); top (N, C, out_h, out_w); with MAX a second top of that shape holds the index h W + w of
        the pixel taken, -1 where none was.
    Fields: pooling_param: `pool` (MAX), `kernel_size` or `kernel_h` and `kernel_w` (required but with
        `global_pooling`), `stride` (1) or `stride_h` and `stride_w`, `pad` (0) or `pad_h` and `pad_w`, `global_pooling`
        (false; the window is the image), `round_mode` (CEIL; FLOOR rounds the output's size down, as the forks'
        `ceil_mode: false` and `torch_pooling: true` do), `avg_include_pad` (true; Intel's fork); `engine` is ignored.
    Errors: sizes missing, zero or given twice; a pad not smaller than the kernel, or with STOCHASTIC; with
        `global_pooling` a kernel, pad or stride; a second top without MAX; a bottom without four axes; a window larger
        than the image by more than a stride.
    Source: Caffe's pooling_layer; M. Zeiler and R. Fergus, Stochastic pooling, 2013.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    fork_fields: ClassVar[frozenset[str]] = frozenset(
        {"pooling_param.ceil_mode", "pooling_param.torch_pooling", "pooling_param.avg_include_pad"}
    )

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the window and the method."""
        param = self.param.pooling_param
        self.is_global = param.global_pooling
        self.rounds_down = param.round_mode == param.FLOOR or not param.ceil_mode or param.torch_pooling
        self.stride = pair(param, "stride", "stride", 1)
        self.pad = pair(param, "pad", "pad", 0)
        if self.is_global:
            self._check_global(param)
        else:
            self.kernel = pair(param, "kernel_size", "kernel", None)
            self._check_window(param)
        if len(top) > 1 and param.pool != param.MAX:
            raise LayerError("a second top, the mask, is for MAX pooling only", hint="remove it")
        self.draws = param.pool == param.STOCHASTIC and self.phase == "TRAIN"
        method = METHODS[param.PoolMethod.Name(param.pool)]
        method = AverageInside if method is Average and not param.avg_include_pad else method
        self.method: PoolMethod = method(self.phase, self.rng)

    def _check_global(self, param: Any) -> None:
        if any(param.HasField(field) for field in ("kernel_size", "kernel_h", "kernel_w")):
            raise LayerError("global_pooling takes the kernel's size from the bottom", hint="remove kernel_size")
        if self.pad != (0, 0) or self.stride != (1, 1):
            raise LayerError("global_pooling needs pad 0 and stride 1", found=f"pad {self.pad}, stride {self.stride}")

    def _check_window(self, param: Any) -> None:
        if min(self.kernel + self.stride) < 1:
            raise LayerError("kernel or stride is zero", found=f"kernel {self.kernel}, stride {self.stride}")
        if self.pad != (0, 0) and param.pool == param.STOCHASTIC:
            raise LayerError("stochastic pooling takes no pad", found=self.pad)
        if any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise LayerError("pad is not smaller than the kernel", expected=f"less than {self.kernel}", found=self.pad)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Pooled height and width."""
        batch, channels, height, width = image_shape(bottom[0], "pooling")
        if self.is_global:
            self.kernel = (height, width)
            if 0 in self.kernel:
                raise LayerError("there is nothing to pool", found=bottom[0].shape)
        window = (*self.kernel, *self.stride, *self.pad)
        pooled = pooled_shape((height, width), window, floor=self.rounds_down)
        for blob in top:
            blob.reshape(batch, channels, *pooled)
        self.method.reshape(window, (batch, height, width, channels), (batch, *pooled, channels))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Pool; write the mask where there is a top for it."""
        with overwritten_channels_last(top[0].data) as top_data:
            self.method.forward(channels_last(bottom[0].data), top_data)
        if len(top) > 1:
            top[1].data[...] = np.moveaxis(self.method.mask, -1, 1)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Give each window's gradient back to its pixels."""
        if propagate_down[0]:
            with overwritten_channels_last(bottom[0].diff) as bottom_diff:
                self.method.backward(channels_last(bottom[0].data), channels_last(top[0].diff), bottom_diff)


class SPP(Layer):
    """Spatial pyramid pooling: an image of any size pooled into 1, 4, 16, ... windows, in one vector.

    Forward: level l of `pyramid_height` pools with bins = 2^l windows along each axis: kernel = stride = ceil(in /
        bins) and pad = (kernel bins - in + 1) // 2 (rounded down), otherwise as Pooling does. The levels, each
        flattened in the order c, i, j, are concatenated.
    Backward: as Pooling's, summed over the levels.
    Blobs: bottom (N, C, H, W); top (N, C (1 + 4 + ... + 4^(pyramid_height - 1))), or (N, C, 1, 1) with one level.
    Fields: spp_param: `pyramid_height` (required), `pool` (MAX); `engine` is ignored.
    Errors: no `pyramid_height`; more windows than pixels; a bottom without four axes.
    Source: Caffe's spp_layer; K. He et al., Spatial pyramid pooling in deep convolutional networks, 2014.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One pooling method a level."""
        param = self.param.spp_param
        if param.pyramid_height < 1:
            raise LayerError("pyramid_height is missing or zero", expected="at least 1")
        method = METHODS[param.PoolMethod.Name(param.pool)]
        self.methods: list[PoolMethod] = [method(self.phase, self.rng) for _ in range(param.pyramid_height)]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Find each level's window for this size of image."""
        batch, channels, height, width = image_shape(bottom[0], "pooling")
        self.shapes = []
        for level, method in enumerate(self.methods):
            window = pyramid_window((height, width), 2**level)
            pooled = pooled_shape((height, width), window)
            method.reshape(window, (batch, height, width, channels), (batch, *pooled, channels))
            self.shapes.append((batch, *pooled, channels))
        count = sum(math.prod(shape[1:]) for shape in self.shapes)
        top[0].reshape(*((batch, count) if len(self.methods) > 1 else (batch, channels, 1, 1)))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Pool each level into its part of the vector."""
        bottom_data = channels_last(bottom[0].data)
        for method, shape, part in zip(self.methods, self.shapes, self._parts(top[0].data), strict=True):
            pooled = np.empty(shape, self.dtype)
            method.forward(bottom_data, pooled)
            part[...] = np.moveaxis(pooled, -1, 1).reshape(part.shape)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Sum over the levels."""
        if not propagate_down[0]:
            return
        bottom_data = channels_last(bottom[0].data)
        total, level_diff = np.zeros_like(bottom_data), np.empty_like(bottom_data)
        for method, shape, part in zip(self.methods, self.shapes, self._parts(top[0].diff), strict=True):
            batch, height, width, channels = shape
            method.backward(bottom_data, channels_last(part.reshape(batch, channels, height, width)), level_diff)
            total += level_diff
        bottom[0].diff[...] = np.moveaxis(total, -1, 1)

    def _parts(self, array: np.ndarray) -> list[np.ndarray]:
        """The columns of each level."""
        ends = np.cumsum([math.prod(shape[1:]) for shape in self.shapes])
        return np.split(array.reshape(len(array), ends[-1]), ends[:-1], axis=1)


def pyramid_window(in_shape: tuple[int, int], bins: int) -> PoolWindow:
    """The window that divides an image into bins x bins. Raises LayerError when there are too few pixels."""
    kernel = tuple(-(-size // bins) for size in in_shape)
    pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, in_shape, strict=True))
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        raise LayerError("the image is too small for its pyramid", found=in_shape, hint="lower pyramid_height")
    return (*kernel, *kernel, *pad)
