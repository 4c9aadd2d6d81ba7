"""Update rules, each in one pass over memory: gradient scaling, regularisation, history, update.

All arrays are contiguous, one-dimensional, of one length and dtype; scalars are of it too. Every rule first forms

    g = scale * diff + l2 * data + l1 * sign(data)

then moves its history, writes the update into `diff` (what Caffe leaves there) and subtracts it from `data`. An element
depends on nothing but itself, so the threads' shares do not show in the result.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from breve.kernels.threads import inline, kernel

SUM_BLOCK = 4096  # elements a partial sum covers: cut by the problem, so the sum is the same on any number of threads


@inline
def _gradient(diff, data, scale, l2, l1):
    return scale * diff + l2 * data + l1 * np.sign(data)


@kernel
def sgd(data, diff, history, scale, l2, l1, rate, momentum):
    """h = momentum h + rate g; update h."""
    for i in prange(data.size):
        g = _gradient(diff[i], data[i], scale, l2, l1)
        update = rate * g + momentum * history[i]
        history[i] = update
        diff[i] = update
        data[i] -= update


@kernel
def nesterov(data, diff, history, scale, l2, l1, rate, momentum, one_plus_momentum):
    """h' = momentum h + rate g; update (1 + momentum) h' - momentum h."""
    for i in prange(data.size):
        g = _gradient(diff[i], data[i], scale, l2, l1)
        before = history[i]
        history[i] = rate * g + momentum * before
        update = one_plus_momentum * history[i] - momentum * before
        diff[i] = update
        data[i] -= update


@kernel
def adagrad(data, diff, history, scale, l2, l1, rate, delta):
    """h = h + g^2; update rate g / (sqrt(h) + delta)."""
    for i in prange(data.size):
        g = _gradient(diff[i], data[i], scale, l2, l1)
        history[i] += g * g
        update = rate * (g / (np.sqrt(history[i]) + delta))
        diff[i] = update
        data[i] -= update


@kernel
def rmsprop(data, diff, history, scale, l2, l1, rate, decay, one_minus_decay, delta):
    """h = decay h + (1 - decay) g^2; update rate g / (sqrt(h) + delta)."""
    for i in prange(data.size):
        g = _gradient(diff[i], data[i], scale, l2, l1)
        history[i] = one_minus_decay * (g * g) + decay * history[i]
        update = rate * (g / (np.sqrt(history[i]) + delta))
        diff[i] = update
        data[i] -= update


@kernel
def adadelta(data, diff, history, update_history, scale, l2, l1, rate, momentum, one_minus_momentum, delta):
    """h = momentum h + (1 - momentum) g^2; s = g sqrt((u + delta) / (h + delta)); u likewise of s^2; update rate s."""
    for i in prange(data.size):
        g = _gradient(diff[i], data[i], scale, l2, l1)
        history[i] = one_minus_momentum * (g * g) + momentum * history[i]
        step = g * np.sqrt((update_history[i] + delta) / (history[i] + delta))
        update_history[i] = one_minus_momentum * (step * step) + momentum * update_history[i]
        update = rate * step
        diff[i] = update
        data[i] -= update


@kernel
def adam(data, diff, mean, square, scale, l2, l1, rate, beta1, one_minus_beta1, beta2, one_minus_beta2, delta):
    """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; update rate m / (sqrt(v) + delta)."""
    for i in prange(data.size):
        g = _gradient(diff[i], data[i], scale, l2, l1)
        mean[i] = one_minus_beta1 * g + beta1 * mean[i]
        square[i] = one_minus_beta2 * (g * g) + beta2 * square[i]
        update = rate * (mean[i] / (np.sqrt(square[i]) + delta))
        diff[i] = update
        data[i] -= update


@inline
def _sum_of_squares(x):
    """In four interleaved sums: one alone would wait for each addition to end before the next."""
    s0 = s1 = s2 = s3 = 0.0
    whole = x.size - x.size % 4
    for i in range(0, whole, 4):
        s0 += np.float64(x[i]) * np.float64(x[i])
        s1 += np.float64(x[i + 1]) * np.float64(x[i + 1])
        s2 += np.float64(x[i + 2]) * np.float64(x[i + 2])
        s3 += np.float64(x[i + 3]) * np.float64(x[i + 3])
    for i in range(whole, x.size):
        s0 += np.float64(x[i]) * np.float64(x[i])
    return s0 + s1 + s2 + s3


@kernel
def _block_sums_of_squares(x, sums):
    for block in prange(sums.size):
        sums[block] = _sum_of_squares(x[block * SUM_BLOCK : (block + 1) * SUM_BLOCK])


def sum_of_squares(x: np.ndarray) -> float:
    """sum_i x_i^2 of a contiguous 1-d array, in float64, the same on any number of threads."""
    sums = np.empty(-(-x.size // SUM_BLOCK))
    _block_sums_of_squares(x, sums)
    return float(sums.sum())
