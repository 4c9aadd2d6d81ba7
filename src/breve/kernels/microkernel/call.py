"""How numba code calls machine code by its address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

_I64 = ir.IntType(64)


@intrinsic
def call(typingctx: Any, address: Any, *arguments: Any) -> Any:
    """`call(address, a, a0, 7, ...)`: the function at `address` with the arguments `&a.flat[a0], 7, ...`.

    An array is followed by an index, and passed as the address of that element of its memory; whatever else is passed
    is a 64-bit integer. Arrays stay alive during the call. Nothing is checked: the caller vouches for the bounds.
    """
    for kind in arguments:
        if not isinstance(kind, types.Array | types.Integer | types.Boolean):
            raise TypingError(f"call takes arrays and integers, not {kind}")
    packed = types.StarArgTuple.from_types(arguments)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        unpacked = cgutils.unpack_tuple(builder, values[1], len(arguments))
        passed, position = [], 0
        while position < len(arguments):
            kind, value = arguments[position], unpacked[position]
            if isinstance(kind, types.Array):
                data = context.make_array(kind)(context, builder, value).data
                index = context.cast(builder, unpacked[position + 1], arguments[position + 1], types.intp)
                passed.append(builder.gep(data, [index]))
                position += 1
            else:
                passed.append(context.cast(builder, value, kind, types.int64))
            position += 1
        function = ir.FunctionType(ir.VoidType(), [value.type for value in passed]).as_pointer()
        builder.call(builder.inttoptr(values[0], function), passed)
        return context.get_dummy_value()

    return types.void(types.intp, packed), codegen
