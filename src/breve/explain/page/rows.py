"""Terms listed beforehand, for layers whose sums the page's script cannot make by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from breve.explain.layers.base import Explainer
from breve.explain.model import Terms, unravel
from breve.explain.page.arrays import plain
from breve.explain.wrt import Wrt

MOST_CELLS, MOST_TERMS, MOST_SECONDS = 24_000, 200_000, 2.0
"""Of the chosen gradient: cells, terms of all of them, time to list them."""
ALL_CELLS, ALL_TERMS, ALL_SECONDS = 120_000, 240_000, 15.0
"""Of all gradients together."""
ALL_REMARKS = 8_000


@dataclass(frozen=True)
class Limits:
    """How much may be listed of one gradient."""

    cells: int = MOST_CELLS
    terms: int = MOST_TERMS
    seconds: float = MOST_SECONDS
    remarks: int = 2_000

    @classmethod
    def shared_by(cls, gradients: int) -> Limits:
        """What each of so many gradients may take."""
        share = max(1, gradients)
        return cls(
            min(MOST_CELLS, ALL_CELLS // share),
            min(MOST_TERMS, ALL_TERMS // share),
            min(MOST_SECONDS, ALL_SECONDS / share),
            ALL_REMARKS // share,
        )


def listed(
    e: Explainer, wrt: Wrt, positions: Iterable[int], limits: Limits, images: slice, batch: int
) -> dict[str, Any]:
    """The terms of the cells at `positions`, those that matter most first, as far as the limits allow.

    Only of the `images` that the page holds, in tops of a whole `batch`; what the others add is one number, the rest.
    """
    shape = e.values(wrt).shape
    found: dict[int, Terms] = {}
    rests: dict[int, float] = {}
    remarks: dict[str, list[str]] = {}
    total, begin = 0, perf_counter()
    for position in positions:
        index = unravel(position, shape)
        found[position], rests[position] = e.terms(wrt, index), 0.0
        if wrt.is_param or not e.batchwise:
            found[position], rests[position] = _within(found[position], images, batch)
        if len(found) <= limits.remarks:
            remarks[str(position)] = e.remarks(wrt, index)
        total += len(found[position])
        if total > limits.terms or perf_counter() - begin > limits.seconds:
            break
    rest = np.array([rests[position] for position in sorted(found)])
    return {
        **_packed(sorted(found.items())),
        "rest": plain(rest) if rest.any() else None,
        "remarks": {p: text for p, text in remarks.items() if text},
    }


def _within(terms: Terms, images: slice, batch: int) -> tuple[Terms, float]:
    """The terms of some images of a batch, and the sum of the others."""
    if images.stop - images.start == batch:
        return terms, 0.0
    outside = np.zeros(len(terms), bool)
    for number, shape in enumerate(terms.top_shapes):
        if shape[:1] == (batch,):
            image = terms.top_position // (math.prod(shape) // batch)
            outside |= (terms.top == number) & ((image < images.start) | (image >= images.stop))
    return (terms.only(~outside), math.fsum(terms.product[outside])) if outside.any() else (terms, 0.0)


def _packed(found: list[tuple[int, Terms]]) -> dict[str, Any]:
    """Flat arrays: the terms of cell i lie from `ends[i - 1]` to `ends[i]`. What is the same for all is left out."""
    terms = [t for _, t in found]
    top, top_position, factor = (_joined(terms, name) for name in ("top", "top_position", "factor"))
    has_place = bool(terms) and terms[0].factor_position is not None
    single = all(len(t) == 1 for t in terms)
    return {
        "cells": plain(np.array([position for position, _ in found], np.int32)),
        "ends": None if single else plain(np.cumsum([len(t) for t in terms]).astype(np.int32)),
        "top": plain(top.astype(np.int32)) if top.any() else None,
        "top_position": plain(top_position.astype(np.int32)),
        "factor": plain(_smallest(factor)),
        "factor_kind": "f4" if has_place and terms[0].factor.dtype == np.float32 else "f8",
        "factor_position": plain(_joined(terms, "factor_position").astype(np.int32)) if has_place else None,
        "factor_shape": list(terms[0].factor_shape) if has_place else None,
        "factor_name": terms[0].factor_name if terms else "factor",
    }


def _joined(terms: list[Terms], name: str) -> np.ndarray:
    return np.concatenate([np.asarray(getattr(t, name)) for t in terms] or [np.zeros(0)])


def _smallest(values: np.ndarray) -> np.ndarray:
    """float32 where nothing is lost by it, else float64."""
    single = values.astype(np.float32)
    return single if np.array_equal(single, values) else values.astype(np.float64)
