"""Activations: ReLU, Sigmoid, TanH, ELU, Swish, BNLL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise, exponential
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

    Forward: y = 1 / (1 + exp(-x)).
    Backward: dx = dy y (1 - y).
    Fields: sigmoid_param: `engine` is ignored.
    Source: Caffe's sigmoid_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Squash to (0, 1)."""
        exponential.sigmoid(bottom[0].memory, top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope, which the output tells."""
        if propagate_down[0]:
            exponential.sigmoid_backward(top[0].memory, top[0].diff_memory, bottom[0].diff_memory)


class TanH(ElementwiseLayer):
    """Hyperbolic tangent.

    Forward: y = tanh(x).
    Backward: dx = dy (1 - y^2).
    Fields: tanh_param: `engine` is ignored.
    Source: Caffe's tanh_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Squash to (-1, 1)."""
        exponential.tanh(bottom[0].memory, top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope, which the output tells."""
        if propagate_down[0]:
            exponential.tanh_backward(top[0].memory, top[0].diff_memory, bottom[0].diff_memory)


class ELU(ElementwiseLayer):
    """Exponential linear unit: like ReLU, with negative values curving towards -alpha.

    Forward: y = lambda x if x > 0 else lambda alpha (exp(x) - 1).
    Backward: dx = dy lambda if x > 0 else dy (y + lambda alpha).
    Fields: elu_param: `alpha` (1); of NVIDIA's fork `lambda` (1; 1.0507 with alpha 1.6733 is SELU).
    Errors: a negative `alpha` or `lambda` in place, where the output does not tell the input's sign.
    Source: Caffe's elu_layer; Clevert et al., "Fast and accurate deep network learning by exponential linear units",
        2015.
    """

    fork_fields: ClassVar[frozenset[str]] = frozenset({"elu_param.lambda"})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read both factors."""
        param = self.param.elu_param
        self.scale, self.alpha = self.dtype.type(getattr(param, "lambda")), self.dtype.type(param.alpha)
        if min(self.alpha, self.scale) < 0 and top[0] is bottom[0]:
            raise LayerError("a negative elu_param.alpha cannot work in place", expected=">= 0", found=self.alpha)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Curve the negative values."""
        exponential.elu(bottom[0].memory, self.scale, self.alpha, top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale where the input was negative; in place the output has its sign."""
        if propagate_down[0]:
            x, y = bottom[0].memory, top[0].memory
            exponential.elu_backward(x, y, top[0].diff_memory, self.scale, self.alpha, bottom[0].diff_memory)


class Swish(ElementwiseLayer):
    """The input weighed by its own sigmoid.

    Forward: y = x s, s = 1 / (1 + exp(-beta x)).
    Backward: dx = dy (beta y + s (1 - beta y)).
    Fields: swish_param: `beta` (1).
    Source: Caffe's swish_layer; Ramachandran et al., "Searching for activation functions", 2017.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Multiply by the sigmoid, which is kept."""
        x, beta = bottom[0].memory, self.param.swish_param.beta
        self.sigmoid = x * self.dtype.type(beta)
        exponential.sigmoid(self.sigmoid, self.sigmoid)
        np.multiply(x, self.sigmoid, out=top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope."""
        if propagate_down[0]:
            beta_y = top[0].memory * self.dtype.type(self.param.swish_param.beta)
            np.multiply(top[0].diff_memory, beta_y + self.sigmoid * (1 - beta_y), out=bottom[0].diff_memory)


class BNLL(ElementwiseLayer):
    """Binomial normal log likelihood, a smooth ReLU, known as softplus too.

    Forward: y = log(1 + exp(x)), computed as max(x, 0) + log(1 + exp(-|x|)), which cannot overflow.
    Backward: dx = dy (1 - exp(-y)), which is dy / (1 + exp(-x)).
    Fields: none.
    Source: Caffe's bnll_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Bend smoothly at zero."""
        x = bottom[0].memory
        np.add(np.maximum(x, 0), np.log1p(np.exp(-np.abs(x))), out=top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope, which the output tells."""
        if propagate_down[0]:
            np.multiply(top[0].diff_memory, -np.expm1(-top[0].memory), out=bottom[0].diff_memory)
