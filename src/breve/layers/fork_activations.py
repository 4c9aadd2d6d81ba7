"""Activations that forks of Caffe added: ReLU6, CReLU, HardSigmoid, HardSwish, Mish."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise, exponential
from breve.layers.base import Layer
from breve.layers.elementwise import ElementwiseLayer, KeepsBottom


class ReLU6(KeepsBottom):
    """ReLU cut off at 6.

    Forward: y = min(x, 6) if x > 0 else negative_slope x.
    Backward: dx = dy if 0 < x < 6, negative_slope dy if x <= 0, else 0.
    Fields: relu6_param: `negative_slope` (0).
    Source: the forks for MobileNet v2; Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the slope."""
        self.slope = self.dtype.type(self.param.relu6_param.negative_slope)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Cut off at both ends."""
        elementwise.relu6(self.keep_bottom(bottom, top), self.slope, top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Pass the gradient where nothing was cut off."""
        if propagate_down[0]:
            elementwise.relu6_backward(self.bottom_data, top[0].diff_memory, self.slope, bottom[0].diff_memory)


class CReLU(Layer):
    """ReLU of a blob and of its negative, side by side.

    Forward: y = [relu(x), relu(-x)] along `concat_axis`, relu(x) = x if x > 0 else negative_slope x.
    Backward: dx = dy_1 relu'(x) - dy_2 relu'(-x).
    Blobs: one bottom; top twice as long along `concat_axis`.
    Fields: crelu_param: `negative_slope` (0), `concat_axis` (1).
    Source: Cambricon's fork; Shang et al., "Understanding and improving convolutional neural networks via concatenated
        rectified linear units", 2016.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Double the axis."""
        if top[0] is bottom[0]:
            raise LayerError("CReLU cannot work in place", hint="give its top another name")
        shape = list(bottom[0].shape)
        self.axis = self.canonical_axis(self.param.crelu_param.concat_axis, len(shape))
        self.slope = self.dtype.type(self.param.crelu_param.negative_slope)
        shape[self.axis] *= 2
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Rectify both signs."""
        x = bottom[0].data
        for part, signed in zip(np.split(top[0].data, 2, axis=self.axis), (x, -x), strict=True):
            part[...] = np.where(signed > 0, signed, self.slope * signed)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Subtract the gradient of the negative half."""
        if propagate_down[0]:
            x = bottom[0].data
            positive, negative = np.split(top[0].diff, 2, axis=self.axis)
            bottom[0].diff[...] = np.where(x > 0, positive, self.slope * positive)
            bottom[0].diff[...] -= np.where(x < 0, negative, self.slope * negative)


class HardSigmoid(ElementwiseLayer):
    """A sigmoid of straight lines.

    Forward: y = min(max(alpha x + beta, 0), 1).
    Backward: dx = alpha dy if 0 < y < 1 else 0.
    Fields: hardsigmoid_param: `alpha` (0.2), `beta` (0.5).
    Source: MobileNet-YOLO's hard_sigmoid_layer, with its 0.2 and 0.5 as fields; there the gradient is dy alpha wherever
        |y| < 2.5, that is everywhere, here it is the derivative.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Scale, shift, cut off."""
        param = self.param.hardsigmoid_param
        y = np.multiply(bottom[0].memory, self.dtype.type(param.alpha), out=top[0].memory)
        y += self.dtype.type(param.beta)
        np.clip(y, 0, 1, out=y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale where nothing was cut off, which the output tells."""
        if propagate_down[0]:
            y = top[0].memory
            slope = self.dtype.type(self.param.hardsigmoid_param.alpha) * ((y > 0) & (y < 1))
            np.multiply(top[0].diff_memory, slope, out=bottom[0].diff_memory)


class HardSwish(KeepsBottom):
    """A swish of straight lines and a parabola.

    Forward: y = x min(max(x + 3, 0), 6) / 6.
    Backward: dx = 0 if x <= -3, dy if x >= 3, else dy (2 x + 3) / 6.
    Fields: none.
    Source: Howard et al., "Searching for MobileNetV3", 2019.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Weigh by the hard sigmoid."""
        elementwise.hard_swish(self.keep_bottom(bottom, top), top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope."""
        if propagate_down[0]:
            elementwise.hard_swish_backward(self.bottom_data, top[0].diff_memory, bottom[0].diff_memory)


class Mish(KeepsBottom):
    """The input weighed by the tanh of its softplus.

    Forward: y = x t, t = tanh(log(1 + exp(x))).
    Backward: dx = dy (t + x (1 - t^2) / (1 + exp(-x))).
    Fields: none.
    Source: Misra, "Mish: a self regularized non-monotonic activation function", 2019.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Weigh by the tanh."""
        exponential.mish(self.keep_bottom(bottom, top), top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope."""
        if propagate_down[0]:
            exponential.mish_backward(self.bottom_data, top[0].diff_memory, bottom[0].diff_memory)
