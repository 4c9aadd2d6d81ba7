"""Layers that only move values: every top element is a copy of a bottom element, so its diff comes back as it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.explain.layer_copy import LayerCopy
from breve.explain.layers.base import Explainer, Kinks, Linear
from breve.explain.model import Index, Terms
from breve.explain.record import Record
from breve.explain.wrt import Wrt


class MovingExplainer(Linear):
    """dx[e] = the sum of dy over the copies of e. Where they went the layer tells: it is sent numbered seats."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self._seats: dict[int, list[np.ndarray]] = {}

    def formula(self, wrt: Wrt) -> str:
        """Copies hand their diffs back."""
        return "dx[e] = sum over the copies t of x[e] of dy[t]: values were only moved, every factor is 1"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """One for each copy."""
        seat = int(np.ravel_multi_index(index, self.values(wrt).shape)) + 1
        tops = self.numbered(wrt.number)
        found = [np.flatnonzero(top == seat) for top in tops]
        numbers = np.repeat(np.arange(len(tops)), [len(f) for f in found])
        return Terms.gather(self.record.top_diff, numbers, np.concatenate(found), np.float64(1))

    def numbered(self, bottom: int) -> list[np.ndarray]:
        """For each top element the number, from 1, of the bottom element it copies; 0 where it copies another."""
        if bottom in self._seats:
            return self._seats[bottom]
        flows = zip(self.record.bottom_data, self.record.propagate_down, strict=True)
        inputs = [np.zeros(x.shape) if moves else np.array(x, np.float64) for x, moves in flows]
        inputs[bottom] = np.arange(1.0, inputs[bottom].size + 1).reshape(inputs[bottom].shape)
        self._seats[bottom] = [top.reshape(-1).copy() for top in LayerCopy(self.record, inputs=inputs).forward()]
        return self._seats[bottom]

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """How many readers a Split adds up."""
        if self.record.type != "Split":
            return []
        return [f"{len(self.record.top_diff)} layers read this blob; their gradients add up here"]


class ParameterExplainer(Linear):
    """The top is the parameter itself, and hands its diff back."""

    def formula(self, wrt: Wrt) -> str:
        """One term."""
        return "dw[e] = dy[e]"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one."""
        position = int(np.ravel_multi_index(index, self.values(wrt).shape)) if index else 0
        return Terms.gather(self.record.top_diff, 0, position, np.float64(1))


class EltwiseExplainer(Explainer):
    """dy goes to each bottom times its coefficient, times the other factors, or to the maximum alone."""

    has_rule = True

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        param = self.layer.param.eltwise_param
        self.operation = type(param).EltwiseOp.Name(param.operation)

    def formula(self, wrt: Wrt) -> str:
        """One product."""
        factor = {
            "SUM": "coeff_i",
            "PROD": "product of the other bottoms",
            "MAX": "1 if bottom i is the maximum else 0",
        }
        return f"dx_i[e] = dy[e] * {factor[self.operation]}"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one."""
        position = int(np.ravel_multi_index(index, self.values(wrt).shape)) if index else 0
        return Terms.gather(self.record.top_diff, 0, position, self._factor(wrt.number, index))

    def _factor(self, bottom: int, index: Index) -> float:
        values = [float(x[index]) for x in self.record.bottom_data]
        if self.operation == "SUM":
            coeff = list(self.layer.param.eltwise_param.coeff)
            return coeff[bottom] if coeff else 1.0
        if self.operation == "PROD":
            return float(np.prod([v for i, v in enumerate(values) if i != bottom]))
        return float(self.winner(values) == bottom)

    @staticmethod
    def winner(values: list[float]) -> int:
        """Caffe's rule: of the first two the second unless the first is greater; a later one needs to be greater."""
        best = 0 if values[0] > values[1] else 1
        for i, value in enumerate(values[2:], 2):
            best = i if value > values[best] else best
        return best

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """Who won, and ties."""
        if self.operation != "MAX":
            return []
        values = [float(x[index]) for x in self.record.bottom_data]
        winner = self.winner(values)
        tie = "; a tie" if values.count(values[winner]) > 1 else ""
        return [f"bottom {winner} is the maximum, {values[winner]:.6g}{tie}"]

    def kinks(self, bottom: int, inputs: Sequence[np.ndarray], radius: float) -> Kinks | None:
        """Ties of a maximum."""
        if self.operation != "MAX":
            return None
        stacked = np.sort(np.stack(inputs), axis=0)
        near = stacked[-1] - stacked[-2] <= radius
        return Kinks(near & (inputs[bottom] >= stacked[-2]), "tie in a maximum at")
