"""A copy of a matrix between row lengths, as LLVM IR: how operands are packed.

    dst[i dst_row + j] = src[i src_row + j]      0 <= i < rows, 0 <= j < columns

numba cannot know that two arrays do not overlap, and copies short rows element by element; this moves whole vectors.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, Vectors, counted_loop, i64


def emit_copy(isa: InstructionSet, dtype: Any) -> ir.Module:
    """The module with the function copy(rows, columns, src, src_row, dst, dst_row) for one dtype."""
    module = ir.Module("copy")
    v = Vectors(module, isa, dtype)
    arguments = [I64, I64, v.pointer, I64, v.pointer, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "copy")
    rows, columns, src, src_row, dst, dst_row = function.args
    for pointer in (src, dst):
        pointer.add_attribute("noalias")
    q = ir.IRBuilder(function.append_basic_block("entry"))
    whole = q.and_(columns, i64(-v.lanes))
    with counted_loop(q, rows) as row:
        from_row, to_row = q.gep(src, [q.mul(row, src_row)]), q.gep(dst, [q.mul(row, dst_row)])
        with counted_loop(q, q.sdiv(whole, i64(v.lanes))) as index:
            at = q.mul(index, i64(v.lanes))
            v.store(q, v.load(q, q.gep(from_row, [at])), q.gep(to_row, [at]))
        width = v.lanes // 2
        while width:
            with q.if_then(q.icmp_unsigned("!=", q.and_(columns, i64(width)), i64(0))):
                done = q.and_(columns, i64(-2 * width))
                _copy_part(q, v, width, q.gep(from_row, [done]), q.gep(to_row, [done]))
            width //= 2
    q.ret_void()
    return module


def _copy_part(q: ir.IRBuilder, v: Vectors, width: int, src: ir.Value, dst: ir.Value) -> None:
    kind = (ir.VectorType(v.scalar, width) if width > 1 else v.scalar).as_pointer()
    q.store(q.load(q.bitcast(src, kind), align=v.align_bytes), q.bitcast(dst, kind), align=v.align_bytes)
