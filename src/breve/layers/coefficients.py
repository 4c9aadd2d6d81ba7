"""Where coefficients lie on a blob's axes, and how kernels see both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from breve.layers.views import channels_last, overwritten_channels_last

Shape = tuple[int, ...]


class Coefficients:
    """Coefficients of shape `own`, on the axes of blobs of `shape` from `axis` on, the same along all other axes.

    Kernels see a blob as contiguous (groups, rows, channels), channels last, and coefficients as (groups, channels):
    as many groups as images where the coefficients differ between images, else one; every pixel a row, but where the
    coefficients differ between pixels all of an image is one row.

    >>> Coefficients((2, 3, 4, 5), axis=1, own=(3,)).grouped(np.zeros((2, 3, 4, 5))).shape
    (1, 40, 3)
    """

    def __init__(self, shape: Shape, axis: int, own: Shape) -> None:
        self.own = own
        spread = (1,) * axis + own + (1,) * (len(shape) - axis - len(own))
        self.spread = (*spread, 1, 1)[: max(2, len(shape))]
        self.shape = (*shape, 1, 1)[: max(2, len(shape))]
        varies = any(size > 1 for size in self.spread[2:])
        self.wide = (self.spread[0], self.shape[1], *(self.shape[2:] if varies else (1,) * len(self.shape[2:])))
        self.groups = self.spread[0]
        self.channels = int(np.prod(self.wide[1:]))

    def grouped(self, array: np.ndarray) -> np.ndarray:
        """A blob's array as (groups, rows, channels), for reading."""
        return self._group(channels_last(array.reshape(self.shape)))

    @contextmanager
    def overwritten(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """A blob's array as (groups, rows, channels), to be overwritten."""
        with overwritten_channels_last(array.reshape(self.shape)) as lent:
            yield self._group(lent)

    def _group(self, array: np.ndarray) -> np.ndarray:
        count = self.groups * self.channels
        return array.reshape(self.groups, array.size // count if count else 0, self.channels)

    def expand(self, coefficients: np.ndarray) -> np.ndarray:
        """The coefficients as (groups, channels)."""
        wide = np.broadcast_to(coefficients.reshape(self.spread), self.wide)
        return np.ascontiguousarray(np.moveaxis(wide, 1, -1)).reshape(self.groups, self.channels)

    def collapse(self, sums: np.ndarray) -> np.ndarray:
        """The transpose of `expand`: sums (groups, channels) added up for each coefficient."""
        wide = np.moveaxis(sums.reshape(self.wide[0], *self.wide[2:], self.wide[1]), -1, 1)
        repeated = tuple(i for i, size in enumerate(self.spread) if size == 1)
        return wide.sum(axis=repeated).reshape(self.own)


class KeptBottom:
    """A bottom's values until backward: its own array, or the copy that a kernel takes before it works in place."""

    def __init__(self) -> None:
        self.values = self._copy = np.empty((1, 0, 0))

    def keep(self, bottom_data: np.ndarray, in_place: bool) -> np.ndarray:
        """Remember `bottom_data` (groups, rows, channels); returns where the kernel is to copy it, empty if nowhere."""
        if not in_place:
            self.values = bottom_data
            return np.empty((1, 0, 0), bottom_data.dtype)
        if self._copy.shape != bottom_data.shape:
            self._copy = np.empty_like(bottom_data)
        self.values = self._copy
        return self._copy
