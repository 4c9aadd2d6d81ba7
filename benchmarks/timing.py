"""Times that can be compared: medians, and the peak of the machine they were taken on."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numba import prange

from breve.kernels import microkernel
from breve.kernels.threads import get_num_threads, kernel

TURN_MS = 5.0  # threads of the library measured before may spin for a while


def median_ms(run: Callable[[], object], runs: int = 7, budget_s: float = 0.6) -> float:
    """Median time of a call in milliseconds, after one to warm up; from 3 runs on, up to `runs` within the budget."""
    run()
    times: list[float] = []
    while len(times) < 3 or (len(times) < runs and sum(times) < 1e3 * budget_s):
        times.append(_ms(run))
    return float(np.median(times))


def medians_ms(runs: dict[str, Callable[[], object]], rounds: int = 9, budget_s: float = 3.0) -> dict[str, float]:
    """Median times of calls that take turns, so that a slow spell of a shared machine meets them all.

    A turn is some time to warm up, when its threads run and those of the library before it have stopped spinning, then
    as much time of calls, of which the median counts. From 3 rounds on, up to `rounds` within the budget.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for number in range(rounds):
        if number >= 3 and time.perf_counter() - start > budget_s:
            break
        for name, run in runs.items():
            _calls_ms(run)
            times[name].append(float(np.median(_calls_ms(run))))
    return {name: float(np.median(values)) for name, values in times.items()}


def _calls_ms(run: Callable[[], object]) -> list[float]:
    """Times of calls for the length of a turn, of one at least."""
    times: list[float] = []
    while sum(times) < TURN_MS:
        times.append(_ms(run))
    return times


def _ms(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return (time.perf_counter() - begin) * 1e3


@kernel
def _multiply(address, rows, columns, depth, repeats, a, b, c, offsets, threads):
    for thread in prange(threads):
        for _ in range(repeats):
            microkernel.call(
                address, rows, columns, depth, 1, a, thread * a.shape[1], depth, 1, b, thread * b.shape[1], columns,
                depth * columns, c, thread * c.shape[1], columns, offsets, 0, b, 0, 0,
            )  # fmt: skip


def peak_loop(dtype: type = np.float32) -> tuple[Callable[[], object], float]:
    """A call that multiplies on all threads with every operand in the first-level cache, and its GFLOP.

    It is the speed that the micro-kernel can reach, on a shared machine at that moment.
    """
    rows, columns, depth, repeats = 4 * microkernel.tile_rows(), microkernel.tile_columns(dtype), 128, 2000
    threads = get_num_threads()
    a, b, c = (np.ones((threads, size), dtype) for size in (rows * depth, depth * columns, rows * columns))
    sizes = microkernel.brgemm_address(dtype), rows, columns, depth, repeats
    offsets = np.zeros(2, np.int64)
    return lambda: _multiply(*sizes, a, b, c, offsets, threads), 2e-9 * rows * columns * depth * repeats * threads
