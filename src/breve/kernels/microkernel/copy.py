"""A copy of a matrix between row lengths, as LLVM IR: how operands are packed.

    dst[i dst_row + j] = src[i src_row + j]      0 <= i < rows, 0 <= j < columns

numba cannot know that two arrays do not overlap, and copies short rows element by element; this moves whole vectors.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, Vectors, counted_loop, i64

GROUP = 4  # vectors of a row copied together, or else the power of two below
LONG = 512  # columns of a row that is copied in one go


def emit_copy(isa: InstructionSet, dtype: Any) -> ir.Module:
    """The module with the function copy(rows, columns, src, src_row, dst, dst_row) for one dtype."""
    module = ir.Module("copy")
    v = Vectors(module, isa, dtype)
    arguments = [I64, I64, v.pointer, I64, v.pointer, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "copy")
    rows, columns, src, _, dst, _ = function.args
    for pointer in (src, dst):
        pointer.add_attribute("noalias")
    q = ir.IRBuilder(function.append_basic_block("entry"))
    wide = GROUP * v.lanes
    groups = q.sdiv(columns, i64(wide))
    with q.if_else(q.icmp_signed(">", columns, i64(LONG))) as (along, across):
        with along, counted_loop(q, rows) as row, counted_loop(q, groups) as index:
            _copy_vectors(q, v, GROUP, v.lanes, row, q.mul(index, i64(wide)), function.args)
        with across, counted_loop(q, groups) as index:
            _copy_columns(q, v, GROUP, v.lanes, q.mul(index, i64(wide)), function.args)
    pieces = [(vectors, v.lanes) for vectors in (2, 1)] + [(1, v.lanes >> i) for i in range(1, v.lanes.bit_length())]
    for vectors, width in pieces:
        size = vectors * width
        with q.if_then(q.icmp_unsigned("!=", q.and_(columns, i64(size)), i64(0))):
            _copy_columns(q, v, vectors, width, q.and_(columns, i64(-2 * size)), function.args)
    q.ret_void()
    return module


def _copy_columns(
    q: ir.IRBuilder, v: Vectors, vectors: int, width: int, first: ir.Value, args: tuple[ir.Argument, ...]
) -> None:
    """`vectors` times `width` columns of all rows: one after the other, short rows would mispredict where they end."""
    with counted_loop(q, args[0]) as row:
        _copy_vectors(q, v, vectors, width, row, first, args)


def _copy_vectors(
    q: ir.IRBuilder, v: Vectors, vectors: int, width: int, row: ir.Value, first: ir.Value, args: tuple[ir.Argument, ...]
) -> None:
    """The same of one row."""
    _, _, src, src_row, dst, dst_row = args
    kind = (ir.VectorType(v.scalar, width) if width > 1 else v.scalar).as_pointer()
    source, target = (q.gep(p, [q.add(q.mul(row, step), first)]) for p, step in ((src, src_row), (dst, dst_row)))
    for i in range(vectors):
        value = q.load(q.bitcast(q.gep(source, [i64(i * width)]), kind), align=v.align_bytes)
        q.store(value, q.bitcast(q.gep(target, [i64(i * width)]), kind), align=v.align_bytes)
