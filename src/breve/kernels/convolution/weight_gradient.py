"""The gradient wrt weights on NHWC arrays, by that of three ways which suits the convolution.

A sum of outer products of pixels as they lie (1x1 kernels), x as it lies (few channels), or both sides packed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from breve.kernels.convolution import correlate_weights, few_channels, outer_products
from breve.kernels.convolution.geometry import ConvGeometry


class WeightGradient:
    """Of one convolution with two axes, or with any number of them where it is 1x1."""

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        self._way: Any = way_of(geometry, dtype)
        self._plan = self._way.plan_weights(geometry, dtype)

    def add(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """Add to `weight_diff` and `bias_diff`."""
        self._way.backward_weights(self._plan, top_diff, bottom_data, weight_diff, bias_diff)


def way_of(g: ConvGeometry, dtype: Any) -> ModuleType:
    """The module that computes it."""
    if outer_products.serves(g, dtype):
        return outer_products
    return few_channels if few_channels.serves(g) else correlate_weights
