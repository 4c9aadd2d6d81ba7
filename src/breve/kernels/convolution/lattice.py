"""Every stride-th pixel of some images: those that a 1x1 convolution sees, one after another."""

from __future__ import annotations

from typing import NamedTuple

from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.microkernel import call
from breve.kernels.threads import inline


class Lattice(NamedTuple):
    """Sizes; all pixels of all images are one row where the stride is 1."""

    in_h: int
    in_w: int
    out_h: int
    out_w: int
    stride_h: int
    stride_w: int
    channels: int


def lattice(g: ConvGeometry) -> Lattice:
    """Of a convolution with any number of axes and stride 1, or two and any stride."""
    g = g.one_row if g.is_1x1 else g
    return Lattice(*g.in_shape, *g.out_shape, *g.stride, g.channels)  # type: ignore[call-arg]  # two axes


@inline
def gather_pixels(copy, x, first, count, seen, s):
    """Some pixels of the lattice, from `first` on, into a matrix."""
    pixel = first
    while pixel < first + count:
        start, end = run_from(pixel, first + count, s)
        to = (pixel - first) * s.channels
        call(copy, end - pixel, s.channels, x, start, s.stride_w * s.channels, seen, to, s.channels)
        pixel = end


@inline
def run_from(pixel, last, s):
    """Where a pixel lies in x, and the end of its row, or `last`: up to there pixels are stride_w apart."""
    row, column = pixel // s.out_w, pixel % s.out_w
    start = ((row // s.out_h * s.in_h + row % s.out_h * s.stride_h) * s.in_w + column * s.stride_w) * s.channels
    return start, min(last, pixel - column + s.out_w)
