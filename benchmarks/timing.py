"""Times that can be compared: medians, and the peak of the machine they were taken on."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numba import prange

from breve.kernels import microkernel
from breve.kernels.threads import get_num_threads, kernel

QUIET_SECONDS = 0.02  # threads of the library measured before may spin for a while


def median_ms(run: Callable[[], object], runs: int = 7, budget_s: float = 0.6) -> float:
    """Median time of a call in milliseconds, after one to warm up; from 3 runs on, up to `runs` within the budget."""
    return float(np.median(times_ms(run, runs, budget_s)))


def times_ms(run: Callable[[], object], runs: int, budget_s: float) -> list[float]:
    """Times of calls in milliseconds, after one to warm up."""
    run()
    time.sleep(QUIET_SECONDS)
    times: list[float] = []
    while len(times) < 3 or (len(times) < runs and sum(times) < 1e3 * budget_s):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


@kernel
def _multiply(address, rows, columns, depth, repeats, a, b, c, offsets, threads):
    for thread in prange(threads):
        for _ in range(repeats):
            microkernel.call(
                address, rows, columns, depth, 1, a, thread * a.shape[1], depth, 1, b, thread * b.shape[1], columns,
                depth * columns, c, thread * c.shape[1], columns, offsets, 0, b, 0, 0,
            )  # fmt: skip


def peak_gflops(dtype: type = np.float32) -> float:
    """GFLOP/s of all threads when every operand lies in the first-level cache: what the micro-kernel can reach."""
    rows, columns, depth, repeats = 4 * microkernel.tile_rows(), microkernel.tile_columns(dtype), 128, 2000
    threads = get_num_threads()
    a, b, c = (np.ones((threads, size), dtype) for size in (rows * depth, depth * columns, rows * columns))
    arguments = (
        microkernel.brgemm_address(dtype),
        rows,
        columns,
        depth,
        repeats,
        a,
        b,
        c,
        np.zeros(2, np.int64),
        threads,
    )
    time_ms = min(times_ms(lambda: _multiply(*arguments), runs=20, budget_s=1))
    return 2 * rows * columns * depth * repeats * threads / time_ms / 1e6
