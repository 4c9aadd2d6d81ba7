"""The loops of Winograd's algorithm, around two kinds of generated code: transforms of a tile, and the GEMM.

Buffers, with p one of the n^2 points and a padded row of channels:

    v  (p, tile, c_pad)           transformed inputs: broadcast side of the GEMM
    m  (p, tile, k_pad)           products, to be transformed back
    u  (group, p, panel, c, nr)   transformed weights: vector side; or the weights' gradient, to be transformed back
    w  (p, panel, tile, nr)       transformed gradients of the top: vector side of the weights' gradient

A point begins a cache line further than a multiple of 4096 bytes could: its n^2 streams fall into different cache sets.
"""

from __future__ import annotations

from breve.kernels.convolution.parts import add_parts
from breve.kernels.convolution.winograd_tiles import (
    LINE,
    diff_to_points,
    from_points,
    input_to_points,
    needed,
    pack_panel,
    unpack_panel,
)
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import inline, launching

PIECE = 32  # channels of a panel of weights that a task transforms: there may be but one panel, and many channels


@launching
def correlate(x, u, bias, relu, y, s, code, offsets, v, m, edge):
    """y = correlation of x with the transformed weights, plus bias; block by block of tiles."""
    blocks = (s.tiles + s.block - 1) // s.block
    launch(_block, s.group * blocks, v.shape[0], (x, u, bias, relu, y, s, code, offsets, v, m, edge))


@inline
def _block(task, worker, x, u, bias, relu, y, s, code, offsets, v, m, edge):
    blocks = (s.tiles + s.block - 1) // s.block
    group, block = task // blocks, task % blocks
    first = block * s.block
    count = min(s.block, s.tiles - first)
    for t in range(count):
        input_to_points(x, s.order[first + t], group, s, code, edge[worker], v[worker], t)
    for p in range(s.n * s.n):
        low, high = needed(p, block, count, s)
        for c in range(0, s.c, s.depth):
            call(
                code.gemm, high - low, s.k, min(s.depth, s.c - c), 1, v[worker], p * s.v_point + low * s.c_pad + c,
                s.c_pad, 1, u, (group * s.n * s.n + p) * s.u_point + c * s.nr, s.nr, s.c * s.nr, m[worker],
                p * s.m_point + low * s.k_pad, s.k_pad, offsets, 0, bias, 0, s.far_u | (ACCUMULATE if c > 0 else 0),
            )  # fmt: skip
    for t in range(count):
        from_points(
            code, m[worker], t * s.k_pad, s.m_point, y, bias, relu, group * s.k, s.k, s.order[first + t], s,
            edge[worker],
        )  # fmt: skip


@launching
def pack(weight, lie, u, s, transpose, workers):
    """u = G w G^T for all channels."""
    launch(_pack, s.group * _pieces(s), workers, (weight, lie, u, s, transpose))


@inline
def _pieces(s):
    """Of all panels of weights of a group."""
    return s.panels * ((s.c + PIECE - 1) // PIECE)


@inline
def _piece(number, s):
    """Its panel, its channels from one to another, and where in a point it begins."""
    panel, c = number % s.panels, number // s.panels * PIECE
    return panel, c, min(s.c, c + PIECE), (panel * s.c + c) * s.nr


@inline
def _pack(task, worker, weight, lie, u, s, transpose):
    group = task // _pieces(s)
    panel, first, last, at = _piece(task % _pieces(s), s)
    u0 = group * s.n * s.n * s.u_point + at
    pack_panel(weight, lie, group, panel, first, last, u, u0, s.u_point, s, transpose)


@launching
def correlate_by_outputs(x, weight, lie, bias, relu, y, s, code, offsets, v, u, m, edge):
    """The same where tiles are few and weights many: v of all tiles at once, then some panels of outputs at a time.

    Their weights are transformed, used and forgotten, so u and m stay in the cache of a thread.
    """
    workers, chunks = m.shape[0], (s.panels + s.chunk - 1) // s.chunk
    for group in range(s.group):
        launch(_input_tile, s.tiles, workers, (0, x, group, s, code, edge, v))
        args = group, x, weight, lie, bias, relu, y, s, code, offsets, v, u, m, edge
        launch(_chunk_of_outputs, chunks, workers, args)


@inline
def _input_tile(t, worker, first, x, group, s, code, edge, v):
    input_to_points(x, s.order[first + t], group, s, code, edge[worker], v, t)


@inline
def _chunk_of_outputs(chunk, worker, group, x, weight, lie, bias, relu, y, s, code, offsets, v, u, m, edge):
    width, first, u_point = s.chunk * s.nr, chunk * s.chunk, s.chunk * s.chunk_depth * s.nr + LINE
    m_point, columns, u_panel = s.tiles * width + LINE, min(width, s.k - first * s.nr), s.chunk_depth * s.nr
    for c in range(0, s.c, s.chunk_depth):
        last_c = min(s.c, c + s.chunk_depth)
        for i in range(min(s.chunk, s.panels - first)):
            pack_panel(weight, lie, group, first + i, c, last_c, u[worker], i * u_panel, u_point, s, code.transpose)
        for p in range(s.n * s.n):
            low, high = needed(p, 0, s.tiles, s)
            call(
                code.gemm, high - low, columns, last_c - c, 1, v, p * s.v_point + low * s.c_pad + c, s.c_pad, 1,
                u[worker], p * u_point, s.nr, u_panel, m[worker], p * m_point + low * width, width, offsets, 0, bias, 0,
                ACCUMULATE if c > 0 else 0,
            )  # fmt: skip
    for t in range(s.tiles):
        from_points(
            code, m[worker], t * width, m_point, y, bias, relu, group * s.k + first * s.nr, columns, s.order[t], s,
            edge[worker],
        )  # fmt: skip


@launching
def correlate_weights(x, dy, weight_diff, s, code, offsets, v, w, u, edge):
    """weight_diff += correlation of x with dy, summed over images: tiles block by block, then one transform back."""
    workers = edge.shape[0]
    for group in range(s.group):
        for first in range(0, s.tiles, s.block):
            count = min(s.block, s.tiles - first)
            launch(_both_tiles, count, workers, (first, x, dy, group, s, code, edge, v, w))
            launch(_sum_over_tiles, s.n * s.n * s.panels, workers, (first, count, x, s, code, offsets, v, w, u))
        launch(_unpack, _pieces(s), workers, (group, u, weight_diff, s, code))


@inline
def _both_tiles(t, worker, first, x, dy, group, s, code, edge, v, w):
    tile = s.order[first + t]
    input_to_points(x, tile, group, s, code, edge[worker], v, t)
    diff_to_points(dy, tile, group * s.k, s.k, s, code, edge[worker], w, t, s.w_point, s.block * s.nr)


@inline
def _sum_over_tiles(task, worker, first, count, x, s, code, offsets, v, w, u):
    p, panel = task // s.panels, task % s.panels
    columns = min(s.nr, s.k - panel * s.nr)
    low, high = needed(p, first // s.block, count, s)
    for t in range(low, max(high, low + 1), s.depth):  # once at least, or a sum would not begin
        call(
            code.gemm, s.c, columns, min(s.depth, high - t), 1, v, p * s.v_point + t * s.c_pad, 1, s.c_pad, w,
            p * s.w_point + (panel * s.block + t) * s.nr, s.nr, s.block * s.nr, u,
            p * s.u_point + panel * s.c * s.nr, s.nr, offsets, 0, x, 0, ACCUMULATE if first + t > low else 0,
        )  # fmt: skip


@inline
def _unpack(piece, worker, group, u, weight_diff, s, code):
    panel, first, last, at = _piece(piece, s)
    unpack_panel(u, at, s.u_point, weight_diff, group, panel, first, last, s, code)


@launching
def correlate_weights_by_parts(x, dy, weight_diff, s, code, offsets, v, w, u, edge):
    """The same where sums are small beside tiles: a task is a part of the tiles, block by block, with sums of its own.

    What one thread transforms another one need not fetch: on a busy machine that took 1.2 to 1.6 times as long.
    """
    for group in range(s.group):
        launch(_sum_part, len(u), len(v), (x, dy, group, s, code, offsets, v, w, u, edge))
        launch(_unpack_sums, _pieces(s), len(v), (group, u, weight_diff, s, code))


@inline
def _sum_part(part, worker, x, dy, group, s, code, offsets, v, w, u, edge):
    blocks = (s.tiles + s.block - 1) // s.block
    begin, end = blocks * part // len(u), blocks * (part + 1) // len(u)
    for block in range(begin, end):
        first = block * s.block
        count = min(s.block, s.tiles - first)
        for t in range(count):
            tile = s.order[first + t]
            input_to_points(x, tile, group, s, code, edge[worker], v[worker], t)
            diff_to_points(dy, tile, group * s.k, s.k, s, code, edge[worker], w[worker], t, s.w_point, s.block * s.nr)
        for p in range(s.n * s.n):
            low, high = needed(p, block, count, s)
            for panel in range(s.panels):
                for t in range(low, max(high, low + 1), s.depth):
                    call(
                        code.gemm, s.c, min(s.nr, s.k - panel * s.nr), min(s.depth, high - t), 1, v[worker],
                        p * s.v_point + t * s.c_pad, 1, s.c_pad, w[worker],
                        p * s.w_point + (panel * s.block + t) * s.nr, s.nr, s.block * s.nr, u[part],
                        p * s.u_point + panel * s.c * s.nr, s.nr, offsets, 0, x, 0,
                        ACCUMULATE if block > begin or t > low else 0,
                    )  # fmt: skip


@inline
def _unpack_sums(piece, worker, group, u, weight_diff, s, code):
    panel, first, last, at = _piece(piece, s)
    for p in range(s.n * s.n):
        add_parts(u, p * s.u_point + at, (last - first) * s.nr)
    unpack_panel(u[0], at, s.u_point, weight_diff, group, panel, first, last, s, code)


@launching
def correlate_weights_by_outputs(x, dy, weight_diff, s, code, offsets, v, w, u, edge):
    """The same where tiles are few and weights many: some panels of outputs at a time, and no sums in memory."""
    workers, chunks = u.shape[0], (s.panels + s.chunk - 1) // s.chunk
    for group in range(s.group):
        launch(_input_tile, s.tiles, workers, (0, x, group, s, code, edge, v))
        launch(_chunk_of_gradients, chunks, workers, (group, x, dy, weight_diff, s, code, offsets, v, w, u, edge))


@inline
def _chunk_of_gradients(chunk, worker, group, x, dy, weight_diff, s, code, offsets, v, w, u, edge):
    points, first = s.n * s.n, chunk * s.chunk
    panels, columns = min(s.chunk, s.panels - first), min(s.chunk * s.nr, s.k - first * s.nr)
    u_point, w_panel = s.chunk * s.c * s.nr + LINE, s.tiles * s.nr
    w_point = s.chunk * w_panel + LINE
    for t in range(s.tiles):
        diff_to_points(
            dy, s.order[t], group * s.k + first * s.nr, columns, s, code, edge[worker], w[worker], t, w_point, w_panel
        )
    for p in range(points):
        low, high = needed(p, 0, s.tiles, s)
        for panel in range(panels):
            for t in range(low, max(high, low + 1), s.depth):
                call(
                    code.gemm, s.c, min(s.nr, columns - panel * s.nr), min(s.depth, high - t), 1, v,
                    p * s.v_point + t * s.c_pad, 1, s.c_pad, w[worker], p * w_point + panel * w_panel + t * s.nr,
                    s.nr, w_panel if s.chunk > 1 else w_point, u[worker], p * u_point + panel * s.c * s.nr, s.nr,
                    offsets, 0, x, 0, ACCUMULATE if t > low else 0,
                )  # fmt: skip
    for panel in range(panels):
        unpack_panel(u[worker], panel * s.c * s.nr, u_point, weight_diff, group, first + panel, 0, s.c, s, code)
