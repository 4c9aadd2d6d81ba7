"""The loops of a correlation on NHWC arrays, around the micro-kernel. Its sizes and phases come from `correlation.py`.

A call of the micro-kernel computes one row of a phase: i runs over its pixels p, j over the columns of some panels of
weights. Taps that lie above or below the image are left out.

With many channels a tap fills a call: it is multiplied by those pixels that see it, and x is read in place. With few,
all taps of some rows are the batch of a call; where they reach beyond the sides of the image, bands of rows are first
copied between columns of zeros, into a buffer that stays in the second-level cache. Neighbouring taps of a row are one
long k, since pixel and channel lie together in memory.
"""

from __future__ import annotations

import numpy as np

from breve.kernels.microkernel import ACCUMULATE, BIAS, RELU, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import inline, inline_allocating, launching

CHANNELS = 16  # whose weights are rearranged together: they stay in the first-level cache


@launching
def pack(weight, packed, s, order, group_size, k_stride, j_stride, copy, transpose, workers):
    """Panels of weights: packed[group, panel, tap, c, j], zero where a pixel has no tap, tail columns anything."""
    panels = (s.k + s.nr - 1) // s.nr
    args = weight, packed, s, order, group_size, k_stride, j_stride, copy, transpose
    launch(_pack_panel, s.group * panels, workers, args)


@inline
def _pack_panel(panel, worker, weight, packed, s, order, group_size, k_stride, j_stride, copy, transpose):
    panels = (s.k + s.nr - 1) // s.nr
    start, first = panel // panels * group_size, panel % panels * s.nr
    count, at = min(s.nr, s.k - first), panel * s.panel
    if s.pixels == 1:
        start += first * j_stride
        pack_columns(
            weight, start, count, s.c, packed, at, s.c * s.nr, order, s.nr, k_stride, j_stride, copy, transpose
        )
    else:
        _pack_pixels(weight, start, first, count, packed, at, s, order, k_stride, j_stride)


@inline_allocating
def pack_columns(weight, start, count, channels, packed, at, tap_size, order, nr, k_stride, j_stride, copy, transpose):
    """One panel of `count` output channels, packed[tap, c, j] with taps `tap_size` apart.

    Some kernels at a time are turned over, then their taps put in order.
    """
    kernel = min(k_stride, j_stride)  # its taps lie one after another
    if kernel == j_stride == 1:
        call(copy, channels, count, weight, start, k_stride, packed, at, nr)
        return
    block = np.zeros(CHANNELS * kernel * nr, weight.dtype)
    for c in range(0, channels, CHANNELS):
        some = min(CHANNELS, channels - c)
        if k_stride == kernel:
            call(transpose, count, some * kernel, weight, start + c * k_stride, j_stride, block, 0, nr)
        else:
            for i in range(some):
                w0, b0 = start + (c + i) * k_stride, i * kernel * nr
                call(transpose, count, kernel, weight, w0, j_stride, block, b0, nr)
        for tap in range(order.shape[0]):
            call(copy, some, nr, block, order[tap, 0] * nr, kernel * nr, packed, at + tap * tap_size + c * nr, nr)


@inline
def _pack_pixels(weight, start, first, count, packed, at, s, order, k_stride, j_stride):
    """One panel where a column is an output channel of one of the pixels that are computed as one."""
    for c in range(s.c):
        for tap in range(s.taps):
            row = at + (tap * s.c + c) * s.nr
            packed[row : row + s.nr] = 0
            for j in range(count):
                pixel, channel = (first + j) // s.channels, (first + j) % s.channels
                if order[tap, pixel] >= 0:
                    packed[row + j] = weight[start + c * k_stride + channel * j_stride + order[tap, pixel]]


@launching
def correlate(x, packed, bias, flags, y, s, table, address, copy, buffers):
    """The work is cut into bands of rows of an image, and into groups of columns where those are few, or weights many.

    Then a thread has the columns whose weights it packed: to have them from another core took longer than to pack them.
    """
    tasks = s.batch * ((s.rows + s.band - 1) // s.band) * s.splits
    args = x, packed, bias, flags, y, s, table, address, copy, buffers
    launch(_band, tasks, buffers.shape[0], args)


@inline
def _band(task, worker, x, packed, bias, flags, y, s, table, address, copy, buffers):
    bands, units = (s.rows + s.band - 1) // s.band, s.group * s.chunks
    image, band, split = task // bands % s.batch, task % bands, task // (bands * s.batch)
    first, last = band * s.band, min(s.rows, (band + 1) * s.band)
    source, origin = x, image * s.in_h * s.in_w * s.in_channels
    if s.before >= 0:
        top = _copy_rows(x, image, first, last, buffers[worker], s, copy)
        source, origin = buffers[worker], s.before * s.in_channels - top * s.width * s.in_channels
    for unit in range(units * split // s.splits, units * (split + 1) // s.splits):
        for phase in table.phases:
            if s.tap_by_tap:
                _rows_tap_by_tap(x, origin, packed, bias, flags, y, s, phase, table, address, image, first, last, unit)
            else:
                _rows(source, origin, packed, bias, flags, y, s, phase, table, address, image, first, last, unit)


@inline
def _copy_rows(x, image, first, last, buffer, s, copy):
    """Copy the input rows that output rows `first` to `last` see, between zeros; return the first of them."""
    top, bottom = max(0, first * s.scale_h + s.low), min(s.in_h, (last - 1) * s.scale_h + s.high + 1)
    row_size, before, width = s.in_w * s.in_channels, s.before * s.in_channels, s.width * s.in_channels
    for row in range(bottom - top):
        buffer[row * width : row * width + before] = 0
        buffer[row * width + before + row_size : (row + 1) * width] = 0
    if top < bottom:
        start = (image * s.in_h + top) * row_size
        call(copy, bottom - top, row_size, x, start, row_size, buffer, before, width)
    return top


@inline
def _columns(unit, k, s):
    """A unit's group, its first column, how many it has, where their weights begin, and how far the next lie."""
    group, column = unit // s.chunks, unit % s.chunks * s.columns
    n = min(s.columns, s.k - column)
    panel = (group * ((s.k + s.nr - 1) // s.nr) + column // s.nr) * s.panel
    next_panel = s.panel if n > s.nr else min(s.depth, k) * s.nr  # of one panel, what it is multiplied by next
    return group, column, n, panel, next_panel


@inline
def _rows(source, origin, packed, bias, flags, y, s, phase, table, address, image, first, last, unit):
    """One phase of the rows from `first` to `last`, for one unit of output channels."""
    out_y, out_x, count_h, count_w, k, taps_h, entries, first_row, first_offset = phase
    group, column, n, panel, next_panel = _columns(unit, k, s)
    channel = group * s.k + column
    for tap in range(0, max(1, taps_h), s.tap_rows):
        for term in range(0, max(1, k), s.depth):
            depth = min(s.depth, k - term)
            added = flags if tap + s.tap_rows >= taps_h and term + s.depth >= k else 0
            if tap + term > 0:
                added |= ACCUMULATE
            for q in range(first, min(last, count_h)):
                low, high = tap, min(taps_h, tap + s.tap_rows)
                while low < high and q < table.rows[first_row + low, 0]:
                    low += 1
                while low < high and q >= table.rows[first_row + high - 1, 1]:
                    high -= 1
                a, a_row = origin + q * s.scale_h * s.width * s.in_channels + group * s.c, s.scale_w * s.in_channels
                out = (image * s.out_h + out_y + q * s.step_h) * s.out_row + out_x * s.out_pixel + channel
                offset, taps = 2 * (first_offset + low * entries), (high - low) * entries
                call(
                    address, count_w, n, depth, taps, source, a + term, a_row, 1, packed, panel + term * s.nr, s.nr,
                    next_panel, y, out, s.step_w * s.out_pixel, table.offsets, offset, bias, channel, added,
                )  # fmt: skip
                if column < s.rest:
                    call(
                        address, 1, min(n, s.rest - column), depth, taps, source, a + count_w * a_row + term, a_row, 1,
                        packed, panel + term * s.nr, s.nr, s.panel, y, out + count_w * s.out_pixel, 0, table.offsets,
                        offset, bias, channel, added,
                    )  # fmt: skip


@inline
def _rows_tap_by_tap(x, origin, packed, bias, flags, y, s, phase, table, address, image, first, last, unit):
    """The same, one tap after the other, by those pixels for which it lies in x.

    Where all pixels of a row see the first tap it overwrites y; other rows begin as zeros, or the bias.
    """
    out_y, out_x, count_h, count_w, k, taps_h, entries, first_row, first_offset = phase
    group, column, n, panel, next_panel = _columns(unit, k, s)
    channel = group * s.k + column
    a, a_row, a_pixel = origin + group * s.c, s.scale_h * s.width * s.in_channels, s.scale_w * s.in_channels
    out = (image * s.out_h + out_y) * s.out_row + out_x * s.out_pixel + channel
    y_row, y_pixel, last = s.step_h * s.out_row, s.step_w * s.out_pixel, min(last, count_h)
    begin, end = first, first
    if table.columns[first_offset, 1] - table.columns[first_offset, 0] == count_w:
        begin, end = max(first, table.rows[first_row, 0]), min(last, table.rows[first_row, 1])
    for q in range(first, last):
        if not begin <= q < end:
            _add_nothing(count_w, n, y, out + q * y_row, y_pixel, bias, channel, flags & BIAS, table, address)
    for tap in range(taps_h):
        top, bottom = max(first, table.rows[first_row + tap, 0]), min(last, table.rows[first_row + tap, 1])
        for entry in range(tap * entries, (tap + 1) * entries):
            left, right = table.columns[first_offset + entry]
            for term in range(0, k, s.depth):
                added = flags & BIAS if entry == term == 0 else ACCUMULATE
                for q in range(top, bottom):
                    call(
                        address, right - left, n, min(s.depth, k - term), 1, x, a + q * a_row + left * a_pixel + term,
                        a_pixel, 1, packed, panel + term * s.nr, s.nr, next_panel, y, out + q * y_row + left * y_pixel,
                        y_pixel, table.offsets, 2 * (first_offset + entry), bias, channel, added,
                    )  # fmt: skip
    if flags & RELU:
        for q in range(first, last):
            _add_nothing(count_w, n, y, out + q * y_row, y_pixel, bias, channel, ACCUMULATE | RELU, table, address)


@inline
def _add_nothing(pixels, n, y, out, y_pixel, bias, channel, flags, table, address):
    """A row of y without products: as `flags` say begun with zeros or the bias, or clamped."""
    call(address, pixels, n, 0, 0, y, 0, 0, 0, y, 0, 0, 0, y, out, y_pixel, table.offsets, 0, bias, channel, flags)
