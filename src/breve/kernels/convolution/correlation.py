"""A correlation on NHWC arrays, forward and backward_data alike: all that is known of it before the data comes.

    y[n, y0 + q step_h, x0 + p step_w, k] = sum_{taps, c} x[n, q scale_h + shift_h, p scale_w + shift_w, c] w[tap, c, k]

The taps and shifts of each phase (y0, x0) come from `taps.py`. Where y has few channels, several of its pixels side by
side are computed as one pixel of that many times the channels, so that the vectors are full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.correlate import correlate, pack
from breve.kernels.convolution.taps import TAP_BY_TAP, Axis, widen
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.scratch import scratch
from breve.kernels.streaming import stream_flag
from breve.kernels.threads import physical_cores, threads_for

TAPS_BYTES = 32 << 10  # weights of what is summed up in one call: they stay near while all rows of a band pass
TAP_DEPTH = 512  # terms that a tap adds at once: 128, with weights nearer, take 1.02 times as long, by 7 pixels 1.05
LEAST_DEPTH = 64  # terms of a sum, or adding it to the others would be felt
BAND_BYTES = 512 << 10  # input rows of a band: the more, the fewer are copied twice; about a second-level cache
CHUNK_BYTES = 16 << 10  # weights that stay in the first-level cache while a row of pixels passes
MANY_WEIGHTS = 4  # where so many times the packed weights exceed x each core has columns of its own, and reads all of x
TASKS = 32  # pieces of work, at least, if the output has that many rows and panels


class Sizes(NamedTuple):
    """One correlation."""

    batch: int
    in_h: int
    in_w: int
    in_channels: int
    out_h: int
    out_row: int
    """Elements of a row of y."""
    out_pixel: int
    """Elements of a pixel of y, or of the pixels that are computed as one."""
    pixels: int
    """Pixels that are computed as one."""
    channels: int
    """Channels of each of them."""
    rest: int
    """Elements behind the last whole `out_pixel` of a row."""
    group: int
    c: int
    """Input channels of a group."""
    k: int
    """Columns of a group's weights: output channels times pixels."""
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
    tap_by_tap: int
    """1 where a tap is multiplied by itself, by those pixels for which it lies in x."""
    rows: int
    """Rows of the largest phase."""
    band: int
    """Rows of a phase computed together."""
    columns: int
    """Columns of one call: those of a panel or more."""
    chunks: int
    """Calls to cover a group."""
    splits: int
    """Pieces that the columns are cut into for lack of rows, or because weights are many."""
    nr: int
    panel: int
    """Elements of a panel of weights."""
    taps: int
    """Taps of all phases."""
    tap_rows: int
    """Rows of taps in one call."""
    depth: int
    """Terms of a tap in one call."""
    streams: int
    """1 where y may go past the caches: one call writes an element, and groups have whole cache lines."""


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
    first_row: int
    """Where its rows of taps begin."""
    first_offset: int
    """Where its offsets begin."""


class Table(NamedTuple):
    """All phases as the kernel reads them."""

    phases: np.ndarray
    """A `PhaseRow` each."""
    rows: np.ndarray
    """For each row of taps, by ascending shift, the first row of y for which it lies in x, and that behind the last."""
    columns: np.ndarray
    """For each offset the same of the pixels of a row."""
    offsets: np.ndarray
    """Of x, and of a panel of weights."""


@dataclass
class Correlation:
    """Sizes, phases and taps, and the passes over data."""

    sizes: Sizes
    table: Table
    order: np.ndarray
    """For each tap in the order of the packed weights, and each pixel computed as one, its place in the kernel."""
    dtype: np.dtype

    @property
    def packed_size(self) -> int:
        """Elements of the packed weights."""
        s = self.sizes
        return s.group * -(-s.k // s.nr) * s.panel

    def pack(self, weight: np.ndarray, packed: np.ndarray, k_stride: int, j_stride: int) -> None:
        """Panels [group][panel][tap][c][nr] of weights whose next c is k_stride, and next k j_stride away."""
        s = self.sizes
        pack(
            weight.reshape(-1), packed, s, self.order, weight.size // s.group, k_stride, j_stride,
            microkernel.copy_address(self.dtype), microkernel.transpose_address(self.dtype),
            threads_for(16 * weight.size),
        )  # fmt: skip

    def run(
        self, x: np.ndarray, packed: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None, relu: bool = False
    ) -> None:
        """Overwrite y, adding a bias and clamping at zero if asked to."""
        s = self.sizes
        flags = microkernel.BIAS * (bias is not None) | microkernel.RELU * relu
        if s.streams:
            flags |= stream_flag(x, y)
        threads = threads_for(y.size * s.c * s.taps // (s.step_h * s.step_w))
        rows = min(s.in_h, (s.band - 1) * s.scale_h + s.high - s.low + 1) if s.before >= 0 else 0
        buffers = scratch("rows", threads * rows * s.width * s.in_channels, self.dtype).reshape(threads, -1)
        address = microkernel.brgemm_address(self.dtype)
        biases = packed if bias is None else np.tile(bias, s.pixels)
        correlate(
            x.reshape(-1), packed, biases, flags, y.reshape(-1), s, self.table, address,
            microkernel.copy_address(self.dtype), buffers,
        )  # fmt: skip


def plan_correlation(
    batch: int, axes: tuple[Axis, Axis], out_shape: tuple[int, ...], in_channels: int, out_channels: int, group: int,
    kernel_w: int, dtype: Any,
) -> Correlation:  # fmt: skip
    """Order taps, weigh blocks."""
    h, w = axes
    c, channels, nr = in_channels // group, out_channels // group, microkernel.tile_columns(dtype)
    pixels = pixels_as_one(w, channels, microkernel.host_instruction_set().lanes(dtype)) if group == 1 else 1
    w, rest = (widen(w, pixels), out_shape[1] % pixels) if pixels > 1 else (w, 0)
    tap_by_tap = pixels == 1 and c >= TAP_BY_TAP
    before, after = (0, 0) if tap_by_tap else w.margins
    width, k, item = w.size + before + after, channels * pixels, np.dtype(dtype).itemsize
    taps = _Taps(h, w, kernel_w, bool(rest))
    taps.order_all(width * in_channels, in_channels, c, nr, group == 1 and not tap_by_tap)
    rows = h.count
    band = _rows_of_a_band(h, batch * rows, rows, width * in_channels * item)
    panels, panel = -(-k // nr), len(taps.order) * c * nr
    columns = max(1, min(panels, CHUNK_BYTES // max(1, panel * item))) * nr
    chunks = -(-k // columns)
    row_bytes = max(len(phase.taps) for phase in w.phases) * c * nr * item
    entries = max([1, *(phase.entries for phase in taps.phases)])
    tap_rows = max(1, TAPS_BYTES // max(1, row_bytes))
    depth = max(LEAST_DEPTH, TAPS_BYTES // (entries * nr * item))
    depth = -(-c // -(-c // TAP_DEPTH)) if tap_by_tap else depth
    once = not tap_by_tap and all(phase.taps_h <= tap_rows and phase.k <= depth for phase in taps.phases)
    many_weights = MANY_WEIGHTS * panels * panel * group > batch * h.size * w.size * in_channels
    splits = max(-(-TASKS // (batch * -(-rows // band))), physical_cores() if many_weights else 1)
    streams = once and (group == 1 or k * item % LINE_BYTES == 0)
    sizes = Sizes(
        batch, h.size, w.size, in_channels, out_shape[0], out_shape[1] * out_channels, out_channels * pixels, pixels,
        channels, rest * channels, group, c, k, h.scale, w.scale, h.step, w.step, h.low, h.high,
        before if before or after else -1, width, int(tap_by_tap), rows, band, columns, chunks,
        splits=min(group * chunks, splits), nr=nr, panel=panel, taps=len(taps.order), tap_rows=tap_rows, depth=depth,
        streams=int(streams),
    )  # fmt: skip
    order = np.array(taps.order, np.intp).reshape(len(taps.order), pixels)
    return Correlation(sizes, taps.table(), order, np.dtype(dtype))


class _Taps:
    """The phases, one after the other, with the offsets of their taps."""

    def __init__(self, h: Axis, w: Axis, kernel_w: int, last_is_partial: bool) -> None:
        self.h, self.w, self.kernel_w, self.last_is_partial = h, w, kernel_w, last_is_partial
        self.phases: list[PhaseRow] = []
        self.rows: list[tuple[int, int]] = []
        self.columns: list[tuple[int, int]] = []
        self.offsets: list[tuple[int, int]] = []
        self.order: list[list[int]] = []

    def order_all(self, row: int, pixel: int, c: int, nr: int, may_touch: bool) -> None:
        """Taps of x `row` elements a row and `pixel` a pixel apart, whose weights are c by nr; touching ones as one.

        Of a row of taps the one that most pixels see comes first: where all do, it need not be added to zeros.
        """
        for ph in (phase for phase in self.h.phases if phase.taps):
            for pw in (phase for phase in self.w.phases if phase.taps):
                shifts = [shift for _, shift in pw.taps]
                merges = may_touch and shifts == list(range(shifts[0], shifts[0] + len(shifts)))
                starts = shifts[:1] if merges else shifts
                k = c * len(shifts) if merges else c
                count_w = pw.count - self.last_is_partial
                self.phases.append(
                    PhaseRow(
                        ph.start, pw.start, ph.count, count_w, k, len(ph.taps), len(starts), len(self.rows),
                        len(self.offsets),
                    )
                )  # fmt: skip
                seen = [(self.w.seen(count_w, shift), index) for index, shift in enumerate(starts)]
                seen.sort(key=lambda each: each[0][0] - each[0][1])
                for (tap_h,), shift_h in ph.taps:
                    for columns, index in seen:
                        self.columns.append(columns)
                        at = shift_h * row + starts[index] * pixel
                        self.offsets.append((at, (len(self.order) + index) * c * nr))
                    for taps_w, _ in pw.taps:
                        self.order.append([tap_h * self.kernel_w + t if t >= 0 else -1 for t in taps_w])
                    self.rows.append(self.h.seen(ph.count, shift_h))

    def table(self) -> Table:
        """What `order_all` found, in arrays."""
        rows, columns, offsets = (
            np.array(pairs or [(0, 0)], np.int64) for pairs in (self.rows, self.columns, self.offsets)
        )
        return Table(np.array(self.phases, np.int64), rows, columns, offsets.reshape(-1))


def pixels_as_one(axis: Axis, channels: int, lanes: int) -> int:
    """How many neighbouring pixels of `channels` channels are best computed as one.

    Together they fill the vectors, but each now pays for the taps of all. 3x3 by 3 channels, 8 lanes: two pixels take
    4 taps and one vector, where they took 3 of each.
    """
    if len(axis.phases) != axis.step:
        return 1
    wide = [p for p in range(axis.step, 2 * lanes // channels + 1, axis.step) if 1 < p <= axis.count * axis.step]
    best = min([1, *wide], key=lambda pixels: vectors(axis, channels, lanes, pixels))
    return best if vectors(axis, channels, lanes, best) < 0.8 * vectors(axis, channels, lanes) else 1


def vectors(axis: Axis, channels: int, lanes: int, pixels: int = 1, tap_by_tap: bool = False) -> float:
    """Vectors multiplied for a row of y, one row of taps and one channel of x, with `pixels` computed as one."""
    wide = widen(axis, pixels) if pixels > 1 else axis
    taps = wide.products if tap_by_tap else sum(len(phase.taps) * phase.count for phase in wide.phases)
    count = -(-pixels * channels // lanes)
    return taps * (count if count > 1 else 1.25)  # one vector alone waits for its broadcasts: 81 of 101 GFLOP/s


def _rows_of_a_band(h: Axis, all_rows: int, rows: int, row_bytes: int) -> int:
    """Rows of a phase computed together: as the cache and the number of tasks allow, all bands about the same."""
    halo = h.high - h.low + 1 - h.scale
    band = max(1, (BAND_BYTES // row_bytes - halo) // h.scale)
    band = min(band, max(1, -(-all_rows // TASKS)))
    return -(-rows // -(-rows // min(band, rows)))
