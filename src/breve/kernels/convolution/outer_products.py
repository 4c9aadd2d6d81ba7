"""The gradient wrt the weights of a 1x1 convolution with few channels: a sum of outer products, nothing packed.

    dW[k, c] += sum over pixels p of dY[p, k] x[p, c]

The micro-kernel takes both as they lie: the side with more channels runs along the vectors, the other is broadcast. To
pack them would take about as long as to multiply them. Blocks of pixels are short, so that both sides of one stay in
the second-level cache; while one is multiplied the next is fetched, of both sides and all of it: up to 1.5 times as
fast where they come from memory.

Blocks are dealt out to parts with sums of their own, which are added up in the order of the parts, so that the result
does not depend on the threads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.parts import add_parts
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.scratch import scratch
from breve.kernels.threads import inline, launching, threads_for

FEW = 8  # vectors of the narrower side at most: with 16 packed panels are as fast or faster, with 32 twice as fast
BLOCK = 96  # pixels: 64 and 128 are alike, 256 up to a fifth slower
LEAST_BLOCKS = 64  # fewer would leave parts of the work undone while a thread waits
PARTS, LEAST_PARTS = 32, 16  # of the work; where their sums would take too much memory it is left to other ways
SUMS_BYTES = 4 << 20


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
    parts: int
    nr: int
    fetch: int
    """FAR_B where that has a call fetch all of the next block: 64 channels on a Zen 4 take 0.9 to 0.95 of the time."""


def serves(g: ConvGeometry, dtype: Any) -> bool:
    """Whether one side is narrow, the other whole vectors, the pixels many, and the sums of parts not too large."""
    narrow, wide = sorted((g.channels // g.group, g.num_output // g.group))
    lanes = microkernel.host_instruction_set().lanes(dtype)
    pixels = g.batch * math.prod(g.out_shape)
    return (
        narrow <= FEW * lanes
        and wide % lanes == 0
        and pixels >= LEAST_BLOCKS * BLOCK
        and _parts(g, dtype) >= LEAST_PARTS
    )


def plan_weights(g: ConvGeometry, dtype: Any) -> Sizes:
    """Weigh the parts."""
    c, k = g.channels // g.group, g.num_output // g.group
    sides = [(c, g.channels, 1), (k, g.num_output, c)]
    (narrow, narrow_pixel, narrow_stride), (wide, wide_pixel, wide_stride) = sides if c <= k else sides[::-1]
    pixels = g.batch * math.prod(g.out_shape)
    blocks = -(-pixels // BLOCK)
    return Sizes(
        pixels, narrow, narrow_pixel, wide, wide_pixel, g.group, narrow_stride, wide_stride, blocks, _parts(g, dtype),
        microkernel.tile_columns(dtype), microkernel.fetch_flag(narrow, dtype),
    )  # fmt: skip


def _parts(g: ConvGeometry, dtype: Any) -> int:
    return min(PARTS, SUMS_BYTES // (g.num_output * g.channels // g.group * np.dtype(dtype).itemsize))


def backward_weights(s: Sizes, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray) -> None:
    """Add to `weight_diff`."""
    sides, dtype = (bottom_data.reshape(-1), top_diff.reshape(-1)), weight_diff.dtype
    narrow, wide = sides if s.narrow_stride == 1 else sides[::-1]
    size = s.group * s.narrow * s.wide
    sums = scratch("w", s.parts * size, dtype).reshape(s.parts, size)
    workers = threads_for(s.pixels * size)
    gemm = microkernel.brgemm_address(dtype, fetches_k=True)
    multiply_parts(narrow, wide, s, gemm, np.zeros(2, np.int64), sums, workers)
    add_sums(sums, weight_diff.reshape(-1), s, workers)


@launching
def multiply_parts(narrow, wide, s, gemm, offsets, sums, workers):
    """Each task is one part of the pixels."""
    launch(_part, s.parts, workers, (narrow, wide, s, gemm, offsets, sums))


@inline
def _part(part, worker, narrow, wide, s, gemm, offsets, sums):
    begin, end = s.blocks * part // s.parts, s.blocks * (part + 1) // s.parts
    for block in range(begin, end):
        flags = s.fetch | (ACCUMULATE if block > begin else 0)
        first = block * BLOCK
        count = min(BLOCK, s.pixels - first)
        for group in range(s.group):
            a = first * s.narrow_pixel + group * s.narrow
            for j in range(0, s.wide, s.nr):  # one panel a call: what is fetched is `b_panel` away, the next block
                call(
                    gemm, s.narrow, min(s.nr, s.wide - j), count, 1, narrow, a, 1, s.narrow_pixel, wide,
                    first * s.wide_pixel + group * s.wide + j, s.wide_pixel, BLOCK * s.wide_pixel, sums[part],
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
