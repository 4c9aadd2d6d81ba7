"""Prefetching as LLVM IR: for memory that is used next, in an order that the processor does not foresee."""

from __future__ import annotations

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I32, I64, Vectors, counted_loop, i64

LINE_BYTES = 64
_READ, _SECOND_LEVEL, _DATA = 0, 2, 1


def emit_prefetch(isa: InstructionSet, dtype: str) -> ir.Module:
    """The module with `prefetch(x, count)`: fetch the lines of `count` elements into the second-level cache."""
    module = ir.Module("prefetch")
    v = Vectors(module, isa, dtype)
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), [v.pointer, I64]), "prefetch")
    x, count = fn.args
    byte = ir.IntType(8).as_pointer()
    fetch = ir.Function(module, ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32]), "llvm.prefetch.p0")
    elements = LINE_BYTES * v.lanes // isa.vector_bytes
    q = ir.IRBuilder(fn.append_basic_block("entry"))
    with counted_loop(q, q.sdiv(q.add(count, i64(elements - 1)), i64(elements))) as line:
        at = q.bitcast(q.gep(x, [q.mul(line, i64(elements))]), byte)
        q.call(fetch, [at, I32(_READ), I32(_SECOND_LEVEL), I32(_DATA)])
    q.ret_void()
    return module
