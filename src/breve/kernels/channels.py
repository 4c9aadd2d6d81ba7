"""Statistics of channels, and what is computed with them, on contiguous (groups, rows, channels) arrays.

BatchNorm over (N, H, W, C) is one group of N H W rows; per-image statistics are N groups of H W rows. Coefficients and
statistics are (groups, channels). Sums are taken over blocks of rows in the arrays' own precision, then over blocks in
float64 and in order: as exact as need be, and the same on any number of threads.

A kernel that may work in place (y and x one array) copies x to `kept` first, unless that has no elements.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from breve.kernels.threads import inline, kernel

BLOCK_SIZE = 16384  # elements: two blocks of float32 fit in 128 KB of second-level cache
LEAST_ROWS, MOST_ROWS = 32, 512  # fewer are not worth their sums; more would cost sums in float32 their last digits


@inline
def _blocks(rows, channels):
    """Rows of a block, and how many blocks there are."""
    block = max(LEAST_ROWS, min(MOST_ROWS, BLOCK_SIZE // max(1, channels)))
    return block, (rows + block - 1) // block


@inline
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
    means = np.zeros((groups, blocks, channels), x.dtype)
    squares = np.zeros((groups, blocks, channels), x.dtype)
    for unit in prange(groups * blocks):
        g = unit // blocks
        b = unit - g * blocks
        first, end = b * block, min(b * block + block, rows)
        for r in range(first, end):
            for c in range(channels):
                means[g, b, c] += x[g, r, c]
        for c in range(channels):
            means[g, b, c] /= end - first
        for r in range(first, end):
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


@kernel
def normalise(x, mean, gain, shift, y, kept):
    """y = (x - mean) gain + shift; y and x may be one array."""
    groups, rows, channels = x.shape
    keeps = kept.size > 0
    for row in prange(groups * rows):
        g = row // rows
        r = row - g * rows
        if keeps:
            for c in range(channels):
                kept[g, r, c] = x[g, r, c]
        for c in range(channels):
            y[g, r, c] = (x[g, r, c] - mean[g, c]) * gain[g, c] + shift[g, c]


@kernel
def normalise_sums(dy, x, mean, gain, sum_dy, sum_dy_z):
    """The sums over rows of dy, and of dy z, where z = (x - mean) gain."""
    groups, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    plain = np.zeros((groups, blocks, channels), x.dtype)
    weighted = np.zeros((groups, blocks, channels), x.dtype)
    for unit in prange(groups * blocks):
        g = unit // blocks
        b = unit - g * blocks
        for r in range(b * block, min(b * block + block, rows)):
            for c in range(channels):
                plain[g, b, c] += dy[g, r, c]
                weighted[g, b, c] += dy[g, r, c] * ((x[g, r, c] - mean[g, c]) * gain[g, c])
    _add_blocks(plain, sum_dy)
    _add_blocks(weighted, sum_dy_z)


@kernel
def normalise_backward(dy, x, mean, offset, slope, gain, dx):
    """dx = (dy - offset - (x - mean) slope) gain; dx and dy may be one array."""
    groups, rows, channels = x.shape
    for row in prange(groups * rows):
        g = row // rows
        r = row - g * rows
        for c in range(channels):
            dx[g, r, c] = (dy[g, r, c] - offset[g, c] - (x[g, r, c] - mean[g, c]) * slope[g, c]) * gain[g, c]


@kernel
def scale_backward(dy, x, factor, dx, sum_dy, sum_dy_x):
    """dx = factor dy, and the sums over rows of dy and of dy x; dx and dy may be one array."""
    groups, rows, channels = x.shape
    block, blocks = _blocks(rows, channels)
    plain = np.zeros((groups, blocks, channels), x.dtype)
    weighted = np.zeros((groups, blocks, channels), x.dtype)
    for unit in prange(groups * blocks):
        g = unit // blocks
        b = unit - g * blocks
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
    negative = np.zeros((groups, blocks, channels), x.dtype)
    for unit in prange(groups * blocks):
        g = unit // blocks
        b = unit - g * blocks
        for r in range(b * block, min(b * block + block, rows)):
            for c in range(channels):
                is_positive = x[g, r, c] > 0
                negative[g, b, c] += 0 if is_positive else dy[g, r, c] * x[g, r, c]
                dx[g, r, c] = dy[g, r, c] if is_positive else slope[g, c] * dy[g, r, c]
    _add_blocks(negative, sum_negative)
