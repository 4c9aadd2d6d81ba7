"""One layer's gradients against differences in float64, and against the rules that every layer keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from breve.explain.findings import Finding
from breve.explain.layer_copy import LayerCopy
from breve.explain.layers import explainer
from breve.explain.layers.base import Explainer
from breve.explain.model import Index, unravel
from breve.explain.record import Record
from breve.explain.target import Target
from breve.explain.verdict import factor_of
from breve.explain.wrt import Wrt

AT_KINK = 1e-6  # of the input's scale: nearer elements have no derivative that differences could tell


class LayerCheck:
    """The checks of one recorded layer. `images` is how many of the batch take part, where images do not meet."""

    def __init__(self, e: Explainer, *, quick: bool, seed: int = 0) -> None:
        self.quick, self.rng = quick, np.random.default_rng([seed, 7])
        self.record = first_images(e, 2 if quick else 4)
        self.copy = LayerCopy(self.record, in_place=True)
        self.seeds = self._seeds()
        self.e = explainer(replace(self.record, bottom_data=self.copy.inputs, top_diff=self.seeds))

    def _seeds(self) -> list[np.ndarray]:
        """Random diffs for the tops that gradients come from."""
        tops = [t.shape for t in self.copy.forward()]
        last = explainer(self.record).gradient_tops
        seeds = [self.rng.standard_normal(shape) for shape in tops]
        return [seed if last is None or i < last else 0 * seed for i, seed in enumerate(seeds)]

    def findings(self) -> Iterator[Finding]:
        """On every target, and on the rules."""
        for wrt in self.e.targets():
            yield self.gradient(wrt)
        yield from self.rules()

    def gradient(self, wrt: Wrt) -> Finding:
        """Random directions, then single elements, then where it goes wrong."""
        target = Target(self.e, self.copy, wrt, self.seeds, self.rng)
        if not np.isfinite(target.gradient).all():
            return self._not_finite(target)
        errors = []
        for _ in range(2 if self.quick else 4) if target.free.size else ():
            error, wrong = target.random_direction()
            errors.append(error)
            position = target.first_wrong() if wrong else None
            if position is not None:
                return self._wrong(target, position)
        for position in target.sample(2 if self.quick else 8):
            error, wrong = target.element(position)
            errors.append(error)
            if wrong:
                return self._wrong(target, position)
        said = [f"agrees (to {max(errors):.1g})"] if errors else ["nothing to compare"]
        return self._finding(wrt, "; ".join(said + self._kinks_told(target)), error=max(errors, default=0.0))

    def _finding(self, wrt: Wrt, verdict: str, what: str = "gradient", **more: Any) -> Finding:
        return Finding(self.record.layer.name, self.record.type, wrt.name, what, verdict, **more)

    def _wrong(self, target: Target, position: int) -> Finding:
        analytic, estimate = target.along(np.array([position]), np.ones(1))
        return self._wrong_at(target.wrt, target.index(position), analytic, estimate.value)

    def _wrong_at(self, wrt: Wrt, index: Index, analytic: float, numeric: float, what: str = "gradient") -> Finding:
        at = ",".join(map(str, index))
        verdict = (
            f"wrong: first at ({at}), analytic {analytic:.9g}, numeric {numeric:.9g}{factor_of(analytic, numeric)}"
        )
        error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), 1e-30)
        return self._finding(wrt, verdict, what, ok=False, error=error, index=index, analytic=analytic, numeric=numeric)

    def _not_finite(self, target: Target) -> Finding:
        position = int(np.flatnonzero(~np.isfinite(target.gradient))[0])
        return self._wrong_at(target.wrt, target.index(position), float(target.gradient[position]), float("nan"))

    def _kinks_told(self, target: Target) -> list[str]:
        """Elements so near to a kink that no derivative exists there, named."""
        at = target.e.kinks(target.wrt.number, self.copy.inputs, AT_KINK * target.scale) if target.kinks else None
        if at is None or not at.near.any():
            return []
        found = np.flatnonzero(at.near.reshape(-1))
        index = ",".join(map(str, target.index(int(found[0]))))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return [f"{at.what} ({index}), value {float(target.flat[found[0]]) + 0.0:.3g}{more}"]

    def rules(self) -> Iterator[Finding]:
        """Bottom diffs are overwritten, parameter diffs added to; and whoever takes a maximum gives to one alone."""
        self.copy.forward()
        first = self.copy.backward(self.seeds, self.record.propagate_down)
        second = self.copy.backward(self.seeds, self.record.propagate_down, fill=1.0)
        for wrt in self.e.targets():
            kind = 1 if wrt.is_param else 0
            once, again = first[kind][wrt.number], second[kind][wrt.number]
            expected = once + 1 if wrt.is_param else once
            if not np.allclose(again, expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(once).max(initial=0))):
                yield self._broken_rule(wrt, expected, again)
        if self.e.has_rule:
            yield from self._ties()

    def _broken_rule(self, wrt: Wrt, expected: np.ndarray, found: np.ndarray) -> Finding:
        position = int(np.flatnonzero(~np.isclose(found, expected, rtol=1e-9, atol=1e-9).reshape(-1))[0])
        finding = self._wrong_at(
            wrt, unravel(position, found.shape), float(found.flat[position]), float(expected.flat[position]), "rule"
        )
        rule = "a parameter's diff is to be added to" if wrt.is_param else "a bottom's diff is to be overwritten"
        return replace(finding, verdict=f"{finding.verdict} ({rule}; it held 1 before)")

    def _ties(self) -> Iterator[Finding]:
        """On inputs rounded coarsely, so that there are zeros and ties, elements against the layer's written rule."""
        flows = zip(self.copy.inputs, self.record.propagate_down, strict=True)
        inputs = [np.round(2 * x / _scale(x)) * _scale(x) / 2 if yes else x for x, yes in flows]
        copy = LayerCopy(self.record, inputs=inputs, in_place=True)
        copy.forward()
        bottoms, _ = copy.backward(self.seeds, self.record.propagate_down)
        e = explainer(replace(self.record, bottom_data=inputs, top_diff=self.seeds))
        for wrt in self.e.targets():
            wrong = None if wrt.is_param else self._first_against_rule(e, wrt, bottoms[wrt.number], inputs)
            if wrong is not None:
                index, found, ruled = wrong
                finding = self._wrong_at(wrt, index, found, ruled, "rule")
                yield replace(finding, verdict=finding.verdict.replace("numeric", "by the rule at zeros and ties"))

    def _first_against_rule(
        self, e: Explainer, wrt: Wrt, diffs: np.ndarray, inputs: Sequence[np.ndarray]
    ) -> tuple[Index, float, float] | None:
        kinks = e.kinks(wrt.number, inputs, AT_KINK)
        found = np.flatnonzero(kinks.near.reshape(-1)) if kinks else np.zeros(0, np.intp)
        if found.size > 64:
            found = np.sort(self.rng.choice(found, 64, replace=False))
        for position in found:
            index = unravel(position, diffs.shape)
            ruled = e.terms(wrt, index).sum
            if not np.isclose(diffs[index], ruled, rtol=1e-9, atol=1e-12):
                return index, float(diffs[index]), ruled
        return None


def _scale(x: np.ndarray) -> float:
    return max(float(np.abs(x).mean()), 1e-3) if x.size else 1.0


def first_images(e: Explainer, count: int) -> Record:
    """The record cut down to the first images of its batch, where each is treated by itself."""
    record = e.record
    if not e.batchwise or any(len(x) <= count for x in record.bottom_data):
        return record
    cut = {
        name: [x[:count] for x in getattr(record, name)]
        for name in ("bottom_data", "bottom_diff", "top_data", "top_diff")
    }
    return replace(record, **cut)  # type: ignore[arg-type]
