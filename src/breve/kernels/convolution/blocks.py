"""Any stride as a stride of 1, and large kernels as smaller ones: convolutions of blocks of pixels.

Let a block of `in_step` x `in_step` input pixels be one pixel of `in_step`^2 times as many channels, and likewise one
of `out_step` x `out_step` outputs, with in_step = stride out_step. Between blocks the convolution has stride 1, and
kernels of `taps` x `taps` blocks. Along one axis, block v of the input with pixels a, block q of the output with
pixels e:

    x' [v, a] = x[in_step v + a - pad],  y'[q, e] = y[out_step q + e]
    w'[e, a, u] = w[in_step u + a - stride e], or 0 where the kernel has no such tap
    y'[q, e] = sum over u and a of w'[e, a, u] x'[q + u, a]

3x3 kernels of stride 2 become 2x2 kernels on 4 times the channels, 11x11 of stride 4 3x3 on 16 times as many. With
stride 1 and blocks of 2 x 2 on both sides, 7x7 becomes 4x4. No array but the weights is rearranged: pixels of a row of
a block lie side by side in NHWC memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import inline, launching

MOST_TAPS = 5  # of a kernel between blocks


class Blocks(NamedTuple):
    """Sides of a block of inputs and of outputs in pixels, and of a kernel in blocks."""

    in_step: int
    out_step: int
    taps: int


def blocks_of(geometry: ConvGeometry) -> Blocks | None:
    """The smallest blocks, of one output or four, between which kernels have `MOST_TAPS` x `MOST_TAPS` taps at most.

    None where there are none, or kernel or stride is not square, or dilated.

    >>> sizes = dict(in_shape=(56, 56), pad=(1, 1), dilation=(1, 1))
    >>> blocks_of(ConvGeometry(1, 64, 64, kernel=(3, 3), stride=(2, 2), **sizes))
    Blocks(in_step=2, out_step=1, taps=2)
    >>> blocks_of(ConvGeometry(1, 64, 64, kernel=(7, 7), stride=(1, 1), **sizes))
    Blocks(in_step=2, out_step=2, taps=4)
    """
    kernel, stride = geometry.kernel[0], geometry.stride[0]
    square = len(geometry.kernel) == 2 and set(geometry.kernel) == {kernel} and set(geometry.stride) == {stride}
    if not square or set(geometry.dilation) != {1}:
        return None
    for out_step in (1, 2):
        in_step = stride * out_step
        taps = (kernel - 1 + stride * (out_step - 1)) // in_step + 1
        if taps <= MOST_TAPS:
            return Blocks(in_step, out_step, taps)
    return None


class KernelSplit:
    """Weights (k, c, kernel, kernel) of one group as w' (out_step^2 k, in_step^2 c, taps, taps), and back."""

    def __init__(self, geometry: ConvGeometry, blocks: Blocks) -> None:
        p, o = blocks.in_step, blocks.out_step
        self.shape = (o * o * geometry.num_output, p * p * geometry.channels, blocks.taps, blocks.taps)
        self._outputs, self._channels = geometry.num_output, geometry.channels
        tap = np.add.outer(geometry.stride[0] * np.arange(o), np.arange(geometry.kernel[0]))  # [e, t]
        block = np.add.outer(p * (tap % p), tap % p)  # [e_h, t_h, e_w, t_w]
        within = np.add.outer(blocks.taps * (tap // p), tap // p)
        places = block * geometry.channels * blocks.taps**2 + within
        self._places = places.transpose(0, 2, 1, 3).reshape(o * o, -1).astype(np.int64)

    def split(self, weight: np.ndarray, wide: np.ndarray, workers: int) -> None:
        """wide = w', both contiguous."""
        _split(weight.reshape(-1), wide.reshape(self.shape[0], -1), self._places, *self._sizes, workers)

    def join(self, wide: np.ndarray, weight: np.ndarray, workers: int) -> None:
        """Add the gradient with respect to w' to that with respect to the weights."""
        _join(wide.reshape(self.shape[0], -1), weight.reshape(-1), self._places, *self._sizes, workers)

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self._outputs, self._channels, self.shape[2] * self.shape[3]


@launching
def _split(weight, wide, places, outputs, channels, taps, workers):
    launch(_split_output, outputs, workers, (weight, wide, places, outputs, channels, taps))


@inline
def _split_output(k, worker, weight, wide, places, outputs, channels, taps):
    size = places.shape[1]
    for e in range(places.shape[0]):
        row = wide[e * outputs + k]
        row[:] = 0
        for c in range(channels):
            for t in range(size):
                row[places[e, t] + c * taps] = weight[(k * channels + c) * size + t]


@launching
def _join(wide, weight, places, outputs, channels, taps, workers):
    launch(_join_output, outputs, workers, (wide, weight, places, outputs, channels, taps))


@inline
def _join_output(k, worker, wide, weight, places, outputs, channels, taps):
    size = places.shape[1]
    for e in range(places.shape[0]):
        row = wide[e * outputs + k]
        for c in range(channels):
            for t in range(size):
                weight[(k * channels + c) * size + t] += row[places[e, t] + c * taps]
