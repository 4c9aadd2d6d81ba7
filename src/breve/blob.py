"""A blob: `data` and its gradient `diff`, with one shape, seen in Caffe's axis order.

Four-dimensional feature maps (N, C, H, W) lie in memory as (N, H, W, C): the vector side of every kernel is the
channel. `data` and `diff` are writable views of that memory in Caffe's order, so whoever works on them (a layer in
NumPy, a script) need not know. Fast kernels take `data_nhwc` and `diff_nhwc`, the same memory in its own order.
Parameters and blobs of any other rank lie in C order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.errors import LayerError

ALIGNMENT_BYTES = 64  # one cache line, one AVX-512 vector
PAGE_BYTES = 4096
STEP_BYTES = 25 * ALIGNMENT_BYTES
"""From where in a page one large array begins to where the next one does, so that all lines come in turn."""
_places = itertools.count(0, STEP_BYTES)


def aligned_zeros(size: int, dtype: Any) -> np.ndarray:
    """A zeroed 1-d array of `size` elements whose first one lies on a cache line, of large arrays on another one each.

    They would all begin with a page. With 512 or 1024 channels the pixels of a layer's both sides then meet in one set
    of a first-level cache, and small depthwise convolutions took 1.05 to 1.4 times as long.
    """
    size_bytes = size * np.dtype(dtype).itemsize
    unit, place = (PAGE_BYTES, next(_places)) if size_bytes >= PAGE_BYTES else (ALIGNMENT_BYTES, 0)
    raw = np.zeros(size_bytes + unit, np.uint8)
    skip_bytes = (place - raw.ctypes.data) % unit
    return raw[skip_bytes : skip_bytes + size_bytes].view(dtype)


class Storage:
    """Memory that several blobs may share: it grows to the largest of their sizes and never shrinks, as Caffe's does.

    It is allocated when first looked at, so a diff that nobody asks for costs nothing.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.buffer = np.empty(0, self.dtype)

    def array(self, size: int) -> np.ndarray:
        """The first `size` elements, growing (with the old contents kept) where there are fewer."""
        if self.buffer.size < size:
            grown = aligned_zeros(size, self.dtype)
            grown[: self.buffer.size] = self.buffer
            self.buffer = grown
        return self.buffer[:size]


class Blob:
    """An n-d array with its gradient.

    `shape` is in Caffe's order; `dtype` float32 or float64; with `channels_last` (the default, for activations) four
    axes are stored as (N, H, W, C), without it (parameters) in C order.

    >>> blob = Blob((2, 3, 4, 5))
    >>> blob.data.shape, blob.data_nhwc.shape, blob.data_nhwc.flags.c_contiguous
    ((2, 3, 4, 5), (2, 4, 5, 3), True)
    """

    def __init__(self, shape: Sequence[int] = (), dtype: Any = np.float32, *, channels_last: bool = True) -> None:
        self.dtype = np.dtype(dtype)
        self.channels_last = channels_last
        self._data, self._diff = Storage(dtype), Storage(dtype)
        self._views: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.shape: tuple[int, ...] = ()
        self.reshape(*shape)

    def reshape(self, *shape: int) -> None:
        """Set the shape. Contents are kept only where the number of elements stays the same. Raises LayerError."""
        if any(d < 0 for d in shape):
            raise LayerError("a blob's dimension is negative", found=shape)
        shape = tuple(int(d) for d in shape)
        if shape != self.shape:
            self.shape = shape
            self._views.clear()

    def reshape_like(self, other: Blob) -> None:
        """Take the shape and the memory order of another blob."""
        if self.channels_last != other.channels_last:
            self.channels_last = other.channels_last
            self._views.clear()
        self.reshape(*other.shape)

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def num(self) -> int:
        """The first of four axes, as old scripts call it; blobs of fewer axes count as having ones in front."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """The second of four axes."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """The third of four axes."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """The last of four axes."""
        return self._legacy(3)

    def _legacy(self, axis: int) -> int:
        if self.ndim > 4:
            raise LayerError("only blobs of up to four axes have num, channels, height and width", found=self.shape)
        return ((1,) * (4 - self.ndim) + self.shape)[axis]

    @property
    def data(self) -> np.ndarray:
        """The values, in Caffe's order; a writable view."""
        return self._view("data", self._data)

    @property
    def diff(self) -> np.ndarray:
        """The derivative of the loss with respect to `data`, element by element; a writable view."""
        return self._view("diff", self._diff)

    @property
    def data_nhwc(self) -> np.ndarray:
        """The values of a 4-d blob as (N, H, W, C), C-contiguous when `channels_last`."""
        return self.data.transpose(0, 2, 3, 1)

    @property
    def diff_nhwc(self) -> np.ndarray:
        """The gradient of a 4-d blob as (N, H, W, C), C-contiguous when `channels_last`."""
        return self.diff.transpose(0, 2, 3, 1)

    @property
    def memory(self) -> np.ndarray:
        """All values as one contiguous 1-d array in memory order, for element-wise kernels between blobs alike."""
        return self._data.array(self.count)

    @property
    def diff_memory(self) -> np.ndarray:
        """All of the gradient as one contiguous 1-d array in memory order."""
        return self._diff.array(self.count)

    def share_data(self, other: Blob) -> None:
        """Let `data` be the memory of `other.data`. Both must agree in count and order of memory."""
        self._data = other._data

    def shares_data_with(self, other: Blob) -> bool:
        """Whether `data` and `other.data` are one memory."""
        return self._data is other._data

    def share_diff(self, other: Blob) -> None:
        """Let `diff` be the memory of `other.diff`."""
        self._diff = other._diff

    @property
    def memory_order(self) -> str:
        """ "NHWC" or "C": blobs of equal shape and order can share memory or be copied flat."""
        return "NHWC" if self.channels_last and self.ndim == 4 else "C"

    def _view(self, name: str, storage: Storage) -> np.ndarray:
        flat = storage.array(self.count)
        known = self._views.get(name)
        if known is not None and known[0] is storage.buffer:
            return known[1]
        if self.memory_order == "NHWC":
            n, c, h, w = self.shape
            view = flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        else:
            view = flat.reshape(self.shape)
        self._views[name] = (storage.buffer, view)
        return view

    def __repr__(self) -> str:
        return f"Blob({' x '.join(map(str, self.shape))}, {self.dtype}, {self.memory_order})"
