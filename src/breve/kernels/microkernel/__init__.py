"""The only generated code: a batch-reduce GEMM for any shape, as machine code at an address. See docs/microkernel.md.

C[i, j]  (+)=  sum_t sum_k  A[a_off[t] + i a_row + k a_k] * B[b_off[t] + (j // nr) b_panel + k b_k + j % nr]

numba code calls it as

    call(address, m, n, k, taps, a, a0, a_row, a_k, b, b0, b_k, b_panel, c, c0, c_row, offsets, t0, bias, bias0, flags)

with `address = brgemm_address(dtype)`; `nr = tile_columns(dtype)`; an array and an index for each pointer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from breve.kernels.microkernel.brgemm import ACCUMULATE, BIAS, FAR_B, RELU, STEPS, STREAM, emit_brgemm
from breve.kernels.microkernel.cache import cache_folder
from breve.kernels.microkernel.call import call
from breve.kernels.microkernel.compile import function_address
from breve.kernels.microkernel.copy import emit_copy
from breve.kernels.microkernel.depthwise import FETCH, Run, emit_accumulate, emit_correlate
from breve.kernels.microkernel.instruction_sets import (
    INSTRUCTION_SETS,
    InstructionSet,
    host_instruction_set,
    host_processor,
    multiplied_bytes,
)
from breve.kernels.microkernel.maximum import emit_maximum
from breve.kernels.microkernel.normalisation import SECOND, STREAM_FIRST, STREAM_SECOND, emit_normalisation
from breve.kernels.microkernel.transform import Matrix, emit_transform
from breve.kernels.microkernel.transpose import emit_transpose
from breve.kernels.microkernel.vectors import LINE_BYTES

__all__ = [
    "ACCUMULATE",
    "BIAS",
    "FAR_B",
    "FETCH",
    "INSTRUCTION_SETS",
    "RELU",
    "SECOND",
    "STREAM",
    "STREAM_FIRST",
    "STREAM_SECOND",
    "InstructionSet",
    "brgemm_address",
    "cache_folder",
    "call",
    "copy_address",
    "depthwise_address",
    "fetch_flag",
    "function_address",
    "host_instruction_set",
    "host_processor",
    "maximum_address",
    "multiplied_bytes",
    "normalisation_address",
    "tile_columns",
    "tile_rows",
    "transform_address",
    "transpose_address",
]


def brgemm_address(dtype: Any, isa: InstructionSet | None = None, fetches_k: bool = False) -> int:
    """Address of the micro-kernel for float32 or float64, compiled on first need (or read from the cache on disk).

    Of A it fetches the rows of the next tile, or with `fetches_k` what follows in k.
    """
    parameters = (np.dtype(dtype).char, fetches_k)
    return function_address(emit_brgemm, "brgemm", *parameters, isa=isa or host_instruction_set())


def copy_address(dtype: Any, isa: InstructionSet | None = None) -> int:
    """Address of copy(rows, columns, src, src_row, dst, dst_row): a matrix copied between row lengths."""
    return function_address(emit_copy, "copy", np.dtype(dtype).char, isa=isa or host_instruction_set())


def transpose_address(dtype: Any, isa: InstructionSet | None = None) -> int:
    """Address of transpose(rows, columns, src, src_row, dst, dst_row): rows of a matrix become columns."""
    return function_address(emit_transpose, "transpose", np.dtype(dtype).char, isa=isa or host_instruction_set())


def transform_address(
    dtype: Any, matrix: Matrix, masked: str = "", step: int = 0, epilogue: bool = False, stream: bool = False,
    quadrants: bool = False, isa: InstructionSet | None = None,
) -> int:  # fmt: skip
    """Address of a transform by a small constant matrix from both sides. See `transform.py`.

    It streams where vectors are whole cache lines: halves, each long after the other, took 1.2 times as long as plain
    stores.
    """
    isa = isa or host_instruction_set()
    stream = stream and isa.vector_bytes == LINE_BYTES
    parameters = np.dtype(dtype).char, matrix, masked, step, epilogue, stream, quadrants
    return function_address(emit_transform, "transform", *parameters, isa=isa)


def depthwise_address(dtype: Any, run: Run, accumulate: bool, isa: InstructionSet | None = None) -> int:
    """Address of a depthwise correlation along a run of pixels, or of its gradient. See `depthwise.py`."""
    emit = emit_accumulate if accumulate else emit_correlate
    return function_address(emit, "run", np.dtype(dtype).char, run, isa=isa or host_instruction_set())


def maximum_address(dtype: Any, isa: InstructionSet | None = None) -> int:
    """Address of the maximum of a window, for all channels of a pixel. See `maximum.py`."""
    return function_address(emit_maximum, "maximum", np.dtype(dtype).char, isa=isa or host_instruction_set())


def normalisation_address(dtype: Any, kind: str, isa: InstructionSet | None = None) -> int:
    """Address of sums over rows of channels, or of what is computed of each row. See `normalisation.py`."""
    name = "normalisation"
    return function_address(emit_normalisation, name, np.dtype(dtype).char, kind, isa=isa or host_instruction_set())


def fetch_flag(rows: int, dtype: Any, isa: InstructionSet | None = None) -> int:
    """FAR_B if with it a call of so many rows of C fetches the whole next panel of B, and without it a part; else 0.

    Each tile fetches every STEPS-th row of one of the panel's columns of cache lines, or with FAR_B two of STEPS.
    """
    isa = isa or host_instruction_set()
    tiles = -(-rows // isa.tile_rows)
    enough = STEPS * max(1, isa.tile_columns(dtype) * np.dtype(dtype).itemsize // LINE_BYTES)
    return FAR_B if enough // 2 <= tiles < enough else 0


def tile_columns(dtype: Any, isa: InstructionSet | None = None) -> int:
    """nr: columns of the register tile, and so of a panel of B."""
    return (isa or host_instruction_set()).tile_columns(dtype)


def tile_rows(isa: InstructionSet | None = None) -> int:
    """mr: rows of the register tile. The micro-kernel takes any number of rows; multiples of mr run best."""
    return (isa or host_instruction_set()).tile_rows
