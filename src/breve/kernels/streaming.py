"""Writing past the caches, where what is written is too much to be found there again.

A store into memory that is not in a cache reads the line first, and pushes out what may still be wanted. Whole lines
written past the caches save both: depthwise convolutions of 25 MB and more took a half to nine tenths of their time on
a processor with 32 MB of third-level cache, those by Winograd 85 to 95 %; on one that shares 300 MB among all guests of
a machine depthwise ones took a third to three quarters.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from breve.kernels.microkernel import FAR_B, STREAM, host_processor
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.threads import physical_cores

CACHE_SIZE_FILE, FIRST_SIZE_FILE = (Path(f"/sys/devices/system/cpu/cpu0/cache/index{i}/size") for i in (3, 0))
USUAL_BYTES, USUAL_FIRST_BYTES = 32 << 20, 32 << 10  # of a third-level and a first-level cache if nothing is known
CORE_BYTES = 48 << 20
"""What a core has of that cache at most. A virtual machine of two cores sees the 300 MB that sixty others share: 38 MB
of input and output were better left there (1.1 to 1.3 times as fast), 51 to 64 MB written past it (1.3 to 2.9 times).
"""
FAR = (
    "skylake-avx512",
    "cascadelake",
    "cooperlake",
    "icelake-server",
    "sapphirerapids",
    "emeraldrapids",
    "graniterapids",
)
"""Intel's Xeons, by LLVM's names."""
FAR_BYTES = 4 << 20  # of weights, beside what they are multiplied by
SHARE = 1 / 2  # of what there is. Less may be found in it by what comes next


@cache
def cache_bytes() -> int:
    """What this process has of the third-level cache."""
    return min(_size(CACHE_SIZE_FILE, USUAL_BYTES), CORE_BYTES * physical_cores())


@cache
def first_level_bytes() -> int:
    """A core's first-level cache of data."""
    return _size(FIRST_SIZE_FILE, USUAL_FIRST_BYTES)


def _size(file: Path, usual: int) -> int:
    """That of a cache: Linux writes `32768K`."""
    try:
        text = file.read_text().strip()
    except OSError:
        return usual
    return int(text[:-1]) << 10 if text.endswith("K") and text[:-1].isdecimal() else usual


def third_level_is_far() -> bool:
    """Whether it lies behind a network of many cores: what a thread needs soon had better stay in the second.

    One core of an Emerald Rapids read 25 GB/s from it, and 60 from the second.
    """
    return host_processor() in FAR


def least_bytes() -> float:
    """What is read and written must be so large together."""
    return SHARE * cache_bytes()


def far_flag(size: int) -> int:
    """FAR_B if so many bytes of weights, which pass block after block, do not stay in the second-level cache, else 0.

    3x3 convolutions of 512 channels by Winograd take 0.85 of their time so, on a Zen 4.
    """
    return FAR_B if size >= FAR_BYTES else 0


def stream_flag(x: np.ndarray, out: np.ndarray) -> int:
    """STREAM if `x` and `out` together are large and the rows of `out` are whole cache lines, else 0."""
    if x.nbytes + out.nbytes < least_bytes():
        return 0
    whole = out.shape[-1] * out.itemsize, out.ctypes.data, *out.strides[:-1]
    return STREAM if all(number % LINE_BYTES == 0 for number in whole) else 0
