"""Initial values of parameters: Caffe's fillers.

A filler is described by a FillerParameter: its `type` and the fields that the type reads. `fan_in` is the number of
inputs that one output sums over, `fan_out` the number of outputs that one input reaches, both as Caffe counts them for
a parameter of `shape`: fan_in = count / shape[0], fan_out = count / shape[1] (the whole count when there is one axis).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from breve.errors import LayerError, did_you_mean

DRAW_SIZE = 1 << 20  # random numbers drawn at once, so that a large parameter needs no float64 copy of itself


def fill(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """Overwrite `array` with the values that `filler` describes.

    `array` is float32 or float64 of any shape and strides, `filler` a FillerParameter; random values come from `rng`,
    in Caffe's axis order, and are the same for both dtypes up to rounding. Raises LayerError for an unknown type, an
    empty range, `sparse` where it is not supported, or a shape that the type cannot fill.

    Source: Caffe's filler.hpp.

    >>> from breve.proto import FillerParameter
    >>> weight = np.zeros((1, 1, 4, 4))
    >>> fill(weight, FillerParameter(type="bilinear"), np.random.default_rng(0))
    >>> weight[0, 0, 1]
    array([0.1875, 0.5625, 0.5625, 0.1875])
    """
    known = FILLERS.get(filler.type)
    if known is None:
        raise LayerError(f"unknown filler type {filler.type!r}", hint=did_you_mean(filler.type, FILLERS))
    if array.size == 0:
        raise LayerError("a filler has nothing to fill", expected="at least one element", found=array.shape)
    if filler.sparse != -1 and filler.type != "gaussian":
        raise LayerError(f"filler {filler.type!r} does not support sparse", hint="use the gaussian filler")
    known(array, filler, rng)


def constant(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """Every element is `value` (default 0)."""
    array[...] = filler.value


def uniform(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """Uniform between `min` (default 0) and `max` (default 1)."""
    if filler.min > filler.max:
        raise LayerError("uniform filler: min is above max", found=f"min {filler.min:g}, max {filler.max:g}")
    _draw(array, lambda shape: rng.uniform(filler.min, filler.max, shape))


def gaussian(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """Normal with `mean` (default 0) and `std` (default 1).

    With `sparse` = s >= 0 each element stays with probability s / shape[0], and is 0 otherwise: an output of an inner
    product then has about s weights that are not 0 for each input.
    """
    if filler.std < 0 or filler.sparse < -1:
        raise LayerError(
            "gaussian filler: std or sparse is negative", found=f"std {filler.std:g}, sparse {filler.sparse}"
        )
    _draw(array, lambda shape: rng.normal(filler.mean, filler.std, shape))
    if filler.sparse >= 0:
        _keep_sparse(array, filler.sparse, rng)


def positive_unitball(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """Uniform between 0 and 1, then divided so that each row (along the first axis) sums to 1."""
    _draw(array, lambda shape: rng.uniform(0.0, 1.0, shape))
    array /= array.sum(axis=tuple(range(1, array.ndim)), dtype=np.float64, keepdims=True)


def xavier(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """Uniform between -a and a, a = sqrt(3 / n), n by `variance_norm` (default FAN_IN).

    Source: X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """
    bound = math.sqrt(3.0 / _fan(array.shape, filler))
    _draw(array, lambda shape: rng.uniform(-bound, bound, shape))


def msra(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """Normal with mean 0 and std sqrt(2 / n), n by `variance_norm` (default FAN_IN).

    Source: K. He et al., Delving deep into rectifiers, 2015.
    """
    std = math.sqrt(2.0 / _fan(array.shape, filler))
    _draw(array, lambda shape: rng.normal(0.0, std, shape))


def bilinear(array: np.ndarray, filler: Any, rng: np.random.Generator) -> None:
    """The weights with which a Deconvolution interpolates bilinearly, on square kernels of four axes.

    With f = ceil(width / 2) and c = (width - 1) / (2 f), pixel (y, x) is (1 - |x / f - c|) (1 - |y / f - c|).
    """
    if array.ndim != 4 or array.shape[2] != array.shape[3]:
        raise LayerError(
            "bilinear filler: the kernel is not square", expected="four axes, height = width", found=array.shape
        )
    factor = math.ceil(array.shape[3] / 2)
    centre = (array.shape[3] - 1) / (2 * factor)
    side = 1 - np.abs(np.arange(array.shape[3]) / factor - centre)
    array[...] = np.outer(side, side)


FILLERS: dict[str, Callable[[np.ndarray, Any, np.random.Generator], None]] = {
    filler.__name__: filler for filler in (constant, uniform, gaussian, positive_unitball, xavier, msra, bilinear)
}
"""Every filler by the `type` that names it."""


def _draw(array: np.ndarray, sample: Callable[[tuple[int, ...]], np.ndarray]) -> None:
    """Assign `sample(shape)` to blocks of `array` along its first axis."""
    if array.ndim == 0:
        array[...] = sample(())
        return
    rows = max(1, DRAW_SIZE * array.shape[0] // array.size)
    for start in range(0, array.shape[0], rows):
        block = array[start : start + rows]
        block[...] = sample(block.shape)


def _keep_sparse(array: np.ndarray, sparse: int, rng: np.random.Generator) -> None:
    """Zero each element but with probability sparse / shape[0]."""
    if array.ndim == 0 or sparse > array.shape[0]:
        raise LayerError(
            "gaussian filler: sparse is above the number of outputs",
            expected=f"at most {array.shape[:1]}",
            found=sparse,
        )
    array *= rng.random(array.shape) < sparse / array.shape[0]


def _fan(shape: tuple[int, ...], filler: Any) -> float:
    """The n of xavier and msra."""
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {filler.FAN_IN: fan_in, filler.FAN_OUT: fan_out, filler.AVERAGE: (fan_in + fan_out) / 2}[
        filler.variance_norm
    ]
