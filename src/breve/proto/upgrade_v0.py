"""The first form of nets, V0, to V1.

A V0 layer stands inside its connections, `layers { layer { name type ... } bottom top }`, and holds the parameters of
every type together. Padding was a layer of its own before the convolution or pooling that wanted it.
"""

from __future__ import annotations

import logging
from typing import Any

from breve.errors import NetError, did_you_mean
from breve.proto.schema import is_repeated

logger = logging.getLogger("breve")

V0_TYPES = {
    "accuracy": ("ACCURACY", ""),
    "bnll": ("BNLL", ""),
    "concat": ("CONCAT", "concat_param"),
    "conv": ("CONVOLUTION", "convolution_param"),
    "data": ("DATA", "data_param"),
    "dropout": ("DROPOUT", "dropout_param"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", ""),
    "flatten": ("FLATTEN", ""),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param"),
    "hdf5_output": ("HDF5_OUTPUT", ""),
    "im2col": ("IM2COL", "convolution_param"),
    "images": ("IMAGE_DATA", "image_data_param"),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param"),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", ""),
    "pool": ("POOLING", "pooling_param"),
    "relu": ("RELU", ""),
    "sigmoid": ("SIGMOID", ""),
    "softmax": ("SOFTMAX", ""),
    "softmax_loss": ("SOFTMAX_LOSS", ""),
    "split": ("SPLIT", ""),
    "tanh": ("TANH", ""),
    "window_data": ("WINDOW_DATA", "window_data_param"),
}
"""A V0 type, the V1 type, and the message that took its parameters."""

_OF_THE_LAYER = {"name", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param"}
_OF_THE_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_RENAMED = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
    "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold",
    "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad",
    "det_crop_mode": "crop_mode",
}


def upgrade_v0_net(net: Any, lines: list[int]) -> None:
    """Rewrite a NetParameter's V0 layers as V1, in place; `lines` loses those of padding layers. Raises NetError."""
    upgraded = type(net)()
    sources: dict[str, Any] = {}
    kept_lines = []
    for old, line in zip(net.layers, lines, strict=True):
        if old.layer.type != "padding":
            layer = upgraded.layers.add(bottom=old.bottom, top=old.top, include=old.include, exclude=old.exclude)
            _upgrade_layer(old.layer, layer)
            _absorb_padding(layer, old, sources)
            kept_lines.append(line)
        sources.update((top, old) for top in old.top)
    net.ClearField("layers")
    net.layers.extend(upgraded.layers)
    lines[:] = kept_lines


def _absorb_padding(layer: Any, old: Any, sources: dict[str, Any]) -> None:
    """Give a layer the pad of the padding layer before it, and that one's bottom."""
    for i, bottom in enumerate(old.bottom):
        padding = sources.get(bottom)
        if padding is None or padding.layer.type != "padding":
            continue
        single = len(old.bottom) == len(padding.bottom) == len(padding.top) == 1
        if old.layer.type not in ("conv", "pool") or not single:
            raise NetError(
                f"padding layer '{padding.layer.name}' feeds layer '{old.layer.name}' ({old.layer.type})",
                expected="one conv or pool layer with one bottom, padding with one bottom and one top",
            )
        _set(getattr(layer, V0_TYPES[old.layer.type][1]), "pad", padding.layer.pad)
        layer.bottom[i] = padding.bottom[0]


def _upgrade_layer(v0: Any, layer: Any) -> None:
    """Distribute a V0 layer's parameters; one that its type has no use for is left out, with a warning, as in Caffe."""
    if v0.type not in V0_TYPES:
        raise NetError(f"layer '{v0.name}' has an unknown V0 type '{v0.type}'", hint=did_you_mean(v0.type, V0_TYPES))
    v1_type, param_name = V0_TYPES[v0.type]
    layer.type = layer.LayerType.Value(v1_type)
    for field, value in v0.ListFields():
        name = _RENAMED.get(field.name, field.name)
        if field.name == "type":
            continue
        if field.name in _OF_THE_LAYER:
            _set(layer, name, value)
        elif field.name in _OF_THE_TRANSFORM:
            setattr(layer.transform_param, _OF_THE_TRANSFORM[field.name], value)
        elif param_name and name in getattr(layer, param_name).DESCRIPTOR.fields_by_name:
            _set(getattr(layer, param_name), name, value)
        else:
            logger.warning("layer '%s' (%s): %s is not a parameter of this type; ignored", v0.name, v0.type, field.name)


def _set(message: Any, name: str, value: Any) -> None:
    """Set a field of any label: a single value into a repeated field replaces what it holds."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if is_repeated(field):
        message.ClearField(name)
        getattr(message, name).extend(value if hasattr(value, "extend") else [value])
    elif field.message_type:
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)
