"""Statistics of channels, and what is computed with them, on contiguous (groups, rows, channels) arrays.

BatchNorm over (N, H, W, C) is one group of N H W rows; per-image statistics are N groups of H W rows. Coefficients and
statistics are (groups, channels). Sums are taken over blocks of rows in the arrays' own precision, then over blocks in
float64 and in order: as exact as need be, and the same on any number of threads.

A kernel that may work in place (y and x one array) copies x to `kept` first, unless that has no elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import prange

from breve.kernels import microkernel
from breve.kernels.microkernel.launch import launch
from breve.kernels.streaming import cache_bytes, stream_flag
from breve.kernels.threads import inline, inline_allocating, kernel, launching, threads_for

BLOCK_SIZE = 16384  # elements: two blocks of float32 fit in 128 KB of second-level cache
LEAST_ROWS, MOST_ROWS = 32, 512  # fewer are not worth their sums; more would cost sums in float32 their last digits


@inline
def _blocks(rows, channels):
    """Rows of a block, and how many blocks there are."""
    block = max(LEAST_ROWS, min(MOST_ROWS, BLOCK_SIZE // max(1, channels)))
    return block, (rows + block - 1) // block


@inline_allocating
def _add_blocks(partial, total):
    """total (groups, channels) = the sum over blocks of partial (groups, blocks, channels), in float64."""
    groups, blocks, channels = partial.shape
    for g in range(groups):
        exact = np.zeros(channels)
        for b in range(blocks):
            for c in range(channels):
                exact[c] += partial[g, b, c]
        for c in range(channels):
            total[g, c] = exact[c]


def moments(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    """The mean and the variance (divided by rows) of each channel.

    Each block sums the squares about its own mean; blocks are joined by T. Chan's formula.
    """
    code = microkernel.normalisation_address(x.dtype, "sum"), microkernel.normalisation_address(x.dtype, "squares")
    _moments(code, x, mean, variance, threads_for(8 * x.size))


@launching
def _moments(code, x, mean, variance, workers):
    groups, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    means = np.empty((groups, blocks, channels), x.dtype)
    squares = np.empty((groups, blocks, channels), x.dtype)
    launch(_block_moments, groups * blocks, workers, (code, x, means, squares))
    for g in range(groups):
        total = np.zeros(channels)
        spread = np.zeros(channels)
        for b in range(blocks):
            for c in range(channels):
                total[c] += means[g, b, c] * min(block, rows - b * block)
        for b in range(blocks):
            for c in range(channels):
                off = means[g, b, c] - total[c] / rows
                spread[c] += squares[g, b, c] + min(block, rows - b * block) * off * off
        for c in range(channels):
            mean[g, c] = total[c] / rows
            variance[g, c] = spread[c] / rows


@inline
def _block_moments(unit, worker, code, x, means, squares):
    _, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    g, first = unit // blocks, unit % blocks * block
    count, at, out = min(block, rows - first), (g * rows + first) * channels, unit * channels
    microkernel.call(code[0], count, channels, x, at, x, 0, x, 0, 0, means, out, means, 0, 0)
    for c in range(channels):
        means[g, unit % blocks, c] /= count
    microkernel.call(code[1], count, channels, x, at, x, 0, means, out, 0, squares, out, squares, 0, 0)


class Rule(NamedTuple):
    """y = v if v > 0 else slope v, where v = (x - mean) gain + shift; and z = (x - mean) inverse. `slope` is a scalar.

    BatchNorm, Scale and ReLU in one sweep: gain = inverse * factor; a factor of 1, a shift of 0 and a slope of 1 leave
    them out.
    """

    mean: np.ndarray
    inverse: np.ndarray
    factor: np.ndarray
    gain: np.ndarray
    shift: np.ndarray
    slope: np.floating

    def then(self, factor: np.ndarray | None, shift: np.ndarray | None, slope: float = 1.0) -> Rule:
        """This plain rule with a factor, a shift and the slope of a rectified linear unit (coefficients or None)."""
        factor = self.factor if factor is None else self.factor * factor
        shift = self.shift if shift is None else self.shift + shift
        return Rule(self.mean, self.inverse, factor, self.inverse * factor, shift, self.slope.dtype.type(slope))

    def coefficients(self, *others: np.ndarray) -> np.ndarray:
        """Mean, gain, shift, slope and others, (4 or more, groups, channels): as `normalisation.py` reads them."""
        return np.stack([self.mean, self.gain, self.shift, np.full_like(self.mean, self.slope), *others])


def plain_rule(mean: np.ndarray, inverse: np.ndarray) -> Rule:
    """y = z: no factor, no shift, no unit."""
    return Rule(mean, inverse, np.ones_like(mean), inverse, np.zeros_like(mean), mean.dtype.type(1))


def normalise(x: np.ndarray, rule: Rule, y: np.ndarray, kept: np.ndarray) -> None:
    """y by the rule; y and x may be one array."""
    apart = not np.may_share_memory(x, y)  # else its lines are in the cache
    flags = microkernel.STREAM_FIRST if apart and _past_caches(x, y) else 0
    if kept.size:
        flags |= microkernel.SECOND | (microkernel.STREAM_SECOND if _past_caches(x, kept) else 0)
    _map("forward", x, x, rule, (), y, kept, flags)


def normalise_sums(dy: np.ndarray, x: np.ndarray, rule: Rule, sum_dv: np.ndarray, sum_dv_z: np.ndarray) -> None:
    """The sums over rows of dv, and of dv z, where dv = dy if v > 0 else slope dy."""
    code = microkernel.normalisation_address(x.dtype, "sums")
    _sums(code, x, dy, rule.coefficients(), sum_dv, sum_dv_z, threads_for(8 * x.size))
    sum_dv_z *= rule.inverse


@launching
def _sums(code, x, dy, coefficients, sum_dv, sum_dv_off, workers):
    groups, rows, channels = x.shape
    blocks = _blocks(rows, channels)[1]
    plain = np.empty((groups, blocks, channels), x.dtype)
    weighted = np.empty((groups, blocks, channels), x.dtype)
    launch(_block_sums, groups * blocks, workers, (code, x, dy, coefficients, plain, weighted))
    _add_blocks(plain, sum_dv)
    _add_blocks(weighted, sum_dv_off)


@inline
def _block_sums(unit, worker, code, x, dy, coefficients, plain, weighted):
    groups, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    g, first = unit // blocks, unit % blocks * block
    at, out = (g * rows + first) * channels, unit * channels
    microkernel.call(
        code, min(block, rows - first), channels, x, at, dy, at, coefficients, g * channels, groups * channels, plain,
        out, weighted, out, 0,
    )  # fmt: skip


def normalise_backward(
    dy: np.ndarray, x: np.ndarray, rule: Rule, offset: np.ndarray, tilt: np.ndarray, dx: np.ndarray, dz: np.ndarray
) -> None:
    """dx = (dv - offset - (x - mean) tilt) gain, where dv = dy if v > 0 else slope dy; and dz = dv factor.

    dx or dz may be dy itself; dz is not written where it has no elements.
    """
    _map("backward", x, dy, rule, (offset, tilt, rule.factor), dx, dz, microkernel.SECOND if dz.size else 0)


def _map(
    kind: str, x: np.ndarray, dy: np.ndarray, rule: Rule, others: Sequence[np.ndarray], first: np.ndarray,
    second: np.ndarray, flags: int,
) -> None:  # fmt: skip
    """Both outputs, block by block of rows."""
    code, block = microkernel.normalisation_address(x.dtype, kind), max(1, BLOCK_SIZE // max(1, x.shape[2]))
    _each_block(code, block, x, dy, rule.coefficients(*others), first, second, flags, threads_for(8 * x.size))


@launching
def _each_block(code, block, x, dy, coefficients, first, second, flags, workers):
    tasks = x.shape[0] * ((x.shape[1] + block - 1) // block)
    launch(_block, tasks, workers, (code, block, x, dy, coefficients, first, second, flags))


@inline
def _block(unit, worker, code, block, x, dy, coefficients, first, second, flags):
    groups, rows, channels = x.shape
    blocks = (rows + block - 1) // block
    g, row = unit // blocks, unit % blocks * block
    at = (g * rows + row) * channels
    microkernel.call(
        code, min(block, rows - row), channels, x, at, dy, at, coefficients, g * channels, groups * channels, first, at,
        second, at, flags,
    )  # fmt: skip


def _past_caches(x: np.ndarray, out: np.ndarray) -> bool:
    """Whether `out` is better written past the caches: where both would fit it took half as long again."""
    return x.nbytes + out.nbytes > cache_bytes() and stream_flag(x, out) != 0


@kernel
def scale_backward(dy, x, factor, dx, sum_dy, sum_dy_x):
    """dx = factor dy, and the sums over rows of dy and of dy x; dx and dy may be one array."""
    groups, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    plain = np.empty((groups, blocks, channels), x.dtype)
    weighted = np.empty((groups, blocks, channels), x.dtype)
    for unit in prange(groups * blocks):
        g = unit // blocks
        b = unit - g * blocks
        for c in range(channels):
            plain[g, b, c] = 0
            weighted[g, b, c] = 0
        for r in range(b * block, min(b * block + block, rows)):
            for c in range(channels):
                plain[g, b, c] += dy[g, r, c]
                weighted[g, b, c] += dy[g, r, c] * x[g, r, c]
                dx[g, r, c] = factor[g, c] * dy[g, r, c]
    _add_blocks(plain, sum_dy)
    _add_blocks(weighted, sum_dy_x)


@kernel
def prelu(x, slope, y, kept):
    """y = x if x > 0 else slope x; y and x may be one array."""
    groups, rows, channels = x.shape
    keeps = kept.size > 0
    for row in prange(groups * rows):
        g = row // rows
        r = row - g * rows
        if keeps:
            for c in range(channels):
                kept[g, r, c] = x[g, r, c]
        for c in range(channels):
            y[g, r, c] = x[g, r, c] if x[g, r, c] > 0 else slope[g, c] * x[g, r, c]


@kernel
def prelu_backward(dy, x, slope, dx, sum_negative):
    """dx = dy if x > 0 else slope dy, and the sum over rows of dy x where x <= 0; dx and dy may be one array."""
    groups, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    negative = np.empty((groups, blocks, channels), x.dtype)
    for unit in prange(groups * blocks):
        g = unit // blocks
        b = unit - g * blocks
        for c in range(channels):
            negative[g, b, c] = 0
        for r in range(b * block, min(b * block + block, rows)):
            for c in range(channels):
                is_positive = x[g, r, c] > 0
                negative[g, b, c] += 0 if is_positive else dy[g, r, c] * x[g, r, c]
                dx[g, r, c] = dy[g, r, c] if is_positive else slope[g, c] * dy[g, r, c]
    _add_blocks(negative, sum_negative)
