"""Elementary functions of each element: AbsVal, Power, Exp, Log, Clip, Threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.elementwise import ElementwiseLayer, KeepsBottom


def quiet() -> np.errstate:
    """Values outside a function's domain become NaN or infinite without a warning, as in Caffe."""
    return np.errstate(all="ignore")


class AbsVal(KeepsBottom):
    """Absolute value.

    Forward: y = |x|.
    Backward: dx = dy sign(x), 0 at 0.
    Fields: none.
    Source: Caffe's absval_layer, which refuses to work in place; here it may.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Drop the sign."""
        np.abs(self.keep_bottom(bottom, top), out=top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Give the gradient the sign of the input."""
        if propagate_down[0]:
            np.multiply(top[0].diff_memory, np.sign(self.bottom_data), out=bottom[0].diff_memory)


class Power(KeepsBottom):
    """A power of a linear function.

    Forward: y = (shift + scale x) ^ power.
    Backward: dx = dy power scale (shift + scale x) ^ (power - 1); 0 where power scale is 0.
    Fields: power_param: `power` (1), `scale` (1), `shift` (0).
    Source: Caffe's power_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the three numbers."""
        param = self.param.power_param
        self.power, self.scale, self.shift = (self.dtype.type(v) for v in (param.power, param.scale, param.shift))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Scale, shift, raise."""
        y = np.multiply(self.keep_bottom(bottom, top), self.scale, out=top[0].memory)
        y += self.shift
        if self.power != 1:
            with quiet():
                np.power(y, self.power, out=y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope."""
        if not propagate_down[0]:
            return
        slope = self.power * self.scale
        if slope and self.power != 1:
            with quiet():
                slope = slope * np.power(self.scale * self.bottom_data + self.shift, self.power - 1)
        np.multiply(top[0].diff_memory, slope, out=bottom[0].diff_memory)


class Exp(ElementwiseLayer):
    """An exponential function.

    Forward: y = base ^ (shift + scale x).
    Backward: dx = dy y scale ln(base).
    Fields: exp_param: `base` (-1: e), `scale` (1), `shift` (0).
    Errors: a base that is neither -1 nor positive.
    Source: Caffe's exp_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Turn the base into a factor of the exponent."""
        param = self.param.exp_param
        log_base = natural_log_of_base(param.base, "exp_param")
        self.scale, self.shift = self.dtype.type(param.scale * log_base), self.dtype.type(param.shift * log_base)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Scale, shift, exponentiate."""
        y = np.multiply(bottom[0].memory, self.scale, out=top[0].memory)
        y += self.shift
        with quiet():
            np.exp(y, out=y)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by the slope, which the output tells."""
        if propagate_down[0]:
            np.multiply(top[0].diff_memory, top[0].memory * self.scale, out=bottom[0].diff_memory)


class Log(KeepsBottom):
    """A logarithm.

    Forward: y = log_base(shift + scale x).
    Backward: dx = dy scale / ((shift + scale x) ln(base)).
    Fields: log_param: `base` (-1: e), `scale` (1), `shift` (0).
    Errors: a base that is neither -1 nor positive, or is 1.
    Source: Caffe's log_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Turn the base into a divisor of the result."""
        param = self.param.log_param
        log_base = natural_log_of_base(param.base, "log_param")
        if log_base == 0:
            raise LayerError(
                "log_param.base cannot be 1", expected="-1 for e, or another positive number", found=param.base
            )
        self.factor = self.dtype.type(1 / log_base)
        self.scale, self.shift = self.dtype.type(param.scale), self.dtype.type(param.shift)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Scale, shift, take the logarithm."""
        y = np.multiply(self.keep_bottom(bottom, top), self.scale, out=top[0].memory)
        y += self.shift
        with quiet():
            np.log(y, out=y)
        y *= self.factor

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Divide by the argument."""
        if propagate_down[0]:
            with quiet():
                slope = self.factor * self.scale / (self.scale * self.bottom_data + self.shift)
            np.multiply(top[0].diff_memory, slope, out=bottom[0].diff_memory)


def natural_log_of_base(base: float, field: str) -> float:
    """ln(base), 1 for the base -1 that stands for e. Raises LayerError."""
    if base != -1 and base <= 0:
        raise LayerError(f"{field}.base is out of range", expected="-1 for e, or a positive number", found=base)
    return 1.0 if base == -1 else math.log(base)


class Clip(KeepsBottom):
    """Values kept within bounds.

    Forward: y = min(max(x, min), max).
    Backward: dx = dy if min <= x <= max else 0.
    Fields: clip_param: `min` and `max`, both required.
    Source: Caffe's clip_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Cut off at both bounds."""
        param = self.param.clip_param
        x = self.keep_bottom(bottom, top)
        np.minimum(np.maximum(x, self.dtype.type(param.min)), self.dtype.type(param.max), out=top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Pass the gradient where nothing was cut off."""
        if propagate_down[0]:
            param, x = self.param.clip_param, self.bottom_data
            inside = (x >= self.dtype.type(param.min)) & (x <= self.dtype.type(param.max))
            np.multiply(top[0].diff_memory, inside, out=bottom[0].diff_memory)


class Threshold(ElementwiseLayer):
    """One where the input exceeds a threshold, else zero.

    Forward: y = 1 if x > threshold else 0.
    Backward: none; asking for it is an error.
    Fields: threshold_param: `threshold` (0).
    Errors: a gradient is asked for.
    Source: Caffe's threshold_layer.
    """

    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({0})

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compare."""
        top[0].memory[...] = bottom[0].memory > self.dtype.type(self.param.threshold_param.threshold)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """A step has no gradient. Raises LayerError when one is asked for."""
        if any(propagate_down):
            raise LayerError("Threshold gives no gradient", hint="set propagate_down: false")
