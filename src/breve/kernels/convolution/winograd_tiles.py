"""One tile of Winograd's algorithm, and one panel of its weights: between arrays and transformed points.

A tile's n x n inputs, m x m outputs and kernel x kernel weights each become n^2 points, by generated transforms. Here
they are found in their arrays, with zeros where a tile reaches beyond the image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from breve.kernels.microkernel import call
from breve.kernels.microkernel.transform import ALL
from breve.kernels.threads import inline, inline_allocating

LINE = 16  # elements of a cache line or more
CHANNELS = 16  # whose weights are rearranged together: they stay in the first-level cache


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
    out_pad_h: int
    out_pad_w: int
    """Pixels of the first block of outputs that lie before the image."""
    in_step: int
    out_step: int
    """Pixels of a block along each axis: see `blocks.py`."""
    group: int
    c: int
    """Channels of a block of a group in `in`."""
    k: int
    """Channels of a block of a group in `out`."""
    kernel: int
    """Taps along each axis, in blocks."""
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
    far_u: int
    """FAR_B where u is too much for a second-level cache, else 0."""
    by_outputs: bool
    """Tiles are few and weights many: all tiles and some panels of outputs at a time, not the other way round."""
    chunk: int
    """Panels that are then worked on together."""
    chunk_depth: int
    """Channels of them whose weights are transformed, then multiplied."""
    depth: int
    """Terms of a sum that are added up before they are added to the others."""
    order: np.ndarray
    """The tiles, those of a block sorted by whether they lack a last row or column: see `needed`."""
    bounds: np.ndarray
    """For each block, where in it the second, third and fourth kind of tiles begin."""


class Weights(NamedTuple):
    """How the kernels of a group lie in the weights: that of k and c begins at k k_stride + c c_stride."""

    k_stride: int
    c_stride: int
    address: int
    """The transform."""


class Code(NamedTuple):
    """Addresses of generated code."""

    gemm: int
    copy: int
    transpose: int
    to_points: int
    """n x n inputs of a tile to n x n points."""
    from_points: int
    """n x n points to m x m outputs, with bias and ReLU."""
    weights_to_points: int
    """kernel x kernel weights to n x n points."""
    rotated_to_points: int
    """The same for kernels rotated by 180 degrees."""
    diff_to_points: int
    """m x m gradients of a tile to n x n points."""
    weights_from_points: int
    """n x n points to kernel x kernel weights."""


@inline
def needed(p, block, count, s):
    """From which to which tile of a block its products at point p are needed.

    A tile that lacks its last row of outputs needs no product at infinity along that axis: it is part of that row
    alone. The same holds for columns. In a block first come tiles that lack a row, then whole ones, then those that
    lack a column, then those that lack both.
    """
    last_row, last_column = p // s.n == s.n - 1, p % s.n == s.n - 1
    low = s.bounds[block, 0] if last_row else 0
    if last_column:
        return low, s.bounds[block, 1]
    return low, s.bounds[block, 2] if last_row else count


@inline
def place(tile, s):
    """Image of a tile, and the row and column of its first block of outputs."""
    in_image = tile % (s.tiles_h * s.tiles_w)
    return tile // (s.tiles_h * s.tiles_w), in_image // s.tiles_w * s.m, in_image % s.tiles_w * s.m


@inline
def input_to_points(x, tile, group, s, code, edge, v, t):
    """v[:, t] = B^T d B for a group's channels of one tile."""
    image, row, col = place(tile, s)
    count = s.c // s.in_step
    for i in range(s.in_step):
        _to_points(
            code, code.to_points, x, s.in_h, s.in_w, s.in_channels, s.in_step, group * s.c, count, s.n, image,
            row * s.in_step + i - s.pad_h, col * s.in_step - s.pad_w, edge, v, t * s.c_pad + i * count, s.v_point,
            s.nr, s,
        )  # fmt: skip


@inline
def diff_to_points(dy, tile, first, count, s, code, edge, w, t, w_point, w_panel):
    """w[:, :, t] = G' dY G'^T for `count` channels from `first` on of one tile."""
    image, row, col = place(tile, s)
    row_size = s.out_step * s.out_channels
    for i in range(s.out_step):
        low, high = max(first, i * row_size), min(first + count, (i + 1) * row_size)
        if low < high:
            _to_points(
                code, code.diff_to_points, dy, s.out_h, s.out_w, s.out_channels, s.out_step, low - i * row_size,
                high - low, s.m, image, row * s.out_step + i, col * s.out_step, edge, w,
                t * s.nr + (low - first) // s.nr * w_panel, w_point, w_panel, s,
            )  # fmt: skip


@inline
def _to_points(
    code, address, x, height, width, channels, step, first, count, size, image, row, col, edge, dst, d0, point, panel, s
):
    """Transform rows of size x size blocks at (row, col), `count` numbers of each from `first` on.

    A block's row is `step` pixels, side by side; those outside the image are zeros. Where each block lies inside as a
    whole or outside, the transform reads them as they lie; where a side of the image cuts some, all are copied first.
    """
    x0, row_size, pitch = col * channels + first, width * channels, step * channels
    rows, columns, start = ALL, ALL, (image * height + row) * row_size
    if row < 0 or row + (size - 1) * step >= height or x0 < 0 or x0 + (size - 1) * pitch + count > row_size:
        low, high = _whole_blocks(x0, size, pitch, count, row_size)
        top = min(size, max(0, (step - 1 - row) // step))
        bottom = max(top, min(size, (height - 1 - row) // step + 1))
        if (low > 0 and x0 + (low - 1) * pitch + count > 0) or (high < size and x0 + high * pitch < row_size):
            _copy_inside(x, start, step * row_size, x0, row_size, pitch, count, size, top, bottom, edge, code.copy)
            call(
                address, edge, 0, size * count, count, s.nr, dst, d0, s.n * point, point, panel, count, ALL, ALL,
            )  # fmt: skip
            return
        rows, columns = (1 << bottom) - (1 << top), (1 << high) - (1 << low)
    call(address, x, start + x0, step * row_size, pitch, s.nr, dst, d0, s.n * point, point, panel, count, rows, columns)


@inline
def _copy_inside(x, start, step_size, x0, row_size, pitch, count, size, top, bottom, edge, copy):
    """What of size x size blocks lies in the image, with zeros elsewhere; rows from `top` to `bottom` do."""
    low, high = _whole_blocks(x0, size, pitch, count, row_size)
    edge[: size * size * count] = 0
    for i in range(top, bottom):
        row, at = start + i * step_size, i * size * count
        for j in range(size):
            if j < low or j >= high:
                _copy_clipped(x, row, x0 + j * pitch, row_size, edge, at + j * count, count, copy)
        if low < high:
            call(copy, high - low, count, x, row + x0 + low * pitch, pitch, edge, at + low * count, count)


@inline
def from_points(code, m, m0, m_point, y, bias, relu, first, count, tile, s, edge):
    """Transform `count` channels of a tile back, from `first` on, and write what of it lies inside the image."""
    image, row, col = place(tile, s)
    row_size, left = s.out_step * s.out_channels, (col * s.out_step - s.out_pad_w) * s.out_channels
    for i in range(s.out_step):
        low, high = max(first, i * row_size), min(first + count, (i + 1) * row_size)
        if low < high:
            _from_points(
                code, m, m0 + low - first, m_point, y, bias, relu, low, high - low, image,
                row * s.out_step + i - s.out_pad_h, left + low - i * row_size, s, edge,
            )  # fmt: skip


@inline
def _from_points(code, m, m0, m_point, y, bias, relu, first, count, image, row, y0, s, edge):
    """The same for one row of the tile's blocks, whose numbers begin at element y0 of row `row` of the image."""
    row_size, pixel = s.out_w * s.out_channels, s.out_step * s.out_channels
    inside = row >= 0 and row + (s.m - 1) * s.out_step < s.out_h
    if inside and y0 >= 0 and y0 + (s.m - 1) * pixel + count <= row_size:
        y0 += (image * s.out_h + row) * row_size
        call(
            code.from_points, m, m0, s.n * m_point, m_point, s.nr, y, y0, s.out_step * row_size, pixel, s.nr, count,
            bias, first, relu,
        )  # fmt: skip
        return
    call(
        code.from_points, m, m0, s.n * m_point, m_point, s.nr, edge, 0, s.m * count, count, s.nr, count, bias, first,
        relu,
    )  # fmt: skip
    first_whole, last_whole = _whole_blocks(y0, s.m, pixel, count, row_size)
    for i in range(s.m):
        if 0 <= row + i * s.out_step < s.out_h:
            start, at = (image * s.out_h + row + i * s.out_step) * row_size, i * s.m * count
            for j in range(s.m):
                within = y0 + j * pixel
                low, high = max(0, -within), min(count, row_size - within)
                if low < high and not first_whole <= j < last_whole:
                    call(code.copy, 1, high - low, edge, at + j * count + low, 0, y, start + within + low, 0)
            if first_whole < last_whole:
                call(
                    code.copy, last_whole - first_whole, count, edge, at + first_whole * count, count, y,
                    start + y0 + first_whole * pixel, pixel,
                )  # fmt: skip


@inline
def _whole_blocks(x0, blocks, step, count, row_size):
    """Which of some blocks of `count` elements, the first at x0 and `step` apart, lie in a row: from one to another."""
    low = min(blocks, max(0, (step - 1 - x0) // step))
    return low, max(low, min(blocks, (row_size - count - x0) // step + 1))


@inline
def _copy_clipped(x, start, within, row_size, edge, at, count, copy):
    """What of a block lies in its row."""
    low = min(count, max(0, -within))
    high = max(low, min(count, row_size - within))
    if low < high:
        call(copy, 1, high - low, x, start + within + low, 0, edge, at + low, 0)


@inline_allocating
def pack_panel(weight, lie, group, panel, first_c, last_c, u, u0, u_point, s, transpose):
    """Transform the weights of one panel of outputs for the channels `first_c` to `last_c`, some at a time."""
    taps, first = s.kernel * s.kernel, panel * s.nr
    columns = min(s.nr, s.k - first)
    block = np.zeros(CHANNELS * taps * s.nr, weight.dtype)
    for c in range(first_c, last_c, CHANNELS):
        channels = min(CHANNELS, last_c - c)
        w0 = group * (weight.size // s.group) + first * lie.k_stride + c * lie.c_stride
        if lie.c_stride == taps:
            call(transpose, columns, channels * taps, weight, w0, lie.k_stride, block, 0, s.nr)
        else:
            for i in range(channels):
                at = i * taps * s.nr
                call(transpose, columns, taps, weight, w0 + i * lie.c_stride, lie.k_stride, block, at, s.nr)
        call(
            lie.address, block, 0, s.kernel * s.nr, s.nr, taps * s.nr, u, u0 + (c - first_c) * s.nr, s.n * u_point,
            u_point, s.nr, channels * s.nr,
        )  # fmt: skip


@inline_allocating
def unpack_panel(u, u0, u_point, weight_diff, group, panel, first_c, last_c, s, code):
    """Transform one panel of the weights' gradient back, channels `first_c` to `last_c`, some at a time, and add it."""
    taps, first = s.kernel * s.kernel, panel * s.nr
    columns = min(s.nr, s.k - first)
    block, turned = np.empty(CHANNELS * taps * s.nr, u.dtype), np.empty(CHANNELS * taps * s.nr, u.dtype)
    for c in range(first_c, last_c, CHANNELS):
        channels = min(CHANNELS, last_c - c)
        size = channels * taps
        call(
            code.weights_from_points, u, u0 + (c - first_c) * s.nr, s.n * u_point, u_point, s.nr, block, 0,
            s.kernel * s.nr, s.nr, taps * s.nr, channels * s.nr,
        )  # fmt: skip
        call(code.transpose, size, columns, block, 0, s.nr, turned, 0, size)
        for k in range(columns):
            at = ((group * s.k + first + k) * s.c + c) * taps
            _add(turned[k * size : (k + 1) * size], weight_diff[at : at + size])


@inline
def _add(x, total):
    for i in range(total.size):
        total[i] += x[i]
