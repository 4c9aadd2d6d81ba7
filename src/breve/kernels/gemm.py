"""General matrix product."""

from __future__ import annotations

import numpy as np

from breve.errors import LayerError


def gemm(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> np.ndarray:
    """Write the product of two matrices into `out`, and return it.

    out = alpha op(a) op(b) + beta out, with op(x) = x.T where `trans_x` says so. With beta 0 the old `out` is not read.

    `op(a)` is (m, k), `op(b)` (k, n), `out` (m, n); any strides; one dtype. `out` must not overlap `a` or `b`.
    Raises LayerError when the shapes do not fit.

    >>> gemm(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.zeros((1, 1)), trans_b=True)
    array([[11.]])
    """
    left, right = (a.T if trans_a else a), (b.T if trans_b else b)
    if left.shape[1] != right.shape[0] or out.shape != (left.shape[0], right.shape[1]):
        raise LayerError(
            "gemm: the shapes do not fit",
            expected="(m, k) by (k, n) into (m, n)",
            found=f"{left.shape} by {right.shape} into {out.shape}",
        )
    product = alpha * (left @ right)
    out[...] = product if beta == 0 else product + beta * out
    return out
