"""What emitters of kernels share: loops, local variables and vectors, as LLVM IR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet

I32, I64 = ir.IntType(32), ir.IntType(64)
INTEGERS = I64.as_pointer()
LINE_BYTES = 64  # of a cache line
_SCALARS = {"f": ir.FloatType(), "d": ir.DoubleType()}


def i64(value: int) -> ir.Constant:
    """A 64-bit constant."""
    return ir.Constant(I64, value)


def local(q: ir.IRBuilder, type_: ir.Type) -> ir.Value:
    """A local variable; LLVM turns it into a register."""
    with q.goto_entry_block():
        return q.alloca(type_)


@contextmanager
def counted_loop(q: ir.IRBuilder, count: ir.Value) -> Iterator[ir.Value]:
    """Emit `for index in range(count):`; the body is what is emitted inside."""
    counter = local(q, I64)
    q.store(i64(0), counter)
    head, body, done = (q.append_basic_block(name) for name in ("head", "body", "done"))
    q.branch(head)
    q.position_at_end(head)
    index = q.load(counter)
    q.cbranch(q.icmp_signed("<", index, count), body, done)
    q.position_at_end(body)
    yield index
    q.store(q.add(index, i64(1)), counter)
    q.branch(head)
    q.position_at_end(done)


def opaque(q: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The value itself, of which LLVM knows nothing.

    Its loop strength reduction would give every row of a tile a pointer of its own and run out of registers.
    """
    return q.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)


def realign_stack(function: ir.Function) -> None:
    """Have LLVM spill vectors to addresses that are multiples of their size, or each may cross two cache lines.

    llvmlite does not know this attribute, which clang sets with `-mstackrealign`.
    """
    set.add(function.attributes, '"stackrealign"')


class Vectors:
    """Vector operations of one dtype on one instruction set."""

    def __init__(self, module: ir.Module, isa: InstructionSet, dtype: Any) -> None:
        self.module, self.isa = module, isa
        dtype = np.dtype(dtype)
        self.scalar = _SCALARS[dtype.char]
        self.pointer = self.scalar.as_pointer()
        self.lanes = isa.lanes(dtype)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self._suffix = f"v{self.lanes}f{8 * dtype.itemsize}"
        self.align_bytes = dtype.itemsize

    def constant(self, value: float) -> ir.Constant:
        """The same number in all lanes."""
        return ir.Constant(self.vector, [ir.Constant(self.scalar, value)] * self.lanes)

    def zeros(self, q: ir.IRBuilder) -> ir.Value:
        """The address of a vector of zeros."""
        known = self.module.globals.get("zeros")
        if known is None:
            known = ir.GlobalVariable(self.module, self.vector, "zeros")
            known.initializer, known.global_constant, known.linkage = self.constant(0.0), True, "internal"
        return q.bitcast(known, self.pointer)

    def broadcast(self, q: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """A scalar in all lanes."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [ir.Constant(I32, 0)] * self.lanes)
        return q.shuffle_vector(q.insert_element(undefined, value, ir.Constant(I32, 0)), undefined, zeros)

    def multiply_add(self, q: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """A b + c, rounded once where the processor can."""
        name = "fma" if self.isa.fma else "fmuladd"
        return q.call(self._intrinsic(f"llvm.{name}.{self._suffix}", self.vector, [self.vector] * 3), [a, b, c])

    def load(self, q: ir.IRBuilder, pointer: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """A vector from memory; with a mask only its lanes are read, the others are 0."""
        pointer = q.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            return q.load(pointer, align=self.align_bytes)
        name = f"llvm.masked.load.{self._suffix}.p0{self._suffix}"
        function = self._intrinsic(name, self.vector, [pointer.type, I32, mask.type, self.vector])
        return q.call(function, [pointer, ir.Constant(I32, self.align_bytes), mask, self.constant(0.0)])

    def store(self, q: ir.IRBuilder, value: ir.Value, pointer: ir.Value, mask: ir.Value | None = None) -> None:
        """A vector to memory; with a mask only its lanes are written."""
        pointer = q.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            q.store(value, pointer, align=self.align_bytes)
            return
        name = f"llvm.masked.store.{self._suffix}.p0{self._suffix}"
        function = self._intrinsic(name, ir.VoidType(), [self.vector, pointer.type, I32, mask.type])
        q.call(function, [value, pointer, ir.Constant(I32, self.align_bytes), mask])

    def prefetch(self, q: ir.IRBuilder, pointer: ir.Value, level: int, write: bool = False) -> None:
        """Fetch a line into the first- or second-level cache, to be read or written; any address will do."""
        byte, locality, data = ir.IntType(8).as_pointer(), I32(4 - level), I32(1)
        function = self._intrinsic("llvm.prefetch.p0", ir.VoidType(), [byte, I32, I32, I32])
        q.call(function, [q.bitcast(pointer, byte), I32(int(write)), locality, data])

    def stream(self, q: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
        """A vector to memory past the caches; `pointer` is a multiple of a vector's bytes.

        Arm's processors see by themselves that whole lines are written, and LLVM would store them as halves of vectors.
        """
        store = q.store(value, q.bitcast(pointer, self.vector.as_pointer()), align=self.isa.vector_bytes)
        if self.isa.machine == "x86_64":
            store.set_metadata("nontemporal", self.module.add_metadata([ir.Constant(I32, 1)]))

    def store_first(self, q: ir.IRBuilder, vectors: list[tuple[ir.Value, ir.Value]], count: ir.Value) -> None:
        """The first `count` lanes of several vectors, each given as (local variable, pointer), to memory.

        Where masked stores are slow (AVX2's takes a dozen cycles on AMD) as halves, quarters, ... of a vector.
        """
        if self.isa.fast_masks:
            mask = self.mask(q, count)
            for variable, pointer in vectors:
                self.store(q, q.load(variable), pointer, mask)
            return
        done, width = local(q, I64), self.lanes // 2
        q.store(i64(0), done)
        while width:
            with q.if_then(q.icmp_unsigned("!=", q.and_(count, i64(width)), i64(0))):
                for variable, pointer in vectors:
                    value = q.load(variable)
                    self._store_low(q, value, width, q.gep(pointer, [q.load(done)]))
                    q.store(q.shuffle_vector(value, value, self._lane_numbers(width)), variable)
                q.store(q.add(q.load(done), i64(width)), done)
            width //= 2

    def _store_low(self, q: ir.IRBuilder, value: ir.Value, width: int, pointer: ir.Value) -> None:
        if width == 1:
            q.store(q.extract_element(value, ir.Constant(I32, 0)), pointer)
            return
        numbers = ir.Constant(ir.VectorType(I32, width), [ir.Constant(I32, i) for i in range(width)])
        low = q.shuffle_vector(value, value, numbers)
        q.store(low, q.bitcast(pointer, low.type.as_pointer()), align=self.align_bytes)

    def _lane_numbers(self, first: int) -> ir.Constant:
        """first, first + 1, ... for a shuffle of a vector with itself: a rotation."""
        numbers = [ir.Constant(I32, (first + i) % self.lanes) for i in range(self.lanes)]
        return ir.Constant(ir.VectorType(I32, self.lanes), numbers)

    def mask(self, q: ir.IRBuilder, count: ir.Value) -> ir.Value:
        """True in the first `count` lanes."""
        index = I32 if self.align_bytes == 4 else I64
        numbers = ir.Constant(ir.VectorType(index, self.lanes), [ir.Constant(index, i) for i in range(self.lanes)])
        count = q.trunc(count, index) if index is I32 else count
        return q.icmp_signed("<", numbers, self.broadcast(q, count))

    def _intrinsic(self, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, arguments), name)
