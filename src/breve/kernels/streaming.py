"""Writing past the caches, where what is written is too much to be found there again.

A store into memory that is not in a cache reads the line first, and pushes out what may still be wanted. Whole lines
written past the caches save both: depthwise convolutions of 25 MB and more took a half to nine tenths of their time.
"""

from __future__ import annotations

import numpy as np

from breve.kernels.microkernel import STREAM
from breve.kernels.microkernel.vectors import LINE_BYTES

LEAST_BYTES = 20 << 20  # of input and output. Less would stay in the third-level cache: streaming cost a quarter there


def stream_flag(x: np.ndarray, out: np.ndarray) -> int:
    """STREAM if `x` and `out` together are large and the rows of `out` are whole cache lines, else 0."""
    row_bytes, whole = out.shape[-1] * out.itemsize, (out.ctypes.data, *out.strides[:-1])
    is_aligned = row_bytes % LINE_BYTES == 0 and all(number % LINE_BYTES == 0 for number in whole)
    return STREAM if is_aligned and x.nbytes + out.nbytes >= LEAST_BYTES else 0
