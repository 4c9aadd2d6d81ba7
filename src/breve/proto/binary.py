"""Binary files: caffemodels, solver states, mean files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from breve.errors import FileFormatError
from breve.proto.blobs import array_to_blob, blob_shape, blob_to_array
from breve.proto.files import HDF5_MAGIC, is_text, read_bytes, refuse_foreign, whole_file
from breve.proto.schema import WEIGHT_MESSAGES, WIRE_MESSAGES
from breve.proto.upgrade import current_type, upgrade_net

LIMIT_BYTES = 2**31 - 1
"""The longest message that protobuf, and so Caffe, takes."""

_KINDS = [
    ("SolverState", {"iter", "history"}, "a solver state (.solverstate)"),
    ("NetParameter", {"layer"}, "a net with its weights (.caffemodel)"),
    ("NetParameter", {"layers"}, "a net with its weights (.caffemodel)"),
    ("BlobProto", {"num", "channels", "height", "width"}, "a mean file (.binaryproto)"),
    ("Datum", {"channels", "height", "width", "data"}, "a database record"),
]

__all__ = [
    "LIMIT_BYTES",
    "LayerWeights",
    "NetWeights",
    "array_to_blob",
    "blob_shape",
    "blob_to_array",
    "read_mean",
    "read_message",
    "read_net_binary",
    "read_weights",
    "write_binary",
    "write_mean",
    "write_net",
]


class LayerWeights(NamedTuple):
    """The trained parameters of one layer."""

    name: str
    type: str
    blobs: Sequence[Any]
    """BlobProtos, for `blob_to_array`. None where HDF5 leaves out a parameter that another layer's shares."""


class NetWeights(NamedTuple):
    """What a file of weights says of a net."""

    name: str
    layer: list[LayerWeights]


def read_message(path: str | os.PathLike[str], message_class: Any, wanted: str) -> Any:
    """A message from a binary file; `wanted` names the kind of file in errors.

    Raises FileFormatError where the file is missing, empty, truncated, too large or of another kind.
    """
    content = read_bytes(path, LIMIT_BYTES)
    refuse_foreign(content, path, wanted)
    try:
        return message_class.FromString(content)
    except DecodeError as error:
        raise _mistaken(content, path, wanted) from error


def read_net_binary(path: str | os.PathLike[str]) -> Any:
    """The NetParameter in a caffemodel, all of it, in the current form. Raises FileFormatError, NetError.

    A net of Caffe's own. What a fork wrote may be misread, as forks gave the same numbers to other fields: for weights
    use `read_weights`.
    """
    message = read_message(path, WIRE_MESSAGES["NetParameter"], "a binary net (.caffemodel)")
    upgrade_net(message, where=os.fspath(path))
    return message


def read_weights(path: str | os.PathLike[str]) -> NetWeights:
    """What a caffemodel of any age or fork, binary or HDF5, says of each layer's blobs. Raises FileFormatError."""
    if _begins_with(path, HDF5_MAGIC):
        from breve.proto.hdf5 import read_weights_hdf5

        return read_weights_hdf5(path)
    wanted = "trained weights (.caffemodel)"
    net = read_message(path, WEIGHT_MESSAGES["NetParameter"], wanted)
    layers = [_layer_weights(layer) for layer in (*net.layers, *net.layer)]
    if not layers:
        raise _mistaken(net.SerializeToString(), path, wanted)
    return NetWeights(net.name, layers)


def write_net(message: Any, path: str | os.PathLike[str]) -> None:
    """Write a NetParameter with its blobs: HDF5 where the name ends in `.h5`, else binary. Raises FileFormatError."""
    if Path(path).suffix == ".h5":
        from breve.proto.hdf5 import write_net_hdf5

        write_net_hdf5(message, path)
    else:
        write_binary(message, path)


def write_binary(message: Any, path: str | os.PathLike[str]) -> None:
    """Write a message as Caffe reads it, whole or not at all. Raises FileFormatError where it is over 2 GB."""
    content = message.SerializeToString()
    if len(content) > LIMIT_BYTES:
        raise FileFormatError(
            "too large for a protobuf message",
            where=str(path),
            expected=f"at most {LIMIT_BYTES:,} bytes",
            found=f"{len(content):,}",
            hint="write HDF5: a name that ends in .h5, or snapshot_format: HDF5",
        )
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def read_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in a mean file (.binaryproto), usually (1, channels, height, width). Raises FileFormatError."""
    blob = read_message(path, WIRE_MESSAGES["BlobProto"], "a mean file (.binaryproto)")
    try:
        return blob_to_array(blob)
    except FileFormatError as error:
        error.where = str(path)
        raise


def write_mean(array: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write (channels, height, width) or (1, channels, height, width) as a mean file, in the form all Caffes read."""
    blob = array_to_blob(np.asarray(array, np.float32), WIRE_MESSAGES["BlobProto"]())
    blob.ClearField("shape")
    blob.num, blob.channels, blob.height, blob.width = (1, 1, *array.shape)[-4:]
    write_binary(blob, path)


def _mistaken(content: bytes, path: str | os.PathLike[str], wanted: str) -> FileFormatError:
    """The error for a file that does not parse as what it should be, saying what it looks like."""
    if is_text(content):
        message, found, hint = "not a binary file", "text", "is this the .prototxt?"
    elif (kind := _recognised(content)) is not None:
        message, found, hint = "another kind of file", kind, ""
    else:
        message, found, hint = "truncated or damaged", f"{len(content):,} bytes", "download or write it again"
    return FileFormatError(message, where=str(path), expected=wanted, found=found, hint=hint)


def _recognised(content: bytes) -> str | None:
    """Which of Caffe's other files this is, by the fields that each always has."""
    for name, fields, kind in _KINDS:
        try:
            present = {field.name for field, _ in WIRE_MESSAGES[name].FromString(content).ListFields()}
        except DecodeError:
            continue
        if fields <= present:
            return kind
    return None


def _layer_weights(layer: Any) -> LayerWeights:
    """A layer of any form: V0 keeps its name and blobs one message further in."""
    if layer.DESCRIPTOR.name == "LayerParameter":
        return LayerWeights(layer.name, layer.type, layer.blobs)
    if layer.HasField("layer"):
        return LayerWeights(layer.layer.name, layer.layer.type, layer.layer.blobs)
    v1_types = layer.DESCRIPTOR.enum_types_by_name["LayerType"].values_by_number
    return LayerWeights(layer.name, current_type(v1_types[layer.type].name), layer.blobs)


def _begins_with(path: str | os.PathLike[str], magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False
