"""How kernels are compiled, and how many threads they run on.

Kernels take turns: each uses all threads, so two Python threads that call kernels at once share the cores instead of
fighting for them, and numba's `workqueue` layer, which dies when entered twice, is safe. A process forked from one that
has run kernels on GNU OpenMP cannot use its threads; there kernels run on one thread. Results are the same bit for bit
in any case, because work is cut by the problem and never by the number of threads.

Denormal numbers count as zero in kernels: their threads always flush them, the calling thread while a kernel runs.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import types
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import prange
from numba.core.caching import IndexDataCacheFile

from breve.errors import BreveError
from breve.kernels.microkernel.denormals import flush_denormals, restore_denormals

# GNU OpenMP reads them when numba's first parallel kernel loads it. A thread that waits spins for some 50 us, so that
# one kernel after another starts in 3 us instead of 70 (the time it takes to wake a thread), and then sleeps: spinning
# on, it would take the core from the thread it waits for as soon as another process is busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

SMALL = 1 << 19  # multiplications of matrices: 15 us of one core at 35 G a second

_OPTIONS = {"_nrt": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_COMPILING = [
    Path(__file__).parent / name
    for name in ("threads.py", "microkernel/call.py", "microkernel/launch.py", "microkernel/denormals.py")
]
_HELPER = {**_OPTIONS, "no_cpython_wrapper": True}  # Python does not call it: quicker to compile
_BORROWING = {**_HELPER, "_nrt": False, "forceinline": True}


def set_num_threads(count: int) -> None:
    """Let kernels use `count` threads, in all Python threads. More than there are processors are not used.

    The initial value is that of the environment's BREVE_NUM_THREADS or OMP_NUM_THREADS, else the number of physical
    cores this process may use. Raises BreveError when `count` is no positive integer.

    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BreveError("the number of threads must be a positive integer", found=repr(count))
    _state.count = min(count, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def get_num_threads() -> int:
    """The number of threads that kernels use."""
    return 1 if _state.forked else _state.count


def threads_for(multiplications: int) -> int:
    """The number of threads for so much work: one where a second would cost more to wake than it saves."""
    return get_num_threads() if multiplications >= SMALL else 1


def serial(function: Any) -> Any:
    """Compile a function that runs on the calling thread alone, beside whatever else runs."""
    return _compile(function, **_OPTIONS)


def inline(function: Any) -> Any:
    """Compile a serial helper of the kernels in its file. It is for them alone: a call from Python would crash.

    It borrows its arrays and makes none. numba counts references to arrays, and threads that count up and down in turn
    pass one cache line to and fro: that took up to a third of the time of small convolutions on two cores.
    numba refuses one that does make arrays, or returns them. LLVM is told to inline it, however large: a tuple of sizes
    would be passed field by field, and small Winograd convolutions took up to a tenth longer.
    """
    return _compile(function, **_BORROWING)


def inline_allocating(function: Any) -> Any:
    """The same for a helper that makes arrays."""
    return _compile(function, **_HELPER)


def inline_sum(function: Any) -> Any:
    """The same for a sum whose terms may be added in another order, so that it runs on vectors."""
    return _compile(function, fastmath={"reassoc", "contract"}, **_BORROWING)


def inline_parallel(function: Any) -> Any:
    """The same for a helper with a `prange` loop, to be called by one thread alone."""
    return _compile(function, parallel=True, **_HELPER)


def kernel(function: Any) -> Any:
    """Compile a function whose `prange` loops run on all threads; it is safe to call from any Python thread."""
    parallel = _compile(function, parallel=True, **_OPTIONS)
    alone = _compile(_renamed(function, "_serial"), **_OPTIONS)
    return _taking_turns(function, lambda *args: (alone if _state.forked else parallel)(*args))


def launching(function: Any) -> Any:
    """The same for a function whose loops are `launch`ed."""
    return _taking_turns(function, _compile(function, **_OPTIONS))


def _taking_turns(function: Any, compiled: Any) -> Any:
    @functools.wraps(function)
    def run(*args: Any) -> Any:
        with _state.turn:
            before = _flush()
            try:
                if not _state.forked and getattr(_local, "count", 0) != _state.count:
                    numba.set_num_threads(_state.count)
                    _flush_workers(np.empty(_state.count, np.int64))
                    _local.count = _state.count
                return compiled(*args)
            finally:
                _restore(before)

    return run


def _compile(function: Any, **options: Any) -> Any:
    """numba's njit, cached on disk unless there is no place to write to."""
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)
    cache = compiled._cache
    if isinstance(getattr(cache, "_cache_file", None), IndexDataCacheFile):
        cache._cache_file.__class__ = _CacheFile
        cache._cache_file.function = function
    return compiled


class _CacheFile(IndexDataCacheFile):
    """numba's cache of one function, where what cannot be read (damaged, or of an older breve) is compiled again.

    numba looks at the file of the function alone; here a change in the file of any function it calls counts too.
    """

    function: Any

    @functools.cached_property
    def _whole_stamp(self) -> Any:
        return self.__dict__["_source_stamp"], *_stamps(_files_of_called(self.function).union(_COMPILING))

    @property
    def _source_stamp(self) -> Any:
        return self._whole_stamp  # on first use: a function may call what its file defines further down

    def load(self, key: Any) -> Any:
        try:
            return super().load(key)
        except Exception:
            return None

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except Exception:
            return {}


def _files_of_called(function: Any) -> set[Path]:
    """Files of all compiled functions that a function calls or launches, and those of what they call."""
    found, waiting = {function}, [function]
    while waiting:
        code = waiting.pop()
        called = {getattr(code.__globals__.get(name), "py_func", None) for name in code.__code__.co_names}
        fresh = called - found - {None}
        found |= fresh
        waiting += fresh
    return {Path(f.__code__.co_filename) for f in found}


def _stamps(files: set[Path]) -> list[tuple[float, int]]:
    stats = [path.stat() for path in sorted(files) if path.exists()]
    return [(stat.st_mtime, stat.st_size) for stat in stats]


def _renamed(function: Any, suffix: str) -> Any:
    """A copy of a function under another name, and so with another file in numba's cache."""
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__ + suffix, function.__defaults__
    )
    copy.__qualname__ = function.__qualname__ + suffix
    copy.__module__ = function.__module__
    return copy


@serial
def _flush():
    return flush_denormals()


@serial
def _restore(state):
    restore_denormals(state)


def _flush_each(states):
    for worker in prange(states.size):
        states[worker] = flush_denormals()


_flush_workers = _compile(_flush_each, parallel=True, **_OPTIONS)


class _State:
    """The number of threads, whose turn it is, and whether this process was forked off a threaded one."""

    def __init__(self) -> None:
        self.count = 1
        self.turn = threading.RLock()
        self.forked = False

    def after_fork(self) -> None:
        """Forget a turn taken by a thread that does not exist here, and threads that OpenMP does not revive."""
        self.turn = threading.RLock()
        self.forked = self.forked or _threading_layer() == "omp"


def _threading_layer() -> str:
    """numba's threading layer; empty before its first parallel function."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return ""


def _initial_count() -> int:
    """What the environment asks for, else one thread for each physical core."""
    for name in ("BREVE_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").strip()
        if text.isdecimal() and int(text) > 0:
            return int(text)
        if text and name == "BREVE_NUM_THREADS":
            raise BreveError("BREVE_NUM_THREADS must be a positive integer", found=repr(text))
    return physical_cores()


def physical_cores() -> int:
    """Cores that this process may use: its affinity, hyper-threads counted once, and its control group's quota."""
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    return max(1, min(len({_siblings(p) for p in processors}), math.ceil(_quota())))


def _siblings(processor: int) -> str:
    """The hyper-threads of a processor's core, as Linux lists them; the processor alone where nothing says so."""
    return _read(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list") or str(processor)


def _quota() -> float:
    """Processors' worth of time that the control group allows (cgroup v2, then v1); infinite without a limit."""
    limit = _read("/sys/fs/cgroup/cpu.max").split() or [
        _read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period")
    ]
    if len(limit) == 2 and all(number.isdecimal() for number in limit) and int(limit[1]):
        return int(limit[0]) / int(limit[1])
    return float(os.cpu_count() or 1)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


_local = threading.local()
_state = _State()
set_num_threads(_initial_count())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.after_fork)
