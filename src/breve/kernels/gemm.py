"""General matrix product, on the micro-kernel.

Out is cut into blocks of columns, and of rows too where that leaves too few. For each block, stretch by stretch of k,
op(b) is packed into panels as wide as the register tile; once for all where there are several blocks of rows. The
panels meet op(a) a few rows at a time, so that rows of out are written along. The micro-kernel broadcasts single
elements of op(a), and takes it as it lies unless its rows lie across: then those few are packed too. Where op(a) has
few rows, to read op(b) is most of the work: it is taken as it lies, too, if it can be. The cut depends on the sizes
alone: results are the same for any number of threads.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from breve.errors import LayerError
from breve.kernels import microkernel
from breve.kernels.microkernel.launch import launch
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.scratch import scratch
from breve.kernels.streaming import stream_flag
from breve.kernels.threads import SMALL, inline, inline_sum, launching, physical_cores, threads_for

KC = 256  # rows of a packed block at most; 512 gained 3 % but let rounding grow beyond what the tests allow
PANEL_BYTES = 32 << 10  # of a packed panel: with the rows of op(a) that meet it, it stays in the first-level cache
BLOCK_BYTES = 256 << 10  # of a packed block: half of a core's second-level cache
ROWS = 96  # rows of op(a) that meet the panels together
ALIASED_BYTES = 4096
"""Rows of op(a) a multiple of this apart meet in one set of a first-level cache of 32 KB: they are packed.

With AVX2 5 to 7 % faster, even so; what AVX-512 needs of op(a) in a cycle is half as much.
"""
LINE = 16
MIN_BLOCKS = 64  # so that threads that do not start together, or are not as fast, still finish together: to 1.08x
ACROSS_BLOCKS = 8  # of columns where rows of op(a) lie across, and are packed for each of them: 1.03 to 1.2x against 64
LEAST_ROWS = 24  # of a block: 100 rows by one panel take 0.6 of the time in two blocks
FEW_ROWS = 8  # of op(a), for which op(b) of whole vectors is not packed: 1.3 to 1.9 times as fast where it is 64 MB
STREAMS, RUN = 16, 2048  # its rows that are read together, and columns of them: as many streams as the hardware sees
DOT_ROWS = 2  # of op(a), for which columns of op(b) are read along
TO_PACK, PACKED, IN_PLACE = 0, 1, 2  # how a product finds op(b)


def gemm(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> np.ndarray:
    """Write the product of two matrices into `out`, and return it.

    out = alpha op(a) op(b) + beta out, with op(x) = x.T where `trans_x` says so. With beta 0 the old `out` is not read.

    `op(a)` is (m, k), `op(b)` (k, n), `out` (m, n); any strides; one dtype. `out` must not overlap `a` or `b`.
    Raises LayerError when the shapes do not fit.

    >>> gemm(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.zeros((1, 1)), trans_b=True)
    array([[11.]])
    """
    left, right = (a.T if trans_a else a), (b.T if trans_b else b)
    if left.shape[1] != right.shape[0] or out.shape != (left.shape[0], right.shape[1]):
        raise LayerError(
            "gemm: the shapes do not fit",
            expected="(m, k) by (k, n) into (m, n)",
            found=f"{left.shape} by {right.shape} into {out.shape}",
        )
    if out.size == 0:
        return out
    fast = out.dtype in (np.float32, np.float64) and left.dtype == right.dtype == out.dtype and left.shape[1] > 0
    if fast and alpha == 1 and beta in (0, 1) and _has_rows(out):
        _product(_plain(left), _plain(right), out, beta == 1)
    elif fast and alpha == 1 and beta in (0, 1) and _has_rows(out.T):
        _product(_plain(right.T), _plain(left.T), out.T, beta == 1)
    else:
        product = gemm(left, right, np.empty(out.shape, out.dtype)) if fast else left @ right
        out[...] = alpha * product if beta == 0 else alpha * product + beta * out
    return out


def multiply(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: np.ndarray | None = None, relu: bool = False,
    packed: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Write a b + bias into `out`, clamped at zero with `relu`; `packed`, if given, is what `pack` made of b.

    `a` and `b` may have any strides that are not negative; rows of `out` are contiguous.
    """
    flags = microkernel.BIAS * (bias is not None) | microkernel.RELU * relu
    if a.shape[1] <= block_depth(b.shape[1], out.dtype):  # out is written once
        flags |= stream_flag(a, out)
    _multiply(a, b, out, 0, flags, out[:1].reshape(-1) if bias is None else bias, packed)


@lru_cache(maxsize=4096)
def panel_columns(n: int, dtype: Any) -> int:
    """nr: columns of a packed panel, as many as the register tile has, or the vectors that n columns fill.

    8 images by weights of 16 MB or more, the product turned round, take 0.6 to 0.8 of the time of whole panels.
    """
    lanes = microkernel.host_instruction_set().lanes(dtype)
    return min(microkernel.tile_columns(dtype), -(-n // lanes) * lanes)


def block_depth(n: int, dtype: Any) -> int:
    """kc: rows of a packed block. With AVX-512, whose panels are wide, 128: 5 to 15 % faster than 256."""
    return min(KC, PANEL_BYTES // (panel_columns(n, dtype) * np.dtype(dtype).itemsize) // LINE * LINE)


def packed_size(k: int, n: int, dtype: Any) -> int:
    """Elements that `pack` writes for a (k, n) matrix."""
    nr = panel_columns(n, dtype)
    return k * -(-n // nr) * nr


def pack(b: np.ndarray, packed: np.ndarray) -> None:
    """Lay b (k, n) out for `multiply`: stretches of `block_depth` rows, each as panels side by side."""
    n, right = b.shape[1], (_anchor(b), *_strides(b))
    kc, nr = block_depth(n, b.dtype), panel_columns(n, b.dtype)
    _pack_all(_code(b.dtype), b.shape, kc, nr, right, packed, threads_for(16 * b.size))


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulate: bool) -> None:
    """Out (+)= a b, the elements of a row of out one after another."""
    (m, k), n = a.shape, b.shape[1]
    (a_row, a_k), (b_k, b_j), (c_row, _) = (_strides(x) for x in (a, b, out))
    if m <= DOT_ROWS and a_k == b_k == 1:
        sizes = m, n, k
        _dot_products(
            sizes, _anchor(a), a_row, _anchor(b), b_j, _anchor(out), c_row, accumulate, threads_for(m * n * k)
        )
    elif 4 * m <= n and b_k == 1:  # to pack b across its columns would cost more than to turn the product round
        turned = scratch("gemm", n * m, out.dtype).reshape(n, m)
        _product(b.T, a.T, turned, False)
        out[...] = turned.T + out if accumulate else turned.T
    else:
        _multiply(a, b, out, microkernel.ACCUMULATE * accumulate, 0, out[:1].reshape(-1), None)


def _multiply(
    a: np.ndarray, b: np.ndarray, out: np.ndarray, before: int, after: int, bias: np.ndarray, packed: np.ndarray | None
) -> None:
    """The micro-kernel's flags `before` hold for the first stretch of k, `after` for the last."""
    (m, k), n, dtype = a.shape, b.shape[1], out.dtype
    threads, (b_k, b_j) = threads_for(m * n * k), _strides(b)
    in_place = packed is None and m <= FEW_ROWS and b_j == 1 and _has_whole_vectors(n, dtype)
    cut = _cut_few(m, n, dtype) if in_place else _cut(m, n, k, _strides(a)[0] == 1, dtype)
    # Two blocks of rows may each copy b for themselves; to turn it over twice, where b_j is not 1, costs too much.
    if packed is None and cut[0] * (2 if b_j == 1 else 1) < m:
        packed = scratch("packed", packed_size(k, n, dtype), dtype)
        pack(b, packed)
    panels = scratch("panels", threads * BLOCK_BYTES // out.itemsize, dtype).reshape(threads, -1)
    rows = scratch("a", threads * ROWS * (block_depth(n, dtype) + LINE), dtype).reshape(threads, -1)
    right = (_anchor(b), b_k, b_j, IN_PLACE if in_place else TO_PACK) if packed is None else (packed, 0, 0, PACKED)
    _blocks(
        _code(dtype), (m, n, k), cut, (_anchor(a), *_strides(a)), right, (_anchor(out), _strides(out)[0]),
        (before, after), bias, panels, rows, np.zeros(2, np.int64),
    )  # fmt: skip


def _has_whole_vectors(n: int, dtype: Any) -> bool:
    """Whether the micro-kernel, which reads whole vectors, reads no further than a row's end."""
    return n % microkernel.host_instruction_set().lanes(dtype) == 0


@cache
def _code(dtype: Any) -> tuple[int, int, int]:
    """The micro-kernel, and what packs its operands."""
    return microkernel.brgemm_address(dtype), microkernel.copy_address(dtype), microkernel.transpose_address(dtype)


@lru_cache(maxsize=4096)
def _cut(m: int, n: int, k: int, across: bool, dtype: Any) -> tuple[int, int, int, int]:
    """Rows, columns and k of a block, and the columns of a panel. The longer side of out is cut into more blocks."""
    nr, kc = panel_columns(n, dtype), min(block_depth(n, dtype), k)
    most_panels = BLOCK_BYTES // (kc * nr * np.dtype(dtype).itemsize)
    column_blocks = 1 if m > n else ACROSS_BLOCKS if across else MIN_BLOCKS
    panels = min(most_panels, -(-n // (nr * column_blocks)))
    column_blocks = -(-n // (panels * nr))
    row_blocks = min(-(-MIN_BLOCKS // column_blocks), max(1, m // ROWS))
    if column_blocks == 1 and m * n * k >= SMALL:  # as many for each core
        cores = physical_cores()
        row_blocks = min(-(-row_blocks // cores) * cores, max(1, m // LEAST_ROWS))
    return -(-m // row_blocks), panels * nr, kc, nr


@lru_cache(maxsize=4096)
def _cut_few(m: int, n: int, dtype: Any) -> tuple[int, int, int, int]:
    """The same where op(b) is taken as it lies: long runs of a few of its rows."""
    nr = panel_columns(n, dtype)
    return m, -(-min(RUN, -(-n // physical_cores())) // nr) * nr, STREAMS, nr


@launching
def _pack_all(code, sizes, kc, nr, b, packed, workers):
    """A task is a stretch of a panel."""
    k, n = sizes
    launch(_pack_stretch, (n + nr - 1) // nr * ((k + kc - 1) // kc), workers, (code, sizes, kc, nr, b, packed))


@inline
def _pack_stretch(task, worker, code, sizes, kc, nr, b, packed):
    k, n = sizes
    panels = (n + nr - 1) // nr
    first, p = task % panels * nr, task // panels * kc
    depth = min(kc, k - p)
    _pack(code, b, p, first, depth, min(nr, n - first), packed, p * panels * nr + first * depth, nr)


@inline
def _pack(code, b, p, j, depth, lanes, panel, at, nr):
    """Columns of op(b) from (p, j) on side by side, `nr` apart."""
    _, copy, transpose = code
    array, b_k, b_j = b
    start = p * b_k + j * b_j
    if b_j == 1:
        microkernel.call(copy, depth, lanes, array, start, b_k, panel, at, nr)
    elif b_k == 1:
        microkernel.call(transpose, lanes, depth, array, start, b_j, panel, at, nr)
    else:
        for q in range(depth):
            for lane in range(lanes):
                microkernel.call(copy, 1, 1, array, start + lane * b_j + q * b_k, 1, panel, at + q * nr + lane, 1)


@launching
def _blocks(code, sizes, cut, a, b, c, flags, bias, panels, rows, offsets):
    """A task is a block of out; a thread packs for it into buffers of its own."""
    (m, n, _), (mc, nc, _, _) = sizes, cut
    args = code, sizes, cut, a, b, c, flags, bias, panels, rows, offsets
    launch(_block, (m + mc - 1) // mc * ((n + nc - 1) // nc), len(panels), args)


@inline
def _block(task, worker, code, sizes, cut, a, b, c, flags, bias, panels, rows, offsets):
    gemm_code, copy, _ = code
    (m, n, k), (mc, nc, kc, nr), (left, a_row, a_k), (right, b_k, b_j, form), (out, c_row) = sizes, cut, a, b, c
    columns, all_columns = (n + nc - 1) // nc, (n + nr - 1) // nr * nr
    i, j = task // columns * mc, task % columns * nc
    height, width = min(mc, m - i), min(nc, n - j)
    aliases = a_k == 1 and a_row * left.itemsize % ALIASED_BYTES == 0 and nr * left.itemsize <= LINE_BYTES and n > nr
    for p in range(0, k, kc):
        depth = min(kc, k - p)
        block, at, step_b, panel = right, p * all_columns + j * depth, nr, nr * depth
        if form == IN_PLACE:
            at, step_b, panel = p * b_k + j, b_k, nr
        elif form == TO_PACK:
            block, at = panels[worker], 0
            for first in range(0, width, nr):
                lanes = min(nr, width - first)
                _pack(code, (right, b_k, b_j), p, j + first, depth, lanes, block, first * depth, nr)
        added = microkernel.ACCUMULATE if p > 0 else flags[0]
        if p + depth == k:
            added |= flags[1]
        for row in range(i, i + height, ROWS):
            count, source, start, step, k_step = min(ROWS, i + height - row), left, row * a_row + p * a_k, a_row, a_k
            if a_row == 1:
                microkernel.call(copy, depth, count, left, start, a_k, rows[worker], 0, ROWS)
                source, start, step, k_step = rows[worker], 0, 1, ROWS
            elif aliases:
                step = depth + LINE
                microkernel.call(copy, count, depth, left, start, a_row, rows[worker], 0, step)
                source, start = rows[worker], 0
            microkernel.call(
                gemm_code, count, width, depth, 1, source, start, step, k_step, block, at, step_b, panel, out,
                row * c_row + j, c_row, offsets, 0, bias, j, added,
            )  # fmt: skip


@launching
def _dot_products(sizes, a, a_row, b, b_j, c, c_row, accumulate, workers):
    """Columns of op(b) lie one after another: each is read once, and multiplied by all rows of op(a)."""
    launch(_dot_column, sizes[1], workers, (sizes, a, a_row, b, b_j, c, c_row, accumulate))


@inline
def _dot_column(j, worker, sizes, a, a_row, b, b_j, c, c_row, accumulate):
    m, _, k = sizes
    for i in range(m):
        total = _dot(a, i * a_row, b, j * b_j, k)
        c[i * c_row + j] = total + c[i * c_row + j] if accumulate else total


@inline_sum
def _dot(a, a0, b, b0, k):
    a0, b0 = np.uintp(a0), np.uintp(b0)  # unsigned: no test for negative indices
    total = a[a0] * b[b0]
    for p in range(np.uintp(1), np.uintp(k)):
        total += a[a0 + p] * b[b0 + p]
    return total


def _has_rows(x: np.ndarray) -> bool:
    """Whether the elements of each row lie one after another, and rows are whole elements apart."""
    return (x.shape[1] == 1 or x.strides[1] == x.itemsize) and x.strides[0] % x.itemsize == 0 and x.strides[0] >= 0


def _plain(x: np.ndarray) -> np.ndarray:
    """The matrix, copied where its strides are not whole, positive numbers of elements."""
    return x if all(s >= 0 and s % x.itemsize == 0 for s in x.strides) else np.ascontiguousarray(x)


def _strides(x: np.ndarray) -> Any:
    """Distances between rows and between columns, in elements; 1 where there is but one column."""
    return x.strides[0] // x.itemsize, 1 if x.shape[1] == 1 else x.strides[1] // x.itemsize


def _anchor(x: np.ndarray) -> np.ndarray:
    """The first element as a 1-d array, from which the kernels reach the others: one type whatever the strides."""
    return x[:1, :1].reshape(1)
