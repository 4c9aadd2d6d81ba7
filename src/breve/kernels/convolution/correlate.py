"""A correlation on NHWC arrays by the micro-kernel, without a column buffer: forward and backward_data alike.

    y[n, y0 + q step_h, x0 + p step_w, k] = sum_{taps, c} x[n, q scale_h + shift_h, p scale_w + shift_w, c] w[tap, c, k]

The taps and shifts of each phase (y0, x0) come from `taps.py`. A call of the micro-kernel computes one row of a phase:
i runs over its pixels p, j over the columns k of a panel of weights, and the taps are the batch. Taps that lie above or
below the image are left out. Where taps reach beyond its sides, bands of rows are first copied between columns of
zeros, into a buffer that stays in the second-level cache. Neighbouring taps of a row are one long k, since pixel and
channel lie together in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from breve.kernels import microkernel
from breve.kernels.convolution.scratch import scratch
from breve.kernels.convolution.taps import Axis
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.threads import get_num_threads, inline, kernel

TAPS_BYTES = 64 << 10  # weights of the taps that are summed up in one call
BAND_BYTES = 128 << 10  # input rows of a band; with a panel of weights they stay in the second-level cache
CHUNK_BYTES = 16 << 10  # weights that stay in the first-level cache while a row of pixels passes
TASKS = 16  # pieces of work, at least, if the output has that many rows and panels


class Sizes(NamedTuple):
    """One correlation."""

    batch: int
    in_h: int
    in_w: int
    in_channels: int
    out_h: int
    out_w: int
    out_channels: int
    group: int
    c: int
    """Input channels of a group."""
    k: int
    """Output channels of a group."""
    scale_h: int
    scale_w: int
    step_h: int
    step_w: int
    low: int
    """The smallest shift of rows."""
    high: int
    """The largest shift of rows."""
    before: int
    """Columns of zeros before a row; -1 where x is read in place."""
    width: int
    """Pixels from one row to the next, zeros included."""
    rows: int
    """Rows of the largest phase."""
    band: int
    """Rows of a phase computed together."""
    is_flat: bool
    """All rows of a band are one row of pixels: 1x1 kernels."""
    columns: int
    """Output channels of one call: those of a panel or more."""
    chunks: int
    """Calls to cover a group."""
    splits: int
    """Pieces that the output channels are cut into for lack of rows."""
    nr: int
    panel: int
    """Elements of a panel of weights."""
    taps: int
    """Taps of all phases."""
    tap_rows: int
    """Rows of taps in one call."""


class PhaseRow(NamedTuple):
    """A phase as the kernel reads it."""

    out_y: int
    out_x: int
    count_h: int
    count_w: int
    k: int
    """Length of the inner sum."""
    taps_h: int
    entries: int
    """Offsets for each row of taps."""
    first_shift: int
    """Where its rows' shifts begin."""
    first_offset: int
    """Where its offsets begin."""


@dataclass
class Correlation:
    """All that is known before the data comes: sizes, phases, taps."""

    sizes: Sizes
    phases: np.ndarray
    shifts: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    """For each tap in the order of the packed weights, its place in the kernel, row by row."""
    dtype: np.dtype

    @property
    def packed_size(self) -> int:
        """Elements of the packed weights."""
        s = self.sizes
        return s.group * -(-s.k // s.nr) * s.panel

    def pack(self, weight: np.ndarray, packed: np.ndarray, k_stride: int, j_stride: int) -> None:
        """Panels [group][panel][tap][c][nr] of weights whose next c is k_stride, and next k j_stride away."""
        s = self.sizes
        pack(weight.reshape(-1), packed, s, self.order, weight.size // s.group, k_stride, j_stride)

    def run(
        self, x: np.ndarray, packed: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None, relu: bool = False
    ) -> None:
        """Overwrite y, adding a bias and clamping at zero if asked to."""
        s = self.sizes
        flags = microkernel.BIAS * (bias is not None) | microkernel.RELU * relu
        threads = get_num_threads()
        rows = min(s.in_h, (s.band - 1) * s.scale_h + s.high - s.low + 1) if s.before >= 0 else 0
        buffers = scratch("rows", threads * rows * s.width * s.in_channels, self.dtype).reshape(threads, -1)
        address = microkernel.brgemm_address(self.dtype)
        correlate(
            x.reshape(-1), packed, packed if bias is None else bias, flags, y.reshape(-1), s, self.phases, self.shifts,
            self.offsets, address, buffers,
        )  # fmt: skip


def plan_correlation(
    batch: int, axes: tuple[Axis, Axis], out_shape: tuple[int, ...], in_channels: int, out_channels: int, group: int,
    kernel_w: int, dtype: Any,
) -> Correlation:  # fmt: skip
    """Order taps, weigh blocks."""
    h, w = axes
    c, k, nr = in_channels // group, out_channels // group, microkernel.tile_columns(dtype)
    before, after = w.margins
    copies = bool(before or after)
    width = w.size + before + after
    phases: list[PhaseRow] = []
    shifts: list[int] = []
    offsets: list[tuple[int, int]] = []
    order: list[int] = []
    for ph in h.phases:
        for pw in w.phases:
            merges = group == 1 and all(b - a == 1 for (_, a), (_, b) in zip(pw.taps, pw.taps[1:], strict=False))
            starts = pw.taps[:1] if merges else pw.taps
            phases.append(
                PhaseRow(
                    ph.start, pw.start, ph.count, pw.count, c * len(pw.taps) if merges else c, len(ph.taps),
                    len(starts), len(shifts), len(offsets),
                )
            )  # fmt: skip
            for tap_h, shift_h in ph.taps:
                for index, (_, shift_w) in enumerate(starts):
                    offsets.append(((shift_h * width + shift_w) * in_channels, (len(order) + index) * c * nr))
                order += [tap_h * kernel_w + tap_w for tap_w, _ in pw.taps]
                shifts.append(shift_h)
    is_flat = (
        not copies
        and len(order) == 1 == h.scale == w.scale == h.step == w.step
        and h.size == h.count
        and w.size == w.count
    )
    if is_flat:
        batch, h_size, rows, out_h = 1, batch * h.size, batch * h.size, batch * h.size
        phases = [phases[0]._replace(count_h=rows)]
    else:
        h_size, rows, out_h = h.size, h.count, out_shape[0]
    item = np.dtype(dtype).itemsize
    row_bytes = width * in_channels * item
    halo = h.high - h.low + 1 - h.scale
    band = max(1, (BAND_BYTES // row_bytes - halo) // h.scale)
    band = min(band, max(1, -(-batch * rows // TASKS)))
    bands = -(-rows // min(band, rows))
    band = -(-rows // bands)
    panels, panel = -(-k // nr), len(order) * c * nr
    columns = max(1, min(panels, CHUNK_BYTES // max(1, panel * item))) * nr
    chunks = -(-k // columns)
    row_weights = max(len(p.taps) for p in w.phases) * c * nr * item
    tap_rows = max(1, TAPS_BYTES // max(1, row_weights))
    splits = min(group * chunks, -(-TASKS // (batch * bands)))
    sizes = Sizes(
        batch, h_size, w.size, in_channels, out_h, out_shape[1], out_channels, group, c, k, h.scale, w.scale, h.step,
        w.step, h.low, h.high, before if copies else -1, width, rows, band, is_flat, columns, chunks, splits, nr, panel,
        len(order), tap_rows,
    )  # fmt: skip
    return Correlation(
        sizes, np.array(phases, np.intp), np.array(shifts or [0], np.intp),
        np.array(offsets or [(0, 0)], np.int64).reshape(-1), np.array(order, np.intp), np.dtype(dtype),
    )  # fmt: skip


@kernel
def pack(weight, packed, s, order, group_size, k_stride, j_stride):
    """Panels of weights: packed[group, panel, tap, c, j], zero beyond the last k."""
    panels = (s.k + s.nr - 1) // s.nr
    for work in prange(s.group * panels):
        group, first = work // panels, work % panels * s.nr
        count = min(s.nr, s.k - first)
        for c in range(s.c):
            for tap in range(s.taps):
                at = work * s.panel + (tap * s.c + c) * s.nr
                start = group * group_size + first * j_stride + c * k_stride + order[tap]
                for j in range(count):
                    packed[at + j] = weight[start + j * j_stride]
                for j in range(count, s.nr):
                    packed[at + j] = 0


@kernel
def correlate(x, packed, bias, flags, y, s, phases, shifts, offsets, address, buffers):
    """The work is cut into bands of rows of an image, and into groups of columns where those are few."""
    workers = buffers.shape[0]
    bands = (s.rows + s.band - 1) // s.band
    tasks = s.batch * bands * s.splits
    for worker in prange(workers):
        for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
            image, band, split = task // (bands * s.splits), task // s.splits % bands, task % s.splits
            first, last = band * s.band, min(s.rows, (band + 1) * s.band)
            if s.before >= 0:
                top = _copy_rows(x, image, first, last, buffers[worker], s)
                source, origin = buffers[worker], s.before * s.in_channels - top * s.width * s.in_channels
            else:
                source, origin = x, image * s.in_h * s.in_w * s.in_channels
            units = s.group * s.chunks
            for unit in range(units * split // s.splits, units * (split + 1) // s.splits):
                for phase in phases:
                    _rows(
                        source,
                        origin,
                        packed,
                        bias,
                        flags,
                        y,
                        s,
                        phase,
                        shifts,
                        offsets,
                        address,
                        image,
                        first,
                        last,
                        unit,
                    )


@inline
def _copy_rows(x, image, first, last, buffer, s):
    """Copy the input rows that output rows `first` to `last` see, between zeros; return the first of them."""
    top, bottom = max(0, first * s.scale_h + s.low), min(s.in_h, (last - 1) * s.scale_h + s.high + 1)
    row_size, before = s.in_w * s.in_channels, s.before * s.in_channels
    for row in range(top, bottom):
        at, start = (row - top) * s.width * s.in_channels, (image * s.in_h + row) * row_size
        for i in range(before):
            buffer[at + i] = 0
        for i in range(row_size):
            buffer[at + before + i] = x[start + i]
        for i in range(before + row_size, s.width * s.in_channels):
            buffer[at + i] = 0
    return top


@inline
def _rows(source, origin, packed, bias, flags, y, s, phase, shifts, offsets, address, image, first, last, unit):
    """One phase of the rows from `first` to `last`, for one unit of output channels."""
    out_y, out_x, count_h, count_w, k, taps_h, entries, first_shift, first_offset = phase
    group, column = unit // s.chunks, unit % s.chunks * s.columns
    n = min(s.columns, s.k - column)
    panel = (group * ((s.k + s.nr - 1) // s.nr) + column // s.nr) * s.panel
    channel = group * s.k + column
    rows = last - first if s.is_flat else 1
    for tap in range(0, max(1, taps_h), s.tap_rows):
        added = flags if tap + s.tap_rows >= taps_h else 0
        if tap > 0:
            added |= ACCUMULATE
        for q in range(first, min(last, count_h), rows):
            low, high = tap, min(taps_h, tap + s.tap_rows)
            while low < high and q * s.scale_h + shifts[first_shift + low] < 0:
                low += 1
            while low < high and q * s.scale_h + shifts[first_shift + high - 1] >= s.in_h:
                high -= 1
            a = origin + q * s.scale_h * s.width * s.in_channels + group * s.c
            out = ((image * s.out_h + out_y + q * s.step_h) * s.out_w + out_x) * s.out_channels + channel
            call(
                address, rows * count_w, n, k, (high - low) * entries, source, a, s.scale_w * s.in_channels, 1, packed,
                panel, s.nr, s.panel, y, out, s.step_w * s.out_channels, offsets, 2 * (first_offset + low * entries),
                bias, channel, added,
            )  # fmt: skip
