"""A layer once more: of the same class and parameters, but with nothing drawn, filled or read from outside."""

from __future__ import annotations

from types import MethodType
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.graph.plan import Step
from breve.layers.base import Layer

MOVE_STATISTICS = {"BatchNorm", "Python"}
"""Types whose forward pass may write to their own parameters."""


def twin_of(layer: Layer, *, exact: bool = False) -> Layer:
    """A layer of the same class and parameters, not yet set up; its weights will be zero, not drawn.

    An `exact` one works in float64 by the algorithms that all others are measured against. Methods that were replaced
    on the layer itself are replaced on the twin.
    """
    param, dtype = (_by_reference(layer.param), np.float64) if exact else (layer.param, layer.dtype)
    twin = type(layer)(param, layer.phase, dtype, np.random.default_rng(0))
    for name, value in vars(layer).items():
        if callable(value) and callable(getattr(type(layer), name, None)):
            bound = isinstance(value, MethodType) and value.__self__ is layer
            setattr(twin, name, MethodType(value.__func__, twin) if bound else value)
    setattr(twin, "add_parameter", MethodType(_add_unfilled, twin))  # noqa: B010 (a method replaced on purpose)
    return twin


def _by_reference(param: Any) -> Any:
    """`engine: CAFFE` for convolutions: im2col and NumPy's products of matrices."""
    if param.HasField("convolution_param"):
        own, param = param, type(param)()
        param.CopyFrom(own)
        param.convolution_param.engine = param.convolution_param.CAFFE
    return param


def _add_unfilled(layer: Layer, shape: Any, filler: Any) -> Blob:
    blob = Blob(shape, layer.dtype, channels_last=False)
    layer.blobs.append(blob)
    layer.param_propagate_down.append(True)
    return blob


class Fixed(Layer):
    """Stands for a layer without bottoms: its tops hold the batch."""

    bottom_counts = (0, 0)
    top_counts = (0, None)

    def __init__(self, original: Layer) -> None:
        super().__init__(original.param, original.phase, original.dtype)

    def reshape(self, bottom: Any, top: Any) -> None:
        """The tops have their shapes."""

    def forward(self, bottom: Any, top: Any) -> None:
        """The tops have their values."""

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        """There is nothing below."""

    def set_state(self, state: dict[str, Any]) -> None:
        """It draws nothing."""


def is_source(layer: Layer) -> bool:
    """Whether a layer brings values from outside; the Parameter layer, which has no bottoms either, does not."""
    return not layer.param.bottom and not layer.blobs


def pass_state(step: Step) -> dict[str, Any]:
    """The layer's state as it was before its last forward pass, where the step remembers it."""
    state = step.layer.state()
    drawn_from = getattr(step, "drawn_from", None)
    return state if drawn_from is None else {**state, "rng": drawn_from}


def wanted_bottoms(layer: Layer, count: int) -> list[bool]:
    """Through which bottoms gradients flow: all but labels, selectors and those that the prototxt cuts off."""
    wanted = list(layer.param.propagate_down) or [True] * count
    return [yes and i not in layer.unforced_bottoms for i, yes in enumerate(wanted)]


def address(blob: Blob) -> int:
    """Where a blob's data lie: the same for blobs that share memory."""
    return int(blob.data.__array_interface__["data"][0])
