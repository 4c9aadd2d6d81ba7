"""Activations: ReLU, Sigmoid, TanH, ELU, Swish, BNLL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise
from breve.layers.elementwise import ElementwiseLayer


class ReLU(ElementwiseLayer):
    """Rectified linear unit: negative values become zero, or are scaled down (leaky).

    Forward: y = x if x > 0 else negative_slope x.
    Backward: dx = dy if x > 0 else negative_slope dy.
    Fields: relu_param: `negative_slope` (0); `engine` is ignored.
    Errors: a negative `negative_slope` in place, whose output does not tell the input's sign.
    Source: Caffe's relu_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the slope."""
        self.slope = self.dtype.type(self.param.relu_param.negative_slope)
        if self.slope < 0 and top[0] is bottom[0]:
            raise LayerError("a negative slope below zero cannot work in place", expected=">= 0", found=self.slope)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Clamp or scale the negative values."""
        elementwise.relu(bottom[0].memory, self.slope, top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Pass the gradient where the input was positive; in place the output has its sign."""
        if propagate_down[0]:
            elementwise.relu_backward(bottom[0].memory, top[0].diff_memory, self.slope, bottom[0].diff_memory)


class Sigmoid(ElementwiseLayer):
    """Logistic function.

    Forward: y = 1 / (1 + exp(-x)), computed as tanh(x / 2) / 2 + 1/2, which cannot overflow.
    Backward: dx = dy y (1 - y).
    Fields: sigmoid_param: `engine` is ignored.
    Source: Caffe's sigmoid_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Squash to (0, 1)."""
        y = np.multiply(bottom[0].memory, 0.5, out=top[0].memory)
        np.tanh(y, out=y)
        y *= 0.5
        y += 0.5

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope, which the output tells."""
        if propagate_down[0]:
            y = top[0].memory
            np.multiply(top[0].diff_memory, y * (1 - y), out=bottom[0].diff_memory)


class TanH(ElementwiseLayer):
    """Hyperbolic tangent.

    Forward: y = tanh(x).
    Backward: dx = dy (1 - y^2).
    Fields: tanh_param: `engine` is ignored.
    Source: Caffe's tanh_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Squash to (-1, 1)."""
        np.tanh(bottom[0].memory, out=top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope, which the output tells."""
        if propagate_down[0]:
            y = top[0].memory
            np.multiply(top[0].diff_memory, 1 - y * y, out=bottom[0].diff_memory)
