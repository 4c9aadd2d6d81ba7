"""The table of explanations: which class explains the gradients of a layer type.

Every layer type has a row; a test holds it. A new layer whose gradient has no explanation of its own yet takes
`base:Explainer`, which asks the layer itself for its local Jacobian's row, or `base:NoGradient`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from breve.explain.layers.base import Explainer
    from breve.explain.replica import Record

EXPLAINERS: dict[str, str] = {
    "Convolution": "convolution:ConvolutionExplainer",
    "ConvolutionDepthwise": "convolution:ConvolutionExplainer",
    "Deconvolution": "convolution:DeconvolutionExplainer",
    "DepthwiseConvolution": "convolution:ConvolutionExplainer",
}
"""Type -> "module:Class", the module below `breve.explain.layers`."""


@cache
def explainer_class(type: str) -> type[Explainer]:
    """The class that explains a layer type; layers that no table knows (a user's own) by their Jacobian's row."""
    module, _, name = EXPLAINERS.get(type, "base:Explainer").partition(":")
    return getattr(import_module(f"breve.explain.layers.{module}"), name)


def explainer(record: Record) -> Explainer:
    """The explainer of a recorded layer."""
    return explainer_class(record.type)(record)


def has_gradient(type: str) -> bool:
    """Whether gradients flow through layers of a type."""
    return explainer_class(type).gradient


__all__ = ["EXPLAINERS", "explainer", "explainer_class", "has_gradient"]
