"""The gradient wrt the weights of a 1x1 convolution with few channels: a sum of outer products, most of them unpacked.

    dW[k, c] += sum over pixels p of dY[p, k] x[p, c]

The micro-kernel takes both as they lie: the side with more channels runs along the vectors, the other is broadcast. To
pack them would take about as long as to multiply them. Only where the narrower side is many tiles of the micro-kernel a
panel of the wider is packed, so that they find it in the first-level cache, whose sets pixels of many channels share.
Blocks of pixels are short, so that both sides of one stay in the second-level cache; while one is multiplied the next
is fetched, of both sides and all of it: up to 1.5 times as fast where they come from memory.

Blocks are dealt out to parts with sums of their own, which are added up in the order of the parts, so that the result
does not depend on the threads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.bias import add_bias_diff
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.lattice import Lattice, gather_pixels, lattice
from breve.kernels.convolution.next_pixels import distance
from breve.kernels.convolution.parts import add_parts
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.scratch import scratch
from breve.kernels.threads import inline, launching, threads_for

FEW_BYTES = 1024  # of a pixel of the narrower side at most: with more it is as fast to pack both sides, or faster
UNPACKED = 8  # vectors of it at most where nothing is packed: 16, of AVX2, take 0.89 to 0.95 of the time packed
BLOCK = 112  # pixels, whole rows of many nets: 64 and 128 are alike or up to a tenth slower, 256 up to a fifth
PACKED_BLOCK = 128  # where panels are packed: with AVX2 112 take 0.98 to 1.02 times as long, at best 1.01 to 1.07
LEAST_BLOCKS = 54  # fewer would leave parts of the work undone while a thread waits
PARTS = 16  # of the work: with 32, and so twice the sums, gradients took 0.99 to 1.05 of the time
SUMS_BYTES = 8 << 20  # of all parts; where they would take more, it is left to other ways


class Sizes(NamedTuple):
    """One gradient; `narrow` and `wide` are channels of a group."""

    pixels: int
    narrow: int
    narrow_pixel: int
    """From one pixel to the next."""
    wide: int
    wide_pixel: int
    group: int
    narrow_stride: int
    """From one channel to the next in dW."""
    wide_stride: int
    blocks: int
    nr: int
    block: int
    """Pixels of a block."""
    packed: int
    """Whether panels of the wider side are packed."""
    fetch: int
    """FAR_B where that has a call fetch all of the next block: 64 channels on a Zen 4 take 0.9 to 0.95 of the time."""
    x_is_narrow: int
    gathers: int
    """Whether the pixels of x are a lattice."""
    ahead: int
    """How far on in the wider side a call fetches: to the next block, where that is in memory."""


def serves(g: ConvGeometry, dtype: Any) -> bool:
    """Whether it is 1x1, one side narrow, the other whole vectors, pixels many, and the sums of parts not too large."""
    narrow, wide = sorted((g.channels // g.group, g.num_output // g.group))
    lanes = microkernel.host_instruction_set().lanes(dtype)
    pixels = g.batch * math.prod(g.out_shape)
    return (
        g.is_pointwise
        and narrow * np.dtype(dtype).itemsize <= FEW_BYTES
        and wide % lanes == 0
        and pixels >= LEAST_BLOCKS * BLOCK
        and PARTS * narrow * wide * g.group * np.dtype(dtype).itemsize <= SUMS_BYTES
    )


def packs(g: ConvGeometry, dtype: Any) -> bool:
    """Whether the narrower side is so many tiles that panels of the wider are packed."""
    narrow = min(g.channels, g.num_output) // g.group
    return narrow > UNPACKED * microkernel.host_instruction_set().lanes(dtype)


def plan_weights(g: ConvGeometry, dtype: Any) -> tuple[Sizes, Lattice]:
    """Weigh the parts."""
    c, k = g.channels // g.group, g.num_output // g.group
    sides = [(c, g.channels, 1), (k, g.num_output, c)]
    (narrow, narrow_pixel, narrow_stride), (wide, wide_pixel, wide_stride) = sides if c <= k else sides[::-1]
    pixels = g.batch * math.prod(g.out_shape)
    packed = packs(g, dtype)
    block = PACKED_BLOCK if packed else BLOCK
    sizes = Sizes(
        pixels, narrow, narrow_pixel, wide, wide_pixel, g.group, narrow_stride, wide_stride, -(-pixels // block),
        microkernel.tile_columns(dtype), block, packed, microkernel.fetch_flag(narrow, dtype),
        int(c <= k), int(not g.is_1x1),
        block * wide_pixel if g.is_1x1 or c <= k else 0,
    )  # fmt: skip
    return sizes, lattice(g)


def backward_weights(
    plan: tuple[Sizes, Lattice],
    top_diff: np.ndarray,
    bottom_data: np.ndarray,
    weight_diff: np.ndarray,
    bias_diff: np.ndarray | None,
) -> None:
    """Add to `weight_diff` and `bias_diff`."""
    (s, seen), dtype = plan, weight_diff.dtype
    size = s.group * s.narrow * s.wide
    sums = scratch("w", PARTS * size, dtype).reshape(PARTS, size)
    workers = threads_for(s.pixels * size)
    panel = scratch("panels", workers * s.block * s.nr, dtype).reshape(workers, -1)
    gathered = scratch("x", workers * (s.block * seen.channels if s.gathers else 0), dtype).reshape(workers, -1)
    gemm = microkernel.brgemm_address(dtype, fetches_k=not (s.gathers and s.x_is_narrow))
    copy = microkernel.copy_address(dtype)
    x, dy = bottom_data.reshape(-1), top_diff.reshape(-1)
    multiply_parts(x, dy, s, seen, gemm, copy, np.zeros(2, np.int64), gathered, panel, sums, workers)
    add_sums(sums, weight_diff.reshape(-1), s, workers)
    if bias_diff is not None:
        add_bias_diff(top_diff, bias_diff)


@launching
def multiply_parts(x, dy, s, seen, gemm, copy, offsets, gathered, panel, sums, workers):
    """Each task is one part of the pixels."""
    launch(_part, PARTS, workers, (x, dy, s, seen, gemm, copy, offsets, gathered, panel, sums))


@inline
def _part(part, worker, x, dy, s, seen, gemm, copy, offsets, gathered, panel, sums):
    begin, end = s.blocks * part // PARTS, s.blocks * (part + 1) // PARTS
    for block in range(begin, end):
        flags = s.fetch | (ACCUMULATE if block > begin else 0)
        first = block * s.block
        count = min(s.block, s.pixels - first)
        x_here, x_first = x, first
        if s.gathers:
            gather_pixels(copy, x, first, count, gathered[worker], seen)
            x_here, x_first = gathered[worker], 0
        narrow, narrow_first, wide, wide_first = dy, first, x_here, x_first
        if s.x_is_narrow:
            narrow, narrow_first, wide, wide_first = x_here, x_first, dy, first
        for group in range(s.group):
            a = narrow_first * s.narrow_pixel + group * s.narrow
            for j in range(0, s.wide, s.nr):  # one panel a call: what is fetched is `b_panel` away, in the next block
                start, columns = wide_first * s.wide_pixel + group * s.wide + j, min(s.nr, s.wide - j)
                b, b0, b_k, ahead = wide, start, s.wide_pixel, s.ahead
                if s.packed:
                    call(copy, count, columns, wide, start, s.wide_pixel, panel[worker], 0, s.nr)
                    share = (wide_first + s.block) * s.wide_pixel + (group * s.wide + j) * s.block
                    b, b0, b_k, ahead = panel[worker], 0, s.nr, distance(panel[worker], wide) + share
                call(
                    gemm, s.narrow, columns, count, 1, narrow, a, 1, s.narrow_pixel, b, b0, b_k, ahead, sums[part],
                    group * s.narrow * s.wide + j, s.wide, offsets, 0, wide, 0, flags,
                )  # fmt: skip


@launching
def add_sums(sums, weight_diff, s, workers):
    """Add the sums of all parts to the gradient, row by row of the narrower side."""
    launch(_add_row, s.group * s.narrow, workers, (sums, weight_diff, s))


@inline
def _add_row(row, worker, sums, weight_diff, s):
    add_parts(sums, row * s.wide, s.wide)
    total = sums[0, row * s.wide : (row + 1) * s.wide]
    start = row // s.narrow * s.narrow * s.wide + row % s.narrow * s.narrow_stride
    for j in range(s.wide):
        weight_diff[start + j * s.wide_stride] += total[j]
