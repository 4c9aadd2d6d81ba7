"""Convolution, Deconvolution, Im2col, and the forks' depthwise convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels.convolution import ConvGeometry, col2im, im2col, plan
from breve.layers.base import Layer
from breve.layers.views import overwritten
from breve.layers.window import Sizes, Window, read_window

HOLES = frozenset(f"convolution_param.{field}" for field in ("hole", "hole_h", "hole_w"))


class ConvolutionBase(Layer):
    """What Convolution and Deconvolution share: one plan, weights and bias, applied to each bottom alike.

    Feature maps are (*batch, channels, *spatial), `axis` being that of the channels. The plan sees them as
    (batch, channels, height, width) or with more spatial axes.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, None)
    top_counts: ClassVar[tuple[int, int | None]] = (1, None)
    equal_counts: ClassVar[bool] = True
    fork_fields: ClassVar[frozenset[str]] = HOLES

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the parameters; make weight and bias."""
        param = self.param.convolution_param
        self.axis = self.canonical_axis(param.axis, bottom[0].ndim)
        self.window = read_window(param, bottom[0].ndim - self.axis - 1)
        self.channels, self.num_output = bottom[0].shape[self.axis], param.num_output
        self.group = self.read_group()
        if self.num_output < 1:
            raise LayerError("num_output is missing or zero", expected="at least 1")
        for name, count in (("channels", self.channels), ("num_output", self.num_output)):
            if self.group < 1 or count < 1 or count % self.group:
                raise LayerError(
                    f"{name} do not divide into groups", expected=f"a multiple of {self.group}", found=count
                )
        self.add_parameter((*self.weight_channels(), *self.window.kernel), param.weight_filler)
        if param.bias_term:
            self.add_parameter((self.num_output,), param.bias_filler)
        caffe_engine = param.engine == param.CAFFE or param.force_nd_im2col
        self.algorithm = "im2col" if caffe_engine else None
        self.plan: Any = None

    def read_group(self) -> int:
        """Number of groups."""
        return self.param.convolution_param.group

    def weight_channels(self) -> tuple[int, int]:
        """The first two axes of the weights."""
        raise NotImplementedError

    def out_shape(self, in_shape: Sizes) -> Sizes:
        """Spatial shape of the tops."""
        raise NotImplementedError

    def plan_geometry(self, batch: int, in_shape: Sizes, out_shape: Sizes, window: Window) -> ConvGeometry:
        """The convolution to plan, on two spatial axes at least."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops; plan anew when the geometry has changed."""
        self._check_bottoms(bottom)
        shape = bottom[0].shape
        in_shape = shape[self.axis + 1 :]
        out_shape = self.out_shape(in_shape)
        if any(o < 1 for o in out_shape):
            raise LayerError("nothing is left of the input", expected="tops of one pixel at least", found=out_shape)
        for blob in top:
            blob.reshape(*shape[: self.axis], self.num_output, *out_shape)
        batch, ones = math.prod(shape[: self.axis]), (1,) * (2 - len(in_shape))
        self._bottom_maps = (batch, self.channels, *ones, *in_shape)
        self._top_maps = (batch, self.num_output, *ones, *out_shape)
        geometry = self.plan_geometry(batch, self._bottom_maps[2:], self._top_maps[2:], self.window.plane())
        if self.plan is None or self.plan.geometry != geometry:
            self.plan = plan(geometry, self.dtype, self.algorithm)

    def _check_bottoms(self, bottom: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != self.axis + 1 + len(self.window.kernel):
            raise LayerError("the number of axes has changed", found=shape)
        if shape[self.axis] != self.channels:
            raise LayerError(
                "the bottom's channels do not fit the weights", expected=self.channels, found=shape[self.axis]
            )
        for blob in bottom[1:]:
            if blob.shape != shape:
                raise LayerError("bottoms differ in shape", expected=shape, found=blob.shape)

    def _weight(self, array: np.ndarray) -> np.ndarray:
        """The weights, or their diff, with the kernel on as many axes as the plan's."""
        return array.reshape(*array.shape[:2], *self.window.plane().kernel)


class Convolution(ConvolutionBase):
    """Correlation of each image with learned kernels, in groups of channels.

    Forward: y[n,k,i,j] = b[k] + sum over c,r,s of w[k,c,r,s] x[n, c, i stride - pad + r dilation, j stride - pad + s
        dilation], x being zero outside and c running over the channels of k's group. On any number of spatial axes;
        each has out = (in + 2 pad - dilation (kernel - 1) - 1) // stride + 1 pixels.
    Backward: dx is the sum of w dy over all outputs that read x (the full correlation of dy with the rotated kernel);
        dw[k,c,r,s] = sum over n,i,j of dy[n,k,i,j] times the x that it met; db[k] = sum over n,i,j of dy[n,k,i,j].
    Blobs: any number of bottoms of one shape (N, channels, *spatial), each with its top (N, num_output, *out), all by
        the same weights.
    Params: `weight` (num_output, channels / group, *kernel); `bias` (num_output) where `bias_term`.
    Fields: convolution_param: `num_output` (required), `kernel_size` (required; once or per axis) or `kernel_h` and
        `kernel_w`, `stride` (1) or `stride_h` and `stride_w`, `pad` (0) or `pad_h` and `pad_w`, `dilation` (1), in
        DeepLab's fork `hole` or `hole_h` and `hole_w`, `group` (1), `bias_term` (true), `weight_filler` (constant 0),
        `bias_filler` (constant 0), `axis` (1) of the channels, `engine` (DEFAULT; CAFFE asks for the im2col algorithm),
        `force_nd_im2col` (false; true asks for it too).
    Errors: sizes missing, zero or given twice; channels or num_output no multiple of group; a kernel larger than the
        padded input; bottoms that differ in shape.
    Source: Caffe's conv_layer and base_conv_layer.
    """

    def weight_channels(self) -> tuple[int, int]:
        """One kernel an output, over the channels of its group."""
        return self.num_output, self.channels // self.group

    def out_shape(self, in_shape: Sizes) -> Sizes:
        """Rounded down."""
        w = self.window
        steps = zip(in_shape, w.pad, w.extent, w.stride, strict=True)
        return tuple((i + 2 * p - e) // s + 1 for i, p, e, s in steps)

    def plan_geometry(self, batch: int, in_shape: Sizes, out_shape: Sizes, window: Window) -> ConvGeometry:
        """This very convolution."""
        w = window
        return ConvGeometry(
            batch, self.channels, self.num_output, in_shape, w.kernel, w.stride, w.pad, w.dilation, self.group
        )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Convolve each bottom."""
        weight = self._weight(self.blobs[0].data)
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        for x, y in zip(bottom, top, strict=True):
            with overwritten(y.data, self._top_maps) as top_data:
                self.plan.forward(x.data.reshape(self._bottom_maps), weight, bias, top_data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Gradients wrt weight and bias, then wrt each bottom."""
        weight = self._weight(self.blobs[0].data)
        for x, y, wanted in zip(bottom, top, propagate_down, strict=True):
            top_diff = y.diff.reshape(self._top_maps)
            self._backward_params(x.data.reshape(self._bottom_maps), top_diff)
            if wanted:
                with overwritten(x.diff, self._bottom_maps) as bottom_diff:
                    self.plan.backward_data(top_diff, weight, bottom_diff)

    def _backward_params(self, bottom_data: np.ndarray, top_diff: np.ndarray) -> None:
        """Accumulate those gradients of weight and bias that are wanted."""
        weight_wanted, bias_wanted = (*self.param_propagate_down, False)[:2]
        bias_diff = self.blobs[1].diff if bias_wanted else None
        if weight_wanted:
            self.plan.backward_weights(top_diff, bottom_data, self._weight(self.blobs[0].diff), bias_diff)
        elif bias_diff is not None:
            bias_diff += top_diff.sum(axis=(0, *range(2, top_diff.ndim)))


class ConvolutionDepthwise(Convolution):
    """Convolution of each channel by itself: a Convolution whose `group` is the number of channels unless it is given.

    Forward: y[n,k,i,j] = b[k] + sum over r,s of w[k,0,r,s] x[n, k // multiplier, i stride - pad + r dilation, j stride
        - pad + s dilation], multiplier being num_output / channels.
    Backward: as Convolution's.
    Blobs: as Convolution's.
    Params: `weight` (num_output, channels / group, *kernel); `bias` (num_output) where `bias_term`.
    Fields: convolution_param: as Convolution's, but `group` (the number of channels).
    Errors: as Convolution's.
    Source: the layers ConvolutionDepthwise and DepthwiseConvolution of MobileNet forks of Caffe.
    """

    def read_group(self) -> int:
        """The number of channels, unless the prototxt says otherwise."""
        param = self.param.convolution_param
        return param.group if param.HasField("group") else self.channels


class Deconvolution(ConvolutionBase):
    """The transpose of a convolution: forward and backward_data exchanged, so that it enlarges where that shrinks.

    Forward: y[n,k,h,w] = b[k] + sum of w[c,k,r,s] x[n,c,i,j] over all c,i,j,r,s with i stride - pad + r dilation = h
        and j stride - pad + s dilation = w, c running over the channels of k's group. On any number of spatial axes;
        each has out = stride (in - 1) + dilation (kernel - 1) + 1 - 2 pad pixels.
    Backward: dx is the convolution of dy with w; dw[c,k,r,s] = sum over n,i,j of x[n,c,i,j] times the dy that it
        reached; db[k] = sum over n,h,w of dy[n,k,h,w].
    Blobs: any number of bottoms of one shape (N, channels, *spatial), each with its top (N, num_output, *out), all by
        the same weights.
    Params: `weight` (channels, num_output / group, *kernel); `bias` (num_output) where `bias_term`.
    Fields: convolution_param: as Convolution's.
    Errors: as Convolution's; nothing left of the output when pad is cut away.
    Source: Caffe's deconv_layer and base_conv_layer.
    """

    def weight_channels(self) -> tuple[int, int]:
        """One kernel a channel, over the outputs of its group."""
        return self.channels, self.num_output // self.group

    def out_shape(self, in_shape: Sizes) -> Sizes:
        """The input of the convolution whose output is `in_shape`."""
        w = self.window
        steps = zip(in_shape, w.pad, w.extent, w.stride, strict=True)
        return tuple(s * (i - 1) + e - 2 * p for i, p, e, s in steps)

    def plan_geometry(self, batch: int, in_shape: Sizes, out_shape: Sizes, window: Window) -> ConvGeometry:
        """The convolution from the top's shape to the bottom's."""
        w = window
        return ConvGeometry(
            batch, self.num_output, self.channels, out_shape, w.kernel, w.stride, w.pad, w.dilation, self.group
        )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The convolution's gradient wrt its data."""
        weight = self._weight(self.blobs[0].data)
        for x, y in zip(bottom, top, strict=True):
            with overwritten(y.data, self._top_maps) as top_data:
                self.plan.backward_data(x.data.reshape(self._bottom_maps), weight, top_data)
                if len(self.blobs) > 1:
                    top_data += self.blobs[1].data.reshape(-1, *[1] * (top_data.ndim - 2))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """The convolution itself, and its gradient wrt weights with the roles of x and dy exchanged."""
        weight = self._weight(self.blobs[0].data)
        weight_wanted, bias_wanted = (*self.param_propagate_down, False)[:2]
        for x, y, wanted in zip(bottom, top, propagate_down, strict=True):
            top_diff = y.diff.reshape(self._top_maps)
            bottom_data = x.data.reshape(self._bottom_maps)
            if weight_wanted:
                self.plan.backward_weights(bottom_data, top_diff, self._weight(self.blobs[0].diff), None)
            if bias_wanted:
                self.blobs[1].diff[...] += top_diff.sum(axis=(0, *range(2, top_diff.ndim)))
            if wanted:
                with overwritten(x.diff, self._bottom_maps) as bottom_diff:
                    self.plan.forward(top_diff, weight, None, bottom_diff)


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
