"""Numbers too small for a full significand count as zero in kernels.

Below 1.2e-38 (float32) arithmetic is many times slower on Intel's processors, and nets get there: by the probabilities
of a softmax that is sure, by the momentum of a weight whose gradient stays zero. LeNet on a batch that it had learned
took 240 ms a step instead of 9.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_X86_BITS = 0x8040  # of MXCSR: results flushed to zero, operands taken as zero
_ARM_BIT = 1 << 24  # of FPCR: both
_I64 = ir.IntType(64)


def _flush(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        state = _read(builder)
        _write(builder, builder.or_(state, _I64(_ARM_BIT if _is_arm(builder) else _X86_BITS)))
        return state

    return types.int64(), codegen


flush_denormals: Any = intrinsic(_flush)
"""From now on take them as zero in this thread. Returns the state before, for `restore_denormals`.

On processors other than x86-64 and AArch64 nothing changes.
"""


def _restore(typingctx: Any, state: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _write(builder, values[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


restore_denormals: Any = intrinsic(_restore)
"""Back to the state that `flush_denormals` returned."""


def _is_arm(builder: Any) -> bool:
    return builder.module.triple.startswith(("aarch64", "arm64"))


def _read(builder: Any) -> Any:
    if _is_arm(builder):
        return builder.call(
            builder.module.declare_intrinsic("llvm.aarch64.get.fpcr", fnty=ir.FunctionType(_I64, [])), []
        )
    if not builder.module.triple.startswith("x86_64"):
        return _I64(0)
    slot = cgutils.alloca_once(builder, ir.IntType(32))
    _x86(builder, "stmxcsr", slot)
    return builder.zext(builder.load(slot), _I64)


def _write(builder: Any, state: Any) -> None:
    if _is_arm(builder):
        kind = ir.FunctionType(ir.VoidType(), [_I64])
        builder.call(builder.module.declare_intrinsic("llvm.aarch64.set.fpcr", fnty=kind), [state])
    elif builder.module.triple.startswith("x86_64"):
        _x86(builder, "ldmxcsr", cgutils.alloca_once_value(builder, builder.trunc(state, ir.IntType(32))))


def _x86(builder: Any, name: str, slot: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    builder.call(builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", fnty=kind), [builder.bitcast(slot, byte)])
