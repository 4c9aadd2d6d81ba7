"""Which input pixels each output pixel of a correlation sees, one axis at a time.

    out[start + q step] = sum over taps of  in[q scale + shift] * weight[tap]        0 <= q < count

A forward pass has one phase: step 1, scale = stride, shift = tap dilation - pad. The gradient wrt data of a convolution
with stride s is s correlations with stride 1, one for each remainder of the pixel modulo s: that phase sees those taps
whose distance is a multiple of s, each at shift (start + pad - tap dilation) / s.

Some neighbouring output pixels may be taken as one pixel (`widen`). Then a shift is a tap for each of them, or none.
"""

from __future__ import annotations

from dataclasses import dataclass

from breve.kernels.convolution.geometry import ConvGeometry

TAP_BY_TAP = 32  # channels from which each tap is multiplied by itself; with 24 that took up to a tenth longer


@dataclass(frozen=True)
class Phase:
    """Output pixels `start, start + step, ...` that see the same taps.

    `taps` are (taps, shift), by ascending shift: a tap for each of the pixels that are taken as one, -1 for none.
    """

    start: int
    count: int
    taps: tuple[tuple[tuple[int, ...], int], ...]


@dataclass(frozen=True)
class Axis:
    """One axis of a correlation from `size` pixels."""

    size: int
    scale: int
    step: int
    phases: tuple[Phase, ...]

    @property
    def low(self) -> int:
        """The smallest shift."""
        return min((shift for phase in self.phases for _, shift in phase.taps), default=0)

    @property
    def high(self) -> int:
        """The largest shift."""
        return max((shift for phase in self.phases for _, shift in phase.taps), default=0)

    @property
    def count(self) -> int:
        """The most output pixels of a phase."""
        return max(phase.count for phase in self.phases)

    def seen(self, count: int, shift: int) -> tuple[int, int]:
        """Of `count` output pixels those whose input at `shift` is within the axis: the first, and behind the last."""
        first = min(count, max(0, -(shift // self.scale)))
        return first, max(first, min(count, (self.size - 1 - shift) // self.scale + 1))

    @property
    def products(self) -> int:
        """Pairs of an output pixel and a tap that lies within the axis for it."""
        spans = (self.seen(phase.count, shift) for phase in self.phases for _, shift in phase.taps)
        return sum(last - first for first, last in spans)

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels seen before the first and after the last of the input."""
        last = ((phase.count - 1) * self.scale + shift for phase in self.phases for _, shift in phase.taps)
        return max(0, -self.low), max(0, max(last, default=0) - (self.size - 1))


def forward_axis(g: ConvGeometry, axis: int) -> Axis:
    """How the top sees the bottom.

    >>> forward_axis(ConvGeometry(1, 1, 1, (5,), (3,), (2,), (1,), (1,)), 0)
    Axis(size=5, scale=2, step=1, phases=(Phase(start=0, count=3, taps=(((0,), -1), ((1,), 0), ((2,), 1))),))
    """
    taps = tuple(((tap,), tap * g.dilation[axis] - g.pad[axis]) for tap in range(g.kernel[axis]))
    return Axis(g.in_shape[axis], g.stride[axis], 1, (Phase(0, g.out_shape[axis], taps),))


def backward_axis(g: ConvGeometry, axis: int) -> Axis:
    """How the bottom's gradient sees the top's.

    >>> backward_axis(ConvGeometry(1, 1, 1, (5,), (3,), (2,), (1,), (1,)), 0).phases
    (Phase(start=0, count=3, taps=(((1,), 0),)), Phase(start=1, count=2, taps=(((2,), 0), ((0,), 1))))
    """
    stride, pad, dilation = g.stride[axis], g.pad[axis], g.dilation[axis]
    phases = []
    for start in range(min(stride, g.in_shape[axis])):
        distances = ((tap, start + pad - tap * dilation) for tap in reversed(range(g.kernel[axis])))
        taps = tuple(((tap,), distance // stride) for tap, distance in distances if distance % stride == 0)
        phases.append(Phase(start, -(-(g.in_shape[axis] - start) // stride), taps))
    return Axis(g.out_shape[axis], 1, stride, tuple(phases))


def widen(axis: Axis, pixels: int) -> Axis:
    """The axis with `pixels` neighbouring output pixels, a multiple of its step, taken as one; the last may be partial.

    >>> wide = widen(forward_axis(ConvGeometry(1, 1, 1, (5,), (3,), (1,), (1,), (1,)), 0), 2)
    >>> wide.scale, wide.phases
    (2, (Phase(start=0, count=3, taps=(((0, -1), -1), ((1, 0), 0), ((2, 1), 1), ((-1, 2), 2))),))
    """
    taps: dict[int, list[int]] = {}
    for pixel in range(pixels):
        for (tap,), shift in axis.phases[pixel % axis.step].taps:
            taps.setdefault(shift + pixel // axis.step * axis.scale, [-1] * pixels)[pixel] = tap
    count = -(-sum(phase.count for phase in axis.phases) // pixels)
    phase = Phase(0, count, tuple((tuple(taps[shift]), shift) for shift in sorted(taps)))
    return Axis(axis.size, pixels // axis.step * axis.scale, 1, (phase,))
