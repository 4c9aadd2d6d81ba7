"""Layers that treat each element alike: the sum has one term, the top's diff times the slope at the element's value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from breve.explain.layer_copy import LayerCopy
from breve.explain.layers.base import Explainer, Kinks
from breve.explain.model import Index, Terms
from breve.explain.wrt import Wrt

Slope = Callable[[Any, float], float]


@dataclass(frozen=True)
class Function:
    """A function of one number: its derivative in words and as code of (LayerParameter, x), and where it jumps."""

    text: str
    slope: Slope
    kinks: Callable[[Any], Sequence[float]] = lambda param: ()


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * x))


def _relu(param: Any, x: float) -> float:
    return 1.0 if x > 0 else param.relu_param.negative_slope


def _swish(param: Any, x: float) -> float:
    beta = param.swish_param.beta
    s = _sigmoid(beta * x)
    return s + beta * x * s * (1 - s)


def _natural(base: float) -> float:
    return 1.0 if base == -1 else math.log(base)


def _exp(param: Any, x: float) -> float:
    p = param.exp_param
    rate = p.scale * _natural(p.base)
    return rate * math.exp(rate * x + p.shift * _natural(p.base))


def _log(param: Any, x: float) -> float:
    p = param.log_param
    return p.scale / ((p.shift + p.scale * x) * _natural(p.base))


def _power(param: Any, x: float) -> float:
    p = param.power_param
    slope = p.power * p.scale
    return slope * (p.shift + p.scale * x) ** (p.power - 1) if slope and p.power != 1 else slope


def _clip(param: Any, x: float) -> float:
    return float(np.float32(param.clip_param.min) <= x <= np.float32(param.clip_param.max))


def _relu6(param: Any, x: float) -> float:
    return float(x < 6) if x > 0 else param.relu6_param.negative_slope


def _hard_sigmoid(param: Any, x: float) -> float:
    p = param.hardsigmoid_param
    return p.alpha if 0 < p.alpha * x + p.beta < 1 else 0.0


def _hard_sigmoid_kinks(param: Any) -> list[float]:
    p = param.hardsigmoid_param
    return [-p.beta / p.alpha, (1 - p.beta) / p.alpha] if p.alpha else []


def _mish(param: Any, x: float) -> float:
    t = math.tanh(math.log1p(math.exp(min(x, 40.0))))
    return t + x * (1 - t * t) * _sigmoid(x)


FUNCTIONS: dict[str, Function] = {
    "AbsVal": Function("sign(x)", lambda p, x: float(np.sign(x)), lambda p: [0.0]),
    "BNLL": Function("1 / (1 + exp(-x))", lambda p, x: _sigmoid(x)),
    "Clip": Function("1 if min <= x <= max else 0", _clip, lambda p: [p.clip_param.min, p.clip_param.max]),
    "ELU": Function(
        "lambda if x > 0 else lambda alpha exp(x)",
        lambda p, x: getattr(p.elu_param, "lambda") * (1.0 if x > 0 else p.elu_param.alpha * math.exp(x)),
        lambda p: [] if p.elu_param.alpha == 1 else [0.0],
    ),
    "Exp": Function("y scale ln(base)", _exp),
    "HardSigmoid": Function("alpha if 0 < y < 1 else 0", _hard_sigmoid, _hard_sigmoid_kinks),
    "HardSwish": Function(
        "0 if x <= -3, 1 if x >= 3, else (2 x + 3) / 6",
        lambda p, x: 0.0 if x <= -3 else 1.0 if x >= 3 else (2 * x + 3) / 6,
        lambda p: [-3.0, 3.0],
    ),
    "Log": Function("scale / ((shift + scale x) ln(base))", _log),
    "Mish": Function("t + x (1 - t^2) / (1 + exp(-x)), t = tanh(log(1 + exp(x)))", _mish),
    "Power": Function("power scale (shift + scale x)^(power - 1)", _power),
    "ReLU": Function("1 if x > 0 else negative_slope", _relu, lambda p: [0.0]),
    "ReLU6": Function("1 if 0 < x < 6, negative_slope if x <= 0, else 0", _relu6, lambda p: [0.0, 6.0]),
    "Sigmoid": Function("y (1 - y)", lambda p, x: _sigmoid(x) * (1 - _sigmoid(x))),
    "Swish": Function("s + beta x s (1 - s), s = sigmoid(beta x)", _swish),
    "TanH": Function("1 - y^2", lambda p, x: 1 / math.cosh(x) ** 2 if abs(x) < 300 else 0.0),
}


class PointwiseExplainer(Explainer):
    """dx = dy f'(x): the mask of a ReLU, the slope of a sigmoid."""

    batchwise = True
    has_rule = True

    @property
    def function(self) -> Function:
        """The layer's function."""
        return FUNCTIONS[self.record.type]

    def formula(self, wrt: Wrt) -> str:
        """One product."""
        return f"dx[e] = dy[e] * f'(x[e]), f' = {self.function.text}"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one."""
        return Terms.gather(self.record.top_diff, 0, _flat(index, self.values(wrt).shape), self.slope(index))

    def slope(self, index: Index) -> float:
        """f'(x) in float64."""
        return self.function.slope(self.layer.param, float(self.record.bottom_data[0][index]))

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """The gate, where the function has one."""
        x, slope = float(self.record.bottom_data[0][index]), self.slope(index)
        gate = {0.0: ": the gate is closed", 1.0: ": the gate is open"}.get(slope, "")
        return [f"x = {x:.6g}, slope {slope:.6g}{gate if self.function.kinks(self.layer.param) else ''}"]

    def kinks(self, bottom: int, inputs: Sequence[np.ndarray], radius: float) -> Kinks | None:
        """Values near a place where the slope jumps."""
        places = self.function.kinks(self.layer.param)
        if not places:
            return None
        near = np.zeros(inputs[0].shape, bool)
        for place in places:
            near |= np.abs(inputs[0] - place) <= radius
        return Kinks(near, f"kink at {self.record.type} input")


class DropoutExplainer(Explainer):
    """dx = dy m: the same mask as forward, found by sending ones through the layer."""

    def formula(self, wrt: Wrt) -> str:
        """One product."""
        if self.layer.phase == "TEST":
            return "dx[e] = dy[e]: nothing is dropped in the TEST phase"
        return "dx[e] = dy[e] * m[e] / (1 - dropout_ratio), m[e] = 0 where the element was dropped, else 1"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one."""
        return Terms.gather(self.record.top_diff, 0, _flat(index, self.values(wrt).shape), self._mask[index])

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """Dropped or kept."""
        factor = float(self._mask[index])
        return [f"this element was kept and scaled by {factor:.6g}" if factor else "this element was dropped"]

    @cached_property
    def _mask(self) -> np.ndarray:
        ones = LayerCopy(self.record, inputs=[np.ones(self.record.bottom_data[0].shape)])
        return ones.forward()[0].copy()


def _flat(index: Index, shape: Index) -> int:
    return int(np.ravel_multi_index(index, shape)) if shape else 0
