"""The gradient of a bias: the top's gradient summed over images and pixels, as a product of a row of ones by it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.microkernel import call
from breve.kernels.microkernel.launch import launch
from breve.kernels.scratch import scratch
from breve.kernels.threads import inline, launching, threads_for

ROWS = 512  # pixels summed in one call; their sums are added up in float64, so errors do not grow with the batch


class PixelSum(NamedTuple):
    """What `sum_pixels` needs."""

    gemm: int
    copy: int
    nr: int
    one: np.ndarray
    offsets: np.ndarray
    tail: np.ndarray
    """Room of each worker for the last pixels: an array may end at the end of a page."""


def plan_sum(dtype: np.dtype, channels: int, pixels: int, workers: int) -> PixelSum:
    """For calls of `sum_pixels` with up to so many pixels."""
    nr = microkernel.tile_columns(dtype)
    return PixelSum(
        microkernel.brgemm_address(dtype), microkernel.copy_address(dtype), nr, np.ones(1, dtype),
        np.zeros(2, np.int64), scratch("tail", workers * (channels * pixels + nr), dtype).reshape(workers, -1),
    )  # fmt: skip


@inline
def copies_tail(dy, start, size, worker, p):
    """Whether `size` numbers from `start` on cannot be read in whole vectors as they lie; then they are in the tail."""
    if start + size + p.nr <= dy.size:
        return False
    call(p.copy, 1, size, dy, start, 0, p.tail[worker], 0, 0)
    return True


@inline
def sum_pixels(dy, start, pixels, channels, sums, at, p):
    """sums[at + k] = the sum over pixels of dy[start + pixel channels + k], where whole vectors can be read."""
    call(
        p.gemm, 1, channels, pixels, 1, p.one, 0, 0, 0, dy, start, channels, p.nr, sums, at, 0, p.offsets, 0, p.one, 0,
        0,
    )  # fmt: skip


def add_bias_diff(top_diff: np.ndarray, bias_diff: np.ndarray) -> None:
    """bias_diff[k] += sum of top_diff[..., k]; `top_diff` has the channels last and is contiguous."""
    channels, dtype = bias_diff.size, top_diff.dtype
    sums = np.empty((-(-top_diff.size // (channels * ROWS)), channels), dtype)
    workers = threads_for(16 * top_diff.size)
    p = plan_sum(dtype, channels, ROWS, workers)
    _sum_all(top_diff.reshape(-1), channels, sums.reshape(-1), p, workers)
    bias_diff += sums.sum(0, dtype=np.float64).astype(dtype)


@launching
def _sum_all(dy, channels, sums, p, workers):
    launch(_sum_block, sums.size // channels, workers, (dy, channels, sums, p))


@inline
def _sum_block(block, worker, dy, channels, sums, p):
    first = block * ROWS * channels
    size, source = min(ROWS * channels, dy.size - first), dy
    if copies_tail(dy, first, size, worker, p):
        source, first = p.tail[worker], 0
    sum_pixels(source, first, size // channels, channels, sums, block * channels, p)
