"""Winograd's algorithm: fewer multiplications for square kernels, at a little more rounding error.

The output is cut into tiles of m x m, each computed from n x n inputs, n = m + kernel - 1. In the transformed domain a
tile is n^2 numbers for each channel, and the convolution is one product of matrices for each of these points:

    forward           V = B^T d B,  U = G w G^T,  M[p] = V[p] . U[p],  Y = A^T M A
    backward_data     the same from top to bottom, with the kernel rotated
    backward_weights  dW = A'^T (sum over tiles of V[p]^T . W[p]) A',  W = G' dY G'^T:
                      a correlation with the tile of dY as its kernel, F(kernel, m) where the others are F(m, kernel)

F(4, 3) needs 4 times fewer multiplications than the plain sum, F(5, 3) 4.6 times, F(2, 3) 2.25 times, F(4, 5) 6.25.
The point at infinity is part of the last row or column of outputs alone: where that lies outside the image its products
are left out: 7 x 7 outputs take (6 + 5)^2 of them instead of (6 + 6)^2. After Lavin and Gray 2015, arXiv:1509.09308.

Other strides and larger kernels are first made convolutions of blocks of pixels (`blocks.py`), with stride 1 and 5 x 5
taps at most: 3x3 of stride 2 needs 1.4 to 1.6 times fewer multiplications then, 11x11 of stride 4 3.4, 7x7 4 times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.algorithm import Algorithm, is_fast_dtype
from breve.kernels.convolution.bias import add_bias_diff
from breve.kernels.convolution.blocks import KernelSplit, blocks_of
from breve.kernels.convolution.cook_toom import cook_toom
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.packed_weights import PackedWeights
from breve.kernels.convolution.winograd_kernels import (
    correlate,
    correlate_by_outputs,
    correlate_weights,
    correlate_weights_by_outputs,
    correlate_weights_by_parts,
    pack,
)
from breve.kernels.convolution.winograd_tiles import LINE, Code, Sizes, Weights
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.scratch import scratch
from breve.kernels.streaming import far_flag, stream_flag, third_level_is_far
from breve.kernels.threads import physical_cores, threads_for

BLOCK_POINTS = 64 * 36  # 64 tiles of F(4, 3) in a block: its v and m are near, and U is read often enough
LARGE_WEIGHTS_TILES, LARGE_WEIGHTS_BYTES = 80, 6 << 20
"""Tiles of a block at least, where U comes from beyond the second-level cache: F(5, 3) 1.08 to 1.2 times as fast."""
WEIGHTS_BLOCK_BYTES = 8 << 20  # v and w of a block of tiles, for all threads: they stay in the third-level cache
PART_BLOCK_BYTES = 2 << 20  # the same for one thread, where each has sums of its own
FAR_PART_BLOCK_BYTES = 1 << 20  # where the third-level cache is far: 1.03 to 1.3 times as fast there
FAR_BLOCK_FACTOR, FAR_WEIGHTS_BYTES = 2, 16 << 20
"""Times as many tiles in a block there, if transformed weights are so large: 512x28 1.05 to 1.13 times as fast."""
LEAST_PART_BLOCK = 64  # tiles of such a block, or the sums would pass too often
PART_SUMS_BYTES = 13 << 19
"""Those sums at most, so that they stay near. 128x56 with stride 2, whose sums are 6.25 MB, takes 1.05 times as long in
parts, but 0.8 of the time in spells, of seconds on a Zen 4, when what one core wrote is far from the other.
"""
ALL_SUMS_BYTES = 64 << 20  # those of all threads
MANY_TILES = 6  # times as much as the sums take v and w of all tiles, so that adding up the parts is little
FEW_TILES_BYTES = 12 << 20  # v of all tiles, if it stays in the third-level cache
MANY_WEIGHTS_BYTES = 12 << 20  # transformed weights that are better not written to memory, nor read from it
CHUNK_COLUMNS = 64  # outputs that are worked on together then
CHUNK_DEPTH = 128  # channels of theirs whose weights are transformed before they are multiplied
DEPTH = {4: 256, 5: 256, 6: 256, 7: 256, 8: 64}
"""Terms of a sum in a transformed domain of n points a side that are added up before they are added to the others.

The transform back magnifies their rounding errors. Added one by one, 1600 tiles of F(4, 5) made a gradient of 5x5
weights wrong by 1.5e-5 of its largest value; in sixty-fours by 7e-6.
"""
MOST_KEPT = 10  # times as much memory as the weights that transformed weights may take to be kept
ALIASED_BYTES = 2048
"""Where rows of v were a multiple of this, they would meet in few sets of a first-level cache of 32 KB.

With 512 channels and AVX2 gradients of weights are 5 to 11 % faster so, the other passes 1 to 7 %.
"""
OFFSETS = np.zeros(2, np.int64)


class Winograd(Algorithm):
    """F(4, 2) to F(4, 5): 4 x 4 outputs at a time."""

    name: ClassVar[str] = "winograd"
    is_exact: ClassVar[bool] = False
    outputs: ClassVar[int] = 4
    kernels: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)

    @classmethod
    def refusal(cls, geometry: ConvGeometry, dtype: Any, pass_name: str) -> str:
        """It takes square kernels and strides, without dilation, and groups where no blocks of pixels are needed."""
        if not is_fast_dtype(dtype):
            return "dtype is neither float32 nor float64"
        blocks = blocks_of(geometry)
        if blocks is None:
            return "kernel or stride is not square, or the kernel is dilated or too large"
        if blocks.taps not in cls.kernels:
            return f"the kernel has {blocks.taps} taps along an axis, not {' or '.join(map(str, cls.kernels))}"
        if blocks.in_step > 1 and geometry.group > 1:
            return "there are groups, and the stride is not 1 or the kernel large"
        if blocks.out_step > 1 and blocks.out_step * geometry.num_output % microkernel.tile_columns(dtype):
            return "the kernel is large, and its outputs fill no whole panels"
        return ""

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        super().__init__(geometry, dtype)
        blocks = blocks_of(geometry)
        assert blocks is not None  # or it had been refused
        self._blocks, kernel = blocks, blocks.taps
        self._code = _code(self.outputs, kernel, self.dtype.char)
        forward = _Correlation(
            geometry.batch, geometry.in_shape, geometry.channels, blocks.in_step, geometry.pad, geometry.out_shape,
            geometry.num_output, blocks.out_step, (0, 0), geometry.group, kernel, self.outputs, self.dtype,
        )  # fmt: skip
        self._sizes, self._data_sizes = (way.sizes(way.most_tiles) for way in (forward, forward.transposed()))
        tile_bytes = forward.points * (self._sizes.c + self._sizes.k) * geometry.group * self.dtype.itemsize
        self._parts = self._parts_of_sums()
        block = max(16, WEIGHTS_BLOCK_BYTES // tile_bytes)
        if self._parts:
            block_bytes = FAR_PART_BLOCK_BYTES if third_level_is_far() else PART_BLOCK_BYTES
            block = max(LEAST_PART_BLOCK, block_bytes * geometry.group // tile_bytes)
        self._weights_sizes = forward.sizes(block)
        self._parts = min(self._parts, len(self._weights_sizes.bounds))  # one without a block would have no sums
        c_stride = kernel * kernel
        k_stride = c_stride * self._sizes.c
        self._weights = Weights(k_stride, c_stride, self._code.weights_to_points)
        self._rotated_weights = Weights(c_stride, k_stride, self._code.rotated_to_points)
        size = _packed_size(self._sizes)
        plain_size = geometry.num_output * geometry.channels // geometry.group * geometry.kernel[0] ** 2
        is_kept = size <= MOST_KEPT * plain_size and not self._sizes.by_outputs
        self._packed = PackedWeights(size, self._pack) if is_kept else None
        self._split = KernelSplit(geometry, blocks) if blocks.in_step > 1 else None

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """Transform, multiply, transform back; bias and ReLU go with the last."""
        pixels = self._blocks.out_step**2
        bias = np.zeros(pixels * self.geometry.num_output, self.dtype) if bias is None else np.tile(bias, pixels)
        kept = self._packed.kept(weight) if self._packed else None
        self._correlate(bottom_data, weight, self._weights, kept, bias, relu, top_data, self._sizes)

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """The forward pass from top to bottom: channels exchanged, the kernel rotated."""
        bias = np.zeros(self._blocks.in_step**2 * self.geometry.channels, self.dtype)
        self._correlate(top_diff, weight, self._rotated_weights, None, bias, False, bottom_diff, self._data_sizes)

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """Sum V[p]^T . W[p] over all tiles, transform back once."""
        if self._split is None:
            self._add_weight_diff(top_diff, bottom_data, weight_diff)
        else:
            wide = self._buffer("split", *self._split.shape)
            wide[...] = 0
            self._add_weight_diff(top_diff, bottom_data, wide)
            self._split.join(wide, weight_diff, self._threads)
        if bias_diff is not None:
            add_bias_diff(top_diff, bias_diff)

    def _add_weight_diff(self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray) -> None:
        s, points, threads = self._weights_sizes, self._weights_sizes.n**2, self._threads
        arrays = bottom_data.reshape(-1), top_diff.reshape(-1), weight_diff.reshape(-1)
        edge = self._buffer("edge", threads, points * max(s.c_pad, s.k_pad))
        if self._parts:
            v, w = (self._buffer(name, threads, points * size) for name, size in (("v", s.v_point), ("w", s.w_point)))
            u = self._buffer("weights", self._parts, points * s.u_point)
            correlate_weights_by_parts(*arrays, s, self._code, OFFSETS, v, w, u, edge)
            return
        v = self._buffer("v", points * s.v_point)
        if s.by_outputs:
            w = self._buffer("w", threads, points * (s.chunk * s.tiles * s.nr + LINE))
            u = self._buffer("weights", threads, points * (s.chunk * s.c * s.nr + LINE))
            correlate_weights_by_outputs(*arrays, s, self._code, OFFSETS, v, w, u, edge)
        else:
            w, u = self._buffer("w", points * s.w_point), self._buffer("weights", points * s.u_point)
            correlate_weights(*arrays, s, self._code, OFFSETS, v, w, u, edge)

    def _parts_of_sums(self) -> int:
        """Into how many parts, with sums of their own, the tiles are cut for the gradient of weights; 0 for none."""
        s, cores = self._sizes, physical_cores()
        small = s.n**2 * s.u_point * self.dtype.itemsize <= min(PART_SUMS_BYTES, ALL_SUMS_BYTES // cores)
        return min(cores, s.tiles) if small and s.tiles * (s.c + s.k) >= MANY_TILES * s.c * s.k else 0

    def _pack(self, weight: np.ndarray, packed: np.ndarray) -> None:
        plain = self._between_blocks(weight).reshape(-1)
        pack(plain, self._weights, packed, self._sizes, self._code.transpose, self._threads)

    def _correlate(
        self, x: np.ndarray, weight: np.ndarray, lie: Weights, kept: np.ndarray | None, bias: np.ndarray, relu: bool,
        y: np.ndarray, s: Sizes,
    ) -> None:  # fmt: skip
        """y = x correlated with the weights, which `kept` has in transformed form if it is given."""
        if kept is None:
            weight = self._between_blocks(weight)
        code = _code(self.outputs, s.kernel, self.dtype.char, self._streams(x, y, s))
        x, weight, y = x.reshape(-1), weight.reshape(-1), y.reshape(-1)
        points, threads = s.n**2, self._threads
        edge = self._buffer("edge", threads, points * max(s.c_pad, s.k_pad))
        if s.by_outputs:
            v = self._buffer("v", points * s.v_point)
            m = self._buffer("w", threads, points * (s.tiles * s.chunk * s.nr + LINE))
            u = self._buffer("weights", threads, points * (s.chunk * s.chunk_depth * s.nr + LINE))
            correlate_by_outputs(x, weight, lie, bias, int(relu), y, s, code, OFFSETS, v, u, m, edge)
            return
        if kept is None:
            kept = self._buffer("weights", _packed_size(s))
            pack(weight, lie, kept, s, self._code.transpose, threads)
        v, m = (self._buffer(name, threads, points * size) for name, size in (("v", s.v_point), ("w", s.m_point)))
        correlate(x, kept, bias, int(relu), y, s, code, OFFSETS, v, m, edge)

    @staticmethod
    def _streams(x: np.ndarray, y: np.ndarray, s: Sizes) -> bool:
        """Whether y is better written past the caches, and can be: a group's channels are whole lines too."""
        return s.k * y.itemsize % LINE_BYTES == 0 and stream_flag(x, y.reshape(-1, s.out_channels)) != 0

    def _between_blocks(self, weight: np.ndarray) -> np.ndarray:
        """The weights of the convolution of blocks."""
        if self._split is None:
            return weight
        wide = self._buffer("split", *self._split.shape)
        self._split.split(weight, wide, self._threads)
        return wide

    @property
    def _threads(self) -> int:
        return threads_for(self.geometry.flops // 2)

    def _buffer(self, name: str, *shape: int) -> np.ndarray:
        size = math.prod(shape)
        return scratch(name, size, self.dtype)[:size].reshape(shape)


class WinogradF2(Winograd):
    """F(2, 3) to F(2, 5): 2 x 2 outputs at a time; less is saved, and less rounded."""

    name: ClassVar[str] = "winograd_f2"
    outputs: ClassVar[int] = 2
    kernels: ClassVar[tuple[int, ...]] = (3, 4, 5)


class WinogradF5(Winograd):
    """F(5, 2) to F(5, 4): 5 x 5 outputs at a time, where that is cheaper; F(5, 3) errs by 1.5 to 2 times F(4, 3)."""

    name: ClassVar[str] = "winograd_f5"
    outputs: ClassVar[int] = 5
    kernels: ClassVar[tuple[int, ...]] = (2, 3, 4)


@dataclass(frozen=True)
class _Correlation:
    """What is correlated with what: the convolution itself, or the one that is its backward_data."""

    batch: int
    in_shape: tuple[int, ...]
    in_channels: int
    in_step: int
    in_pad: tuple[int, ...]
    out_shape: tuple[int, ...]
    out_channels: int
    out_step: int
    out_pad: tuple[int, ...]
    group: int
    kernel: int
    outputs: int
    dtype: np.dtype

    def transposed(self) -> _Correlation:
        """From out to in. A pad beyond kernel - 1 turns negative: what saw nothing but padding is left out."""
        return replace(
            self,
            in_shape=self.out_shape, in_channels=self.out_channels, in_step=self.out_step,
            in_pad=tuple(self.out_step * (self.kernel - 1 - pad // self.in_step) for pad in self.in_pad),
            out_shape=self.in_shape, out_channels=self.in_channels, out_step=self.in_step,
            out_pad=tuple(pad % self.in_step for pad in self.in_pad),
        )  # fmt: skip

    @property
    def points(self) -> int:
        """Numbers that a tile is transformed to."""
        return (self.outputs + self.kernel - 1) ** 2

    @property
    def _channels(self) -> tuple[int, int]:
        """Of a group, those of all pixels of a block as one: of the input, and of the output."""
        steps = (self.in_channels, self.in_step), (self.out_channels, self.out_step)
        c, k = (channels // self.group * step**2 for channels, step in steps)
        return c, k

    @property
    def most_tiles(self) -> int:
        """In a block, but for the gradient of weights."""
        weights_bytes = self.points * math.prod(self._channels) * self.dtype.itemsize
        passes_rarely = third_level_is_far() and weights_bytes >= FAR_WEIGHTS_BYTES
        most = BLOCK_POINTS // self.points * (FAR_BLOCK_FACTOR if passes_rarely else 1)
        return max(most, LARGE_WEIGHTS_TILES) if weights_bytes >= LARGE_WEIGHTS_BYTES else most

    def sizes(self, most: int) -> Sizes:
        """All sizes, with blocks of `most` tiles at most, and as many blocks for each core."""
        (in_h, in_w), (out_h, out_w), outputs = self.in_shape, self.out_shape, self.outputs
        (pad_h, pad_w), (out_pad_h, out_pad_w) = self.in_pad, self.out_pad
        nr, lanes = microkernel.tile_columns(self.dtype), microkernel.host_instruction_set().lanes(self.dtype)
        c, k = self._channels
        rows, n, panels = c // self.in_step, outputs + self.kernel - 1, -(-k // nr)
        c_pad, k_pad = _round_up(c - rows + _round_up(rows, lanes), lanes), _round_up(k, lanes)
        c_pad += LINE * (c_pad * self.dtype.itemsize % ALIASED_BYTES == 0)
        tiles_h, tiles_w = (
            -(-(size + pad) // (self.out_step * outputs))
            for size, pad in zip(self.out_shape, self.out_pad, strict=True)
        )
        tiles, cores, point_bytes = self.batch * tiles_h * tiles_w, physical_cores(), n * n * self.dtype.itemsize
        by_outputs = point_bytes * tiles * c_pad <= FEW_TILES_BYTES and point_bytes * c * k >= MANY_WEIGHTS_BYTES
        block = tiles if by_outputs else -(-tiles // _round_up(-(-tiles // most), cores))
        chunk, u_point = max(1, min(CHUNK_COLUMNS // nr, panels // cores)), panels * c * nr + LINE
        return Sizes(
            in_h, in_w, self.in_channels, out_h, out_w, self.out_channels, pad_h, pad_w, out_pad_h, out_pad_w,
            self.in_step, self.out_step, self.group, c, k, self.kernel, outputs, n, tiles_h, tiles_w, tiles, block, nr,
            panels, c_pad, k_pad, block * c_pad + LINE, block * k_pad + LINE, panels * block * nr + LINE,
            u_point, far_flag(point_bytes * u_point), by_outputs, chunk, min(CHUNK_DEPTH, DEPTH[n]), DEPTH[n],
            *self._order(tiles_h, tiles_w, block),
        )  # fmt: skip

    def _order(self, tiles_h: int, tiles_w: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the tiles within blocks of so many, and where in a block each kind of them begins."""
        tile = np.arange(self.batch * tiles_h * tiles_w)
        row, column = tile // tiles_w % tiles_h, tile % tiles_w
        lacks_row, lacks_column = (
            (place + 1) * self.outputs * self.out_step >= size + pad + self.out_step
            for place, size, pad in zip((row, column), self.out_shape, self.out_pad, strict=True)
        )
        kind = np.where(lacks_column, 2 + lacks_row, 1 - lacks_row)
        kinds = np.bincount(4 * (tile // block) + kind, minlength=4 * (tile[-1] // block + 1))
        return np.lexsort((kind, tile // block)), kinds.reshape(-1, 4).cumsum(axis=1)[:, :3]


def _packed_size(s: Sizes) -> int:
    return s.group * s.n**2 * s.u_point


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


@cache
def _code(m: int, kernel: int, dtype: str, stream: bool = False) -> Code:
    """The generated code of F(m, kernel) and F(kernel, m); with `stream` outputs are written past the caches."""
    at, g, bt = cook_toom(m, kernel)
    weights_at, diff_g, _ = cook_toom(kernel, m)

    def transform(matrix: np.ndarray, masked: str = "", **options: Any) -> int:
        rows = tuple(map(tuple, matrix.tolist()))
        return microkernel.transform_address(dtype, rows, masked, m if masked else 0, **options)

    return Code(
        microkernel.brgemm_address(dtype),
        microkernel.copy_address(dtype),
        microkernel.transpose_address(dtype),
        to_points=transform(bt, "src"),
        from_points=transform(at, "dst", epilogue=True, stream=stream),
        weights_to_points=transform(g),
        rotated_to_points=transform(g[:, ::-1]),
        diff_to_points=transform(diff_g, "src"),
        weights_from_points=transform(weights_at),
    )
