"""Weights as HDF5, in Caffe's layout: `data/<layer>/<index>`, and `diff/<layer>/<index>` where gradients are kept.

A layer without parameters is an empty group. A slash in a layer's name nests groups: `conv2/3x3` lies in `conv2`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import h5py

from breve.errors import FileFormatError
from breve.proto.binary import LayerWeights, NetWeights
from breve.proto.blobs import array_to_blob, blob_to_array
from breve.proto.files import whole_file
from breve.proto.schema import WIRE_MESSAGES


def read_weights_hdf5(path: str | os.PathLike[str]) -> NetWeights:
    """The names and blobs of the layers in a `.caffemodel.h5`; types are not kept there. Raises FileFormatError."""
    try:
        with h5py.File(path) as file:
            if not isinstance(file.get("data"), h5py.Group):
                raise FileFormatError(
                    "HDF5, but not weights",
                    where=str(path),
                    expected="a group 'data' with a group for each layer",
                    found=", ".join(file) or "an empty file",
                )
            return NetWeights("", [LayerWeights(name, "", _blobs(group)) for name, group in _layers(file["data"])])
    except OSError as error:
        raise FileFormatError("truncated or damaged HDF5", where=str(path), found=str(error)) from error


def write_net_hdf5(message: Any, path: str | os.PathLike[str]) -> None:
    """Write the blobs of a NetParameter's layers, and their diffs where they have any, whole or not at all."""
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        for layer in message.layer:
            file.require_group(f"data/{layer.name}")
            for i, blob in enumerate(layer.blobs):
                file[f"data/{layer.name}/{i}"] = blob_to_array(blob)
                if blob.diff or blob.double_diff:
                    file[f"diff/{layer.name}/{i}"] = blob_to_array(blob, "diff")


def _layers(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every group that stands for a layer, with the layer's name."""
    for name, member in group.items():
        if isinstance(member, h5py.Group):
            inner = [child for child in member.values() if isinstance(child, h5py.Group)]
            if len(inner) < len(member) or not inner:
                yield prefix + name, member
            yield from _layers(member, f"{prefix}{name}/")


def _blobs(group: Any) -> list[Any]:
    """The datasets "0", "1", ... of a layer as BlobProtos."""
    arrays = {
        int(name): member[()] for name, member in group.items() if name.isdigit() and isinstance(member, h5py.Dataset)
    }
    blob_class = WIRE_MESSAGES["BlobProto"]
    count = max(arrays, default=-1) + 1
    return [array_to_blob(arrays[i], blob_class()) if i in arrays else None for i in range(count)]
