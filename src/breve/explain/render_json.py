"""An explanation as plain values: what `--json` writes. Numbers are the doubles that equal the engine's values."""

from __future__ import annotations

from typing import Any

import numpy as np

from breve.explain.model import Derivation, Explanation, Matrix, Terms


def explanation(e: Explanation) -> dict[str, Any]:
    """All of an explanation."""
    return {
        "layer": e.layer,
        "type": e.type,
        "wrt": e.wrt,
        "index": list(e.index),
        "value": e.value,
        "dtype": e.dtype,
        "formula": e.formula,
        "index_equations": e.index_equations,
        "terms": terms(e.terms, e.tops),
        "sum": e.sum,
        "ulp": e.ulp,
        "lost": [
            {"reason": x.reason, "tap": None if x.tap is None else list(x.tap), "meets": list(x.meets)} for x in e.lost
        ],
        "derivations": {name: None if d is None else d.value for name, d in e.derivations.items()},
        "worked": {name: derivation(d) for name, d in e.derivations.items() if d is not None},
        "numeric": {
            "value": e.numeric.value,
            "step": e.numeric.step,
            "verdict": e.numeric.verdict,
            "uncertainty": e.numeric.uncertainty,
        },
        "algorithm": e.algorithm,
        "algorithm_error": e.algorithm_error,
        "chain": [
            {**vars(link), "index": list(link.index), "shape": list(link.shape)} for link in e.chain
        ],
        "symbols": [vars(symbol) for symbol in e.symbols],
        "remarks": e.remarks,
    }  # fmt: skip


def terms(t: Terms, tops: list[str]) -> list[dict[str, Any]]:
    """Every term, in the order in which they are summed."""
    top_indices, factor_indices = _indices(t)
    rows = zip(
        t.top.tolist(),
        top_indices,
        t.top_diff.tolist(),
        factor_indices,
        t.factor.tolist(),
        t.product.tolist(),
        strict=True,
    )
    return [
        {
            "top": tops[top],
            "top_index": top_index,
            "top_diff": top_diff,
            "factor_index": factor_index,
            "factor": factor,
            "product": product,
        }
        for top, top_index, top_diff, factor_index, factor, product in rows
    ]


def _indices(t: Terms) -> tuple[list[list[int]], list[Any]]:
    tops: list[list[int]] = [[]] * len(t)
    for number in np.unique(t.top):
        here = np.flatnonzero(t.top == number)
        for place, index in zip(here.tolist(), _unravelled(t.top_position[here], t.top_shapes[number]), strict=True):
            tops[place] = index
    if t.factor_position is None:
        return tops, [None] * len(t)
    return tops, _unravelled(t.factor_position, t.factor_shape)


def _unravelled(positions: np.ndarray, shape: tuple[int, ...]) -> list[list[int]]:
    if not shape:
        return [[] for _ in positions]
    return np.stack(np.unravel_index(positions, shape), 1).tolist()


def derivation(d: Derivation) -> dict[str, Any]:
    """A way to the number, with its matrices."""
    return {"title": d.title, "value": d.value, "text": d.text, "matrices": [matrix(m) for m in d.matrices]}


def matrix(m: Matrix) -> dict[str, Any]:
    """A table of numbers."""
    return {
        "title": m.title,
        "values": m.values.tolist(),
        "rows": m.rows,
        "columns": m.columns,
        "marked": [list(cell) for cell in m.marked],
    }
