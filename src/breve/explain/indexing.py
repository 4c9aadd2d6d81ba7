"""The equation that pairs pixels, taps and outputs, solved along one axis, and its products over axes.

A tap r of a kernel at output y meets pixel i:

    y stride - pad + r dilation = i

Fix the pixel, and the solutions (r, y) are the terms of a gradient wrt data; fix the tap, and the solutions (y, i) are
those of a gradient wrt weights; fix the output, and the solutions (r, i) are those of the forward pass (or of a
deconvolution's gradient). What has no solution is named: padding, a stride hole, beyond the output, a dilation hole.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from breve.explain.model import Index, Lost

Pair = tuple[str, int | None, float]

PADDING, STRIDE, OUTSIDE, DILATION = "padding", "stride hole", "beyond the output", "dilation hole"


@dataclass(frozen=True)
class Axis:
    """The window of one spatial axis: `size` pixels give `out` outputs."""

    size: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    out: int

    @property
    def extent(self) -> int:
        """Pixels that the dilated kernel spans."""
        return self.dilation * (self.kernel - 1) + 1


@dataclass(frozen=True)
class Solutions:
    """Pairs along one axis: `first[t]` goes with `second[t]`, at tap `tap[t]`. Lost ones: (reason, tap, meets)."""

    first: np.ndarray
    second: np.ndarray
    tap: np.ndarray
    lost: list[Pair]

    def found(self) -> list[Pair]:
        """The pairs in the form of the lost ones, without a reason."""
        return [("", int(tap), float(b)) for tap, b in zip(self.tap, self.second, strict=True)]


def at_pixel(axis: Axis, i: int) -> Solutions:
    """Taps r and outputs y that meet at pixel i.

    >>> at_pixel(Axis(size=5, kernel=3, stride=2, pad=1, dilation=1, out=3), 1).second
    array([1, 0])
    """
    taps: list[int] = []
    outs: list[int] = []
    lost: list[Pair] = []
    for r in range(axis.kernel):
        reach = i + axis.pad - r * axis.dilation
        y, hole = divmod(reach, axis.stride)
        if not 0 <= reach <= (axis.out - 1) * axis.stride:
            lost.append((OUTSIDE, r, reach / axis.stride))
        elif hole:
            lost.append((STRIDE, r, reach / axis.stride))
        else:
            taps.append(r)
            outs.append(y)
    return Solutions(_ints(taps), _ints(outs), _ints(taps), lost + _dilation_holes(axis, i))


def _dilation_holes(axis: Axis, i: int) -> list[Pair]:
    """Outputs whose kernel spans pixel i with a gap between two taps."""
    holes: list[Pair] = []
    for y in range(axis.out):
        offset = i + axis.pad - y * axis.stride
        if 0 <= offset < axis.extent and offset % axis.dilation:
            holes.append((DILATION, None, float(y)))
    return holes


def at_tap(axis: Axis, r: int) -> Solutions:
    """Outputs y and the pixels i that tap r meets there; pixels outside are lost to padding."""
    y = np.arange(axis.out)
    i = y * axis.stride - axis.pad + r * axis.dilation
    inside = (i >= 0) & (i < axis.size)
    return Solutions(y[inside], i[inside], np.full(inside.sum(), r), [(PADDING, r, float(at)) for at in i[~inside]])


def at_output(axis: Axis, y: int) -> Solutions:
    """Taps r and the pixels i that they meet at output y; pixels outside are lost to padding."""
    r = np.arange(axis.kernel)
    i = y * axis.stride - axis.pad + r * axis.dilation
    inside = (i >= 0) & (i < axis.size)
    lost: list[Pair] = [(PADDING, int(t), float(at)) for t, at in zip(r[~inside], i[~inside], strict=True)]
    return Solutions(r[inside], i[inside], r[inside], lost)


def combine(solutions: Sequence[Solutions], first_shape: Index, second_shape: Index) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of several axes together, as flat positions in the two shapes."""
    pairs = []
    for name, shape in (("first", first_shape), ("second", second_shape)):
        grid = np.meshgrid(*(getattr(s, name) for s in solutions), indexing="ij")
        pairs.append(np.ravel_multi_index(grid, shape).reshape(-1) if shape else np.zeros(1, np.intp))
    return pairs[0], pairs[1]


def lost_terms(solutions: Sequence[Solutions], limit: int = 4096) -> list[Lost]:
    """The combinations over all axes of which at least one is lost, named after the first axis that loses it.

    Taps without a partner come first, then outputs that pass over the pixel between two taps.
    """
    by_tap = [s.found() + [x for x in s.lost if x[1] is not None] for s in solutions]
    by_output = [s.found() + [x for x in s.lost if x[1] is None] for s in solutions]
    lost = []
    for parts in itertools.chain(itertools.product(*by_tap), itertools.product(*by_output)):
        reason = next((part[0] for part in parts if part[0]), "")
        if reason:
            taps = [part[1] for part in parts if part[1] is not None]
            lost.append(Lost(reason, tuple(taps) if len(taps) == len(parts) else None, tuple(p[2] for p in parts)))
        if len(lost) == limit:
            break
    return lost


def _ints(values: list[int]) -> np.ndarray:
    return np.array(values, np.intp)
