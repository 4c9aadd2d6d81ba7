"""Prefetching as LLVM IR: for memory that is used next, in an order that the processor does not foresee."""

from __future__ import annotations

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, LINE_BYTES, Vectors, counted_loop, i64


def emit_prefetch(isa: InstructionSet, dtype: str) -> ir.Module:
    """The module with `prefetch(x, count)`: fetch the lines of `count` elements into the second-level cache."""
    module = ir.Module("prefetch")
    v = Vectors(module, isa, dtype)
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), [v.pointer, I64]), "prefetch")
    x, count = fn.args
    elements = LINE_BYTES // v.align_bytes
    q = ir.IRBuilder(fn.append_basic_block("entry"))
    with counted_loop(q, q.sdiv(q.add(count, i64(elements - 1)), i64(elements))) as line:
        v.prefetch(q, q.gep(x, [q.mul(line, i64(elements))]), level=2)
    q.ret_void()
    return module
