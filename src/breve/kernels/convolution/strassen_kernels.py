"""The loops of Strassen's products: some rows of four images at a time, in the order transform, multiply, back.

Buffers, with p one of 49 points:

    v  (p, row, column, tap of a row, c)    sums of images and channels, some at a time: the GEMM's broadcast side
    u  (p, panel, chunk, tap, c, nr)        sums of weights: vector side; or of their gradient, to be transformed back
    m  (p, pixel, j)                        products, to be transformed back
    w  (p, panel, pixel, nr)                sums of the top's gradient: vector side of the weights' gradient

In v stands, for each output pixel of a row, what a row of taps sees, one after another. Rows are in runs of every
stride-th row, so that the pixels of all rows of a band are equally far apart: one call multiplies them all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from breve.kernels.convolution.correlate import CHANNELS, pack_columns
from breve.kernels.convolution.next_pixels import distance
from breve.kernels.convolution.parts import add_parts
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.microkernel.transform import ALL
from breve.kernels.threads import inline, launching

POINTS, SIDE = 49, 7
QUADRANTS = 16
LINE = 16  # elements of a cache line or more


class Sizes(NamedTuple):
    """One correlation of `quads` times four images; c and j are a quarter of its channels and outputs."""

    quads: int
    in_h: int
    in_w: int
    in_channels: int
    out_h: int
    out_w: int
    out_channels: int
    rows: int
    columns: int
    """Output pixels of the phase."""
    start_h: int
    start_w: int
    """The first of them."""
    step_h: int
    step_w: int
    """From one to the next."""
    scale_h: int
    scale_w: int
    """From what one sees to what the next does."""
    c: int
    j: int
    taps_h: int
    taps_w: int
    taps: int
    band: int
    """Rows of output that go through all stages together."""
    bands: int
    nr: int
    panels: int
    panel: int
    """Elements of a panel of weights."""
    v_point: int
    u_point: int
    m_point: int
    w_point: int
    """Distance between points in v, u, m and w: a power of 2 would have all fall into one set of a cache."""
    fetches_x: int
    """Whether calls fetch what the next band sees of x, and not the next panel of u."""
    fetch: int
    """FAR_B where that has a call fetch all that it can of either, else 0."""
    m_pixel: int
    chunk: int
    """Channels that are transformed, then multiplied."""


class Shifts(NamedTuple):
    """What the taps see."""

    inputs: np.ndarray
    """The input row of each row of v, counted from that of the band's first row with shift 0."""
    rows: np.ndarray
    """For each row of taps, the row of v that the first row of outputs sees."""
    columns: np.ndarray
    """For each tap of a row, its distance from a pixel's column."""
    order: np.ndarray
    """For each tap, its place in the kernel."""


class Code(NamedTuple):
    """Addresses of generated code."""

    gemm: int
    copy: int
    transpose: int
    images_to_points: int
    points_to_images: int
    weights_to_points: int
    diff_to_points: int
    weights_from_points: int


@launching
def correlate(x, u, bias, relu, y, s, shifts, code, offsets, v, m):
    """A task is a band of rows of four images."""
    launch(_band, s.quads * s.bands, v.shape[0], (x, u, bias, relu, y, s, shifts, code, offsets, v, m))


@inline
def _band(task, worker, x, u, bias, relu, y, s, shifts, code, offsets, v, m):
    count, image = _rows_of(task, s) * s.columns, s.out_h * s.out_w * s.out_channels
    number, calls = 0, (s.c + s.chunk - 1) // s.chunk * POINTS * s.taps_h * s.panels
    for c in range(0, s.c, s.chunk):
        channels = min(s.chunk, s.c - c)
        _inputs_to_points(x, task, c, channels, s, shifts, code, v[worker])
        size = s.taps_w * channels
        for p in range(POINTS):
            for tap in range(s.taps_h):
                v0 = p * s.v_point + shifts.rows[tap] * s.columns * size
                for panel in range(s.panels):
                    u0 = p * s.u_point + panel * s.panel + (c * s.taps + tap * size) * s.nr
                    ahead = _to_next_input(x, task, number, calls, s, shifts, u, u0) if s.fetches_x else s.panel
                    number += 1
                    call(
                        code.gemm, count, min(s.nr, s.j - panel * s.nr), size, 1, v[worker], v0, size, 1, u, u0, s.nr,
                        ahead, m[worker], p * s.m_point + panel * s.nr, s.m_pixel, offsets, 0, bias, 0,
                        s.fetch | (ACCUMULATE if tap + c > 0 else 0),
                    )  # fmt: skip
    for pixel in range(count):
        call(
            code.points_to_images, m[worker], pixel * s.m_pixel, SIDE * s.m_point, s.m_point, s.nr, y,
            _output(task, pixel, s), 2 * image, image, s.j, s.j, bias, 0, relu,
        )  # fmt: skip


@inline
def _to_next_input(x, task, number, calls, s, shifts, u, u0):
    """How far behind u0 in u lies the share in x that a call fetches of what the next task sees.

    To transform it took 6 to 19 % of a pass, most where it came from memory, while nothing was multiplied.
    """
    row, rows = s.in_w * s.in_channels, shifts.inputs.size
    at = number * 4 * rows * row // calls
    image, slot = at // row // rows, at // row % rows
    line = ((task + 1) // s.bands * 4 + image) * s.in_h + (task + 1) % s.bands * s.band * s.scale_h
    x0 = (line + shifts.inputs[slot]) * row + at % row // LINE * LINE
    return distance(u, x) + x0 - u0


@inline
def _rows_of(task, s):
    return min(s.band, s.rows - task % s.bands * s.band)


@inline
def _output(task, pixel, s):
    """Where a pixel of a band begins in the first of the four outputs."""
    row, column = task % s.bands * s.band + pixel // s.columns, pixel % s.columns
    line = task // s.bands * 4 * s.out_h + s.start_h + row * s.step_h
    return (line * s.out_w + s.start_w + column * s.step_w) * s.out_channels


@inline
def _inputs_to_points(x, task, c, channels, s, shifts, code, v):
    """For each output pixel what its taps see; zeros outside the image."""
    image, first = s.in_h * s.in_w * s.in_channels, task % s.bands * s.band * s.scale_h
    at = 0
    for slot in range(shifts.inputs.size):
        row = first + shifts.inputs[slot]
        for column in range(s.columns):
            for tap in range(s.taps_w):
                col = column * s.scale_w + shifts.columns[tap]
                if 0 <= row < s.in_h and 0 <= col < s.in_w:
                    start = ((task // s.bands * 4 * s.in_h + row) * s.in_w + col) * s.in_channels + c
                    call(
                        code.images_to_points, x, start, 2 * image, image, s.c, v, at, SIDE * s.v_point, s.v_point,
                        s.nr, channels, ALL, ALL,
                    )  # fmt: skip
                else:
                    for p in range(POINTS):
                        v[p * s.v_point + at : p * s.v_point + at + channels] = 0
                at += channels


@launching
def pack(weight, u, s, order, k_stride, j_stride, code, blocks):
    """A task is some channels of a panel: of all 16 quadrants of the weights, which are added up to 49."""
    chunks = (s.c + CHANNELS - 1) // CHANNELS
    launch(_pack_channels, s.panels * chunks, len(blocks), (weight, u, s, order, k_stride, j_stride, code, blocks))


@inline
def _pack_channels(task, worker, weight, u, s, order, k_stride, j_stride, code, blocks):
    panel, first, size = task % s.panels, task // s.panels * CHANNELS, blocks.shape[1] // QUADRANTS
    channels, columns = min(CHANNELS, s.c - first), min(s.nr, s.j - panel * s.nr)
    for quadrant in range(QUADRANTS):
        c, j = _quadrant(quadrant, s)
        start = (c + first) * k_stride + (j + panel * s.nr) * j_stride
        pack_columns(
            weight, start, columns, channels, blocks[worker], quadrant * size, CHANNELS * s.nr, order, s.nr, k_stride,
            j_stride, code.copy, code.transpose,
        )  # fmt: skip
    for tap in range(s.taps):
        call(
            code.weights_to_points, blocks[worker], tap * CHANNELS * s.nr, 4 * size, size, s.nr, u,
            _weights(panel, tap, first, s), SIDE * s.u_point, s.u_point, s.nr, channels * s.nr,
        )  # fmt: skip


@inline
def _quadrant(quadrant, s):
    """The first channel and output of quadrant (y, x): y chooses a half of channels and outputs, x a half of these."""
    y, x = quadrant // 4, quadrant % 4
    return (2 * (y // 2) + x // 2) * s.c, (2 * (y % 2) + x % 2) * s.j


@inline
def _weights(panel, tap, c, s):
    """Where in u a channel of a tap begins."""
    chunk = c - c % s.chunk
    return panel * s.panel + (chunk * s.taps + tap * min(s.chunk, s.c - chunk) + c - chunk) * s.nr


@launching
def correlate_weights(x, dy, weight_diff, s, shifts, code, offsets, v, w, u, blocks):
    """weight_diff += correlation of x with dy, summed over images.

    A task is a part of the bands, one after another, with sums of its own. What one thread had transformed and another
    multiplied would pass from core to core, and took up to twice as long.
    """
    launch(_sum_part, len(u), len(v), (x, dy, s, shifts, code, offsets, v, w, u))
    chunks = (s.c + CHANNELS - 1) // CHANNELS
    launch(_unpack_channels, s.panels * chunks, len(blocks), (u, weight_diff, s, code, blocks))


@inline
def _sum_part(part, worker, x, dy, s, shifts, code, offsets, v, w, u):
    bands, parts, size = s.quads * s.bands, len(u), s.taps_w * s.c
    begin, end = bands * part // parts, bands * (part + 1) // parts
    for band in range(begin, end):
        pixels = _rows_of(band, s) * s.columns
        _inputs_to_points(x, band, 0, s.c, s, shifts, code, v[worker])
        _diff_to_points(dy, band, pixels, s, code, w[worker])
        for p in range(POINTS):
            for panel in range(s.panels):
                w0, u0 = p * s.w_point + panel * s.band * s.columns * s.nr, p * s.u_point + panel * s.panel
                for tap in range(s.taps_h):
                    call(
                        code.gemm, size, min(s.nr, s.j - panel * s.nr), pixels, 1, v[worker],
                        p * s.v_point + shifts.rows[tap] * s.columns * size, 1, size, w[worker], w0, s.nr, 0, u[part],
                        u0 + tap * size * s.nr, s.nr, offsets, 0, x, 0, ACCUMULATE if band > begin else 0,
                    )  # fmt: skip


@inline
def _diff_to_points(dy, band, pixels, s, code, w):
    image = s.out_h * s.out_w * s.out_channels
    for pixel in range(pixels):
        call(
            code.diff_to_points, dy, _output(band, pixel, s), 2 * image, image, s.j, w, pixel * s.nr, SIDE * s.w_point,
            s.w_point, s.band * s.columns * s.nr, s.j, ALL, ALL,
        )  # fmt: skip


@inline
def _unpack_channels(task, worker, u, weight_diff, s, code, blocks):
    """Some channels of a panel: 49 sums become 16 quadrants of the gradient, each turned over and added."""
    panel, first, size = task % s.panels, task // s.panels * CHANNELS, blocks.shape[1] // (QUADRANTS + 1)
    channels, columns, block = min(CHANNELS, s.c - first), min(s.nr, s.j - panel * s.nr), blocks[worker]
    for tap in range(s.taps):
        at = _weights(panel, tap, first, s)
        for p in range(POINTS):
            add_parts(u, p * s.u_point + at, channels * s.nr)
        call(
            code.weights_from_points, u[0], at, SIDE * s.u_point, s.u_point, s.nr, block, tap * s.nr, 4 * size, size,
            s.taps * s.nr, channels * s.nr,
        )  # fmt: skip
    turned, length = QUADRANTS * size, channels * s.taps
    for quadrant in range(QUADRANTS):
        c, j = _quadrant(quadrant, s)
        call(code.transpose, length, columns, block, quadrant * size, s.nr, block, turned, length)
        for k in range(columns):
            at = ((j + panel * s.nr + k) * s.in_channels + c + first) * s.taps
            for i in range(length):
                weight_diff[at + i] += block[turned + k * length + i]
