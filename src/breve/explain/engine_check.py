"""A layer as the engine runs it, in the net's own dtype and with the algorithms it chose, against float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from breve.explain.findings import Finding
from breve.explain.gradient_check import LayerCheck
from breve.explain.layer_copy import LayerCopy
from breve.explain.layers.base import Explainer, Linear
from breve.explain.model import unravel
from breve.explain.record import Record
from breve.explain.verdict import factor_of

Arrays = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]


class EngineCheck:
    """Forward values and gradients of one layer in the engine's dtype, on the very inputs of a `LayerCheck`."""

    def __init__(self, check: LayerCheck, e: Explainer) -> None:
        self.check, self.e, self.record = check, e, check.record
        self.dtype = self.record.layer.dtype
        self.eps = float(np.finfo(self.dtype).eps)
        self.seeds = [seed.astype(self.dtype) for seed in check.seeds]

    def findings(self) -> Iterator[Finding]:
        """On forward and on every target."""
        engine, exact = self._run(exact=False), self._run()
        bounds = self._bounds(exact)
        for number in range(len(exact[0])):
            name = f"forward{number or ''}"
            yield self._compare(name, "forward", engine[0][number], exact[0][number], bounds[0][number])
        for wrt in self.check.e.targets():
            kind, pass_name = (2, "backward_weights") if wrt.is_param else (1, "backward_data")
            arrays = (side[kind][wrt.number] for side in (engine, exact, bounds))
            yield self._compare(wrt.name, pass_name, *arrays)

    def _run(self, record: Record | None = None, *, exact: bool = True) -> Arrays:
        copy = LayerCopy(record or self.record, exact=exact, in_place=True)
        tops = [t.copy() for t in copy.forward()]
        seeds = [np.abs(s) for s in self.seeds] if record is not None and self._is_linear else self.seeds
        return (tops, *copy.backward(seeds, self.record.propagate_down))

    @property
    def _is_linear(self) -> bool:
        return isinstance(self.e, Linear)

    def _bounds(self, exact: Arrays) -> Arrays:
        """For every array how far rounding may move its elements.

        Forward, n like terms in a row, as an average of a plain area has them, may be off by n eps / 4. Backward the
        seeds have both signs, so that roundings cancel but for the root of n.
        """
        sizes = self._run(self._absolute()) if self._is_linear else self._moved_by_rounding(exact)
        forward, backward = self._most_terms()
        grow = self.eps * (8 + forward / 4), *[self.eps * (8 + math.sqrt(backward))] * 2
        sides = zip(grow, sizes, strict=True)
        return tuple([np.asarray(by * np.abs(a).max(initial=0)) for a in side] for by, side in sides)  # type: ignore[return-value]

    def _absolute(self) -> Record:
        """The record with absolute values: a linear layer then gives the sums of its terms' absolute values."""
        inputs = zip(self.record.bottom_data, self.record.propagate_down, strict=True)
        return replace(
            self.record,
            bottom_data=[np.abs(x) if flows else x for x, flows in inputs],
            param_data=[np.abs(p) for p in self.record.param_data],
        )

    def _moved_by_rounding(self, exact: Arrays, draws: int = 2) -> Arrays:
        """The arrays' sizes, raised by how far they move when the inputs are rounded at random."""
        sizes = tuple([np.abs(a) for a in side] for side in exact)
        rng = np.random.default_rng(0)
        for _ in range(draws):
            moved = self._run(self._rounded(rng))
            for side, exact_side, moved_side in zip(sizes, exact, moved, strict=True):
                for i, (a, b) in enumerate(zip(exact_side, moved_side, strict=True)):
                    side[i] = np.maximum(side[i], np.abs(a - b).max(initial=0) / self.eps)
        return sizes  # type: ignore[return-value]

    def _rounded(self, rng: np.random.Generator) -> Record:
        """The record with its inputs rounded at random; whole numbers that get no gradient may be labels."""
        inputs = zip(self.record.bottom_data, self.record.propagate_down, strict=True)
        data = [x * (1 + self.eps * rng.uniform(-1, 1, x.shape) * (flows | (x != np.round(x)))) for x, flows in inputs]
        return replace(self.record, bottom_data=data)

    def _most_terms(self) -> tuple[float, float]:
        """The length of the longest sum forward and backward, by the gradients' elements in the middle."""
        forward, backward = [1.0], [1.0]
        outputs = sum(top.size for top in self.record.top_data)
        for wrt in self.check.e.targets():
            values = self.check.e.values(wrt)
            if values.size:
                terms = len(self.check.e.terms(wrt, tuple(d // 2 for d in values.shape)))
                backward.append(terms)
                forward.append(terms * values.size / max(1, outputs))
        return max(forward), max(backward)

    def _compare(self, name: str, pass_name: str, found: np.ndarray, exact: np.ndarray, bound: np.ndarray) -> Finding:
        algorithm = self.e.algorithm.get(pass_name, "")
        apart, largest = np.abs(found - exact), float(np.abs(exact).max(initial=0)) or 1.0
        error, allowed = float(apart.max(initial=0)) / largest, float(bound) / largest
        wrong = np.flatnonzero(~(apart <= bound + 1e-30).reshape(-1))
        layer, by = self.record.layer.name, f" by {algorithm}" if algorithm else ""
        if not len(wrong):
            verdict = f"{self.dtype.name} rounding{by}, {error:.1g}, within its bound {allowed:.1g}"
            return Finding(layer, self.record.type, name, "engine", verdict, error=error, algorithm=algorithm)
        index = unravel(wrong[0], exact.shape)
        a, b = float(found[index]), float(exact[index])
        at = ",".join(map(str, index))
        verdict = f"wrong{by}: first at ({at}), {self.dtype.name} {a:.9g}, float64 {b:.9g}{factor_of(a, b)}"
        return Finding(layer, self.record.type, name, "engine", verdict, False, error, index, a, b, algorithm)
