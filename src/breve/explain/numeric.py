"""Derivatives by central differences, with a sweep over step sizes and an honest estimate of their error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-2, 1e-1, 1e-7, 1e-8, 1e-9)
ENOUGH = 1e-10


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


@dataclass(frozen=True)
class Estimate:
    """A derivative, the step it was taken with, and how far the neighbouring step's answer lies from it."""

    value: float
    step: float
    uncertainty: float
    kink: tuple[float, float] | None = None
    """The slopes below and above, where a smaller step does not bring them together."""


def derivative(
    change: Callable[[float], float], scale: float = 1.0, largest: float = math.inf, noise: float = 0.0
) -> Estimate:
    """The derivative at 0 of f by `change(h)` = f(h) - f(0), from the two steps that agree best (the plateau).

    Steps are tried in the order of `STEPS`, times `scale`, until two neighbours agree to 1e-10; large ones come last,
    for functions that are only as smooth as float32. No step is larger than `largest`, before scaling; `noise` is how
    far f itself is off by rounding.

    >>> derivative(lambda h: (2 + h) ** 3 - 8).value
    12.0000...
    >>> derivative(abs).kink
    (-1.0, 1.0)
    """
    found: list[Slopes] = []
    best: tuple[Slopes, Slopes] | None = None
    for step in [step * scale for step in STEPS if step <= largest]:
        found.append(Slopes(step, change(-step) / -step, change(step) / step))
        best = _plateau(found, noise)
        if best and _doubt(best, noise) <= ENOUGH * max(abs(best[1].central), 1e-30):
            break
    assert best is not None
    smaller = best[1]
    return Estimate(smaller.central, smaller.step, _doubt(best, noise), _kink(*best))


def _plateau(found: list[Slopes], noise: float) -> tuple[Slopes, Slopes] | None:
    """The neighbouring steps, larger and smaller, that leave the least doubt."""
    return min(pairwise(sorted(found, key=lambda s: -s.step)), key=lambda pair: _doubt(pair, noise), default=None)


def _doubt(pair: tuple[Slopes, Slopes], noise: float) -> float:
    """How far two central differences lie apart, but no less than rounding allows."""
    return max(abs(pair[0].central - pair[1].central), noise / pair[1].step)


def _kink(larger: Slopes, smaller: Slopes) -> tuple[float, float] | None:
    """The one-sided slopes where the gap between them does not shrink with the step."""
    size = max(abs(smaller.below), abs(smaller.above))
    if abs(smaller.gap) < 1e-6 * size or abs(larger.gap - smaller.gap) > 0.1 * abs(smaller.gap):
        return None
    return smaller.below, smaller.above
