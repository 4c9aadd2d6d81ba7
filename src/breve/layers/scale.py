"""Scale, Bias and PReLU: layers with one coefficient for each channel, or for each place along some axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import channels
from breve.layers.base import Layer
from breve.layers.coefficients import Coefficients, KeptBottom
from breve.proto import FillerParameter


def learned_shape(layer: Layer, param: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `axis` and `num_axes` give to the coefficients of a bottom of `shape`. Raises LayerError."""
    axis = layer.canonical_axis(param.axis, len(shape))
    if param.num_axes < -1:
        raise LayerError("num_axes is below -1", found=param.num_axes)
    end = len(shape) if param.num_axes == -1 else axis + param.num_axes
    if end > len(shape):
        raise LayerError("num_axes reaches past the bottom's axes", expected=len(shape) - axis, found=param.num_axes)
    return shape[axis:end]


def placed(layer: Layer, param: Any, shape: tuple[int, ...], own: tuple[int, ...]) -> Coefficients:
    """Coefficients of shape `own` on a bottom of `shape`. Raises LayerError when they do not fit."""
    axis = layer.canonical_axis(param.axis, len(shape)) if own else 0
    if shape[axis : axis + len(own)] != own:
        raise LayerError("the coefficients do not fit the bottom", expected=f"{own} from axis {axis} on", found=shape)
    return Coefficients(shape, axis, own)


def scaling(factor: np.ndarray, shift: np.ndarray | None = None) -> channels.Rule:
    """The rule y = factor x + shift, z = x."""
    return channels.plain_rule(np.zeros_like(factor), np.ones_like(factor)).then(factor, shift)


class Scale(Layer):
    """The bottom times coefficients that are learned, or given by a second bottom; plus a bias if wished.

    Forward: y = a x + b, a and b having the bottom's axes from `axis` on and being the same along all others.
    Backward: dx = a dy; da = the sum of dy x, db = the sum of dy, over the axes that a and b do not have.
    Blobs: bottom x, and with two bottoms a, whose axes are x's from `axis` on; top of x's shape, in place if wished
        (then x is kept aside).
    Params: a, but with two bottoms; b where `bias_term`. Both of the shape of x's axes `axis` to `axis` + `num_axes` -
        1, or of the second bottom's.
    Fields: scale_param: `axis` (1), negative ones counted from the last, `num_axes` (1; -1: to the last; 0: a scalar),
        `filler` (constant 1), `bias_term` (false), `bias_filler` (constant 0).
    Errors: coefficients that reach past the bottom's axes, or differ from their sizes.
    Source: Caffe's scale_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the coefficients."""
        param = self.param.scale_param
        self.is_learned, self.kept = len(bottom) == 1, KeptBottom()
        shape = learned_shape(self, param, bottom[0].shape) if self.is_learned else bottom[1].shape
        if self.is_learned:
            self.add_parameter(shape, param.filler if param.HasField("filler") else FillerParameter(value=1))
        if param.bias_term:
            self.add_parameter(shape, param.bias_filler)

    def _factor(self, bottom: Sequence[Blob]) -> Blob:
        return self.blobs[0] if self.is_learned else bottom[1]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as bottom."""
        self.coefficients = placed(self, self.param.scale_param, bottom[0].shape, self._factor(bottom).shape)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Multiply and add."""
        factor = self.coefficients.expand(self._factor(bottom).data)
        has_bias = self.param.scale_param.bias_term
        shift = self.coefficients.expand(self.blobs[-1].data) if has_bias else None
        bottom_data = self.coefficients.grouped(bottom[0].data)
        kept = self.kept.keep(bottom_data, top[0] is bottom[0])
        with self.coefficients.overwritten(top[0].data) as top_data:
            channels.normalise(bottom_data, scaling(factor, shift), top_data, kept)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Gradients wrt the coefficients and the bottom, in one sweep."""
        top_diff = self.coefficients.grouped(top[0].diff)
        factor = self.coefficients.expand(self._factor(bottom).data)
        sum_dy, sum_dy_x = np.empty_like(factor), np.empty_like(factor)
        if propagate_down[0]:
            with self.coefficients.overwritten(bottom[0].diff) as bottom_diff:
                channels.scale_backward(top_diff, self.kept.values, factor, bottom_diff, sum_dy, sum_dy_x)
        else:
            channels.normalise_sums(top_diff, self.kept.values, scaling(factor), sum_dy, sum_dy_x)
        if self.is_learned and self.param_propagate_down[0]:
            self.blobs[0].diff[...] += self.coefficients.collapse(sum_dy_x)
        elif not self.is_learned and propagate_down[1]:
            bottom[1].diff[...] = self.coefficients.collapse(sum_dy_x)
        if self.param.scale_param.bias_term and self.param_propagate_down[-1]:
            self.blobs[-1].diff[...] += self.coefficients.collapse(sum_dy)


class Bias(Layer):
    """The bottom plus coefficients that are learned, or given by a second bottom.

    Forward: y = x + b, b having the bottom's axes from `axis` on and being the same along all others.
    Backward: dx = dy; db = the sum of dy over the axes that b does not have.
    Blobs: bottom x, and with two bottoms b, whose axes are x's from `axis` on; top of x's shape, in place if wished.
    Params: b, but with two bottoms, of the shape of x's axes `axis` to `axis` + `num_axes` - 1.
    Fields: bias_param: `axis` (1), negative ones counted from the last, `num_axes` (1; -1: to the last; 0: a scalar),
        `filler` (constant 0).
    Errors: coefficients that reach past the bottom's axes, or differ from their sizes.
    Source: Caffe's bias_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    in_place: ClassVar[bool] = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the coefficients."""
        if len(bottom) == 1:
            shape = learned_shape(self, self.param.bias_param, bottom[0].shape)
            self.add_parameter(shape, self.param.bias_param.filler)

    def _shift(self, bottom: Sequence[Blob]) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as bottom."""
        self.coefficients = placed(self, self.param.bias_param, bottom[0].shape, self._shift(bottom).shape)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Add."""
        shift = self._shift(bottom).data.reshape(self.coefficients.spread[: bottom[0].ndim])
        np.add(bottom[0].data, shift, out=top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Pass dy on; sum it for the coefficients."""
        wanted = propagate_down[1] if len(bottom) > 1 else self.param_propagate_down[0]
        if wanted:
            repeated = tuple(i for i, size in enumerate(self.coefficients.spread[: bottom[0].ndim]) if size == 1)
            total = top[0].diff.sum(axis=repeated).reshape(self.coefficients.own)
            if len(bottom) > 1:
                bottom[1].diff[...] = total
            else:
                self.blobs[0].diff[...] += total
        if propagate_down[0] and top[0] is not bottom[0]:
            bottom[0].diff[...] = top[0].diff


class PReLU(Layer):
    """Rectified linear unit whose slope for negative values is learned, for each channel or one for all.

    Forward: y = x if x > 0 else a x.
    Backward: dx = dy if x > 0 else a dy; da = the sum of dy x where x <= 0, over all axes but that of the channels, or
        over all.
    Blobs: bottom (N, C, ...); top of the same shape, in place if wished (then x is kept aside).
    Params: a (C), or () with `channel_shared`.
    Fields: prelu_param: `filler` (constant 0.25), `channel_shared` (false).
    Errors: a bottom of one axis, or whose channels change.
    Source: Caffe's prelu_layer; K. He et al., Delving deep into rectifiers, 2015.
    """

    in_place: ClassVar[bool] = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the slopes."""
        param = self.param.prelu_param
        if bottom[0].ndim < 2:
            raise LayerError("PReLU needs an axis of channels", expected="(N, C, ...)", found=bottom[0].shape)
        shape = () if param.channel_shared else bottom[0].shape[1:2]
        self.add_parameter(shape, param.filler if param.HasField("filler") else FillerParameter(value=0.25))
        self.kept = KeptBottom()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as bottom."""
        shape, own = bottom[0].shape, self.blobs[0].shape
        if len(shape) < 2 or (own and shape[1:2] != own):
            raise LayerError("the bottom's channels have changed", expected=own, found=shape)
        self.coefficients = Coefficients(shape, len(own), own)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Scale the negative values."""
        bottom_data = self.coefficients.grouped(bottom[0].data)
        kept = self.kept.keep(bottom_data, top[0] is bottom[0])
        with self.coefficients.overwritten(top[0].data) as top_data:
            channels.prelu(bottom_data, self.coefficients.expand(self.blobs[0].data), top_data, kept)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Gradients wrt the slopes and the bottom, in one sweep."""
        top_diff = self.coefficients.grouped(top[0].diff)
        slope = self.coefficients.expand(self.blobs[0].data)
        sum_negative = np.empty_like(slope)
        if propagate_down[0]:
            with self.coefficients.overwritten(bottom[0].diff) as bottom_diff:
                channels.prelu_backward(top_diff, self.kept.values, slope, bottom_diff, sum_negative)
        else:
            scratch = np.empty_like(top_diff)
            channels.prelu_backward(top_diff, self.kept.values, slope, scratch, sum_negative)
        if self.param_propagate_down[0]:
            self.blobs[0].diff[...] += self.coefficients.collapse(sum_negative)


class Axpy(Layer):
    """One image scaled by channel, plus another: what ends a squeeze-and-excitation block.

    Forward: y = a x + b, a being one number for each channel of each image.
    Backward: da = the sum of dy x over pixels; dx = a dy; db = dy.
    Blobs: bottoms a (N, C) or (N, C, 1, 1), x (N, C, ...), and b of x's shape; top of x's shape.
    Fields: none.
    Errors: bottoms whose shapes do not fit.
    Source: SENet's axpy_layer; J. Hu et al., Squeeze-and-excitation networks, 2017.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (3, 3)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as x."""
        factor, shape = bottom[0].shape, bottom[1].shape
        if len(shape) < 2 or factor not in (shape[:2], (*shape[:2], 1, 1)):
            raise LayerError("the factors do not fit the images", expected=shape[:2], found=factor)
        if bottom[2].shape != shape:
            raise LayerError("the images differ in shape", expected=shape, found=bottom[2].shape)
        self.coefficients = Coefficients(shape, 0, shape[:2])
        top[0].reshape_like(bottom[1])

    def _factor(self, bottom: Sequence[Blob]) -> np.ndarray:
        return self.coefficients.expand(bottom[0].data)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Multiply and add."""
        rule, nothing = scaling(self._factor(bottom)), np.empty((1, 0, 0), self.dtype)
        with self.coefficients.overwritten(top[0].data) as top_data:
            channels.normalise(self.coefficients.grouped(bottom[1].data), rule, top_data, nothing)
            top_data += self.coefficients.grouped(bottom[2].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Wrt the factors and x in one sweep; b takes dy."""
        top_diff, factor = self.coefficients.grouped(top[0].diff), self._factor(bottom)
        sum_dy, sum_dy_x = np.empty_like(factor), np.empty_like(factor)
        bottom_data = self.coefficients.grouped(bottom[1].data)
        if propagate_down[1]:
            with self.coefficients.overwritten(bottom[1].diff) as bottom_diff:
                channels.scale_backward(top_diff, bottom_data, factor, bottom_diff, sum_dy, sum_dy_x)
        elif propagate_down[0]:
            channels.normalise_sums(top_diff, bottom_data, scaling(factor), sum_dy, sum_dy_x)
        if propagate_down[0]:
            bottom[0].diff[...] = sum_dy_x.reshape(bottom[0].shape)
        if propagate_down[2]:
            bottom[2].diff[...] = top[0].diff
