"""Element-wise kernels on flat arrays: memory order is nothing to them."""

from __future__ import annotations

from numba import prange

from breve.kernels.threads import kernel


@kernel
def relu(x, slope, y):
    """y = x if x > 0 else slope x; x and y may be one array."""
    for i in prange(x.size):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


@kernel
def relu_backward(x, dy, slope, dx):
    """dx = dy if x > 0 else slope dy; dy and dx may be one array."""
    for i in prange(x.size):
        dx[i] = dy[i] if x[i] > 0 else slope * dy[i]
