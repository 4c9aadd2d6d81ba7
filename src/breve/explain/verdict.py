"""Verdicts in words on a gradient and its numeric derivative."""

from __future__ import annotations

import math

from breve.explain.numeric import Estimate


def compare(
    value: float, estimate: Estimate, *, scale: float, rounding: float = 0.0, exact: float | None = None
) -> str:
    """What a numeric derivative says of an engine's value.

    `scale` is what errors are relative to; `rounding` what the engine's dtype may do to the value; `exact` the same
    value without that rounding, if it is known.
    """
    allowed = rounding + tolerance(estimate, scale)
    if abs(value - estimate.value) <= allowed:
        shown = value if exact is None else exact
        return f"agrees (to {relative(shown - estimate.value, scale):.1g})"
    if estimate.kink and between(value, estimate.kink, allowed):
        return f"kink: slope {estimate.kink[0]:.6g} below, {estimate.kink[1]:.6g} above; {value:.6g} is one between"
    return f"wrong: analytic {value:.9g}, numeric {estimate.value:.9g}{factor_of(value, estimate.value)}"


def tolerance(estimate: Estimate, scale: float) -> float:
    """How far apart a right gradient and this estimate may be."""
    return 1e-6 * scale + 20 * estimate.uncertainty + 1e-12


def between(value: float, slopes: tuple[float, float], allowed: float) -> bool:
    """Whether a value lies between two one-sided slopes."""
    return min(slopes) - allowed <= value <= max(slopes) + allowed


def relative(difference: float, scale: float) -> float:
    """A difference relative to a scale; absolute where the scale is zero."""
    return abs(difference) / scale if scale else abs(difference)


def factor_of(analytic: float, numeric: float) -> str:
    """By what factor two numbers differ, in words; empty where no factor says it well.

    >>> factor_of(2.0, 1.0), factor_of(-3.0, 3.0), factor_of(1.0, 4.0)
    (', off by a factor of 2', ', of the wrong sign', ', off by a factor of 1/4')
    """
    if not analytic or not numeric or not math.isfinite(analytic / numeric):
        return ""
    ratio = analytic / numeric
    for name, r in (("factor of {}", ratio), ("factor of 1/{}", 1 / ratio)):
        whole = round(r)
        if abs(r - whole) < 1e-4 * abs(r) and 2 <= abs(whole) <= 10000:
            return ", off by a " + name.format(f"{whole}")
    if abs(ratio + 1) < 1e-4:
        return ", of the wrong sign"
    return f", off by a factor of {ratio:.4g}"
