"""The gradient wrt weights on NHWC arrays by the micro-kernel: x is packed once, for all taps.

    dW[k, c, r, s] += sum_{n, oy, ox} dY[n, oy, ox, k]
                                      x[n, oy stride + r dilation - pad, ox stride + s dilation - pad, c]

For each tap this is a product of matrices over the pixels of the top: dY^T by what that tap sees of x. Bands of rows
are packed: of dY in strips of output channels, of x in panels of channels, between columns of zeros. Columns that are a
stride apart lie side by side there, so that what a tap sees of a row is a stretch of the packed one; im2col would copy
it for each tap. Some rows are multiplied in one call of the micro-kernel, as its taps. What a tap of the convolution
sees of them stays in the first-level cache while all strips pass. Rows outside the image are left out; so are columns
where a call has one tap.

The work is cut into pieces of the panels, chunks of output channels and parts of the bands. Each part has sums of its
own, and they are added up at the end in the order of the parts, so that the result does not depend on the threads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.bias import add_bias_diff
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.lattice import Lattice, lattice, run_from
from breve.kernels.convolution.next_pixels import next_pixels, to_share
from breve.kernels.convolution.pack_pixels import pack_pixels
from breve.kernels.convolution.parts import add_parts
from breve.kernels.convolution.taps import TAP_BY_TAP
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.scratch import scratch
from breve.kernels.threads import inline, launching, physical_cores, threads_for

CALL_PIXELS = 128  # of one call: what it takes of both sides stays in the first-level cache
STRIP = 48  # output channels of a strip
CHUNK = 11 * STRIP  # output channels packed together, at most
BAND_BYTES = 128 << 10  # of dY packed together, and of a panel of x, or else as much as one call takes
PANELS_BYTES, CHANNELS = 200 << 10, 256  # of x packed together: with dY they fit a second-level cache of 512 KB
MOST_CHANNELS = 1024  # of a piece, about: the more, the less often dY is packed, and the longer are the runs of x
TASKS, MOST_PARTS = 16, 32  # pieces, chunks and parts together, if there are bands enough; parts alone
SUMS_BYTES = 4 << 20
ALIASED_BYTES = 2048  # where rows of a call were a multiple of this apart, they would meet in few sets of the cache
LINE = 16


class Sizes(NamedTuple):
    """One gradient."""

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
    rows: int
    """Rows of dY, of all images."""
    spans: int
    """Pieces that each of them is cut into."""
    span: int
    """Pixels of a piece, at most."""
    call_rows: int
    """Rows of one call."""
    bands: int
    """Bands of rows that are packed together."""
    band: int
    """Rows of a band, at most."""
    unit: int
    """Taps of one call: a row of the kernel where a panel has all channels and they are few, or 1."""
    width: int
    """Channels of a panel."""
    panels: int
    together: int
    """Panels that are packed together."""
    columns: int
    """Pixels of a packed row of x that have the same remainder modulo the stride."""
    line: int
    """Elements of a packed row."""
    whole: int
    """Rows of x that a whole image of dY sees."""
    panel: int
    """Elements of a packed panel."""
    row: int
    """From the sums of one output channel to those of the next."""
    in_place: int
    """1 where the sums are the gradient itself: one tap, one part."""
    pieces: int
    """Of the panels."""
    chunks: int
    """Of output channels."""
    chunk: int
    """Output channels of a chunk, at most."""
    parts: int
    """Of the bands."""
    nr: int
    fetches: int
    """1 where the kernel has one tap, and calls fetch the next band."""
    far: int
    """FAR_B where that has them fetch as much as they read of x."""
    is_1x1: int


class Taps(NamedTuple):
    """What taps see of a row."""

    remainders: np.ndarray
    """Modulo the stride, of the columns that any tap sees."""
    starts: np.ndarray
    """For each tap of a row of the kernel, the element of a packed row where what it sees begins."""


def plan_weights(geometry: ConvGeometry, dtype: Any) -> tuple[Sizes, Taps, Lattice | None]:
    """Weigh the pieces."""
    g = geometry.one_row if geometry.is_pointwise else geometry
    c, k, taps = g.channels // g.group, g.num_output // g.group, math.prod(g.kernel)
    (out_h, out_w), nr, size = g.out_shape, microkernel.tile_columns(dtype), np.dtype(dtype).itemsize
    rows, width, panels, row = g.batch * out_h, min(c, nr), -(-c // nr), taps * c + LINE
    pieces, chunks, parts = _cut(g, panels, rows * out_w // CALL_PIXELS, g.num_output * row * size)
    chunk, in_place = -(-k // chunks), taps == parts == 1
    spans = -(-out_w // CALL_PIXELS)
    spans = spans if rows >= parts else _round_up(spans, parts)
    span = -(-out_w // spans)
    columns, seen = _columns(g, span, width)
    line, halo = len(seen.remainders) * columns * width, (g.kernel[0] - 1) * g.dilation[0] + 1
    line += LINE * (line * g.stride[0] * size % ALIASED_BYTES == 0)
    unit = g.kernel[1] if c < TAP_BY_TAP and panels == g.stride[1] == g.dilation[1] == 1 else 1
    call_rows, band = max(1, CALL_PIXELS // span), BAND_BYTES // (max(chunk * span, line * g.stride[0]) * size)
    bands = -(-rows // (max(1, band // call_rows) * call_rows))
    bands = min(rows, _round_up(bands, parts)) if rows >= parts else bands
    band = -(-rows // bands)
    images = min(g.batch, (band - 2) // out_h + 2)  # that a band touches, at most
    lines = min(images * g.in_shape[0], band * g.stride[0] + images * halo)
    panel = lines * line + LINE
    together = max(1, min(panels, CHANNELS // nr, PANELS_BYTES // (panel * size)))
    sizes = Sizes(
        *g.in_shape, g.channels, *g.out_shape, g.num_output, g.group, c, k, *g.kernel, *g.stride, *g.pad, *g.dilation,
        rows, spans, span, call_rows, bands, band, unit, width, panels, together, columns, line,
        min(g.in_shape[0], (out_h - 1) * g.stride[0] - g.pad[0] + halo), panel,
        c if in_place else row, int(in_place), pieces, chunks, chunk, parts, nr,
        int(taps == 1), microkernel.fetch_flag(STRIP, dtype), int(geometry.is_1x1),
    )  # type: ignore[call-arg]  # fmt: skip  # two axes: their tuples have two elements
    return sizes, seen, lattice(geometry) if geometry.is_pointwise else None


def _cut(g: ConvGeometry, panels: int, calls: int, sums_bytes: int) -> tuple[int, int, int]:
    """Pieces, chunks and parts of the work; sums of a part take `sums_bytes`. No core should be without work."""
    k, pieces, cores = g.num_output // g.group, max(1, g.channels // g.group // MOST_CHANNELS), physical_cores()
    chunks = -(-k // CHUNK)
    parts = min(calls, MOST_PARTS, SUMS_BYTES // sums_bytes, -(-TASKS // (g.group * chunks * pieces)))
    parts = 1 << max(1, parts).bit_length() - 1  # as many for each thread; three for two would take a third longer
    pieces = max(pieces, min(panels, -(-cores // (g.group * chunks * parts))))
    return pieces, max(chunks, min(k // (2 * STRIP), -(-cores // (g.group * pieces * parts)))), parts


def _columns(g: ConvGeometry, span: int, width: int) -> tuple[int, Taps]:
    """Pixels of a packed row of x with the same remainder, and where the taps find theirs."""
    shifts, stride = [tap * g.dilation[1] for tap in range(g.kernel[1])], g.stride[1]
    remainders, columns = sorted({shift % stride for shift in shifts}), span + shifts[-1] // stride
    starts = [(remainders.index(shift % stride) * columns + shift // stride) * width for shift in shifts]
    return columns, Taps(np.array(remainders, np.int64), np.array(starts, np.int64))


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def backward_weights(
    plan: tuple[Sizes, Taps, Lattice | None],
    top_diff: np.ndarray,
    bottom_data: np.ndarray,
    weight_diff: np.ndarray,
    bias_diff: np.ndarray | None,
) -> None:
    """Add to `weight_diff` and `bias_diff`."""
    (s, seen, pixels), dtype = plan, weight_diff.dtype
    threads = threads_for(s.kernel_h * s.kernel_w * s.c * top_diff.size)
    tops = scratch("strip", threads * (_round_up(s.chunk, STRIP) * s.band * s.span + LINE), dtype).reshape(threads, -1)
    panels = scratch("v", threads * (s.together * s.panel + LINE), dtype).reshape(threads, -1)
    sums = weight_diff if s.in_place else scratch("w", s.parts * s.group * s.k * s.row, dtype)
    gemm, copy = microkernel.brgemm_address(dtype), microkernel.copy_address(dtype)
    offsets = np.zeros((threads, 2 * s.call_rows + LINE), np.int64)  # those of two threads in lines of their own
    sums = sums.reshape(s.parts, -1)
    x, dy = bottom_data.reshape(-1), top_diff.reshape(-1)
    correlate_weights(x, dy, s, seen, pixels, gemm, copy, offsets, tops, panels, sums)
    if not s.in_place:
        add_sums(sums, weight_diff.reshape(-1), s, threads)
    if bias_diff is not None:
        add_bias_diff(top_diff, bias_diff)


@launching
def correlate_weights(x, dy, s, seen, pixels, gemm, copy, offsets, tops, panels, sums):
    """Each task is one piece of the panels of a group, for one chunk of its outputs, over one part of the bands."""
    tasks = s.parts * s.group * s.chunks * s.pieces
    launch(_piece, tasks, len(tops), (x, dy, s, seen, pixels, gemm, copy, offsets, tops, panels, sums))


@inline
def _piece(task, worker, x, dy, s, seen, pixels, gemm, copy, offsets, tops, panels, sums):
    piece, chunk = task % s.pieces, task // s.pieces % s.chunks
    group, part = task // (s.pieces * s.chunks) % s.group, task // (s.pieces * s.chunks * s.group)
    first_k, last_k = group * s.k + chunk * s.chunk, group * s.k + min(s.k, (chunk + 1) * s.chunk)
    first_panel, last_panel = s.panels * piece // s.pieces, s.panels * (piece + 1) // s.pieces
    first_task, last_task = s.bands * s.spans * part // s.parts, s.bands * s.spans * (part + 1) // s.parts
    for each in range(first_task, last_task):
        first, last, column, end = _band(each, s)
        _pack_top(dy, first_k, last_k, first, last, column, end, tops[worker], copy, s)
        flags = ACCUMULATE if s.in_place or each > first_task else 0
        calls = ((last_k - first_k + STRIP - 1) // STRIP) * ((last - first + s.call_rows - 1) // s.call_rows)
        ahead = _next_band(x, dy, panels[worker], each + 1, (last_panel - first_panel) * calls, s)
        for packed in range(first_panel, last_panel, s.together):
            count = min(s.together, last_panel - packed)
            if pixels is None:
                _pack_panels(x, group, packed, count, first, last, column, seen, panels[worker], copy, s)
            else:
                _pack_lattice(x, group, packed, count, column, end, pixels, panels[worker], copy, s)
            for p in range(count):
                _multiply(
                    packed + p, p, first_k, last_k, first, last, column, end, seen, gemm, offsets[worker],
                    tops[worker], panels[worker], sums[part], flags, ahead, (packed + p - first_panel) * calls, s,
                )  # fmt: skip


@inline
def _band(each, s):
    """Rows of dY, and columns, that are packed together."""
    span, band = each // s.bands, each % s.bands
    first, last = s.rows * band // s.bands, s.rows * (band + 1) // s.bands
    return first, last, s.out_w * span // s.spans, s.out_w * (span + 1) // s.spans


@inline
def _next_band(x, dy, panels, each, calls, s):
    """What so many calls fetch for band `each`: dY, and x where its pixels are those of dY."""
    first, last, column, end = _band(each, s)
    pixel, pixels = first * s.out_w + column, (last - first) * (end - column)
    return next_pixels(
        x, pixel * s.in_channels, pixels * s.in_channels * s.is_1x1, dy, pixel * s.out_channels,
        pixels * s.out_channels, panels, s.call_rows * s.span * s.nr, calls,
    )  # fmt: skip


@inline
def _pack_top(dy, first_k, last_k, first, last, column, end, tops, copy, s):
    """Pixels from `column` to `end` of some rows of dY, into tops[strip, row, pixel, channel]."""
    for row in range(first, last):
        start, at = (row * s.out_w + column) * s.out_channels + first_k, (row - first) * (end - column) * STRIP
        strip = s.band * s.span * STRIP
        pack_pixels(dy, start, s.out_channels, end - column, last_k - first_k, STRIP, tops, at, strip, copy)


@inline
def _pack_panels(x, group, first_panel, count, first, last, column, seen, panels, copy, s):
    """What some rows of dY see of `count` panels of x, into panels[panel, row, remainder, pixel, channel]."""
    at, row = 0, first
    while row < last:
        image, top = row // s.out_h, row % s.out_h
        bottom = min(s.out_h, top + last - row)
        for y in range(_first_seen(top, s), _last_seen(bottom, s)):
            for i in range(len(seen.remainders)):
                start, first_x = (image * s.in_h + y) * s.in_w, column * s.stride_w - s.pad_w + seen.remainders[i]
                to = at + i * s.columns * s.width
                _pack_row(x, group, first_panel, count, start, first_x, panels, to, copy, s)
            at += s.line
        row += bottom - top


@inline
def _pack_lattice(x, group, first_panel, count, column, end, seen, panels, copy, s):
    """The same of some pixels of a lattice, which are a row to us."""
    channel = first_panel * s.width
    channels, pixel = min(count * s.width, s.c - channel), column
    while pixel < end:
        start, behind = run_from(pixel, end, seen)
        source, to = start + group * s.c + channel, (pixel - column) * s.width
        pack_pixels(
            x, source, seen.stride_w * s.in_channels, behind - pixel, channels, s.width, panels, to, s.panel, copy
        )
        pixel = behind


@inline
def _pack_row(x, group, first_panel, count, start, first_x, panels, to, copy, s):
    """Every stride_w-th pixel of a row of x from `first_x` on; zeros outside the image."""
    before, behind = _inside(first_x, s.columns, s)
    for p in range(count):
        panel = p * s.panel + to
        panels[panel : panel + before * s.width] = 0
        panels[panel + behind * s.width : panel + s.columns * s.width] = 0
    channel = first_panel * s.width
    source = (start + first_x + before * s.stride_w) * s.in_channels + group * s.c + channel
    channels, step = min(count * s.width, s.c - channel), s.stride_w * s.in_channels
    pack_pixels(x, source, step, behind - before, channels, s.width, panels, to + before * s.width, s.panel, copy)


@inline
def _inside(first_x, count, s):
    """Of `count` columns, `stride_w` apart from `first_x` on, those in the image: the first, and behind the last."""
    before = min(count, max(0, (s.stride_w - 1 - first_x) // s.stride_w))
    return before, max(before, min(count, (s.in_w - 1 - first_x) // s.stride_w + 1))


@inline
def _multiply(
    panel, packed, first_k, last_k, first, last, column, end, seen, gemm, offsets, tops, panels, sums, flags,
    ahead, number, s,
):  # fmt: skip
    """Add the products of a band for one panel, all taps and strips, some rows at a time."""
    channel, columns, pixels = panel * s.width, s.unit * min(s.width, s.c - panel * s.width), end - column
    left, right = 0, pixels
    for row in range(first, last, s.call_rows):
        added = flags if row == first else ACCUMULATE
        for r in range(s.kernel_h):
            rows = _seen_rows(row, min(last, row + s.call_rows), r, first, last, pixels, offsets, s)
            for tap in range(0, s.kernel_w, s.unit):
                if s.unit == 1:
                    left, right = _inside(column * s.stride_w - s.pad_w + tap * s.dilation_w, pixels, s)
                at, to = packed * s.panel + seen.starts[tap] + left * s.width, (r * s.kernel_w + tap) * s.c + channel
                for k in range(first_k, last_k, STRIP):
                    b_panel, far = s.nr, 0
                    if s.fetches and number % ahead.calls == 0:
                        b_panel, far = to_share(number, ahead) - at, s.far
                    call(
                        gemm, min(STRIP, last_k - k), columns, right - left, rows, tops,
                        (k - first_k) * s.band * s.span + left * STRIP, 1, STRIP, panels, at, s.width, b_panel, sums,
                        k * s.row + to, s.row, offsets, 0, panels, 0, added | far,
                    )  # fmt: skip
                    number += 1


@inline
def _seen_rows(begin, end, r, first, last, pixels, offsets, s):
    """Where some rows of dY lie in the packed band, and those of x that row `r` of the kernel sees; how many do."""
    top = first % s.out_h
    before = _first_seen(top, s)
    in_first_image, rows = _last_seen(min(s.out_h, top + last - first), s) - before, 0
    for row in range(begin, end):
        y, images = row % s.out_h * s.stride_h + r * s.dilation_h - s.pad_h, row // s.out_h - first // s.out_h
        if 0 <= y < s.in_h:
            at = y + in_first_image + (images - 1) * s.whole if images > 0 else y - before
            offsets[2 * rows], offsets[2 * rows + 1] = (row - first) * pixels * STRIP, at * s.line
            rows += 1
    return rows


@inline
def _first_seen(row, s):
    """The first row of x that a row of an image of dY sees."""
    return min(s.in_h, max(0, row * s.stride_h - s.pad_h))


@inline
def _last_seen(rows, s):
    """Behind the last row of x that some rows of an image of dY see."""
    return min(s.in_h, max(0, (rows - 1) * s.stride_h - s.pad_h + (s.kernel_h - 1) * s.dilation_h + 1))


@launching
def add_sums(sums, weight_diff, s, workers):
    """weight_diff[k, c, tap] += the sums of all parts at [k, tap, c]; the parts are added up in their order."""
    launch(_add_sums_of_output, s.group * s.k, workers, (sums, weight_diff, s))


@inline
def _add_sums_of_output(k, worker, sums, weight_diff, s):
    taps = s.kernel_h * s.kernel_w
    columns = taps * s.c
    add_parts(sums, k * s.row, columns)
    total = sums[0, k * s.row : k * s.row + columns]
    diff = weight_diff[k * columns : (k + 1) * columns]
    for tap in range(taps):
        addend = total[tap * s.c : (tap + 1) * s.c]
        for c in range(s.c):
            diff[c * taps + tap] += addend[c]
