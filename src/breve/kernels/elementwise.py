"""Element-wise kernels on flat arrays, to which memory order is nothing, and copies of columns."""

from __future__ import annotations

import numpy as np
from numba import prange

from breve.kernels.threads import inline, kernel


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


@kernel
def relu6(x, slope, y):
    """y = min(x, 6) if x > 0 else slope x; x and y may be one array."""
    six = x.dtype.type(6)
    for i in prange(x.size):
        y[i] = (x[i] if x[i] < six else six) if x[i] > 0 else slope * x[i]


@kernel
def relu6_backward(x, dy, slope, dx):
    """dx = dy if 0 < x < 6, slope dy if x <= 0, else 0; dy and dx may be one array."""
    zero, six = x.dtype.type(0), x.dtype.type(6)
    for i in prange(x.size):
        dx[i] = (dy[i] if x[i] < six else zero) if x[i] > 0 else slope * dy[i]


@kernel
def hard_swish(x, y):
    """y = x min(max(x + 3, 0), 6) / 6; x and y may be one array."""
    zero, three, six = x.dtype.type(0), x.dtype.type(3), x.dtype.type(6)
    for i in prange(x.size):
        y[i] = x[i] * min(max(x[i] + three, zero), six) / six


@kernel
def hard_swish_backward(x, dy, dx):
    """dx = dy if x >= 3, dy (2 x + 3) / 6 if -3 < x < 3, else 0; dy and dx may be one array."""
    zero, one, three, six = x.dtype.type(0), x.dtype.type(1), x.dtype.type(3), x.dtype.type(6)
    for i in prange(x.size):
        slope = one if x[i] >= three else (x[i] + x[i] + three) / six
        dx[i] = dy[i] * (slope if x[i] > -three else zero)


@inline
def _mixed(h):
    """A 32-bit integer with all its bits mixed: the hash lowbias32 of C. Wellons, "Prospecting for hash functions"."""
    h = np.uint32(h ^ (h >> np.uint32(16)))
    h = np.uint32(h * np.uint32(0x7FEB352D))
    h = np.uint32(h ^ (h >> np.uint32(15)))
    h = np.uint32(h * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@kernel
def draw_mask(key, ratio, mask):
    """mask = 0 with probability `ratio`, else 1: a hash of position and key (two uint32), the same on any threads."""
    threshold = np.uint32(np.round(ratio * 4294967296.0))
    for i in prange(mask.size):
        mask[i] = _mixed(_mixed(np.uint32(i) ^ key[0]) ^ key[1]) >= threshold


@kernel
def apply_mask(x, mask, scale, y):
    """y = scale x mask; x and y may be one array."""
    for i in prange(x.size):
        y[i] = x[i] * scale if mask[i] else x.dtype.type(0)


@kernel
def weighted_sum(a, weight_a, b, weight_b, y):
    """y = weight_a a + weight_b b; y may be one of them."""
    for i in prange(y.size):
        y[i] = weight_a * a[i] + weight_b * b[i]


@kernel
def rectified_sum(a, weight_a, b, weight_b, slope, y):
    """y = v if v > 0 else slope v, where v = weight_a a + weight_b b; y may be one of them."""
    for i in prange(y.size):
        v = weight_a * a[i] + weight_b * b[i]
        y[i] = v if v > 0 else slope * v


@kernel
def rectified_sum_backward(y, dy, slope, weight_a, weight_b, da, db):
    """dv = dy if y > 0 else slope dy, in place of dy; da = weight_a dv; db = weight_b dv."""
    for i in prange(y.size):
        dv = dy[i] if y[i] > 0 else slope * dy[i]
        dy[i] = dv
        da[i] = weight_a * dv
        db[i] = weight_b * dv


@kernel
def scaled(x, weight, y):
    """y = weight x; x and y may be one array."""
    for i in prange(y.size):
        y[i] = weight * x[i]


@kernel
def insert_columns(part, begin, whole):
    """whole[:, begin : begin + columns of part] = part."""
    columns = part.shape[1]
    for i in prange(part.shape[0]):
        row = whole[i, begin : begin + columns]
        for j in range(columns):
            row[j] = part[i, j]


@kernel
def extract_columns(part, begin, whole):
    """part = whole[:, begin : begin + columns of part]."""
    columns = part.shape[1]
    for i in prange(part.shape[0]):
        row = whole[i, begin : begin + columns]
        for j in range(columns):
            part[i, j] = row[j]


@kernel
def swap_axes(x, y):
    """y[p, j, i, s] = x[p, i, j, s]."""
    for p in prange(x.shape[0]):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                for s in range(x.shape[3]):
                    y[p, j, i, s] = x[p, i, j, s]
