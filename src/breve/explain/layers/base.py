"""What an explanation of a layer type is, and the one that works for every layer: its local Jacobian's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from breve.explain.layer_copy import LayerCopy
from breve.explain.model import Derivation, Index, Lost, Terms
from breve.explain.numeric import Estimate, derivative, roughness
from breve.explain.record import Record
from breve.explain.wrt import Wrt

MOST_UNIT_PASSES = 64  # backward passes that the exact row of a Jacobian may take


@dataclass(frozen=True)
class Kinks:
    """Where a layer's derivative jumps: elements of an input no further than a radius from it, each in words."""

    near: np.ndarray
    what: str


class Explainer:
    """How one layer's gradients come about. A subclass knows its type's formula; this one asks the layer itself.

    The terms of an element are the row of the local Jacobian: d top[j] / d element, for every top element that it
    moves, each with the top's diff. Here the row is found by differences in float64, and made exact by the layer's
    own backward on unit diffs where it is short.
    """

    gradient: ClassVar[bool] = True
    """False for layers that no gradient flows through."""
    batchwise: bool = False
    """Whether each image (first axis) is treated by itself, whatever its number."""
    gradient_tops: ClassVar[int | None] = None
    """How many tops, from the first, gradients come from; None for all. (A mask, or probabilities beside a loss.)"""
    has_rule: ClassVar[bool] = False
    """Whether `terms` follow from the layer's rule alone, so that zeros and ties can be held against them."""
    known_error: ClassVar[float] = 0.0
    """How far, relatively, the layer's gradient departs from the exact one by the rule that it follows."""
    known_reason: ClassVar[str] = ""
    """Why it does."""
    formula_text: ClassVar[str] = "d[e] = sum over t of dtop[t] * d top[t] / d e (a row of the local Jacobian)"

    def __init__(self, record: Record) -> None:
        self.record = record
        self.layer = record.layer

    def formula(self, wrt: Wrt) -> str:
        """The gradient in symbols."""
        return self.formula_text

    def index_equations(self, wrt: Wrt, index: Index) -> list[str]:
        """The equations that pair indices, with this element's numbers in them."""
        return []

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """Every term of the element's sum."""
        return self.jacobian_row(wrt, index)

    def lost(self, wrt: Wrt, index: Index) -> list[Lost]:
        """Terms that padding, strides or dilation leave out."""
        return []

    def derivations(self, wrt: Wrt, index: Index) -> dict[str, Derivation]:
        """Other ways to the same number, by the names of the JSON form."""
        return {}

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """What else is to be said of this element: who was the maximum, which gate is closed."""
        return []

    def learns(self, param: int) -> bool:
        """Whether a parameter has a gradient; statistics do not."""
        return True

    def why_closed(self, wrt: Wrt) -> str:
        """Why no gradient flows to a bottom or a parameter; empty where one does."""
        if not self.gradient:
            return f"no gradient flows through layers of type {self.record.type}"
        if wrt.is_param:
            statistic = "no gradient: it is a statistic, which the forward pass moves and no solver learns"
            return "" if self.learns(wrt.number) else statistic
        if self.record.propagate_down[wrt.number]:
            return ""
        if wrt.number in self.layer.unforced_bottoms:
            return "no gradient flows to this bottom: it is read as labels, places or a shape, not as values"
        return "no gradient flows to this bottom: the prototxt says propagate_down: false"

    def targets(self) -> list[Wrt]:
        """Every bottom and parameter that a gradient flows to."""
        bottoms = [Wrt(False, i) for i in range(len(self.record.bottom_data))]
        params = [Wrt(True, i) for i in range(len(self.record.param_data))]
        return [wrt for wrt in bottoms + params if not self.why_closed(wrt)]

    def kinks(self, bottom: int, inputs: Sequence[np.ndarray], radius: float) -> Kinks | None:
        """Elements of an input within `radius` of a place where the derivative jumps; None where it never does."""
        return None

    @property
    def algorithm(self) -> dict[str, str]:
        """Which of several algorithms the engine runs in each pass; empty where there is one only."""
        return {}

    def values(self, wrt: Wrt) -> np.ndarray:
        """The data that the gradient is taken with respect to."""
        return (self.record.param_data if wrt.is_param else self.record.bottom_data)[wrt.number]

    def diffs(self, wrt: Wrt) -> np.ndarray:
        """The engine's gradient."""
        return (self.record.param_diff if wrt.is_param else self.record.bottom_diff)[wrt.number]

    def jacobian_row(self, wrt: Wrt, index: Index) -> Terms:
        """d top / d element by differences; exact by unit diffs where few tops move."""
        local = Local(self, wrt, index)
        row = local.row()
        top = np.concatenate([np.full(r.size, j) for j, r in enumerate(row)] or [np.zeros(0, np.intp)])
        position = np.concatenate([np.arange(r.size) for r in row] or [np.zeros(0, np.intp)])
        factor = np.concatenate([r.reshape(-1) for r in row] or [np.zeros(0)])
        moved = np.flatnonzero(factor)
        if len(moved) <= MOST_UNIT_PASSES:
            factor[moved] = [local.unit_diff(int(top[t]), int(position[t])) for t in moved]
        return Terms.gather(local.top_diff_full, top[moved], local.full_positions(top, position)[moved], factor[moved])

    def rounding(self, wrt: Wrt, index: Index, terms: Terms) -> float:
        """How far the engine's dtype may move the element: a sum's rounding, and what its inputs' rounding does."""
        eps = float(np.finfo(self.diffs(wrt).dtype).eps)
        moved = Local(self, wrt, index).sensitivity(eps)
        return sum_rounding(terms, eps) + 16 * moved

    def numeric(self, wrt: Wrt, index: Index) -> Estimate:
        """The derivative of <dtop, top> by the element, by central differences in float64."""
        return Local(self, wrt, index).derivative()


def sum_rounding(terms: Terms, eps: float) -> float:
    """How far a rounded sum may lie from the exact one: eps (terms + 8) sum of |products|, Winograd included."""
    return float(eps * (len(terms) + 8) * np.abs(terms.product).sum())


class Linear(Explainer):
    """A layer whose gradient is a plain sum of products of numbers that it was given."""

    def rounding(self, wrt: Wrt, index: Index, terms: Terms) -> float:
        """That of the sum."""
        return sum_rounding(terms, float(np.finfo(self.diffs(wrt).dtype).eps))


class Local:
    """A layer in float64 around one element, cut down to the element's image where images do not meet."""

    def __init__(self, explainer: Explainer, wrt: Wrt, index: Index) -> None:
        record = explainer.record
        self.wrt, self.image = wrt, slice(None)
        self.top_diff_full = record.top_diff
        inputs = record.bottom_data
        if explainer.batchwise and not wrt.is_param and index:
            self.image = slice(index[0], index[0] + 1)
            inputs, index = [x[self.image] for x in inputs], (0, *index[1:])
        self.top_diff = [d[self.image] if self.image != slice(None) else d for d in record.top_diff]
        self.index = index
        self.copy = LayerCopy(record, inputs=inputs)
        self.element = (self.copy.params if wrt.is_param else self.copy.inputs)[wrt.number]
        self.start = float(self.element[index])

    def tops(self, shift: float) -> list[np.ndarray]:
        """The tops with the element moved, copied."""
        self.element[self.index] = self.start + shift
        tops = [t.copy() for t in self.copy.forward()]
        self.element[self.index] = self.start
        return tops

    def derivative(self) -> Estimate:
        """Of <dtop, top>."""
        here = self.tops(0)

        def change(shift: float) -> float:
            pairs = zip(self.top_diff, self.tops(shift), here, strict=True)
            return sum(float(np.vdot(d.astype(np.float64), there - at)) for d, there, at in pairs)

        noise = sum(float(np.linalg.norm(d * at)) for d, at in zip(self.top_diff, here, strict=True))
        scale = max(abs(self.start), 1e-2)
        rough = roughness(change, scale) if self.copy.record.type == "Python" else 0.0
        return derivative(change, scale, noise=max(4 * np.finfo(np.float64).eps * noise, rough))

    def row(self, step: float = 1e-5) -> list[np.ndarray]:
        """d top / d element for every element of every top, rounding noise taken as zero."""
        h = step * max(abs(self.start), 1e-1)
        rows = [(a - b) / (2 * h) for a, b in zip(self.tops(h), self.tops(-h), strict=True)]
        return [np.where(np.abs(r) < 1e-9 * max(1.0, np.abs(r).max(initial=0)), 0.0, r) for r in rows]

    def sensitivity(self, eps: float, draws: int = 3) -> float:
        """How far the element moves when the inputs are rounded at random, by a relative `eps`."""
        rng, start = np.random.default_rng(0), [x.copy() for x in self.copy.inputs]
        found = []
        for draw in range(draws + 1):
            for i, (x, value) in enumerate(zip(self.copy.inputs, start, strict=True)):
                if i not in self.copy.layer.unforced_bottoms:
                    x[...] = value * (1 + (eps * rng.uniform(-1, 1, x.shape) if draw else 0))
            self.copy.forward()
            found.append(self.gradient(self.top_diff))
        for x, value in zip(self.copy.inputs, start, strict=True):
            x[...] = value
        return max(abs(f - found[0]) for f in found)

    def gradient(self, top_diff: Sequence[np.ndarray]) -> float:
        """The element's gradient by the layer's own backward after a forward."""
        wanted = [not self.wrt.is_param and i == self.wrt.number for i in range(len(self.copy.bottom))]
        bottoms, params = self.copy.backward(top_diff, wanted)
        return float((params if self.wrt.is_param else bottoms)[self.wrt.number][self.index])

    def unit_diff(self, top: int, position: int) -> float:
        """d top[position] / d element, by the layer's own backward."""
        self.copy.forward()
        units = [np.zeros(d.shape) for d in self.top_diff]
        units[top].reshape(-1)[position] = 1
        return self.gradient(units)

    def full_positions(self, top: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Positions in tops of all images for positions in those of one."""
        if self.image == slice(None):
            return position
        sizes = np.array([d.size for d in self.top_diff])
        return position + self.image.start * sizes[top]


class NoGradient(Explainer):
    """A layer that no gradient flows through: `reason` says why."""

    gradient = False
    reason: ClassVar[str] = "the gradient is zero, by rule"

    def formula(self, wrt: Wrt) -> str:
        """Why there is none."""
        return self.reason

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """None."""
        empty = np.zeros(0, np.intp)
        return Terms.gather([np.zeros(0)], empty, empty, np.zeros(0))
