"""Derivatives by central differences, with a sweep over step sizes and an honest estimate of their error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-2, 1e-1, 1e-7, 1e-8, 1e-9)
ENOUGH = 1e-8


@dataclass(frozen=True)
class Slopes:
    """The one-sided slopes at one step."""

    step: float
    below: float
    above: float

    @property
    def central(self) -> float:
        """Their mean: the central difference."""
        return (self.below + self.above) / 2

    @property
    def gap(self) -> float:
        """How far they are apart: at a kink by the same amount for every step, else in proportion to the step."""
        return self.above - self.below


def roughness(change: Callable[[float], float], scale: float = 1.0) -> float:
    """How far f(h) is off by rounding, whatever its precision: what a smooth function's differences cannot be.

    With s(h) = f(h) + f(-h) - 2 f(0), a smooth f has s(2h) = 4 s(h) but for terms in h^4.
    """

    def bend(step: float) -> float:
        return change(step) + change(-step)

    steps = [step * scale for step in (1e-5, 1.7e-5, 3e-5)]
    return max(abs(bend(2 * step) - 4 * bend(step)) for step in steps) / 2


Plateau = tuple[Slopes, Slopes, Slopes]


@dataclass(frozen=True)
class Estimate:
    """A derivative, the step it was taken with, and how far the neighbouring steps' answers lie from it."""

    value: float
    step: float
    uncertainty: float
    kink: tuple[float, float] | None = None
    """The slopes below and above, where a smaller step does not bring them together."""


def derivative(
    change: Callable[[float], float], scale: float = 1.0, largest: float = math.inf, noise: float = 0.0
) -> Estimate:
    """The derivative at 0 of f by `change(h)` = f(h) - f(0), from the three steps that agree best (the plateau).

    Steps are tried in the order of `STEPS`, times `scale`, until three neighbours agree to 1e-8; large ones come last,
    for functions that are only as smooth as float32. No step is larger than `largest`, before scaling; `noise` is how
    far f itself is off by rounding.

    >>> derivative(lambda h: (2 + h) ** 3 - 8).value
    12.0000...
    >>> derivative(abs).kink
    (-1.0, 1.0)
    """
    found: list[Slopes] = []
    best: Plateau | None = None
    for step in [step * scale for step in STEPS if step <= largest]:
        found.append(Slopes(step, change(-step) / -step, change(step) / step))
        best = _plateau(found, noise)
        if best and _doubt(best, noise) <= ENOUGH * max(abs(best[1].central), 1e-30):
            break
    assert best is not None
    larger, middle, _ = best
    return Estimate(middle.central, middle.step, _doubt(best, noise), _kink(larger, middle))


def _plateau(found: list[Slopes], noise: float) -> Plateau | None:
    """The neighbouring steps, from the largest, that leave the least doubt. Two could agree by chance, not three."""
    ordered = sorted(found, key=lambda s: -s.step)
    triples = zip(ordered, ordered[1:], ordered[2:], strict=False)
    return min(triples, key=lambda triple: _doubt(triple, noise), default=None)


def _doubt(triple: Plateau, noise: float) -> float:
    """How far the outer central differences lie from the middle one, but no less than rounding allows."""
    larger, middle, smaller = triple
    apart = max(abs(larger.central - middle.central), abs(smaller.central - middle.central))
    return max(apart, noise / middle.step)


def _kink(larger: Slopes, smaller: Slopes) -> tuple[float, float] | None:
    """The one-sided slopes where the gap between them does not shrink with the step."""
    size = max(abs(smaller.below), abs(smaller.above))
    if abs(smaller.gap) < 1e-6 * size or abs(larger.gap - smaller.gap) > 0.1 * abs(smaller.gap):
        return None
    return smaller.below, smaller.above
