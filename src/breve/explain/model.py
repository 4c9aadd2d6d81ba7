"""What an explanation holds: the data that JSON, terminal text and page are three renderings of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

Index = tuple[int, ...]


@dataclass(frozen=True)
class Terms:
    """The products whose sum is one element of a gradient.

    Term t is `top_diff[t] * factor[t]`: an element of the diff of top number `top[t]`, and what the layer multiplies it
    by. Positions are flat, in Caffe's order of axes. `factor_position` points into the array named `factor_name`; it is
    None where the factor is a number of its own (a slope, a mask).
    """

    top: np.ndarray
    top_position: np.ndarray
    top_diff: np.ndarray
    factor: np.ndarray
    factor_position: np.ndarray | None
    factor_name: str
    top_shapes: tuple[Index, ...]
    factor_shape: Index = ()

    @classmethod
    def gather(
        cls,
        top_diffs: Sequence[np.ndarray],
        top: Any,
        top_position: Any,
        factor: Any,
        factor_position: Any = None,
        factor_name: str = "factor",
    ) -> Terms:
        """Terms at flat positions of the tops; `factor` is an array to look up `factor_position` in, or the factors."""
        top_position = np.atleast_1d(np.asarray(top_position, np.intp))
        if np.ndim(top) == 0:
            top_diff = taken(top_diffs[top], top_position)
        else:
            top_diff = np.empty(top_position.shape, top_diffs[0].dtype)
            for number in np.unique(top):
                top_diff[top == number] = taken(top_diffs[number], top_position[top == number])
        top = np.broadcast_to(np.asarray(top, np.intp), top_position.shape)
        shape: Index = ()
        if factor_position is not None:
            array = np.asarray(factor)
            shape, factor_position = array.shape, np.atleast_1d(np.asarray(factor_position, np.intp))
            factor = taken(array, factor_position)
        factor = np.broadcast_to(np.asarray(factor), top_position.shape)
        shapes = tuple(diff.shape for diff in top_diffs)
        return cls(top, top_position, top_diff, factor, factor_position, factor_name, shapes, shape)

    @staticmethod
    def join(parts: Sequence[Terms]) -> Terms:
        """Several lists of terms, of like factors, as one."""
        if len(parts) == 1:
            return parts[0]
        joined: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in parts[0].arrays}
        return replace(parts[0], **joined)

    def only(self, wanted: np.ndarray) -> Terms:
        """Those of the terms that a mask wants."""
        chosen: dict[str, Any] = {name: getattr(self, name)[wanted] for name in self.arrays}
        return replace(self, **chosen)

    @property
    def arrays(self) -> list[str]:
        """The names of the arrays that have one element a term."""
        names = ["top", "top_position", "top_diff", "factor"]
        return names if self.factor_position is None else [*names, "factor_position"]

    def __len__(self) -> int:
        return len(self.top)

    @cached_property
    def product(self) -> np.ndarray:
        """Each term's value in float64: exact where both factors are float32."""
        return self.top_diff.astype(np.float64) * self.factor.astype(np.float64)

    @cached_property
    def sum(self) -> float:
        """The sum of all products, rounded once."""
        return math.fsum(self.product)

    def top_index(self, t: int) -> Index:
        """Where in its top the diff of term t lies."""
        return unravel(self.top_position[t], self.top_shapes[self.top[t]])

    def factor_index(self, t: int) -> Index | None:
        """Where the factor of term t lies, if it is an element of an array."""
        return None if self.factor_position is None else unravel(self.factor_position[t], self.factor_shape)


def taken(array: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The elements at flat positions, in Caffe's order of axes whatever the memory's."""
    if array.flags.c_contiguous or not array.ndim:
        return array.reshape(-1)[positions]
    return array[np.unravel_index(positions, array.shape)]


def unravel(position: Any, shape: Index) -> Index:
    """A flat position as an index of plain numbers."""
    return tuple(int(i) for i in np.unravel_index(int(position), shape)) if shape else ()


@dataclass(frozen=True)
class Lost:
    """A term that the equation would pair but that does not exist, and why.

    `tap` is the place in the kernel, `meets` the place it would meet (fractions: between two outputs).
    """

    reason: str
    tap: Index | None
    meets: tuple[float, ...]


@dataclass(frozen=True)
class Matrix:
    """A small table of numbers with labels on its rows and columns, some of its cells marked."""

    title: str
    values: np.ndarray
    rows: list[str]
    columns: list[str]
    marked: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Derivation:
    """One way to the number: its value, in words, and the matrices it takes."""

    title: str
    value: float
    text: str
    matrices: list[Matrix] = field(default_factory=list)


@dataclass(frozen=True)
class Numeric:
    """The derivative by central differences in float64 at the step where it changes least, and the verdict."""

    value: float
    step: float
    verdict: str
    uncertainty: float = 0.0


@dataclass(frozen=True)
class Link:
    """One station on the way from the element to the loss: an element of a blob, and the layer that reads the blob.

    `diff` is the derivative of the loss wrt that element: it belongs to the blob between two layers.
    """

    blob: str
    index: Index
    data: float
    diff: float
    layer: str
    type: str
    terms: int
    share: float
    diff_norm: float
    shape: Index


@dataclass(frozen=True)
class Symbol:
    """What a symbol of the common texts is called here, and what it is in this net."""

    symbol: str
    meaning: str
    here: str


@dataclass(frozen=True)
class Explanation:
    """One element of a gradient, unfolded."""

    layer: str
    type: str
    wrt: str
    index: Index
    value: float
    dtype: str
    formula: str
    index_equations: list[str]
    terms: Terms
    lost: list[Lost]
    derivations: dict[str, Derivation | None]
    numeric: Numeric
    algorithm: str
    algorithm_error: float
    chain: list[Link]
    symbols: list[Symbol]
    remarks: list[str]
    tops: list[str]
    shape: Index

    @property
    def sum(self) -> float:
        """The sum of the terms in float64."""
        return self.terms.sum

    @property
    def ulp(self) -> float:
        """How far the engine's value is from the sum, in units in the last place of its dtype."""
        return ulps(self.value, self.sum, self.dtype)

    def to_json(self) -> dict[str, Any]:
        """As plain values for `json.dump`."""
        from breve.explain.render_json import explanation

        return explanation(self)

    def to_text(self, width: int = 100, terms: int | None = 24) -> str:
        """As the terminal shows it; at most `terms` terms (None: all)."""
        from breve.explain.render_text import explanation

        return explanation(self, width, terms)

    def __str__(self) -> str:
        return self.to_text()


def ulps(value: float, exact: float, dtype: Any) -> float:
    """value - exact in units in the last place of `exact` in `dtype`.

    >>> ulps(1 + 2**-23, 1.0, "float32")
    1.0
    """
    if value == exact:
        return 0.0
    spacing = np.spacing(np.abs(np.dtype(dtype).type(exact)))
    return (value - exact) / float(spacing)
