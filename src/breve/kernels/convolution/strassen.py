"""Strassen's product of matrices, of convolutions: fewer multiplications for many channels, whatever the kernel.

With a batch of images in two halves, and the channels of both sides in two halves, a convolution is a product of 2 x 2
blocks, where a product of blocks is a convolution. Seven of sums of blocks do what the definition does by eight:

    A: images by channels    B: channels by outputs    C = A B: images by outputs

    M1 = (A11 + A22)(B11 + B22)     M2 = (A21 + A22) B11     M3 = A11 (B12 - B22)     M4 = A22 (B21 - B11)
    M5 = (A11 + A12) B22            M6 = (A21 - A11)(B11 + B12)                       M7 = (A12 - A22)(B21 + B22)

    C11 = M1 + M4 - M5 + M7     C12 = M3 + M5     C21 = M2 + M4     C22 = M1 - M2 + M3 + M6

(Strassen 1969, Numerische Mathematik 13). The blocks are multiplied in the same way: 49 convolutions of sixteenths do
the work of 64. Both levels together are a small matrix applied from both sides, as Winograd's transforms are: one pixel
of four images becomes 49 points of a quarter of its channels; 49 points of a quarter of the outputs, one of four tops.
Pixels of a 1x1 convolution know nothing of one another: there the quarters of all pixels are the four images.

    forward           V = A x A^T,  U = B w B^T,  M[p] = V[p] * U[p],  y = C M C^T
    backward_data     the same from top to bottom, with the kernel rotated, for each phase of the stride
    backward_weights  dw = B^T (V[p]^T . W[p]) B,  W = C^T dy C

Errors are 4 to 5 times those of `direct`. Strassen's own form errs by half of Winograd's variant, of fewer additions.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, ClassVar

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.algorithm import Algorithm, is_fast_dtype
from breve.kernels.convolution.bias import add_bias_diff
from breve.kernels.convolution.correlate import CHANNELS
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.packed_weights import PackedWeights
from breve.kernels.convolution.strassen_kernels import (
    LINE,
    POINTS,
    QUADRANTS,
    Code,
    Shifts,
    Sizes,
    correlate,
    correlate_weights,
    pack,
)
from breve.kernels.convolution.taps import Axis, Phase, backward_axis, forward_axis
from breve.kernels.convolution.unseen import Unseen
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.scratch import scratch
from breve.kernels.streaming import far_flag, stream_flag
from breve.kernels.threads import physical_cores, threads_for

A = ((1, 0, 0, 1), (0, 0, 1, 1), (1, 0, 0, 0), (0, 0, 0, 1), (1, 1, 0, 0), (-1, 0, 1, 0), (0, 1, 0, -1))
"""What M1 to M7 take of A11, A12, A21, A22."""
B = ((1, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, -1), (-1, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1))
"""What they take of B11, B12, B21, B22."""
C = ((1, 0, 0, 1, -1, 0, 1), (0, 0, 1, 0, 1, 0, 0), (0, 1, 0, 1, 0, 0, 0), (1, -1, 1, 0, 0, 1, 0))
"""What C11, C12, C21, C22 take of M1 to M7."""
IMAGES = 4  # that are computed together
CHUNK = 128  # terms of a row of taps that are multiplied together
BLOCK = 48  # pixels of each image that are: the weights pass once for so many
SUMS_BYTES = 64 << 20  # of all parts of the weights' gradient


class Strassen(Algorithm):
    """What falls into quarters."""

    name: ClassVar[str] = "strassen"
    is_exact: ClassVar[bool] = False
    _packed: PackedWeights

    @classmethod
    def refusal(cls, geometry: ConvGeometry, dtype: Any, pass_name: str) -> str:
        """It takes two-dimensional convolutions without groups, of images, channels and outputs by the four."""
        g = geometry
        if not is_fast_dtype(dtype):
            return "dtype is neither float32 nor float64"
        if len(g.kernel) != 2 or g.group > 1:
            return "it is not two-dimensional, or there are groups"
        if g.channels % IMAGES or g.num_output % IMAGES:
            return "channels or outputs are no multiple of 4"
        images = g.batch * math.prod(g.out_shape) if g.is_1x1 else g.batch
        return "" if images % IMAGES == 0 else "images, or all their pixels if the kernel is 1x1, are no multiple of 4"

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        super().__init__(geometry, dtype)
        (self._forward,) = (Correlation(*plan, self.dtype) for plan in plans(geometry, "forward", self.dtype))
        self._backward = [Correlation(*plan, self.dtype) for plan in plans(geometry, "backward_data", self.dtype)]
        ((self._weights, self._shifts),) = plans(geometry, "backward_weights", self.dtype)
        self._unseen = Unseen(geometry, dtype)
        self._packed = PackedWeights(self._forward.packed_size, self._pack)

    @property
    def _strides(self) -> tuple[int, int]:
        """From one channel to the next, and from one output to the next, in the weights."""
        taps = math.prod(self.geometry.kernel)
        return taps, taps * self.geometry.channels

    def _pack(self, weight: np.ndarray, packed: np.ndarray) -> None:
        self._forward.pack(weight, packed, *self._strides)

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """Transform, multiply, transform back; bias and ReLU go with the last."""
        bias = np.zeros(self.geometry.num_output, self.dtype) if bias is None else bias
        self._forward.run(bottom_data, self._packed.of(weight), bias, relu, top_data)

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """The correlation of the top's gradient with the rotated kernel, one for each phase of the stride."""
        bias = np.zeros(self.geometry.channels, self.dtype)
        for phase in self._backward:
            packed = scratch("weights", phase.packed_size, self.dtype)
            phase.pack(weight, packed, *self._strides[::-1])
            phase.run(top_diff, packed, bias, False, bottom_diff)
        self._unseen.clear(top_diff, bottom_diff)

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """Sum V[p]^T . W[p] over all pixels, transform back once."""
        s, threads = self._weights, threads_for(self.geometry.flops // 2)
        parts = parts_of_sums(s, self.dtype)
        v, w = (
            scratch(name, threads * POINTS * point, self.dtype).reshape(threads, -1)
            for name, point in (("v", s.v_point), ("w", s.w_point))
        )
        u = scratch("weights", parts * POINTS * s.u_point, self.dtype).reshape(parts, -1)
        blocks = scratch("rows", threads * (QUADRANTS + 1) * _block_size(s), self.dtype).reshape(threads, -1)
        arrays = bottom_data.reshape(-1), top_diff.reshape(-1), weight_diff.reshape(-1)
        code = _code(self.dtype.char, s.scale_w, s.step_w)
        correlate_weights(*arrays, s, self._shifts, code, np.zeros(2, np.int64), v, w, u, blocks)
        if bias_diff is not None:
            add_bias_diff(top_diff, bias_diff)


class Correlation:
    """One phase of a convolution, forward or backward, by Strassen's products."""

    def __init__(self, sizes: Sizes, shifts: Shifts, dtype: np.dtype) -> None:
        self.sizes, self._shifts, self._dtype = sizes, shifts, dtype

    @property
    def packed_size(self) -> int:
        """Elements of the packed weights."""
        return POINTS * self.sizes.u_point

    def pack(self, weight: np.ndarray, packed: np.ndarray, k_stride: int, j_stride: int) -> None:
        """49 times panels [panel][tap][c][nr] of weights whose next c is k_stride, and next output j_stride away."""
        s, threads = self.sizes, threads_for(16 * weight.size)
        blocks = scratch("rows", threads * QUADRANTS * _block_size(s), self._dtype).reshape(threads, -1)
        code = _code(self._dtype.char, s.scale_w, s.step_w)
        pack(weight.reshape(-1), packed, s, self._shifts.order[:, None], k_stride, j_stride, code, blocks)

    def run(self, x: np.ndarray, packed: np.ndarray, bias: np.ndarray, relu: bool, y: np.ndarray) -> None:
        """Overwrite y."""
        s, dtype = self.sizes, self._dtype
        threads = threads_for(x.size * s.j * s.taps)
        v, m = (
            scratch(name, threads * POINTS * point, dtype).reshape(threads, -1)
            for name, point in (("v", s.v_point), ("w", s.m_point))
        )
        streams = s.j * y.itemsize % LINE_BYTES == 0 and stream_flag(x, y) != 0
        code = _code(dtype.char, s.scale_w, s.step_w, streams)
        arrays = x.reshape(-1), packed, bias, int(relu), y.reshape(-1)
        correlate(*arrays, s, self._shifts, code, np.zeros(2, np.int64), v, m)


def parts_of_sums(s: Sizes, dtype: Any) -> int:
    """Into how many parts, with sums of their own, the bands are cut for the gradient of weights."""
    sums_bytes = POINTS * s.u_point * np.dtype(dtype).itemsize
    return max(1, min(s.quads * s.bands, physical_cores(), SUMS_BYTES // sums_bytes))


def plans(g: ConvGeometry, pass_name: str, dtype: Any) -> list[tuple[Sizes, Shifts]]:
    """The sizes and shifts of a pass: of each phase of the stride in backward_data."""
    if g.is_1x1:
        pixels = g.batch * math.prod(g.out_shape) // IMAGES
        g = ConvGeometry(IMAGES, g.channels, g.num_output, (pixels, 1), g.kernel, g.stride, g.pad, g.dilation)
    if pass_name == "backward_data":
        h, w = backward_axis(g, 0), backward_axis(g, 1)
        channels, out_shape = (g.num_output, g.channels), g.in_shape
    else:
        h, w = forward_axis(g, 0), forward_axis(g, 1)
        channels, out_shape = (g.channels, g.num_output), g.out_shape
    terms = channels[0] * g.kernel[1] if pass_name == "backward_weights" else CHUNK
    return [
        _plan(g.batch, h, w, of_h, of_w, out_shape, channels, g.kernel[1], terms, dtype)
        for of_h in h.phases
        for of_w in w.phases
        if of_h.taps and of_w.taps
    ]


def _plan(
    batch: int, h: Axis, w: Axis, of_h: Phase, of_w: Phase, out_shape: tuple[int, ...], channels: tuple[int, int],
    kernel_w: int, terms: int, dtype: Any,
) -> tuple[Sizes, Shifts]:  # fmt: skip
    """One phase, in bands of about as many pixels as a block has, a multiple of the cores if it can be."""
    isa, nr = microkernel.host_instruction_set(), microkernel.tile_columns(dtype)
    quads, cores = batch // IMAGES, physical_cores()
    bands = _round_up(max(1, round(of_h.count * of_w.count / BLOCK)), cores // math.gcd(quads, cores))
    band = -(-of_h.count // min(of_h.count, bands))
    inputs, rows = _runs([shift for _, shift in of_h.taps], h.scale, band)
    (c, j), taps_h, taps_w = (size // IMAGES for size in channels), len(of_h.taps), len(of_w.taps)
    panels, panel, j_pad = -(-j // nr), taps_h * taps_w * c * nr, _round_up(j, LINE)
    chunk = min(_round_up(c, CHANNELS), max(CHANNELS, terms // max(1, taps_w) // CHANNELS * CHANNELS))
    pixels, far = band * of_w.count, far_flag(POINTS * panels * panel * np.dtype(dtype).itemsize)
    # Where vectors are multiplied whole the next weights are wanted sooner: with AVX2 it took 1.0 to 1.09 of the time.
    fetches_x = not far and microkernel.multiplied_bytes(isa) < isa.vector_bytes
    sizes = Sizes(
        quads, h.size, w.size, channels[0], *out_shape, channels[1], of_h.count, of_w.count, of_h.start, of_w.start,
        h.step, w.step, h.scale, w.scale, c, j, taps_h, taps_w, taps_h * taps_w, band, -(-of_h.count // band), nr,
        panels, panel, len(inputs) * of_w.count * taps_w * chunk + LINE, panels * panel + LINE, pixels * j_pad + LINE,
        panels * pixels * nr + LINE, fetches_x, microkernel.fetch_flag(pixels, dtype) if fetches_x else far, j_pad,
        chunk,
    )  # type: ignore[call-arg]  # fmt: skip  # two axes: their shapes have two elements
    columns = [shift for _, shift in of_w.taps]
    order = [tap_h * kernel_w + tap_w for (tap_h,), _ in of_h.taps for (tap_w,), _ in of_w.taps]
    return sizes, Shifts(*(np.array(x, np.int64) for x in (inputs, rows, columns, order)))


def _runs(shifts: list[int], scale: int, band: int) -> tuple[list[int], list[int]]:
    """Input rows that a band sees, in runs of every scale-th, and where in them each shift finds that of its first row.

    >>> _runs([-1, 0, 1], scale=2, band=2)
    ([-1, 1, 3, 0, 2], [0, 3, 1])
    """
    inputs: list[int] = []
    places: dict[int, int] = {}
    for phase in dict.fromkeys(shift % scale for shift in shifts):
        run = [shift for shift in shifts if shift % scale == phase]
        places |= {shift: len(inputs) + (shift - min(run)) // scale for shift in run}
        inputs += range(min(run), max(run) + band * scale, scale)
    return inputs, [places[shift] for shift in shifts]


def _block_size(s: Sizes) -> int:
    """Elements of one quadrant of the weights of some channels."""
    return s.taps * CHANNELS * s.nr + LINE


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


@cache
def _code(dtype: str, scale: int, step: int, stream: bool = False) -> Code:
    """The generated code; with `stream` outputs are written past the caches.

    Sums of weights always are. Lines that both cores have read are slow to write where those are apart: gradients of
    data of 128 to 512 channels took 1.01 to 1.09 times as long on a Zen 4, and else as long.
    """

    def transform(matrix: tuple, masked: str = "", step: int = 0, **options: Any) -> int:
        return microkernel.transform_address(dtype, matrix, masked, step, quadrants=masked != "", **options)

    return Code(
        microkernel.brgemm_address(dtype),
        microkernel.copy_address(dtype),
        microkernel.transpose_address(dtype),
        images_to_points=transform(A, "src", scale),
        points_to_images=transform(C, "dst", step, epilogue=True, stream=stream),
        weights_to_points=transform(B, stream=True),
        diff_to_points=transform(tuple(zip(*C, strict=True)), "src", step),
        weights_from_points=transform(tuple(zip(*B, strict=True))),
    )
