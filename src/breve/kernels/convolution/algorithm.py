"""What an algorithm of convolution is: three passes for one geometry and dtype, or an honest refusal."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.packed_weights import PackedWeights

PASSES = ("forward", "backward_data", "backward_weights")


class Algorithm:
    """One way to compute the three passes of one convolution; it owns its scratch buffers and packed weights.

    With `takes_nhwc` (all but im2col) feature maps come as C-contiguous `(batch, *in_shape, channels)` arrays,
    otherwise in Caffe's order with any strides. Weights, biases and their diffs are C-contiguous, weights
    `(num_output, channels / group, *kernel)`. Shapes and dtypes have been checked by `ConvPlan`; arrays do not overlap.
    """

    name: ClassVar[str] = ""
    takes_nhwc: ClassVar[bool] = True
    is_exact: ClassVar[bool] = True
    """Rounds as a plain sum of products does: what the mode "exact" allows."""

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        self.geometry = geometry
        self.dtype = np.dtype(dtype)
        self._packed: PackedWeights | None = None

    @property
    def keeps_weights(self) -> bool:
        """Whether forward keeps a packed form of the weights for as long as they do not change."""
        return self._packed is not None

    def promise(self, weight: np.ndarray) -> None:
        """Nobody will write to this array of weights: forward need not look whether it has changed."""
        if self._packed is not None:
            self._packed.promised = weight

    @classmethod
    def refusal(cls, geometry: ConvGeometry, dtype: Any, pass_name: str) -> str:
        """Why it does not compute this pass of this convolution; empty when it does."""
        raise NotImplementedError

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """Overwrite `top_data` with the convolution, plus bias, clamped at zero with `relu`."""
        raise NotImplementedError

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """Overwrite `bottom_diff`."""
        raise NotImplementedError

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """Add to `weight_diff` and `bias_diff`."""
        raise NotImplementedError


def is_fast_dtype(dtype: Any) -> bool:
    """Whether compiled kernels serve this dtype."""
    return np.dtype(dtype) in (np.dtype(np.float32), np.dtype(np.float64))
