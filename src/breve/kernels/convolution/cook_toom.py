"""Winograd's matrices, by the construction of Cook and Toom.

The m outputs of a correlation with r taps are a product of polynomials, evaluated at n - 1 points and at infinity
(n = m + r - 1), multiplied point by point, and interpolated:

    y = A^T [(G g) * (B^T d)],   d of n values, g of r taps, y of m values

Applied from both sides it is Winograd's F(m x m, r x r) (Lavin and Gray 2015, arXiv:1509.09308). Rounding errors grow
with the spread of the points: 0, +-sqrt(1/2), +-sqrt(2) give about half the error of the usual 0, +-1, +-2. Five
and seven are the best of a grid; without 0 all of them are pairs, which share half of a transform.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import polynomial

ROOT2 = 2**0.5
POINTS = {
    4: (0.0, 1.0, -1.0),
    5: (0.4, -0.4, 1.2, -1.2),
    6: (0.0, ROOT2 / 2, -ROOT2 / 2, ROOT2, -ROOT2),
    7: (0.3, -0.3, 0.8, -0.8, 1.9, -1.9),
    8: (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0),
}
"""Finite points by n."""


def cook_toom(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (m, n), G (n, r) and B^T (n, n) in float64, with n = m + r - 1.

    >>> at, g, bt = cook_toom(2, 3)
    >>> data, taps = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 10.0, 100.0])
    >>> at @ ((g @ taps) * (bt @ data))
    array([321., 432.])
    """
    n = m + r - 1
    points = POINTS[n]
    at, g, bt = np.zeros((m, n)), np.zeros((n, r)), np.zeros((n, n))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        at[:, i] = [point**e for e in range(m)]
        g[i] = np.array([point**e for e in range(r)]) / np.prod([point - other for other in others])
        bt[i, : n - 1] = polynomial.polyfromroots(others)
    at[m - 1, n - 1] = g[n - 1, r - 1] = 1
    bt[n - 1] = polynomial.polyfromroots(points)
    return at, g, _rounded(bt)


def _rounded(matrix: np.ndarray) -> np.ndarray:
    """Without the rounding errors of the construction: what is nearly a half-integer is one."""
    nearest = np.round(2 * matrix) / 2
    return np.where(np.abs(matrix - nearest) < 1e-12, nearest, matrix)
