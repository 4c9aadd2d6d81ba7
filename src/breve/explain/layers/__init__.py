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
    from breve.explain.record import Record

EXPLAINERS: dict[str, str] = {
    "AbsVal": "pointwise:PointwiseExplainer",
    "Accuracy": "absent:Count",
    "ArgMax": "absent:Count",
    "Axpy": "base:Explainer",
    "BNLL": "pointwise:PointwiseExplainer",
    "BatchNorm": "normalization:BatchNormExplainer",
    "BatchReindex": "moving:MovingExplainer",
    "Bias": "normalization:BroadcastExplainer",
    "CReLU": "base:Explainer",
    "Clip": "pointwise:PointwiseExplainer",
    "Concat": "moving:MovingExplainer",
    "ContrastiveLoss": "losses:ContrastiveLossExplainer",
    "Convolution": "convolution:ConvolutionExplainer",
    "ConvolutionDepthwise": "convolution:ConvolutionExplainer",
    "Crop": "moving:MovingExplainer",
    "Data": "absent:Source",
    "Deconvolution": "convolution:DeconvolutionExplainer",
    "DepthwiseConvolution": "convolution:ConvolutionExplainer",
    "DetectionOutput": "absent:Geometry",
    "Dropout": "pointwise:DropoutExplainer",
    "DummyData": "absent:Source",
    "ELU": "pointwise:PointwiseExplainer",
    "Eltwise": "moving:EltwiseExplainer",
    "Embed": "dense:EmbedExplainer",
    "EuclideanLoss": "losses:EuclideanLossExplainer",
    "Exp": "pointwise:PointwiseExplainer",
    "Filter": "moving:MovingExplainer",
    "Flatten": "moving:MovingExplainer",
    "HDF5Data": "absent:Source",
    "HDF5Output": "absent:Sink",
    "HardSigmoid": "pointwise:PointwiseExplainer",
    "HardSwish": "pointwise:PointwiseExplainer",
    "HingeLoss": "losses:HingeLossExplainer",
    "Im2col": "moving:MovingExplainer",
    "ImageData": "absent:Source",
    "InfogainLoss": "losses:LossExplainer",
    "InnerProduct": "dense:InnerProductExplainer",
    "Input": "absent:Source",
    "Interp": "base:Explainer",
    "LRN": "normalization:LRNExplainer",
    "LSTM": "recurrent:RecurrentExplainer",
    "Log": "pointwise:PointwiseExplainer",
    "MVN": "base:Explainer",
    "MemoryData": "absent:Source",
    "Mish": "pointwise:PointwiseExplainer",
    "MultiBoxLoss": "base:Explainer",
    "MultinomialLogisticLoss": "losses:LossExplainer",
    "Normalize": "base:Explainer",
    "PReLU": "normalization:PReLUExplainer",
    "PSROIPooling": "base:Explainer",
    "Parameter": "moving:ParameterExplainer",
    "Permute": "moving:MovingExplainer",
    "Pooling": "pooling:PoolingExplainer",
    "Power": "pointwise:PointwiseExplainer",
    "PriorBox": "absent:Geometry",
    "Proposal": "absent:Geometry",
    "Python": "base:Explainer",
    "RNN": "recurrent:RecurrentExplainer",
    "ROIPooling": "base:Explainer",
    "ReLU": "pointwise:PointwiseExplainer",
    "ReLU6": "pointwise:PointwiseExplainer",
    "Reduction": "base:Explainer",
    "Region": "base:Explainer",
    "RegionLoss": "base:Explainer",
    "Reorg": "moving:MovingExplainer",
    "Reshape": "moving:MovingExplainer",
    "Resize": "base:Explainer",
    "SPP": "base:Explainer",
    "Scale": "normalization:BroadcastExplainer",
    "ShuffleChannel": "moving:MovingExplainer",
    "Sigmoid": "pointwise:PointwiseExplainer",
    "SigmoidCrossEntropyLoss": "losses:SigmoidCrossEntropyLossExplainer",
    "Silence": "absent:Sink",
    "Slice": "moving:MovingExplainer",
    "SmoothL1Loss": "losses:LossExplainer",
    "Softmax": "losses:SoftmaxExplainer",
    "SoftmaxWithLoss": "losses:SoftmaxWithLossExplainer",
    "Split": "moving:MovingExplainer",
    "Swish": "pointwise:PointwiseExplainer",
    "TanH": "pointwise:PointwiseExplainer",
    "Threshold": "absent:Step",
    "Tile": "moving:MovingExplainer",
    "Unpooling": "base:Explainer",
    "Upsample": "base:Explainer",
    "WindowData": "absent:Source",
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
