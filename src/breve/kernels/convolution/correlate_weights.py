"""The gradient wrt weights on NHWC arrays by the micro-kernel, with an im2col that stays in the second-level cache.

    dW[k, c, r, s] += sum_{n, oy, ox} x[n, oy stride + r dilation - pad, ox stride + s dilation - pad, c]
                                      dY[n, oy, ox, k]

One product of matrices over the pixels of the top: columns of im2col(x), in the order (r, s, c), by dY. Pixels pass in
blocks. Of a block dY is packed into panels, and x, one strip of columns after the other, into rows as the strip is
wide; every strip meets all panels. What is outside the image is zero in the strip.

The work is cut into pieces of columns and parts of pixels. Each part has sums of its own, and they are added up at the
end in the order of the parts, so that the result does not depend on the threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from breve.kernels import microkernel
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.scratch import scratch
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.threads import get_num_threads, inline, kernel

BLOCK = 320  # pixels: a strip of x and a panel of dY of this length fit the first-level cache together
STRIP = 24  # columns of a strip
STRIPS_PER_PIECE = 8  # at least, so that packing dY is little beside multiplying it
ROWS = 32  # pixels of dY packed together
TASKS = 32
SUMS_BYTES = 4 << 20
LINE = 16
CHUNK = 1 << 12
CHANNELS = 16  # transposed together: for every tap, their rows of a panel stay in the first-level cache


class Sizes(NamedTuple):
    """One gradient. A unit is a run of im2col columns that lie together in x: a tap, or a row of taps that touch."""

    batch: int
    in_h: int
    in_w: int
    in_channels: int
    out_h: int
    out_w: int
    out_channels: int
    group: int
    c: int
    k: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    unit_taps: int
    """Taps of a unit: 1, or kernel_w."""
    unit_size: int
    """Columns of a unit."""
    unit_strips: int
    strips: int
    """Strips of a group."""
    pieces: int
    parts: int
    blocks: int
    nr: int
    panels: int
    panel: int
    """Elements of a packed panel of dY."""
    block: int
    strip: int
    rows: int


def plan_weights(g: ConvGeometry, dtype: Any) -> Sizes:
    """Weigh the pieces."""
    c, k = g.channels // g.group, g.num_output // g.group
    nr = microkernel.tile_columns(dtype)
    touch = g.group == 1 and g.dilation[1] == 1
    unit_taps = g.kernel[1] if touch else 1
    unit_size = unit_taps * c
    unit_strips = -(-unit_size // STRIP)
    strips = g.kernel[0] * (g.kernel[1] // unit_taps) * unit_strips
    blocks = -(-g.batch * g.out_shape[0] * g.out_shape[1] // BLOCK)
    sums_bytes = g.group * g.kernel[0] * g.kernel[1] * c * -(-k // nr) * nr * np.dtype(dtype).itemsize
    parts = max(1, min(blocks, TASKS, SUMS_BYTES // sums_bytes))
    pieces = max(1, min(strips // STRIPS_PER_PIECE, -(-TASKS // (g.group * parts))))
    window = (*g.kernel, *g.stride, *g.pad, *g.dilation)
    return Sizes(  # type: ignore[call-arg]  # two axes: their tuples have two elements
        g.batch, *g.in_shape, g.channels, *g.out_shape, g.num_output, g.group, c, k, *window, unit_taps, unit_size,
        unit_strips, strips, pieces, parts, blocks, nr, -(-k // nr), BLOCK * nr + LINE, BLOCK, STRIP, ROWS,
    )  # fmt: skip


def backward_weights(s: Sizes, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray) -> None:
    """Add to `weight_diff`."""
    threads, dtype = get_num_threads(), weight_diff.dtype
    panels = scratch("v", threads * s.panels * s.panel, dtype).reshape(threads, -1)
    strips = scratch("strip", threads * s.block * s.strip, dtype).reshape(threads, -1)
    rows = s.kernel_h * s.kernel_w * s.c
    sums = scratch("w", s.parts * s.group * rows * s.panels * s.nr, dtype).reshape(s.parts, -1)
    gemm, copy = microkernel.brgemm_address(dtype), microkernel.copy_address(dtype)
    offsets = np.zeros(2, np.int64)
    correlate_weights(bottom_data.reshape(-1), top_diff.reshape(-1), s, gemm, copy, offsets, panels, strips, sums)
    add_sums(sums, weight_diff.reshape(-1), s)


@kernel
def correlate_weights(x, dy, s, gemm, copy, offsets, panels, strips, sums):
    """Each task is one piece of the columns of a group, over one part of the pixels."""
    workers = panels.shape[0]
    tasks = s.parts * s.group * s.pieces
    pixels = s.batch * s.out_h * s.out_w
    for worker in prange(workers):
        for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
            part, group, piece = task // (s.group * s.pieces), task // s.pieces % s.group, task % s.pieces
            first_strip, last_strip = s.strips * piece // s.pieces, s.strips * (piece + 1) // s.pieces
            first_block, last_block = s.blocks * part // s.parts, s.blocks * (part + 1) // s.parts
            _clear_tails(panels[worker], s)
            for block in range(first_block, last_block):
                first, last = block * s.block, min(pixels, (block + 1) * s.block)
                _pack_top(dy, group, first, last, panels[worker], copy, s)
                flags = ACCUMULATE if block > first_block else 0
                for strip in range(first_strip, last_strip):
                    unit, start = strip // s.unit_strips, strip % s.unit_strips * s.strip
                    width = min(s.strip, s.unit_size - start)
                    _pack_strip(x, group, unit, start, width, first, last, strips[worker], copy, s)
                    row = group * s.kernel_h * s.kernel_w * s.c + unit * s.unit_size + start
                    columns = s.panels * s.nr
                    call(
                        gemm, width, columns, last - first, 1, strips[worker], 0, 1, width, panels[worker], 0, s.nr,
                        s.panel, sums[part], row * columns, columns, offsets, 0, x, 0, flags,
                    )  # fmt: skip


@inline
def _clear_tails(panels, s):
    """Zeros in the columns beyond the last k."""
    count = s.k - (s.panels - 1) * s.nr
    for pixel in range(s.block):
        at = (s.panels - 1) * s.panel + pixel * s.nr
        for j in range(count, s.nr):
            panels[at + j] = 0


@inline
def _pack_top(dy, group, first, last, panels, copy, s):
    """Pixels `first` to `last` of dY into panels[panel, pixel, nr]."""
    for pixel in range(first, last, s.rows):
        rows = min(s.rows, last - pixel)
        for panel in range(s.panels):
            start = pixel * s.out_channels + group * s.k + panel * s.nr
            at = panel * s.panel + (pixel - first) * s.nr
            call(copy, rows, min(s.nr, s.k - panel * s.nr), dy, start, s.out_channels, panels, at, s.nr)


@inline
def _pack_strip(x, group, unit, start, width, first, last, strip, copy, s):
    """Columns `start` to `start + width` of a unit for the pixels `first` to `last`, into strip[pixel, width]."""
    units_w = s.kernel_w // s.unit_taps
    shift_h, shift_w = unit // units_w * s.dilation_h - s.pad_h, unit % units_w * s.dilation_w - s.pad_w
    row_size = s.in_w * s.in_channels
    step = s.stride_w * s.in_channels
    zero = shift_w * s.in_channels + group * s.c + start
    low = min(s.out_w, max(0, (step - 1 - zero) // step))
    high = max(low, min(s.out_w, (row_size - width - zero) // step + 1))
    pixel = first
    while pixel < last:
        col, line = pixel % s.out_w, pixel // s.out_w
        count = min(last - pixel, s.out_w - col)
        row = line % s.out_h * s.stride_h + shift_h
        at = (pixel - first) * width
        if row < 0 or row >= s.in_h:
            for i in range(count * width):
                strip[at + i] = 0
        else:
            source = (line // s.out_h * s.in_h + row) * row_size
            inner, behind = max(col, low), min(col + count, high)
            if inner < behind:
                call(
                    copy,
                    behind - inner,
                    width,
                    x,
                    source + inner * step + zero,
                    step,
                    strip,
                    at + (inner - col) * width,
                    width,
                )
            for i in range(col, min(col + count, low)):
                _copy_clipped(x, source, i * step + zero, row_size, strip, at + (i - col) * width, width, copy)
            for i in range(max(col, high), col + count):
                _copy_clipped(x, source, i * step + zero, row_size, strip, at + (i - col) * width, width, copy)
        pixel += count


@inline
def _copy_clipped(x, source, start, row_size, strip, at, width, copy):
    """Elements of a row of x, zeros before and behind it."""
    for j in range(width):
        strip[at + j] = 0
    low, high = max(0, -start), min(width, row_size - start)
    if low < high:
        call(copy, 1, high - low, x, source + start + low, 0, strip, at + low, 0)


@kernel
def add_sums(sums, weight_diff, s):
    """weight_diff[k, c, tap] += the sums of all parts at [tap, c, k]; the parts are added up in their order."""
    taps, columns = s.kernel_h * s.kernel_w, s.panels * s.nr
    size = sums.shape[1]
    for chunk in prange((size + CHUNK - 1) // CHUNK):
        first, last = chunk * CHUNK, min(size, (chunk + 1) * CHUNK)
        total = sums[0, first:last]
        for part in range(1, s.parts):
            addend = sums[part, first:last]
            for i in range(last - first):
                total[i] += addend[i]
    channel_blocks = (s.c + CHANNELS - 1) // CHANNELS
    for work in prange(s.group * s.panels * channel_blocks):
        group, column = work // (s.panels * channel_blocks), work // channel_blocks % s.panels * s.nr
        first_c = work % channel_blocks * CHANNELS
        last_c = min(s.c, first_c + CHANNELS)
        for k in range(column, min(s.k, column + s.nr)):
            for c in range(first_c, last_c):
                start = ((group * s.k + k) * s.c + c) * taps
                for tap in range(taps):
                    weight_diff[start + tap] += sums[0, ((group * taps + tap) * s.c + c) * columns + k]
