"""Im2col."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from breve.blob import Blob
from breve.kernels.convolution import ConvGeometry, col2im, im2col
from breve.layers.base import Layer
from breve.layers.views import overwritten
from breve.layers.window import HOLES, read_window


class Im2col(Layer):
    """The patches that a convolution's kernel meets, laid out along the channels.

    Forward: y[n, (c, r, s), i, j] = x[n, c, i stride - pad + r dilation, j stride - pad + s dilation], zero outside.
    Backward: dx = col2im(dy): each dy is added to the pixel that it was copied from.
    Blobs: bottom (N, channels, *spatial); top (N, channels * prod(kernel), *out), out as Convolution's.
    Fields: convolution_param: `kernel_size` (required) or `kernel_h` and `kernel_w`, `stride` (1), `pad` (0),
        `dilation` (1), `axis` (1), all as Convolution's; the others are ignored.
    Errors: sizes missing, zero or given twice; a kernel larger than the padded input.
    Source: Caffe's im2col_layer.
    """

    fork_fields: ClassVar[frozenset[str]] = HOLES

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the window."""
        param = self.param.convolution_param
        self.axis = self.canonical_axis(param.axis, bottom[0].ndim)
        self.window = read_window(param, bottom[0].ndim - self.axis - 1)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Channels times the kernel's size, at the output's pixels."""
        batch, (channels, *in_shape) = bottom[0].shape[: self.axis], bottom[0].shape[self.axis :]
        w = self.window
        geometry = ConvGeometry(1, channels, 1, tuple(in_shape), w.kernel, w.stride, w.pad, w.dilation)
        top[0].reshape(*batch, channels * math.prod(w.kernel), *geometry.out_shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Unfold each image."""
        w = self.window
        bottom_data = bottom[0].data.reshape(-1, *bottom[0].shape[self.axis :])
        with overwritten(top[0].data, (len(bottom_data), *top[0].shape[self.axis :])) as top_data:
            for image, columns in zip(bottom_data, top_data, strict=True):
                columns[...] = im2col(image, w.kernel, w.stride, w.pad, w.dilation).reshape(columns.shape)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Fold each matrix back."""
        if not propagate_down[0]:
            return
        w, in_shape = self.window, bottom[0].shape[self.axis + 1 :]
        top_diff = top[0].diff.reshape(-1, *top[0].shape[self.axis :])
        with overwritten(bottom[0].diff, (len(top_diff), *bottom[0].shape[self.axis :])) as bottom_diff:
            for columns, image in zip(top_diff, bottom_diff, strict=True):
                matrix = columns.reshape(len(columns), -1)
                image[...] = col2im(matrix, in_shape, w.kernel, w.stride, w.pad, w.dilation)
