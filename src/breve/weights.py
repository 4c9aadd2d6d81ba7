"""A net's parameters in and out of files and messages, matched by layer name, as Caffe's CopyTrainedLayersFrom."""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple

import numpy as np

from breve.blob import Blob
from breve.errors import FileFormatError, NetError
from breve.graph.plan import Step
from breve.proto.binary import array_to_blob, blob_to_array, read_weights
from breve.proto.schema import WIRE_MESSAGES

log = logging.getLogger("breve")


def legacy(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of at most four axes as old files wrote it: (num, channels, height, width) with ones in front."""
    return (1,) * (4 - len(shape)) + shape


def copy_from(steps: list[Step], source: Any) -> None:
    """Copy the blobs of every layer of `source` into the layer of the same name; other layers are left alone.

    `source` is the path of a caffemodel, binary or HDF5, or a NetParameter. Raises FileFormatError for a damaged file,
    NetError where a layer has another number of parameters or another shape; nothing is copied then.
    """
    is_path = isinstance(source, (str, os.PathLike))
    origin = os.fspath(source) if is_path else "a NetParameter"
    targets = {step.layer.name: step for step in steps if step.layer.blobs}
    copies: list[Copy] = []
    for layer in (read_weights(source) if is_path else source).layer:
        if layer.name in targets and layer.blobs:
            copies += _copies(targets[layer.name], layer, origin)
        elif layer.blobs:
            log.info("Ignoring source layer %s", layer.name)
    _check_left_out(copies)
    for copy in copies:
        if copy.values is not None:
            copy.blob.data[...] = copy.values.reshape(copy.blob.shape)


class Copy(NamedTuple):
    """A parameter and the values for it; None where the file leaves them to the layer it shares them with."""

    blob: Blob
    values: np.ndarray | None
    where: str


def _copies(step: Step, layer: Any, origin: str) -> list[Copy]:
    where = f"{step.where}: weights from {origin}"
    blobs = step.layer.blobs
    if len(layer.blobs) != len(blobs):
        raise NetError(
            "the layer has another number of parameters", where=where, expected=len(blobs), found=len(layer.blobs)
        )
    pairs = zip(blobs, layer.blobs, strict=True)
    return [Copy(b, None if p is None else _fitting(b, p, i, where), where) for i, (b, p) in enumerate(pairs)]


def _check_left_out(copies: list[Copy]) -> None:
    """HDF5 files leave out a shared parameter after its first layer; any other that is missing is an error."""
    filled = [copy.blob for copy in copies if copy.values is not None]
    for copy in copies:
        if copy.values is None and not any(copy.blob.shares_data_with(blob) for blob in filled):
            raise NetError("a parameter is missing, and no other layer here shares it", where=copy.where)


def _fitting(blob: Blob, proto: Any, index: int, where: str) -> np.ndarray:
    """The values for a parameter; those of an old file may have ones in front of its shape."""
    try:
        array = blob_to_array(proto)
    except FileFormatError as error:
        error.where = where
        raise
    old = not proto.HasField("shape") and len(blob.shape) < 4
    if (legacy(blob.shape) if old else blob.shape) != array.shape:
        raise NetError(
            f"parameter {index} has another shape",
            where=where,
            expected=blob.shape,
            found=array.shape,
            hint="to learn this layer from scratch, give it another name",
        )
    return array


def to_proto(name: str, steps: list[Step], write_diff: bool) -> Any:
    """A NetParameter of the layers as they are, splits included, with parameters (and gradients) in their blobs."""
    net = WIRE_MESSAGES["NetParameter"](name=name)
    for step in steps:
        layer = net.layer.add()
        layer.MergeFromString(step.layer.param.SerializePartialToString())
        del layer.blobs[:]
        for blob in step.layer.blobs:
            array_to_blob(blob.data, layer.blobs.add(), blob.diff if write_diff else None)
    return net
