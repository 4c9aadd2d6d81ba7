"""Old forms of nets and solvers, brought to the current one, by Caffe's own rules.

A net has gone through three forms: V0 (`layers { layer { type: "conv" num_output: 20 } bottom: "data" }`), V1
(`layers { type: CONVOLUTION blobs_lr: 1 }`) and the current one (`layer { type: "Convolution" param { lr_mult: 1 } }`).
Inputs were once fields of the net, and data layers had their transforms among their own parameters.

Messages are changed in place, and may come from text or from a binary file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from breve.errors import NetError, SolverError, located
from breve.proto.schema import is_repeated
from breve.proto.upgrade_v0 import upgrade_v0_net

logger = logging.getLogger("breve")

TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")
_TRANSFORM_OWNERS = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_SOLVER_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
_IRREGULAR_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BN": "BN",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}


def upgrade_net(net: Any, lines: list[int] | None = None, *, inputs_line: int = 1, where: str = "") -> None:
    """Bring a NetParameter to the current form, in place.

    `lines[i]`, the line of layer i in the file, stays matched to `net.layer[i]` as layers are dropped and added;
    `inputs_line` is the line of an Input layer made from input fields. Raises NetError where it is inconsistent.
    """
    lines = [0] * (len(net.layer) + len(net.layers)) if lines is None else lines
    with located(where):
        for needed, upgrade, what in _NET_UPGRADES:
            if needed(net):
                upgrade(net, lines)
                logger.info("%s: upgraded %s", where or net.name or "net", what)
        if _needs_input_upgrade(net):
            _upgrade_input(net)
            lines.insert(0, inputs_line)
            logger.info("%s: upgraded input fields to an Input layer", where or net.name or "net")
    _warn_of_ignored_transforms(net, where)


def upgrade_solver(solver: Any, *, where: str = "") -> None:
    """Bring a SolverParameter, and the nets inside it, to the current form, in place. Raises SolverError, NetError."""
    with located(where):
        if solver.HasField("solver_type"):
            if solver.HasField("type"):
                raise SolverError("both solver_type and type are given", hint="keep type, and drop the old solver_type")
            solver.type = _SOLVER_TYPES[solver.solver_type]
            solver.ClearField("solver_type")
            logger.info("%s: upgraded solver_type to type: %r", where or "solver", solver.type)
    for net in _inner_nets(solver):
        upgrade_net(net, where=where)


def upgrade_snapshot_prefix(solver: Any, path: str | os.PathLike[str]) -> None:
    """Name snapshots after the solver's file where it gives no prefix, or only a folder. Caffe's rule."""
    path = Path(path)
    if not solver.snapshot_prefix:
        solver.snapshot_prefix = str(path.with_suffix(""))
    elif Path(solver.snapshot_prefix).is_dir():
        solver.snapshot_prefix = str(Path(solver.snapshot_prefix) / path.stem)


def needs_upgrade(message: Any) -> bool:
    """Whether a NetParameter or SolverParameter is in an old form."""
    if message.DESCRIPTOR.name == "SolverParameter":
        return message.HasField("solver_type") or any(map(needs_upgrade, _inner_nets(message)))
    return _needs_input_upgrade(message) or any(needed(message) for needed, _, _ in _NET_UPGRADES)


def current_type(v1_type: str) -> str:
    """The current name of a V1 layer type.

    >>> current_type("INNER_PRODUCT"), current_type("SOFTMAX_LOSS")
    ('InnerProduct', 'SoftmaxWithLoss')
    """
    return _IRREGULAR_TYPES.get(v1_type, v1_type.title().replace("_", ""))


def _needs_v0_upgrade(net: Any) -> bool:
    return any(layer.HasField("layer") for layer in net.layers)


def _needs_transform_upgrade(net: Any) -> bool:
    return any(_old_transforms(layer) for layer in net.layers)


def _old_transforms(v1_layer: Any) -> list[str]:
    """The transforms that a V1 data layer keeps among its own parameters."""
    owner = _TRANSFORM_OWNERS.get(_v1_type(v1_layer))
    return [name for name in TRANSFORM_FIELDS if owner and getattr(v1_layer, owner).HasField(name)]


def _upgrade_transforms(net: Any, lines: list[int]) -> None:
    for layer in net.layers:
        for name in _old_transforms(layer):
            param = getattr(layer, _TRANSFORM_OWNERS[_v1_type(layer)])
            setattr(layer.transform_param, name, getattr(param, name))
            param.ClearField(name)


def _needs_v1_upgrade(net: Any) -> bool:
    return len(net.layers) > 0


def _upgrade_v1_net(net: Any, lines: list[int]) -> None:
    if net.layer:
        raise NetError("old `layers` and new `layer` are mixed", hint="write them all as `layer`")
    for v1_layer in net.layers:
        _upgrade_v1_layer(v1_layer, net.layer.add())
    net.ClearField("layers")


def _upgrade_v1_layer(v1_layer: Any, layer: Any) -> None:
    """Write the V1 layer as a current one. All keep their names but types, and what belongs to each blob."""
    for field, value in v1_layer.ListFields():
        if field.name == "type":
            layer.type = current_type(_v1_type(v1_layer))
        elif field.name in _BLOB_RULES:
            _spread(value, layer.param, _BLOB_RULES[field.name])
        elif is_repeated(field):
            getattr(layer, field.name).MergeFrom(value)
        elif field.message_type:
            getattr(layer, field.name).CopyFrom(value)
        else:
            setattr(layer, field.name, value)


_BLOB_RULES = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}


def _spread(values: Any, params: Any, name: str) -> None:
    """Give the i-th value to the i-th ParamSpec."""
    for i, value in enumerate(values):
        if len(params) <= i:
            params.add()
        setattr(params[i], name, value)


def _v1_type(layer: Any) -> str:
    return layer.DESCRIPTOR.enum_types_by_name["LayerType"].values_by_number[layer.type].name


def _needs_batch_norm_upgrade(net: Any) -> bool:
    return any(param.lr_mult or param.decay_mult for param in _batch_norm_params(net))


def _upgrade_batch_norm(net: Any, lines: list[int]) -> None:
    for param in _batch_norm_params(net):
        param.lr_mult = param.decay_mult = 0


def _batch_norm_params(net: Any) -> list[Any]:
    """The ParamSpecs of mean, variance and factor, which are no solver's business though nets once had to say so."""
    layers = [layer for layer in net.layer if layer.type == "BatchNorm" and len(layer.param) == 3]
    return [param for layer in layers for param in layer.param]


def _needs_input_upgrade(net: Any) -> bool:
    return len(net.input) > 0


def _upgrade_input(net: Any) -> None:
    """Put an Input layer in front, with a top for each input field."""
    shapes = [list(shape.dim) for shape in net.input_shape]
    if not shapes:
        shapes = [list(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]
    if len(shapes) != len(net.input) or (not net.input_shape and len(shapes[-1]) != 4):
        raise NetError(
            "inputs and their shapes do not match",
            expected=f"{len(net.input)} input_shape, or {4 * len(net.input)} input_dim",
            found=f"{len(net.input_shape)} input_shape and {len(net.input_dim)} input_dim",
        )
    inputs = type(net)()
    layer = inputs.layer.add(name="input", type="Input", top=net.input)
    for shape in shapes:
        layer.input_param.shape.add(dim=shape)
    inputs.layer.extend(net.layer)
    for name in ("input", "input_shape", "input_dim", "layer"):
        net.ClearField(name)
    net.layer.extend(inputs.layer)


def _inner_nets(solver: Any) -> list[Any]:
    single = [getattr(solver, name) for name in ("net_param", "train_net_param") if solver.HasField(name)]
    return single + list(solver.test_net_param)


def _warn_of_ignored_transforms(net: Any, where: str) -> None:
    """Caffe moves old transforms of V1 layers only; in a current layer the scale of a window is all it looks at."""
    for layer in net.layer:
        for owner in _TRANSFORM_OWNERS.values():
            names = [name for name in TRANSFORM_FIELDS if getattr(layer, owner).HasField(name)]
            if owner == "window_data_param":
                names = [name for name in names if name != "scale"]
            if names:
                logger.warning(
                    "%s: layer '%s': %s in %s has no effect; move it to transform_param",
                    where or net.name,
                    layer.name,
                    ", ".join(names),
                    owner,
                )


_NET_UPGRADES: list[tuple[Callable[[Any], bool], Callable[[Any, list[int]], None], str]] = [
    (_needs_v0_upgrade, upgrade_v0_net, "V0 layers to V1"),
    (
        _needs_transform_upgrade,
        _upgrade_transforms,
        "data layers' scale, mean_file, crop_size, mirror to transform_param",
    ),
    (_needs_v1_upgrade, _upgrade_v1_net, "`layers` to `layer`"),
    (_needs_batch_norm_upgrade, _upgrade_batch_norm, "BatchNorm's lr_mult and decay_mult to 0"),
]
