"""The gradient wrt weights on NHWC arrays by the micro-kernel, with an im2col that stays in the first-level cache.

    dW[k, c, r, s] += sum_{n, oy, ox} dY[n, oy, ox, k]
                                      x[n, oy stride + r dilation - pad, ox stride + s dilation - pad, c]

One product of matrices over the pixels of the top: dY^T by im2col(x), whose columns are in the order (r, s, c). Pixels
pass in blocks. Of a block dY is packed into strips of output channels, and im2col(x), a few at a time, into panels of
columns; every panel meets all strips. What is outside the image is zero in the panel.

The work is cut into pieces of columns, chunks of output channels and parts of pixels. Each part has sums of its own,
and they are added up at the end in the order of the parts, so that the result does not depend on the threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.parts import add_parts
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.scratch import scratch
from breve.kernels.threads import inline, launching, threads_for

BLOCK = 320  # pixels at most: a panel of im2col(x) and a strip of dY of this length fit the first-level cache together
STRIP = 48  # output channels of a strip
CHUNK = 11 * STRIP  # output channels packed together, at most
CHUNK_BYTES = 264 << 10  # of a block of pixels they stay in the second-level cache: 128 pixels of 528 channels
PANELS = 4  # of im2col(x) packed together
ROWS = 32  # pixels packed together: all that is packed of them is read while it is in the first-level cache
PANELS_PER_PIECE = 8  # at least, so that packing dY is little beside multiplying it
TASKS, MOST_PARTS = 16, 32  # pieces, chunks and parts together, if there are panels enough; parts alone
SUMS_BYTES = 4 << 20
LINE = 16


class Sizes(NamedTuple):
    """One gradient. A unit is a run of im2col columns that lie together in x: a tap, or a row of taps that touch."""

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
    columns: int
    """Columns of im2col(x) for a group."""
    row: int
    """From the sums of one output channel to those of the next."""
    in_place: int
    """1 where the sums are the gradient itself: one tap, one part."""
    pixels: int
    panels: int
    pieces: int
    chunks: int
    parts: int
    blocks: int
    nr: int
    block: int
    strip: int
    chunk: int
    packed: int
    rows: int


def plan_weights(g: ConvGeometry, dtype: Any) -> Sizes:
    """Weigh the pieces."""
    c, k, taps = g.channels // g.group, g.num_output // g.group, g.kernel[0] * g.kernel[1]
    nr, pixels = microkernel.tile_columns(dtype), g.batch * g.out_shape[0] * g.out_shape[1]
    touch = g.group == 1 and g.dilation[1] == 1
    unit_taps = g.kernel[1] if touch else 1
    panels, chunks, size = -(-taps * c // nr), -(-k // CHUNK), np.dtype(dtype).itemsize
    chunk = -(-k // (chunks * STRIP)) * STRIP  # even ones: x is packed again for each of them
    blocks = -(-pixels // min(BLOCK, CHUNK_BYTES // (chunk * size)))
    row = panels * nr + LINE
    most_parts = max(1, min(blocks, MOST_PARTS, SUMS_BYTES // (g.num_output * row * size)))
    parts = 1 << most_parts.bit_length() - 1  # as many for each thread; three for two threads would take a third longer
    block = -(-pixels // (parts * -(-blocks // parts)))
    blocks = -(-pixels // block)
    in_place = taps == parts == 1
    pieces = max(1, min(panels // PANELS_PER_PIECE, -(-TASKS // (g.group * chunks * parts))))
    window = (*g.kernel, *g.stride, *g.pad, *g.dilation)
    return Sizes(  # type: ignore[call-arg]  # two axes: their tuples have two elements
        *g.in_shape, g.channels, *g.out_shape, g.num_output, g.group, c, k, *window, unit_taps, unit_taps * c, taps * c,
        c if in_place else row, int(in_place), pixels, panels, pieces, chunks, parts, blocks, nr, block, STRIP, chunk,
        PANELS, ROWS,
    )  # fmt: skip


def backward_weights(s: Sizes, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray) -> None:
    """Add to `weight_diff`."""
    threads, dtype = threads_for(s.columns * top_diff.size), weight_diff.dtype
    strips = scratch("strip", threads * (s.chunk * s.block + LINE), dtype).reshape(threads, -1)
    panels = scratch("v", threads * (s.packed * s.block * s.nr + LINE), dtype).reshape(threads, -1)
    sums = weight_diff if s.in_place else scratch("w", s.parts * s.group * s.k * s.row, dtype)
    gemm, copy = microkernel.brgemm_address(dtype), microkernel.copy_address(dtype)
    offsets = np.zeros(2, np.int64)
    sums = sums.reshape(s.parts, -1)
    correlate_weights(bottom_data.reshape(-1), top_diff.reshape(-1), s, gemm, copy, offsets, strips, panels, sums)
    if not s.in_place:
        add_sums(sums, weight_diff.reshape(-1), s, threads)


@launching
def correlate_weights(x, dy, s, gemm, copy, offsets, strips, panels, sums):
    """Each task is one piece of the columns of a group, for one chunk of its outputs, over one part of the pixels."""
    tasks = s.parts * s.group * s.chunks * s.pieces
    launch(_piece, tasks, panels.shape[0], (x, dy, s, gemm, copy, offsets, strips, panels, sums))


@inline
def _piece(task, worker, x, dy, s, gemm, copy, offsets, strips, panels, sums):
    strip, panel = strips[worker], panels[worker]
    piece, chunk = task % s.pieces, task // s.pieces % s.chunks
    group, part = task // (s.pieces * s.chunks) % s.group, task // (s.pieces * s.chunks * s.group)
    first_k, last_k = chunk * s.chunk, min(s.k, (chunk + 1) * s.chunk)
    first_panel, last_panel = s.panels * piece // s.pieces, s.panels * (piece + 1) // s.pieces
    first_block, last_block = s.blocks * part // s.parts, s.blocks * (part + 1) // s.parts
    for block in range(first_block, last_block):
        first, last = block * s.block, min(s.pixels, (block + 1) * s.block)
        _pack_top(dy, group * s.k + first_k, last_k - first_k, first, last, strip, copy, s)
        for packed in range(first_panel, last_panel, s.packed):
            end = min(last_panel, packed + s.packed)
            _pack_panels(x, group, packed, end, first, last, panel, copy, s)
            for p in range(packed, end):
                column = p * s.nr
                for k in range(first_k, last_k, s.strip):
                    call(
                        gemm, min(s.strip, last_k - k), min(s.nr, s.columns - column), last - first, 1, strip,
                        (k - first_k) * s.block, 1, s.strip, panel, (p - packed) * s.block * s.nr, s.nr, 0,
                        sums[part], (group * s.k + k) * s.row + column, s.row, offsets, 0, x, 0,
                        ACCUMULATE if s.in_place or block > first_block else 0,
                    )  # fmt: skip


@inline
def _pack_top(dy, channel, count, first, last, strips, copy, s):
    """Pixels `first` to `last` of `count` channels of dY into strips[strip, pixel, channel]."""
    for pixel in range(first, last, s.rows):
        rows = min(s.rows, last - pixel)
        for k in range(0, count, s.strip):
            at, start = k * s.block + (pixel - first) * s.strip, pixel * s.out_channels + channel + k
            call(copy, rows, min(s.strip, count - k), dy, start, s.out_channels, strips, at, s.strip)


@inline
def _pack_panels(x, group, first_panel, last_panel, first, last, panels, copy, s):
    """Some panels of im2col(x) for the pixels `first` to `last`, into panels[panel, pixel, nr]."""
    for pixel in range(first, last, s.rows):
        end = min(last, pixel + s.rows)
        for panel in range(first_panel, last_panel):
            at = ((panel - first_panel) * s.block + pixel - first) * s.nr
            column, width = panel * s.nr, min(s.nr, s.columns - panel * s.nr)
            if width < s.nr:
                panels[at : at + (end - pixel) * s.nr] = 0
            done = 0
            while done < width:
                unit, start = (column + done) // s.unit_size, (column + done) % s.unit_size
                count = min(width - done, s.unit_size - start)
                _pack_unit(x, group, unit, start, count, pixel, end, panels, at + done, copy, s)
                done += count


@inline
def _pack_unit(x, group, unit, start, width, first, last, panel, p0, copy, s):
    """Columns `start` to `start + width` of a unit for the pixels `first` to `last`, into a panel from p0 on."""
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
        at = p0 + (pixel - first - col) * s.nr
        inside = 0 <= row < s.in_h
        source = (line // s.out_h * s.in_h + row) * row_size
        inner, behind = max(col, low), min(col + count, high)
        if not inside or inner >= behind:
            inner = behind = col + count
        for i in range(col, inner):
            _copy_clipped(x, source, i * step + zero, row_size, panel, at + i * s.nr, width, inside, copy)
        if inner < behind:
            call(copy, behind - inner, width, x, source + inner * step + zero, step, panel, at + inner * s.nr, s.nr)
        for i in range(behind, col + count):
            _copy_clipped(x, source, i * step + zero, row_size, panel, at + i * s.nr, width, inside, copy)
        pixel += count


@inline
def _copy_clipped(x, source, start, row_size, panel, at, width, inside, copy):
    """Elements of a row of x, zeros before and behind it, or all zeros where the row is not `inside` the image."""
    for j in range(width):
        panel[at + j] = 0
    low, high = max(0, -start), min(width, row_size - start)
    if inside and low < high:
        call(copy, 1, high - low, x, source + start + low, 0, panel, at + low, 0)


@launching
def add_sums(sums, weight_diff, s, workers):
    """weight_diff[k, c, tap] += the sums of all parts at [k, tap, c]; the parts are added up in their order."""
    launch(_add_sums_of_output, s.group * s.k, workers, (sums, weight_diff, s))


@inline
def _add_sums_of_output(k, worker, sums, weight_diff, s):
    add_parts(sums, k * s.row, s.columns)
    total = sums[0, k * s.row : k * s.row + s.columns]
    diff, taps = weight_diff[k * s.columns : (k + 1) * s.columns], s.kernel_h * s.kernel_w
    for tap in range(taps):
        addend = total[tap * s.c : (tap + 1) * s.c]
        for c in range(s.c):
            diff[c * taps + tap] += addend[c]
