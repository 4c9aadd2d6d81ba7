"""Statistics of channels, and what is computed with them, on contiguous (groups, rows, channels) arrays.

BatchNorm over (N, H, W, C) is one group of N H W rows; per-image statistics are N groups of H W rows. Coefficients and
statistics are (groups, channels). Sums are taken over blocks of rows in the arrays' own precision, then over blocks in
float64 and in order: as exact as need be, and the same on any number of threads.

A kernel that may work in place (y and x one array) copies x to `kept` first, unless that has no elements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from breve.kernels.threads import inline, inline_allocating, kernel

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


@kernel
def moments(x, mean, variance):
    """The mean and the variance (divided by rows) of each channel.

    Each block sums the squares about its own mean; blocks are joined by T. Chan's formula.
    """
    groups, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    means = np.empty((groups, blocks, channels), x.dtype)
    squares = np.empty((groups, blocks, channels), x.dtype)
    for unit in prange(groups * blocks):
        g = unit // blocks
        b = unit - g * blocks
        first, end = b * block, min(b * block + block, rows)
        for c in range(channels):
            means[g, b, c] = 0
            squares[g, b, c] = 0
        whole = end - (end - first) % 4  # four rows at a time: sums wait in memory, and would be half of all accesses
        for r in range(first, whole, 4):
            for c in range(channels):
                means[g, b, c] += (x[g, r, c] + x[g, r + 1, c]) + (x[g, r + 2, c] + x[g, r + 3, c])
        for r in range(whole, end):
            for c in range(channels):
                means[g, b, c] += x[g, r, c]
        for c in range(channels):
            means[g, b, c] /= end - first
        for r in range(first, whole, 4):
            for c in range(channels):
                mean_c = means[g, b, c]
                squares[g, b, c] += ((x[g, r, c] - mean_c) ** 2 + (x[g, r + 1, c] - mean_c) ** 2) + (
                    (x[g, r + 2, c] - mean_c) ** 2 + (x[g, r + 3, c] - mean_c) ** 2
                )
        for r in range(whole, end):
            for c in range(channels):
                squares[g, b, c] += (x[g, r, c] - means[g, b, c]) ** 2
    for g in prange(groups):
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


def plain_rule(mean: np.ndarray, inverse: np.ndarray) -> Rule:
    """y = z: no factor, no shift, no unit."""
    return Rule(mean, inverse, np.ones_like(mean), inverse, np.zeros_like(mean), mean.dtype.type(1))


@kernel
def normalise(x, rule, y, kept):
    """y by the rule; y and x may be one array."""
    groups, rows, channels = x.shape
    keeps = kept.size > 0
    for row in prange(groups * rows):
        g = row // rows
        r = row - g * rows
        if keeps:
            for c in range(channels):
                kept[g, r, c] = x[g, r, c]
        for c in range(channels):
            v = (x[g, r, c] - rule.mean[g, c]) * rule.gain[g, c] + rule.shift[g, c]
            y[g, r, c] = v if v > 0 else rule.slope * v


@kernel
def normalise_sums(dy, x, rule, sum_dv, sum_dv_z):
    """The sums over rows of dv, and of dv z, where dv = dy if v > 0 else slope dy."""
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
                off = x[g, r, c] - rule.mean[g, c]
                dv = dy[g, r, c] if off * rule.gain[g, c] + rule.shift[g, c] > 0 else rule.slope * dy[g, r, c]
                plain[g, b, c] += dv
                weighted[g, b, c] += dv * (off * rule.inverse[g, c])
    _add_blocks(plain, sum_dv)
    _add_blocks(weighted, sum_dv_z)


@kernel
def normalise_backward(dy, x, rule, offset, tilt, dx, dz):
    """dx = (dv - offset - (x - mean) tilt) gain, where dv = dy if v > 0 else slope dy; and dz = dv factor.

    dx or dz may be dy itself; dz is not written where it has no elements.
    """
    groups, rows, channels = x.shape
    writes_dz = dz.size > 0
    for row in prange(groups * rows):
        g = row // rows
        r = row - g * rows
        for c in range(channels):
            off = x[g, r, c] - rule.mean[g, c]
            dv = dy[g, r, c] if off * rule.gain[g, c] + rule.shift[g, c] > 0 else rule.slope * dy[g, r, c]
            dx[g, r, c] = (dv - offset[g, c] - off * tilt[g, c]) * rule.gain[g, c]
            if writes_dz:
                dz[g, r, c] = dv * rule.factor[g, c]


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
