"""Pixels of x that no output sees, where the stride is larger than the kernel: their gradient is zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.taps import backward_axis
from breve.kernels.microkernel import call
from breve.kernels.microkernel.launch import launch
from breve.kernels.streaming import stream_flag
from breve.kernels.threads import inline, launching, threads_for

COST = 16  # multiplications that take about as long as to clear an element


class Unseen:
    """Those of one convolution with two axes."""

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        h, w = backward_axis(geometry, 0), backward_axis(geometry, 1)
        self._rows = np.array([len(h.phases[row % h.step].taps) == 0 for row in range(geometry.in_shape[0])])
        starts = [(phase.start, phase.count) for phase in w.phases if not phase.taps]
        self._columns, self._step = np.array(starts, np.int64).reshape(-1, 2), w.step
        self._some = bool(self._rows.any() or starts)

    def clear(self, top_diff: np.ndarray, bottom_diff: np.ndarray) -> None:
        """Write zeros to them, past the caches where both arrays are large."""
        if not self._some:
            return
        flags, gemm = stream_flag(top_diff, bottom_diff), microkernel.brgemm_address(self._dtype)
        _, _, width, channels = bottom_diff.shape
        sizes = width, channels, self._step, gemm, flags
        threads = threads_for(COST * bottom_diff.size)
        clear_rows(bottom_diff.reshape(-1), self._rows, self._columns, sizes, np.zeros(2, np.int64), threads)


@launching
def clear_rows(x, rows, columns, sizes, offsets, workers):
    """A task is a row of an image."""
    launch(_clear_row, x.size // (sizes[0] * sizes[1]), workers, (x, rows, columns, sizes, offsets))


@inline
def _clear_row(row, worker, x, rows, columns, sizes, offsets):
    width, channels, step, gemm, flags = sizes
    start = row * width * channels
    if rows[row % rows.size]:
        _clear(x, start, width, channels, channels, gemm, flags, offsets)
        return
    for i in range(len(columns)):
        at = start + columns[i, 0] * channels
        _clear(x, at, columns[i, 1], channels, step * channels, gemm, flags, offsets)


@inline
def _clear(x, start, pixels, channels, pixel, gemm, flags, offsets):
    """A product of no terms."""
    call(gemm, pixels, channels, 0, 0, x, 0, 0, 0, x, 0, 0, 0, x, start, pixel, offsets, 0, x, 0, flags)
