"""The loops of Winograd's algorithm, around two kinds of generated code: transforms of a tile, and the GEMM.

Buffers, with p one of the n^2 points and a padded row of channels:

    v  (p, tile, c_pad)           transformed inputs: broadcast side of the GEMM
    m  (p, tile, k_pad)           products, before they are transformed back
    u  (group, p, panel, c, nr)   transformed weights: vector side; the weights' gradient before it is transformed back
    w  (p, panel, tile, nr)       transformed gradients of the top: vector side of the weights' gradient

A point begins a cache line further than a multiple of 4096 bytes could: its n^2 streams fall into different cache sets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.threads import inline, kernel


class Sizes(NamedTuple):
    """One correlation by tiles, from `in` to `out`."""

    in_h: int
    in_w: int
    in_channels: int
    out_h: int
    out_w: int
    out_channels: int
    pad_h: int
    pad_w: int
    group: int
    c: int
    """Channels of a group in `in`."""
    k: int
    """Channels of a group in `out`."""
    kernel: int
    m: int
    """Outputs of a tile along each axis."""
    n: int
    """Inputs of a tile along each axis: m + kernel - 1."""
    tiles_h: int
    tiles_w: int
    tiles: int
    """Tiles of all images."""
    block: int
    """Tiles that go through all stages together."""
    nr: int
    """Columns of a panel."""
    panels: int
    c_pad: int
    k_pad: int
    v_point: int
    m_point: int
    w_point: int
    """Distance between points in v, m and w."""
    u_point: int
    """Distance between points in u."""


class Code(NamedTuple):
    """Addresses of generated code."""

    gemm: int
    to_points: int
    """n x n inputs of a tile to n x n points."""
    from_points: int
    """n x n points to m x m outputs, with bias and ReLU."""
    weights_to_points: int
    """kernel x kernel weights to n x n points."""
    diff_to_points: int
    """m x m gradients of a tile to n x n points."""
    weights_from_points: int
    """n x n points to kernel x kernel weights."""


@kernel
def correlate(x, u, bias, relu, y, s, code, offsets, v, m, edge):
    """y = correlation of x with the transformed weights, plus bias; each thread takes blocks through all stages."""
    threads = v.shape[0]
    blocks = (s.tiles + s.block - 1) // s.block
    works = s.group * blocks
    for thread in prange(threads):
        for work in range(works * thread // threads, works * (thread + 1) // threads):
            group, first = work // blocks, work % blocks * s.block
            count = min(s.block, s.tiles - first)
            for t in range(count):
                image, row, col = _place(first + t, s)
                _to_points(
                    code.to_points, x, s.in_h, s.in_w, s.in_channels, group * s.c, s.c, s.n, image, row - s.pad_h,
                    col - s.pad_w, edge[thread], v[thread], t * s.c_pad, s.n * s.v_point, s.v_point, s.nr, s.nr,
                )  # fmt: skip
            for p in range(s.n * s.n):
                call(
                    code.gemm, count, s.k, s.c, 1, v[thread], p * s.v_point, s.c_pad, 1, u,
                    (group * s.n * s.n + p) * s.u_point, s.nr, s.c * s.nr, m[thread], p * s.m_point, s.k_pad,
                    offsets, 0, bias, 0, 0,
                )  # fmt: skip
            for t in range(count):
                _from_points(code.from_points, m[thread], t * s.k_pad, y, bias, relu, group, first + t, s, edge[thread])


@inline
def _place(tile, s):
    """Image of a tile, and the row and column of its first output."""
    in_image = tile % (s.tiles_h * s.tiles_w)
    return tile // (s.tiles_h * s.tiles_w), in_image // s.tiles_w * s.m, in_image % s.tiles_w * s.m


@inline
def _to_points(
    address, x, height, width, channels, first, count, size, image, row, col, edge, dst, d0, d_row, d_col, d_panel, nr
):
    """Transform `count` channels from `first` on of the size x size pixels at (row, col), zeros outside the image."""
    if row >= 0 and col >= 0 and row + size <= height and col + size <= width:
        x0 = ((image * height + row) * width + col) * channels + first
        call(address, x, x0, width * channels, channels, nr, dst, d0, d_row, d_col, d_panel, count, x, 0, 0)
        return
    for i in range(size):
        for j in range(size):
            at = (i * size + j) * count
            if 0 <= row + i < height and 0 <= col + j < width:
                x0 = ((image * height + row + i) * width + col + j) * channels + first
                for c in range(count):
                    edge[at + c] = x[x0 + c]
            else:
                edge[at : at + count] = 0
    call(address, edge, 0, size * count, count, nr, dst, d0, d_row, d_col, d_panel, count, x, 0, 0)


@inline
def _from_points(address, m, m0, y, bias, relu, group, tile, s, edge):
    """Transform one tile back, and write what of it lies inside the image."""
    image, row, col = _place(tile, s)
    first = group * s.k
    y0 = ((image * s.out_h + row) * s.out_w + col) * s.out_channels + first
    point_row = s.n * s.m_point
    if row + s.m <= s.out_h and col + s.m <= s.out_w:
        y_row = s.out_w * s.out_channels
        call(address, m, m0, point_row, s.m_point, s.nr, y, y0, y_row, s.out_channels, s.nr, s.k, bias, first, relu)
        return
    call(address, m, m0, point_row, s.m_point, s.nr, edge, 0, s.m * s.k, s.k, s.nr, s.k, bias, first, relu)
    for i in range(min(s.m, s.out_h - row)):
        for j in range(min(s.m, s.out_w - col)):
            at = y0 + (i * s.out_w + j) * s.out_channels
            for k in range(s.k):
                y[at + k] = edge[(i * s.m + j) * s.k + k]


@kernel
def pack(weight, k_stride, c_stride, first_tap, tap_step, u, s, code):
    """u = G w G^T for all channels; weight[k k_stride + c c_stride + first_tap + tap tap_step] in each group's part."""
    taps = s.kernel * s.kernel
    for work in prange(s.group * s.panels):
        group, first = work // s.panels, work % s.panels * s.nr
        u0 = group * s.n * s.n * s.u_point + work % s.panels * s.c * s.nr
        columns = min(s.nr, s.k - first)
        block = np.zeros(taps * s.nr, weight.dtype)
        for c in range(s.c):
            for j in range(columns):
                w0 = group * (weight.size // s.group) + (first + j) * k_stride + c * c_stride
                for tap in range(taps):
                    block[tap * s.nr + j] = weight[w0 + first_tap + tap * tap_step]
            call(
                code.weights_to_points, block, 0, s.kernel * s.nr, s.nr, s.nr, u, u0 + c * s.nr, s.n * s.u_point,
                s.u_point, s.nr, s.nr, block, 0, 0,
            )  # fmt: skip


@kernel
def correlate_weights(x, dy, weight_diff, s, code, offsets, v, w, u, edge):
    """weight_diff += correlation of x with dy, summed over images: tiles block by block, then one transform back."""
    threads, points = edge.shape[0], s.n * s.n
    for group in range(s.group):
        for first in range(0, s.tiles, s.block):
            count = min(s.block, s.tiles - first)
            for thread in prange(threads):
                for t in range(count * thread // threads, count * (thread + 1) // threads):
                    image, row, col = _place(first + t, s)
                    _to_points(
                        code.to_points, x, s.in_h, s.in_w, s.in_channels, group * s.c, s.c, s.n, image, row - s.pad_h,
                        col - s.pad_w, edge[thread], v, t * s.c_pad, s.n * s.v_point, s.v_point, s.nr, s.nr,
                    )  # fmt: skip
                    _to_points(
                        code.diff_to_points, dy, s.out_h, s.out_w, s.out_channels, group * s.k, s.k, s.m, image, row,
                        col, edge[thread], w, t * s.nr, s.n * s.w_point, s.w_point, s.block * s.nr, s.nr,
                    )  # fmt: skip
            for work in prange(points * s.panels):
                p, panel = work // s.panels, work % s.panels
                columns = min(s.nr, s.k - panel * s.nr)
                call(
                    code.gemm, s.c, columns, count, 1, v, p * s.v_point, 1, s.c_pad, w,
                    p * s.w_point + panel * s.block * s.nr, s.nr, 0, u, p * s.u_point + panel * s.c * s.nr, s.nr,
                    offsets, 0, x, 0, ACCUMULATE if first > 0 else 0,
                )  # fmt: skip
        for panel in prange(s.panels):
            _unpack(u, weight_diff, group, panel, s, code.weights_from_points)


@inline
def _unpack(u, weight_diff, group, panel, s, address):
    """Transform one panel of the weights' gradient back and add it."""
    taps = s.kernel * s.kernel
    block = np.empty(taps * s.nr, u.dtype)
    for c in range(s.c):
        u0 = (panel * s.c + c) * s.nr
        call(address, u, u0, s.n * s.u_point, s.u_point, s.nr, block, 0, s.kernel * s.nr, s.nr, s.nr, s.nr, block, 0, 0)
        for j in range(min(s.nr, s.k - panel * s.nr)):
            at = ((group * s.k + panel * s.nr + j) * s.c + c) * taps
            for tap in range(taps):
                weight_diff[at + tap] += block[tap * s.nr + j]
