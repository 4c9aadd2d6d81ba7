"""The table of layers: which class stands behind a `type` in a prototxt.

A module is imported when a net first asks for one of its layers, so building LeNet does not load the detection layers.
To add a layer: write its class, add a row here and a case in `tests/layers`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from breve.errors import NetError, did_you_mean

if TYPE_CHECKING:
    from breve.layers.base import Layer

LAYERS: dict[str, str] = {
    "AbsVal": "pointwise:AbsVal",
    "Accuracy": "accuracy:Accuracy",
    "ArgMax": "accuracy:ArgMax",
    "Axpy": "scale:Axpy",
    "BatchNorm": "batch_norm:BatchNorm",
    "BatchReindex": "selection:BatchReindex",
    "Bias": "scale:Bias",
    "BNLL": "activations:BNLL",
    "Clip": "pointwise:Clip",
    "Concat": "concat:Concat",
    "ContrastiveLoss": "regression_losses:ContrastiveLoss",
    "Convolution": "convolution:Convolution",
    "ConvolutionDepthwise": "convolution:ConvolutionDepthwise",
    "CReLU": "fork_activations:CReLU",
    "Crop": "selection:Crop",
    "Data": "data:Data",
    "Deconvolution": "convolution:Deconvolution",
    "DepthwiseConvolution": "convolution:ConvolutionDepthwise",
    "DetectionOutput": "detection_output:DetectionOutput",
    "Dropout": "dropout:Dropout",
    "DummyData": "inputs:DummyData",
    "Eltwise": "eltwise:Eltwise",
    "ELU": "activations:ELU",
    "Embed": "inner_product:Embed",
    "EuclideanLoss": "regression_losses:EuclideanLoss",
    "Exp": "pointwise:Exp",
    "Filter": "selection:Filter",
    "Flatten": "reshaping:Flatten",
    "HardSigmoid": "fork_activations:HardSigmoid",
    "HardSwish": "fork_activations:HardSwish",
    "HDF5Data": "data_hdf5:HDF5Data",
    "HDF5Output": "data_hdf5:HDF5Output",
    "HingeLoss": "regression_losses:HingeLoss",
    "Im2col": "im2col:Im2col",
    "ImageData": "data_images:ImageData",
    "InfogainLoss": "classification_losses:InfogainLoss",
    "InnerProduct": "inner_product:InnerProduct",
    "Input": "inputs:Input",
    "Interp": "resizing:Interp",
    "Log": "pointwise:Log",
    "LRN": "lrn:LRN",
    "LSTM": "recurrent:LSTM",
    "MemoryData": "data_memory:MemoryData",
    "Mish": "fork_activations:Mish",
    "MultiBoxLoss": "multibox_loss:MultiBoxLoss",
    "MultinomialLogisticLoss": "classification_losses:MultinomialLogisticLoss",
    "MVN": "mvn:MVN",
    "Normalize": "normalize:Normalize",
    "Parameter": "inputs:Parameter",
    "Permute": "rearranging:Permute",
    "Pooling": "pooling:Pooling",
    "Power": "pointwise:Power",
    "PReLU": "scale:PReLU",
    "PriorBox": "prior_box:PriorBox",
    "Proposal": "proposal:Proposal",
    "PSROIPooling": "regions:PSROIPooling",
    "Python": "python:Python",
    "Reduction": "reduction:Reduction",
    "Region": "region:Region",
    "RegionLoss": "region:RegionLoss",
    "ReLU": "activations:ReLU",
    "ReLU6": "fork_activations:ReLU6",
    "Reorg": "rearranging:Reorg",
    "Reshape": "reshaping:Reshape",
    "Resize": "resizing:Resize",
    "RNN": "recurrent:RNN",
    "ROIPooling": "regions:ROIPooling",
    "Scale": "scale:Scale",
    "ShuffleChannel": "rearranging:ShuffleChannel",
    "Sigmoid": "activations:Sigmoid",
    "SigmoidCrossEntropyLoss": "classification_losses:SigmoidCrossEntropyLoss",
    "Silence": "routing:Silence",
    "Slice": "concat:Slice",
    "SmoothL1Loss": "regression_losses:SmoothL1Loss",
    "Softmax": "softmax:Softmax",
    "SoftmaxWithLoss": "softmax:SoftmaxWithLoss",
    "Split": "routing:Split",
    "SPP": "pooling:SPP",
    "Swish": "activations:Swish",
    "TanH": "activations:TanH",
    "Threshold": "pointwise:Threshold",
    "Tile": "selection:Tile",
    "Unpooling": "unpooling:Unpooling",
    "Upsample": "unpooling:Upsample",
    "WindowData": "data_windows:WindowData",
}
"""Type -> "module:Class", the module below `breve.layers`."""


@cache
def layer_class(type: str) -> type[Layer]:
    """The class of a layer type.

    Raises NetError naming the nearest known types.
    """
    if type not in LAYERS:
        raise NetError(f"unknown layer type {type!r}", hint=did_you_mean(type, LAYERS))
    module, _, name = LAYERS[type].partition(":")
    return getattr(import_module(f"breve.layers.{module}"), name)


__all__ = ["LAYERS", "layer_class"]
