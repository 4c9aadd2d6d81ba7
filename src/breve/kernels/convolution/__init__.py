"""Convolution and its gradients: one plan for a geometry, several algorithms behind it.

>>> geometry = ConvGeometry(1, 1, 1, (3, 3), kernel=(2, 2), stride=(1, 1), pad=(0, 0), dilation=(1, 1))
>>> top_data = np.empty((1, 1, 2, 2))
>>> plan(geometry, np.float64).forward(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)), None, top_data)
>>> top_data[0, 0]
array([[ 8., 12.],
       [20., 24.]])
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from breve.errors import LayerError, UnsupportedError, did_you_mean
from breve.kernels.convolution.algorithm import PASSES, Algorithm
from breve.kernels.convolution.choice import choose, get_algorithm, set_algorithm
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.im2col import col2im, im2col
from breve.kernels.convolution.scaled_weights import ScaledWeights
from breve.kernels.convolution.table import ALGORITHMS

__all__ = [
    "ALGORITHMS",
    "PASSES",
    "ConvGeometry",
    "ConvPlan",
    "col2im",
    "get_algorithm",
    "im2col",
    "plan",
    "set_algorithm",
]


def plan(geometry: ConvGeometry, dtype: Any, algorithm: str | None = None) -> ConvPlan:
    """How to compute one convolution: by the named algorithm of `ALGORITHMS`, or as `set_algorithm` says.

    Raises UnsupportedError for an unknown name, and where the named algorithm does not compute a pass when it is run.
    """
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise UnsupportedError(
            "unknown convolution algorithm", found=algorithm, hint=did_you_mean(algorithm, ALGORITHMS)
        )
    return ConvPlan(geometry, dtype, algorithm)


class ConvPlan:
    """The three passes of one convolution, with their scratch buffers and packed weights.

    Arrays are in Caffe's order, `(batch, channels, *in_shape)`, of `dtype` and any strides; fast when four-dimensional
    ones are views of NHWC memory, as a blob's are. Weights are `(num_output, channels / group, *kernel)`.
    Several threads may call one plan: they take turns. A deconvolution is the plan of the convolution it transposes,
    with `backward_data` as its forward pass.
    """

    def __init__(self, geometry: ConvGeometry, dtype: Any, algorithm: str | None = None) -> None:
        self.geometry = geometry
        self.dtype = np.dtype(dtype)
        self._named = algorithm
        self._algorithms: dict[str, Algorithm] = {}
        self._chosen: dict[tuple[str, str], Algorithm] = {}
        self._lock = threading.RLock()
        self._scaled = ScaledWeights()
        g = geometry
        self._bottom_shape = (g.batch, g.channels, *g.in_shape)
        self._top_shape = (g.batch, g.num_output, *g.out_shape)
        self._weight_shape = (g.num_output, g.channels // g.group, *g.kernel)

    @property
    def algorithms(self) -> dict[str, str]:
        """The algorithm of each pass, by name."""
        return {pass_name: self._algorithm(pass_name).name for pass_name in PASSES}

    def forward(
        self,
        bottom_data: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        top_data: np.ndarray,
        relu: bool = False,
    ) -> None:
        """top_data = weight * bottom_data + bias, or the positive part of it with `relu`. Raises LayerError."""
        self._check(bottom_data, weight, top_data, bias)
        if not self.geometry.batch:
            return
        with self._lock:
            self._forward(bottom_data, _contiguous(weight), bias, top_data, relu)

    def forward_scaled(
        self, bottom_data: np.ndarray, weight: np.ndarray, gain: np.ndarray, bias: np.ndarray, top_data: np.ndarray,
        relu: bool = False,
    ) -> None:  # fmt: skip
        """The same with weight[k] gain[k] as the weights of output k; the product is kept for as long as it holds."""
        self._check(bottom_data, weight, top_data, bias)
        self._check_one("gain", gain, self._top_shape[1:2])
        if not self.geometry.batch:
            return
        with self._lock:
            scaled = self._scaled.of(_contiguous(weight), gain)
            self._algorithm("forward").promise(scaled)
            self._forward(bottom_data, scaled, bias, top_data, relu)

    @property
    def scales_cheaply(self) -> bool:
        """Whether `forward_scaled` takes little longer than `forward`, which compares weights where it keeps them."""
        return self._algorithm("forward").keeps_weights or math.prod(self._weight_shape) <= math.prod(self._top_shape)

    def _forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        run = self._algorithm("forward")
        bottom, top = _read(run, bottom_data), _buffer(run, top_data)
        run.forward(bottom, weight, _contiguous(bias), top, relu)
        _write(top, top_data)

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """Overwrite `bottom_diff` with the derivative of <top_diff, weight * bottom> by bottom. Raises LayerError."""
        self._check(bottom_diff, weight, top_diff)
        if not self.geometry.batch:
            return
        with self._lock:
            run = self._algorithm("backward_data")
            top, bottom = _read(run, top_diff), _buffer(run, bottom_diff)
            run.backward_data(top, _contiguous(weight), bottom)
            _write(bottom, bottom_diff)

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """Add the derivatives of <top_diff, weight * bottom + bias> by weight and by bias. Raises LayerError."""
        self._check(bottom_data, weight_diff, top_diff, bias_diff)
        if not self.geometry.batch:
            return
        with self._lock:
            run = self._algorithm("backward_weights")
            weights, biases = _contiguous(weight_diff), _contiguous(bias_diff)
            run.backward_weights(_read(run, top_diff), _read(run, bottom_data), weights, biases)
            for computed, diff in ((weights, weight_diff), (biases, bias_diff)):
                if diff is not None and computed is not diff:
                    diff[...] = computed

    def _algorithm(self, pass_name: str) -> Algorithm:
        """The algorithm of a pass, chosen on first use; passes that share an algorithm share its buffers."""
        mode = self._named or get_algorithm()
        chosen = self._chosen.get((pass_name, mode))
        if chosen is None:
            name = self._named_for(pass_name) if self._named else choose(self.geometry, self.dtype, pass_name, mode)
            if name not in self._algorithms:
                self._algorithms[name] = ALGORITHMS[name](self.geometry, self.dtype)
            chosen = self._chosen[pass_name, mode] = self._algorithms[name]
        return chosen

    def _named_for(self, pass_name: str) -> str:
        name = str(self._named)
        why = ALGORITHMS[name].refusal(self.geometry, self.dtype, pass_name)
        if why:
            raise UnsupportedError(f"{name} does not compute {pass_name} here: {why}", found=self.geometry)
        return name

    def _check(self, bottom: np.ndarray, weight: np.ndarray, top: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Shapes and dtypes: compiled kernels trust them."""
        self._check_one("bottom", bottom, self._bottom_shape)
        self._check_one("weights", weight, self._weight_shape)
        self._check_one("top", top, self._top_shape)
        if bias is not None:
            self._check_one("bias", bias, self._top_shape[1:2])

    def _check_one(self, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
        if array.shape != shape:
            raise LayerError(f"{name} has a wrong shape", expected=shape, found=array.shape)
        if array.dtype != self.dtype:
            raise LayerError(f"{name} has a wrong dtype", expected=self.dtype, found=array.dtype)


def _contiguous(array: Any) -> Any:
    """A parameter in C order, or None."""
    return None if array is None else np.ascontiguousarray(array)


def _read(run: Algorithm, array: np.ndarray) -> np.ndarray:
    """A feature map as the algorithm reads it: channels last and contiguous, copied if it must be."""
    return np.ascontiguousarray(_channels_last(array)) if run.takes_nhwc else array


def _buffer(run: Algorithm, array: np.ndarray) -> np.ndarray:
    """Where the algorithm writes a feature map: the array's own memory if it lies as the algorithm wants it."""
    if not run.takes_nhwc:
        return array
    channels_last = _channels_last(array)
    return channels_last if channels_last.flags.c_contiguous else np.empty(channels_last.shape, array.dtype)


def _write(buffer: np.ndarray, array: np.ndarray) -> None:
    """Copy what was written to another memory than the array's own."""
    if not np.may_share_memory(buffer, array):
        _channels_last(array)[...] = buffer


def _channels_last(array: np.ndarray) -> np.ndarray:
    """The array as (batch, *spatial, channels)."""
    return array.transpose(0, *range(2, array.ndim), 1)
