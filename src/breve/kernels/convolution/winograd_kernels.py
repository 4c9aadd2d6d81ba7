"""The loops of Winograd's algorithm, around two kinds of generated code: transforms of a tile, and the GEMM.

Buffers, with p one of the n^2 points and a padded row of channels:

    v  (p, tile, c_pad)           transformed inputs: broadcast side of the GEMM
    m  (p, tile, k_pad)           products, to be transformed back
    u  (group, p, panel, c, nr)   transformed weights: vector side; or the weights' gradient, to be transformed back
    w  (p, panel, tile, nr)       transformed gradients of the top: vector side of the weights' gradient

A point begins a cache line further than a multiple of 4096 bytes could: its n^2 streams fall into different cache sets.
"""

from __future__ import annotations

from numba import prange

from breve.kernels.convolution.winograd_tiles import (
    LINE,
    diff_to_points,
    from_points,
    input_to_points,
    pack_panel,
    unpack_panel,
)
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.threads import kernel


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
                input_to_points(x, first + t, group, s, code, edge[thread], v[thread], t)
            for p in range(s.n * s.n):
                for c in range(0, s.c, s.depth):
                    call(
                        code.gemm, count, s.k, min(s.depth, s.c - c), 1, v[thread], p * s.v_point + c, s.c_pad, 1, u,
                        (group * s.n * s.n + p) * s.u_point + c * s.nr, s.nr, s.c * s.nr, m[thread], p * s.m_point,
                        s.k_pad, offsets, 0, bias, 0, ACCUMULATE if c > 0 else 0,
                    )  # fmt: skip
            for t in range(count):
                from_points(
                    code.from_points, m[thread], t * s.k_pad, s.m_point, y, bias, relu, group * s.k,
                    s.k, first + t, s, edge[thread],
                )  # fmt: skip


@kernel
def pack(weight, lie, u, s):
    """u = G w G^T for all channels."""
    for work in prange(s.group * s.panels):
        group, panel = work // s.panels, work % s.panels
        u0 = group * s.n * s.n * s.u_point + panel * s.c * s.nr
        pack_panel(weight, lie, group, panel, u, u0, s.u_point, s)


@kernel
def correlate_by_outputs(x, weight, lie, bias, relu, y, s, code, offsets, v, u, m, edge):
    """The same where tiles are few and weights many: v of all tiles at once, then some panels of outputs at a time.

    Their weights are transformed, used and forgotten, so u and m stay in the cache of a thread; with `lie.address` 0
    they have been transformed before.
    """
    threads, points, width = m.shape[0], s.n * s.n, s.chunk * s.nr
    chunks = (s.panels + s.chunk - 1) // s.chunk
    m_point = s.tiles * width + LINE
    packs = 0 if lie.address == 0 else 1
    u_point = s.chunk * s.c * s.nr + LINE if packs else s.u_point
    for group in range(s.group):
        for thread in prange(threads):
            for t in range(s.tiles * thread // threads, s.tiles * (thread + 1) // threads):
                input_to_points(x, t, group, s, code, edge[thread], v, t)
        for thread in prange(threads):
            for chunk in range(chunks * thread // threads, chunks * (thread + 1) // threads):
                first = chunk * s.chunk
                columns = min(width, s.k - first * s.nr)
                u0 = (1 - packs) * (group * points * s.u_point + first * s.c * s.nr)
                if packs:
                    for panel in range(first, min(s.panels, first + s.chunk)):
                        at = (panel - first) * s.c * s.nr
                        pack_panel(weight, lie, group, panel, u[thread], at, u_point, s)
                for p in range(points):
                    for c in range(0, s.c, s.depth):
                        call(
                            code.gemm, s.tiles, columns, min(s.depth, s.c - c), 1, v, p * s.v_point + c, s.c_pad, 1,
                            u[thread * packs], u0 + p * u_point + c * s.nr, s.nr, s.c * s.nr, m[thread], p * m_point,
                            width, offsets, 0, bias, 0, ACCUMULATE if c > 0 else 0,
                        )  # fmt: skip
                for t in range(s.tiles):
                    from_points(
                        code.from_points, m[thread], t * width, m_point, y, bias, relu,
                        group * s.k + first * s.nr, columns, t, s, edge[thread],
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
                    input_to_points(x, first + t, group, s, code, edge[thread], v, t)
                    diff_to_points(
                        dy, first + t, group * s.k, s.k, s, code, edge[thread], w, t, s.w_point, s.block * s.nr
                    )
            for work in prange(points * s.panels):
                p, panel = work // s.panels, work % s.panels
                columns = min(s.nr, s.k - panel * s.nr)
                for t in range(0, count, s.depth):
                    call(
                        code.gemm, s.c, columns, min(s.depth, count - t), 1, v, p * s.v_point + t * s.c_pad, 1,
                        s.c_pad, w, p * s.w_point + (panel * s.block + t) * s.nr, s.nr, 0, u,
                        p * s.u_point + panel * s.c * s.nr, s.nr, offsets, 0, x, 0, ACCUMULATE if first + t > 0 else 0,
                    )  # fmt: skip
        for panel in prange(s.panels):
            unpack_panel(u, panel * s.c * s.nr, s.u_point, weight_diff, group, panel, s, code.weights_from_points)


@kernel
def correlate_weights_by_outputs(x, dy, weight_diff, s, code, offsets, v, w, u, edge):
    """The same where tiles are few and weights many: some panels of outputs at a time, and no sums in memory."""
    threads, points, width = u.shape[0], s.n * s.n, s.chunk * s.nr
    chunks = (s.panels + s.chunk - 1) // s.chunk
    u_point, w_panel = s.chunk * s.c * s.nr + LINE, s.tiles * s.nr
    w_point = s.chunk * w_panel + LINE
    for group in range(s.group):
        for thread in prange(threads):
            for t in range(s.tiles * thread // threads, s.tiles * (thread + 1) // threads):
                input_to_points(x, t, group, s, code, edge[thread], v, t)
        for thread in prange(threads):
            for chunk in range(chunks * thread // threads, chunks * (thread + 1) // threads):
                first = chunk * s.chunk
                columns = min(width, s.k - first * s.nr)
                for t in range(s.tiles):
                    diff_to_points(
                        dy,
                        t,
                        group * s.k + first * s.nr,
                        columns,
                        s,
                        code,
                        edge[thread],
                        w[thread],
                        t,
                        w_point,
                        w_panel,
                    )
                for p in range(points):
                    for panel in range(min(s.chunk, s.panels - first)):
                        for t in range(0, s.tiles, s.depth):
                            call(
                                code.gemm, s.c, min(s.nr, columns - panel * s.nr), min(s.depth, s.tiles - t), 1, v,
                                p * s.v_point + t * s.c_pad, 1, s.c_pad, w[thread],
                                p * w_point + panel * w_panel + t * s.nr, s.nr, 0, u[thread],
                                p * u_point + panel * s.c * s.nr, s.nr, offsets, 0, x, 0, ACCUMULATE if t > 0 else 0,
                            )  # fmt: skip
                for panel in range(min(s.chunk, s.panels - first)):
                    unpack_panel(
                        u[thread], panel * s.c * s.nr, u_point, weight_diff, group, first + panel, s,
                        code.weights_from_points,
                    )  # fmt: skip
