"""How kernels are compiled and run on threads."""

from __future__ import annotations

from typing import Any

import numba

inline = numba.njit(nogil=True, cache=True)


def kernel(function: Any) -> Any:
    """Compile a function whose `prange` loops run on all threads."""
    return numba.njit(parallel=True, nogil=True, cache=True)(function)
