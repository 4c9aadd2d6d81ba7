"""Convolution, Deconvolution, and the forks' depthwise convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.kernels.channels import Rule
from breve.kernels.convolution import ConvGeometry, get_algorithm
from breve.layers.convolution_base import ConvolutionBase
from breve.layers.views import overwritten
from breve.layers.window import Sizes, Window


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
        self._convolve(bottom, top, relu=False)

    def forward_rectified(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Convolve each bottom and clamp the result at zero: Convolution and ReLU at once."""
        self._convolve(bottom, top, relu=True)

    @property
    def folds(self) -> bool:
        """Whether a normalisation may become part of the weights: it rounds otherwise, and should not take longer."""
        return self.algorithm is None and get_algorithm() != "exact" and self.plan.scales_cheaply

    def forward_normalised(self, bottom: Blob, top: Blob, rule: Rule) -> None:
        """Convolve, and apply the rule (slope 0 or 1) to the result: as gain times weights, and in the bias."""
        gain, mean, shift = rule.gain[0], rule.mean[0], rule.shift[0]
        bias = (self.blobs[1].data - mean if len(self.blobs) > 1 else -mean) * gain + shift
        weight, relu = self._weight(self.blobs[0].data), rule.slope == 0
        with overwritten(top.data, self._top_maps) as top_data:
            self.plan.forward_scaled(bottom.data.reshape(self._bottom_maps), weight, gain, bias, top_data, relu)

    def _convolve(self, bottom: Sequence[Blob], top: Sequence[Blob], relu: bool) -> None:
        weight = self._weight(self.blobs[0].data)
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        for x, y in zip(bottom, top, strict=True):
            with overwritten(y.data, self._top_maps) as top_data:
                self.plan.forward(x.data.reshape(self._bottom_maps), weight, bias, top_data, relu)

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
