"""Local response normalisation on contiguous (rows, channels) arrays: s = k + alpha times a window's mean square.

The window's sums `s` are worked out anew in backward: reading them from memory would take longer.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from breve.kernels.threads import inline, kernel

BLOCK_ROWS = 16  # rows that one thread takes at a time, with scratch of its own


@inline
def _window_sums(values, size, offset, scale, sums):
    """sums[c] = offset + scale * (values[c] + ... + values[c + size - 1]); `values` has size - 1 more elements."""
    for c in range(sums.size):
        sums[c] = values[c]
    for t in range(1, size):
        for c in range(sums.size):
            sums[c] += values[c + t]
    for c in range(sums.size):
        sums[c] = offset + scale * sums[c]


@inline
def _inverse_powers(s, beta, powers):
    """powers = s ** -beta; by roots for 0.75, which nearly every net uses, as they are ten times as fast."""
    if beta == 0.75:
        for c in range(s.size):
            root = math.sqrt(s[c])
            powers[c] = 1 / (root * math.sqrt(root))
    else:
        for c in range(s.size):
            powers[c] = s[c] ** -beta


@kernel
def inverse_powers(s, beta, powers):
    """powers = s ** -beta, on one-dimensional arrays."""
    blocks = (s.size + 4095) // 4096
    for b in prange(blocks):
        end = min(b * 4096 + 4096, s.size)
        _inverse_powers(s[b * 4096 : end], beta, powers[b * 4096 : end])


@kernel
def across_channels(x, size, alpha, beta, k, y):
    """y = x s ** -beta, s = k + alpha / size times the sum of x ** 2 over `size` channels about this one."""
    rows, channels = x.shape
    half = size // 2
    for b in prange((rows + BLOCK_ROWS - 1) // BLOCK_ROWS):
        squares = np.zeros(channels + size - 1, x.dtype)
        s = np.empty(channels, x.dtype)
        powers = np.empty(channels, x.dtype)
        for r in range(b * BLOCK_ROWS, min(b * BLOCK_ROWS + BLOCK_ROWS, rows)):
            for c in range(channels):
                squares[half + c] = x[r, c] * x[r, c]
            _window_sums(squares, size, k, alpha / x.dtype.type(size), s)
            _inverse_powers(s, beta, powers)
            for c in range(channels):
                y[r, c] = x[r, c] * powers[c]


@kernel
def across_channels_backward(dy, x, size, alpha, beta, k, dx):
    """dx = dy s ** -beta - 2 alpha beta / size x times the sum of dy x s ** (-beta - 1) over the same channels."""
    rows, channels = x.shape
    half = size // 2
    share = alpha / x.dtype.type(size)
    for b in prange((rows + BLOCK_ROWS - 1) // BLOCK_ROWS):
        squares = np.zeros(channels + size - 1, x.dtype)
        products = np.zeros(channels + size - 1, x.dtype)
        s = np.empty(channels, x.dtype)
        powers = np.empty(channels, x.dtype)
        for r in range(b * BLOCK_ROWS, min(b * BLOCK_ROWS + BLOCK_ROWS, rows)):
            for c in range(channels):
                squares[half + c] = x[r, c] * x[r, c]
            _window_sums(squares, size, k, share, s)
            _inverse_powers(s, beta, powers)
            for c in range(channels):
                products[half + c] = dy[r, c] * x[r, c] * powers[c] / s[c]
            _window_sums(products, size, x.dtype.type(0), -2 * beta * share, s)
            for c in range(channels):
                dx[r, c] = dy[r, c] * powers[c] + x[r, c] * s[c]
