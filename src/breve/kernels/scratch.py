"""Scratch memory that all kernels of a Python thread share.

A net runs one layer at a time, so one buffer of the largest size serves them all, and is still in the cache from the
layer before.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from breve.blob import Storage

_local = threading.local()


def scratch(name: str, size: int, dtype: Any) -> np.ndarray:
    """The first `size` elements of this thread's buffer of that name; they hold whatever was written there last."""
    buffers = _local.__dict__.setdefault("buffers", {})
    key = name, np.dtype(dtype)
    if key not in buffers:
        buffers[key] = Storage(dtype)
    return buffers[key].array(size)
