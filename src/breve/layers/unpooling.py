"""Unpooling and Upsample: small images enlarged, as the opposite of pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import DataError, LayerError
from breve.kernels import pooling
from breve.layers.base import Layer
from breve.layers.views import channels_last, image_shape, overwritten_channels_last
from breve.layers.window import pair


class Unpooling(Layer):
    """Pooling backwards: each pixel goes back to one pixel of its window, or to all of them.

    Forward: pixel (i, j) stands for the window of rows i stride to i stride + kernel - 1, likewise columns. MAX: y = x
        at the pixel that the mask names, or without a mask at the window's first; elsewhere 0. AVE: y = the sum of x /
        area over the windows that hold this pixel, area being the window's inside the top. TILE: y = the sum of x over
        them.
    Backward: MAX: dx = dy at the pixel written to. AVE: dx = the mean of dy over the window. TILE: dx = the sum of dy
        over the window (the fork itself divides it by the area, which is not the derivative).
    Blobs: bottoms x (N, C, H, W) and, for MAX, if wished a mask of that shape with the index h W' + w of each pixel in
        the top, as Pooling's second top gives it; top (N, C, H', W').
    Fields: unpooling_param: `unpool` (MAX), `kernel_size` or `kernel_h` and `kernel_w` (required), `stride` (1) or
        `stride_h` and `stride_w`, `unpool_size` or `unpool_h` and `unpool_w`: the top's size (the larger of (in - 1)
        stride + kernel and in stride + 1); `pad` must be 0.
    Errors: sizes missing, zero or given twice; a pad; a mask of another shape, or that names a pixel outside the top.
    Source: the DeconvNet fork's unpooling_layer; H. Noh et al., Learning deconvolution network, 2015.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the window."""
        param = self.param.unpooling_param
        self.kernel, self.stride = pair(param, "kernel_size", "kernel", None), pair(param, "stride", "stride", 1)
        self.size = pair(param, "unpool_size", "unpool", 0)
        if min(self.kernel + self.stride) < 1:
            raise LayerError("kernel or stride is zero", found=f"kernel {self.kernel}, stride {self.stride}")
        if pair(param, "pad", "pad", 0) != (0, 0):
            raise LayerError("Unpooling takes no pad", expected=0)
        self.is_max = param.unpool == param.MAX
        if len(bottom) > 1 and not self.is_max:
            raise LayerError("a mask is for MAX unpooling only", hint="remove the second bottom")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The size given, or the one that pooling may have come from."""
        check_images(bottom)
        batch, channels, *in_shape = bottom[0].shape
        sizes = zip(in_shape, self.kernel, self.stride, self.size, strict=True)
        out_shape = [given or max((n - 1) * s + k, n * s + 1) for n, k, s, given in sizes]
        top[0].reshape(batch, channels, *out_shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Place, or spread."""
        x = channels_last(bottom[0].data)
        with overwritten_channels_last(top[0].data) as y:
            if self.is_max:
                place(x, self._pixels(bottom, top), y)
            else:
                pooling.average_backward(self._times_area(x, top), (*self.kernel, *self.stride, 0, 0), y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Read where forward wrote."""
        check_no_mask_gradient(propagate_down)
        if not propagate_down[0]:
            return
        dy = channels_last(top[0].diff)
        with overwritten_channels_last(bottom[0].diff) as dx:
            if self.is_max:
                take(dy, self._pixels(bottom, top), dx)
            else:
                pooling.average(dy, (*self.kernel, *self.stride, 0, 0), dx)
                dx[...] = self._times_area(dx, top)

    def _pixels(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> np.ndarray:
        """The pixel of the top, h W' + w, for each of x, (N, H, W, C)."""
        if len(bottom) > 1:
            return mask_pixels(bottom[1], top[0])
        batch, channels, height, width = bottom[0].shape
        rows, columns = (
            np.minimum(np.arange(n) * s, size - 1)
            for n, s, size in zip((height, width), self.stride, top[0].shape[2:], strict=True)
        )
        pixels = rows[:, None] * top[0].shape[3] + columns
        return np.broadcast_to(pixels[None, :, :, None], (batch, height, width, channels))

    def _times_area(self, values: np.ndarray, top: Sequence[Blob]) -> np.ndarray:
        """For TILE the values times their windows' areas, which the pooling kernels divide by."""
        param = self.param.unpooling_param
        if param.unpool != param.TILE:
            return values
        rows, columns = (
            np.maximum(1, np.minimum(k, size - np.arange(n) * s)).astype(self.dtype)
            for n, k, s, size in zip(values.shape[1:3], self.kernel, self.stride, top[0].shape[2:], strict=True)
        )
        return values * (rows[:, None] * columns)[None, :, :, None]


class Upsample(Layer):
    """An image enlarged: by a mask to where its maxima came from (SegNet), or without one each pixel repeated (YOLO).

    Forward: with a mask y = x at the pixel that the mask names, 0 elsewhere. Without one y[n,c,h,w] = x[n, c, h //
        scale, w // scale].
    Backward: with a mask dx = dy at that pixel; without one dx = the sum of dy over the pixels that repeat x.
    Blobs: bottoms x (N, C, H, W) and if wished a mask of that shape with the index h W' + w of each pixel in the top,
        as Pooling's second top gives it; top (N, C, H', W').
    Fields: upsample_param: `scale` (2) or `scale_h` and `scale_w`; with a mask also `upsample_h` and `upsample_w`, the
        top's size, and `pad_out_h` and `pad_out_w` (false), which with scale 2 make it one pixel smaller.
    Errors: sizes given twice or below 2; a mask of another shape, or that names a pixel outside the top; with no mask a
        size other than a scale.
    Source: the SegNet fork's upsample_layer; V. Badrinarayanan et al., SegNet, 2015; that of YOLO forks.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the size."""
        param = self.param.upsample_param
        self.scale = pair(param, "scale", "scale", 2)
        self.cut = (int(param.pad_out_h), int(param.pad_out_w))
        if any(cut and scale != 2 for cut, scale in zip(self.cut, self.scale, strict=True)):
            raise LayerError("pad_out needs scale 2", found=self.scale)
        sized = [param.HasField("upsample_h"), param.HasField("upsample_w")]
        if any(sized) and not all(sized):
            raise LayerError("upsample_h and upsample_w go together")
        self.size = (param.upsample_h, param.upsample_w) if all(sized) else None
        if len(bottom) == 1 and (self.size or any(self.cut)):
            raise LayerError("without a mask only scale is known", hint="give Pooling's mask as the second bottom")
        if min(self.size or self.scale) < (2 if len(bottom) > 1 else 1):
            raise LayerError("the scale or the size is too small", expected="at least 2", found=self.size or self.scale)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The size given, or the scaled one."""
        check_images(bottom)
        batch, channels, *in_shape = bottom[0].shape
        scaled = [n * s - cut for n, s, cut in zip(in_shape, self.scale, self.cut, strict=True)]
        top[0].reshape(batch, channels, *(self.size or scaled))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Place, or repeat."""
        x = channels_last(bottom[0].data)
        with overwritten_channels_last(top[0].data) as y:
            if len(bottom) > 1:
                place(x, mask_pixels(bottom[1], top[0]), y)
            else:
                self._repeats(y)[...] = x[:, :, None, :, None]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Read where forward wrote, or sum what it repeated."""
        check_no_mask_gradient(propagate_down)
        if not propagate_down[0]:
            return
        dy = channels_last(top[0].diff)
        with overwritten_channels_last(bottom[0].diff) as dx:
            if len(bottom) > 1:
                take(dy, mask_pixels(bottom[1], top[0]), dx)
            else:
                np.sum(self._repeats(dy), axis=(2, 4), out=dx)

    def _repeats(self, array: np.ndarray) -> np.ndarray:
        """A contiguous (N, H', W', C) array as (N, H, scale_h, W, scale_w, C)."""
        batch, height, width, channels = array.shape
        scale_h, scale_w = self.scale
        return array.reshape(batch, height // scale_h, scale_h, width // scale_w, scale_w, channels)


def check_images(bottom: Sequence[Blob]) -> None:
    """Raise LayerError unless there are four axes, and the mask, if any, has the images' shape."""
    image_shape(bottom[0], "enlarging")
    if bottom[-1].shape != bottom[0].shape:
        raise LayerError("the mask differs in shape", expected=bottom[0].shape, found=bottom[-1].shape)


def check_no_mask_gradient(propagate_down: Sequence[bool]) -> None:
    """Raise LayerError when a gradient of the mask is asked for."""
    if any(propagate_down[1:]):
        raise LayerError("there is no gradient wrt a mask", hint="set propagate_down: false for it")


def mask_pixels(mask: Blob, top: Blob) -> np.ndarray:
    """The mask as indices h W' + w of the top, (N, H, W, C). Raises DataError where one is outside."""
    values, pixels = channels_last(mask.data), top.shape[2] * top.shape[3]
    wrong = ~((values >= 0) & (values < pixels))
    if wrong.any():
        raise DataError(
            "the mask names a pixel outside the top",
            expected=f"0 to {pixels - 1}",
            found=f"{values[wrong][0]:g}",
            hint="the top must be as large as what was pooled",
        )
    return values.astype(np.intp)


def _by_pixel(array: Any) -> Any:
    """(N, H, W, C) as (N, pixels, C)."""
    batch, height, width, channels = array.shape
    return array.reshape(batch, height * width, channels)


def place(x: np.ndarray, pixels: np.ndarray, y: np.ndarray) -> None:
    """y[n, pixels[n, i, c], c] = x[n, i, c], the last where several meet, and 0 elsewhere."""
    y[...] = 0
    np.put_along_axis(_by_pixel(y), _by_pixel(pixels), _by_pixel(x), axis=1)


def take(dy: np.ndarray, pixels: np.ndarray, dx: np.ndarray) -> None:
    """dx[n, i, c] = dy[n, pixels[n, i, c], c]."""
    _by_pixel(dx)[...] = np.take_along_axis(_by_pixel(dy), _by_pixel(pixels), axis=1)
