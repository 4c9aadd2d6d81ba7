"""The gradients wrt weights and bias where x has few channels: products of rows as they lie in memory.

    dW[k, c, r, s] += sum_{n, oy, ox} dY[n, oy, ox, k]
                                      x[n, oy stride + r dilation - pad, ox stride + s - pad, c]

Of a row r of the kernel, all (s, c) that an output pixel sees lie side by side in x, and those of the next pixel stride
times as many channels further. So a call of the micro-kernel computes the gradient of one row of the kernel: i runs
over its (s, c), j over output channels, the inner sum over the pixels of a row of dY, and its taps are the rows of a
band. Only x is copied, between columns of zeros, once for all rows of the kernel; im2col would copy it for each tap.

The bias takes the sum of dY, band by band while it is near: to read dY once more took 12 to 28 % of the time.

The bands are dealt out to parts with sums of their own, which are added up in the order of the parts, so that the
result does not depend on the threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.bias import copies_tail, plan_sum, sum_pixels
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.parts import add_parts
from breve.kernels.microkernel import ACCUMULATE, call
from breve.kernels.microkernel.launch import launch
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.scratch import scratch
from breve.kernels.threads import inline, launching, threads_for

CHANNELS = 16  # up to so many; from 32 on packed panels are as fast or faster
BAND_BYTES = 32 << 10  # of dY in a band: they stay in the first-level cache while all rows of the kernel pass
PIXELS = 512  # of a band in the second-level cache instead, where half as many would not fit the first
PARTS = 32


class Sizes(NamedTuple):
    """One gradient."""

    batch: int
    in_h: int
    in_w: int
    c: int
    out_h: int
    out_w: int
    k: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    columns: int
    """Elements of x, (s, c), that a row of the kernel sees."""
    width: int
    """Elements from one copied row of x to the next."""
    band: int
    """Rows of dY in a band."""
    bands: int
    """Bands of an image."""
    parts: int
    fetched: int
    """Elements of each pixel of the next band that a call fetches: a cache line for each tile of rows."""
    nr: int


def serves(g: ConvGeometry) -> bool:
    """Whether the taps of a row of the kernel lie side by side, and x has few channels."""
    return len(g.kernel) == 2 and g.channels <= CHANNELS and g.group == 1 == g.dilation[1]


def plan_weights(g: ConvGeometry, dtype: Any) -> Sizes:
    """Weigh the bands."""
    (out_h, out_w), c = g.out_shape, g.channels
    width = (g.in_shape[1] + 2 * g.pad[1]) * c
    size = np.dtype(dtype).itemsize
    near = BAND_BYTES // (g.num_output * size)
    pixels = near if near >= PIXELS // 2 else PIXELS
    band = -(-out_h // -(-out_h // max(1, pixels // out_w)))
    bands = -(-out_h // band)
    return Sizes(
        g.batch, g.in_shape[0], g.in_shape[1], c, out_h, out_w, g.num_output, g.kernel[0], g.kernel[1], g.stride[0],
        g.stride[1], g.pad[0], g.pad[1], g.dilation[0], g.kernel[1] * c, width, band, bands,
        min(PARTS, g.batch * bands), -(-g.kernel[1] * c // microkernel.tile_rows()) * LINE_BYTES // size,
        microkernel.tile_columns(dtype),
    )  # fmt: skip


def backward_weights(
    s: Sizes, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
) -> None:
    """Add to `weight_diff` and `bias_diff`. The sums of bands are added up in float64, as in `bias.py`."""
    threads, dtype = threads_for(s.kernel_h * s.columns * top_diff.size), weight_diff.dtype
    rows = min(s.in_h, (s.band - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1)
    buffers = scratch("rows", threads * rows * s.width, dtype).reshape(threads, -1)
    sums = scratch("w", s.parts * s.k * s.kernel_h * s.columns, dtype).reshape(s.parts, -1)
    offsets = np.arange(s.band)[:, None] * np.array([s.stride_h * s.width, s.out_w * s.k], np.int64)
    band_sums, bias_sums = np.empty((threads, s.k), dtype), np.zeros((s.parts, 0 if bias_diff is None else s.k))
    p = plan_sum(dtype, s.k, s.band * s.out_w, threads)
    x, dy = bottom_data.reshape(-1), top_diff.reshape(-1)
    correlate_rows(x, dy, s, p, offsets.reshape(-1), buffers, sums, band_sums, bias_sums)
    add_sums(sums, weight_diff.reshape(-1), s)
    if bias_diff is not None:
        bias_diff += bias_sums.sum(0).astype(dtype)


@launching
def correlate_rows(x, dy, s, p, offsets, buffers, sums, band_sums, bias_sums):
    """Each task is one part of the bands of all images."""
    launch(_part, s.parts, buffers.shape[0], (x, dy, s, p, offsets, buffers, sums, band_sums, bias_sums))


@inline
def _part(part, worker, x, dy, s, p, offsets, buffers, sums, band_sums, bias_sums):
    begin, end = s.batch * s.bands * part // s.parts, s.batch * s.bands * (part + 1) // s.parts
    for band in range(begin, end):
        image, first = band // s.bands, band % s.bands * s.band
        last = min(s.out_h, first + s.band)
        row = _copy_rows(x, image, first, last, buffers[worker], p.copy, s)
        top, at = dy, (image * s.out_h + first) * s.out_w * s.k
        if copies_tail(dy, at, (last - first) * s.out_w * s.k, worker, p):
            top, at = p.tail[worker], 0
        for r in range(s.kernel_h):
            low, high, shift = first, last, r * s.dilation_h - s.pad_h
            while low < high and low * s.stride_h + shift < 0:
                low += 1
            while low < high and (high - 1) * s.stride_h + shift >= s.in_h:
                high -= 1
            fetched = s.band * s.out_w * s.k + r * s.fetched % s.k if s.k <= s.nr else s.nr
            call(
                p.gemm, s.columns, s.k, s.out_w, high - low, buffers[worker],
                (low * s.stride_h + shift - row) * s.width, 1, s.stride_w * s.c, top,
                at + (low - first) * s.out_w * s.k, s.k, fetched, sums[part], r * s.columns * s.k, s.k, offsets, 0, x,
                0, ACCUMULATE if band > begin else 0,
            )  # fmt: skip
        if bias_sums.shape[1] > 0:
            sum_pixels(top, at, (last - first) * s.out_w, s.k, band_sums[worker], 0, p)
            for k in range(s.k):
                bias_sums[part, k] += band_sums[worker, k]


@inline
def _copy_rows(x, image, first, last, buffer, copy, s):
    """Copy the rows of x that rows `first` to `last` of dY see, between zeros; return the first of them."""
    top = max(0, first * s.stride_h - s.pad_h)
    bottom = min(s.in_h, (last - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h - s.pad_h + 1)
    before, row = s.pad_w * s.c, s.in_w * s.c
    for y in range(bottom - top):
        buffer[y * s.width : y * s.width + before] = 0
        buffer[y * s.width + before + row : (y + 1) * s.width] = 0
    if top < bottom:
        call(copy, bottom - top, row, x, (image * s.in_h + top) * row, row, buffer, before, s.width)
    return top


@launching
def add_sums(sums, weight_diff, s):
    """weight_diff[k, c, r, s] += the sums of all parts at [r, s, c, k]; the parts are added up in their order."""
    launch(_add_sums_of_row, s.kernel_h * s.kernel_w * s.c, 1, (sums, weight_diff, s))


@inline
def _add_sums_of_row(row, worker, sums, weight_diff, s):
    add_parts(sums, row * s.k, s.k)
    tap, c = row // s.c, row % s.c
    for k in range(s.k):
        weight_diff[(k * s.c + c) * s.kernel_h * s.kernel_w + tap] += sums[0, row * s.k + k]
