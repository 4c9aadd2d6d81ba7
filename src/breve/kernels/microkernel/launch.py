"""A loop over tasks on all threads: `launch(body, count, workers, args)`.

It does for long loop bodies what `prange` does, in half the time to compile: numba's `prange` compiles the body
as part of three functions, one around the other; here it is compiled once, by itself, and called by its address.

Each worker begins with a run of tasks, as long as the others' and in order, so that what one task reads or leaves
behind is found by the next in the caches of one core. One that has finished its own takes half of what another has left
(work stealing: Blumofe and Leiserson 1999, Journal of the ACM 46): a core that is slower, or busy, has fewer tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.compiler import Flags, compile_extra
from numba.extending import intrinsic

from breve.kernels.microkernel.denormals import flush_denormals
from breve.kernels.threads import inline, inline_parallel

LINE = 16  # integers from one worker's run to the next: two cache lines, which are fetched in pairs
MASK = (1 << 32) - 1
TAKES = 32
"""Times that a worker takes tasks from its run. With each its stores must be finished, slow ones past the caches too:
one by one, rows of depthwise convolutions took up to 1.1 times as long.
"""

_I64 = ir.IntType(64)
_THUNK = ir.FunctionType(ir.VoidType(), [_I64, _I64, _I64])
_DRIVE = (types.intp,) * 4


def _call(typingctx: Any, thunk: Any, args: Any, task: Any, worker: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.call(builder.inttoptr(values[0], _THUNK.as_pointer()), list(values[1:]))
        return context.get_dummy_value()

    return types.void(*_DRIVE), codegen


_call_thunk: Any = intrinsic(_call)


def _fence(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


_finish_stores: Any = intrinsic(_fence)
"""Have all threads see what was written past the caches, which a plain end of a loop need not wait for."""


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of an array's element."""
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _load_atomic(typingctx: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_element(context, builder, signature.args[0], *values), "seq_cst", 8)

    return types.int64(array, types.intp), codegen


def _replace_atomic(typingctx: Any, array: Any, index: Any, old: Any, new: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _element(context, builder, signature.args[0], *values[:2])
        return builder.extract_value(builder.cmpxchg(place, *values[2:], "seq_cst", "seq_cst"), 1)

    return types.boolean(array, types.intp, types.int64, types.int64), codegen


_load: Any = intrinsic(_load_atomic)
_replace: Any = intrinsic(_replace_atomic)
"""Set an element to `new` if it still is `old`, as no other thread can interrupt; return whether it was."""


@inline
def _run(first, last):
    """Tasks from `first` to `last` as one number, which changes hands at once."""
    return last << 32 | first


@inline
def _next_tasks(runs, worker, most):
    """Take up to `most` tasks from the beginning of one's own run: return the first, and that after the last."""
    while True:
        run = _load(runs, worker * LINE)
        first, last = run & MASK, run >> 32
        end = min(first + most, last)
        if first >= last or _replace(runs, worker * LINE, run, _run(end, last)):
            return first, end


@inline
def _take_over(runs, worker, workers):
    """Make the later half of another's run one's own, which is empty; return whether there was any.

    Others leave an empty run alone. One that is on its way from hand to hand is not seen: then its new owner is alone.
    """
    for i in range(1, workers):
        other = (worker + i) % workers * LINE
        while True:
            run = _load(runs, other)
            first, last = run & MASK, run >> 32
            if first >= last:
                break
            middle = (first + last) // 2
            if _replace(runs, other, run, _run(first, middle)):
                return _replace(runs, worker * LINE, _load(runs, worker * LINE), _run(middle, last))
    return False


@inline
def _drive_alone(thunk, args, count, workers):
    for task in range(count):
        _call_thunk(thunk, args, task, 0)


@inline_parallel
def _drive(thunk, args, count, workers):
    runs = np.empty(workers * LINE, np.int64)
    for worker in range(workers):
        runs[worker * LINE] = _run(count * worker // workers, count * (worker + 1) // workers)
    most = max(1, count // (TAKES * workers))
    for worker in prange(workers):
        flush_denormals()  # the thread may be one that another library started
        while True:
            first, end = _next_tasks(runs, worker, most)
            for task in range(first, end):
                _call_thunk(thunk, args, task, worker)
            if first >= end and not _take_over(runs, worker, workers):
                break
        _finish_stores()


def _launch(typingctx: Any, body: Any, count: Any, workers: Any, args: Any) -> Any:
    argument_types = (types.intp, types.intp, *args.types)
    drives = _compiled(_drive, _DRIVE), _compiled(_drive_alone, _DRIVE)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, tasks, threads, packed = values
        compiled = _compile_body(typingctx, context, body.dispatcher, argument_types)
        place = cgutils.alloca_once_value(builder, packed)
        thunk = _emit_thunk(context, builder.module, compiled, argument_types, place.type)
        context.add_linking_libs([drive.library for drive in drives])
        passed = [builder.ptrtoint(thunk, _I64), builder.ptrtoint(place, _I64), tasks, threads]
        with builder.if_else(builder.icmp_signed(">", threads, _I64(1))) as branches:
            for branch, drive in zip(branches, drives, strict=True):
                with branch:
                    function = context.declare_function(builder.module, drive.fndesc)
                    context.call_conv.call_function(builder, function, types.none, _DRIVE, passed)
        return context.get_dummy_value()

    return types.void(body, types.intp, types.intp, args), codegen


launch: Any = intrinsic(_launch)
"""Call `body(task, worker, *args)` for all tasks below `count`, each once, by any worker below `workers`.

To be called in a function that `threads.launching` compiled. `body` is compiled by `threads.inline`, raises nothing and
returns nothing; `args` is a tuple, whose arrays do not overlap unless they are only read. With one worker no other
thread is touched.
"""


def _compile_body(typingctx: Any, context: Any, body: Any, argument_types: Any) -> Any:
    """The body for these types, in the library of its caller: optimised and translated once, together with that.

    LLVM may take its arrays not to overlap, as it may in a `prange`. Then only it vectorizes loops over three and more
    arrays: a maximum over windows takes a third of the time.
    """
    flags: Any = Flags()
    flags.release_gil = flags.noalias = True
    flags.nrt = body.targetoptions["_nrt"]
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    library = context.active_code_library
    context = context.subtarget(enable_nrt=flags.nrt)
    return compile_extra(typingctx, context, body.py_func, argument_types, types.none, flags, {}, library)


def _compiled(dispatcher: Any, argument_types: Any) -> Any:
    """The compiled function for these types, compiled now (or read from numba's cache) if it must be."""
    dispatcher.compile(argument_types)
    return dispatcher.overloads[argument_types]


def _emit_thunk(context: Any, module: Any, compiled: Any, argument_types: Any, pointer: Any) -> Any:
    """A function (address of args, task, worker) that unpacks the arguments and calls the body."""
    thunk = ir.Function(module, _THUNK, module.get_unique_name("thunk"))
    thunk.linkage = "internal"
    builder = ir.IRBuilder(thunk.append_basic_block("entry"))
    args, task, worker = thunk.args
    fields = cgutils.unpack_tuple(builder, builder.load(builder.inttoptr(args, pointer)), len(argument_types) - 2)
    function = context.declare_function(module, compiled.fndesc)
    context.call_conv.call_function(builder, function, types.none, argument_types, [task, worker, *fields])
    builder.ret_void()
    return thunk
