"""A blob's array seen in another shape or order, without a copy where its memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError


def image_shape(blob: Blob, what: str) -> tuple[int, int, int, int]:
    """(N, C, H, W). Raises LayerError, which says `what` needs that, for other than four axes."""
    if blob.ndim != 4:
        raise LayerError(f"{what} needs four axes", expected="(N, C, H, W)", found=blob.shape)
    batch, channels, height, width = blob.shape
    return batch, channels, height, width


@contextmanager
def overwritten(array: np.ndarray, shape: Sequence[int]) -> Iterator[np.ndarray]:
    """`array` as `shape`, to be overwritten: its own memory, or a buffer that is copied into it at the end.

    >>> y = np.zeros((1, 2, 2, 2)).transpose(0, 3, 1, 2)
    >>> with overwritten(y, (2, 4)) as matrix:
    ...     matrix[...] = np.arange(8).reshape(2, 4)
    >>> y[0, 1]
    array([[4., 5.],
           [6., 7.]])
    """
    if array.shape == tuple(shape):
        yield array
    elif array.flags.c_contiguous:
        yield array.reshape(shape)
    else:
        buffer = np.empty(shape, array.dtype)
        yield buffer
        array[...] = buffer.reshape(array.shape)


def channels_last(array: np.ndarray) -> np.ndarray:
    """`array` (N, C, ...) as contiguous (N, ..., C): a view where it lies so, else a copy."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


@contextmanager
def overwritten_channels_last(array: np.ndarray) -> Iterator[np.ndarray]:
    """`array` (N, C, ...) as contiguous (N, ..., C), to be overwritten as with `overwritten`."""
    moved = np.moveaxis(array, 1, -1)
    if moved.flags.c_contiguous:
        yield moved
    else:
        buffer = np.empty(moved.shape, array.dtype)
        yield buffer
        moved[...] = buffer
