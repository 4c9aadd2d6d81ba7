"""Arrays on the page: blocks of cells around those that matter, as base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.explain.model import Index

KINDS = {"float32": "f4", "float64": "f8", "int32": "i4"}


class ArrayStore:
    """The arrays of a page, each once, whole or in blocks."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._known: dict[tuple[int, Index], int] = {}
        self._kept: list[np.ndarray] = []

    def add(self, array: np.ndarray, blocks: Sequence[tuple[slice, ...]]) -> int:
        """The number of an array's entry; an array that is there already gains the blocks it lacks."""
        key = (array.__array_interface__["data"][0], array.shape)
        if key not in self._known:
            self._known[key] = len(self.entries)
            self._kept.append(array)  # its address stays its own
            self.entries.append({"shape": list(array.shape), "kind": KINDS[array.dtype.name], "blocks": []})
        entry = self.entries[self._known[key]]
        for block in blocks:
            start = [s.start for s in block]
            values = array[block]
            covered = any(_covers(known, start, values.shape) for known in entry["blocks"])
            if values.size and not covered:
                entry["blocks"].append({"start": start, "size": list(values.shape), "data": encoded(values)})
        return self._known[key]

    @property
    def cells(self) -> int:
        """How many numbers are stored."""
        return sum(int(np.prod(b["size"])) for e in self.entries for b in e["blocks"])


def _covers(block: dict[str, Any], start: list[int], size: Sequence[int]) -> bool:
    axes = zip(block["start"], block["size"], start, size, strict=True)
    return all(s <= a and a + n <= s + m for s, m, a, n in axes)


def encoded(values: np.ndarray) -> str:
    """Little-endian bytes in C order, as base64."""
    plain = np.ascontiguousarray(values)
    return base64.b64encode(plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes()).decode("ascii")


def plain(values: np.ndarray) -> dict[str, Any]:
    """A whole 1-d array, outside of any store."""
    return {"kind": KINDS[values.dtype.name], "data": encoded(values)}


def block_around(shape: Index, centre: Index, limit: int, order: Sequence[Sequence[int]]) -> tuple[slice, ...]:
    """A block of at most about `limit` cells around `centre`: axes shrink in the given order, group by group.

    >>> block_around((2, 100), (0, 50), 40, [(1,), (0,)])
    (slice(0, 2, None), slice(40, 60, None))
    """
    size = list(shape)
    for group in order:
        axes = [a for a in group if a < len(size)]
        while np.prod(size, dtype=float) > limit and any(size[a] > 1 for a in axes):
            widest = max(axes, key=lambda a: size[a])
            others = np.prod([n for a, n in enumerate(size) if a != widest], dtype=float)
            size[widest] = max(1, min(size[widest] - 1, max(int(limit / others), size[widest] * 3 // 4)))
    starts = [min(max(0, c - n // 2), d - n) for c, n, d in zip(centre, size, shape, strict=True)]
    return tuple(slice(s, s + n) for s, n in zip(starts, size, strict=True))


def whole(shape: Index) -> tuple[slice, ...]:
    """The block that is everything."""
    return tuple(slice(0, d) for d in shape)


def share_out(sizes: Sequence[int], total: int) -> int:
    """The quota at which everybody takes no more than it and all together no more than `total`.

    >>> share_out([10, 100, 100], 110)
    50
    """
    left, waiting = total, sorted(sizes)
    while waiting:
        quota = left // len(waiting)
        if waiting[0] > quota:
            return max(1, quota)
        left -= waiting.pop(0)
    return max(sizes, default=1)
