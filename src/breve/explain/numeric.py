"""Derivatives by central differences, with a sweep over step sizes and an honest estimate of their error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-2, 1e-1, 1e-7)
ENOUGH = 1e-10


@dataclass(frozen=True)
class Estimate:
    """A derivative, the step it was taken with, and how far the neighbouring step's answer lies from it."""

    value: float
    step: float
    uncertainty: float
    kink: tuple[float, float] | None = None
    """The one-sided slopes where they differ and no smaller step brings them together."""


def derivative(change: Callable[[float], float], scale: float = 1.0) -> Estimate:
    """The derivative at 0 of f by `change(h)` = f(h) - f(0), from the two steps that agree best (the plateau).

    Steps are tried in the order of `STEPS`, times `scale`, until two neighbours agree to 1e-10; large ones come last,
    for functions that are only as smooth as float32.

    >>> derivative(lambda h: (2 + h) ** 3 - 8).value
    12.0000...
    """
    slopes: dict[float, tuple[float, float]] = {}
    best: Estimate | None = None
    for step in STEPS:
        h = step * scale
        slopes[step] = change(h) / h, change(-h) / -h
        best = _plateau(slopes, scale)
        if best and best.uncertainty <= ENOUGH * max(abs(best.value), 1e-30):
            break
    assert best is not None
    return Estimate(best.value, best.step, best.uncertainty, _kink(slopes))


def _plateau(slopes: dict[float, tuple[float, float]], scale: float) -> Estimate | None:
    ordered = sorted(slopes, reverse=True)
    found = []
    for larger, smaller in pairwise(ordered):
        first, second = sum(slopes[larger]) / 2, sum(slopes[smaller]) / 2
        found.append(Estimate(second, smaller * scale, abs(first - second)))
    return min(found, key=lambda e: e.uncertainty, default=None)


def _kink(slopes: dict[float, tuple[float, float]]) -> tuple[float, float] | None:
    """One-sided slopes that stay apart by the same amount while the step shrinks a hundredfold."""
    gaps = [slopes[step][0] - slopes[step][1] for step in (1e-4, 1e-6) if step in slopes]
    if (
        len(gaps) < 2
        or abs(gaps[1]) < 1e-6 * max(map(abs, slopes[1e-6]))
        or abs(gaps[0] - gaps[1]) > 0.1 * abs(gaps[1])
    ):
        return None
    return slopes[1e-6][1], slopes[1e-6][0]
