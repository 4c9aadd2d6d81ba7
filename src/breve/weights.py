"""A net's parameters in and out of NetParameter messages, matched by layer name, as Caffe's CopyTrainedLayersFrom."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.errors import NetError
from breve.graph.plan import Step
from breve.proto.binary import array_to_blob, blob_to_array

log = logging.getLogger("breve")


def legacy(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of at most four axes as old files wrote it: (num, channels, height, width) with ones in front."""
    return (1,) * (4 - len(shape)) + shape


def copy_from(steps: list[Step], source: Any, origin: str) -> None:
    """Copy the blobs of every layer of NetParameter `source` into the layer of the same name; others are left alone.

    Raises NetError where a layer has another number of blobs or another shape; nothing is copied then.
    """
    targets = {step.layer.name: step for step in steps if step.layer.blobs}
    pairs: list[tuple[Blob, np.ndarray]] = []
    for layer in source.layer:
        if layer.name in targets and layer.blobs:
            pairs += _pairs(targets[layer.name], layer, origin)
        elif layer.blobs:
            log.info("Ignoring source layer %s", layer.name)
    for blob, array in pairs:
        blob.data[...] = array.reshape(blob.shape)


def _pairs(step: Step, layer: Any, origin: str) -> list[tuple[Blob, np.ndarray]]:
    where = f"{step.where}: weights from {origin}"
    if len(layer.blobs) != len(step.layer.blobs):
        raise NetError("the layer has another number of parameters", where=where, expected=len(step.layer.blobs), found=len(layer.blobs))
    pairs = []
    for i, (blob, proto) in enumerate(zip(step.layer.blobs, layer.blobs, strict=True)):
        array = blob_to_array(proto)
        if array.shape != blob.shape and not (not proto.HasField("shape") and legacy(array.shape) == legacy(blob.shape)):
            raise NetError(
                f"parameter {i} has another shape", where=where, expected=blob.shape, found=array.shape,
                hint="to learn this layer from scratch, give it another name",
            )
        pairs.append((blob, array))
    return pairs


def write_layers(steps: list[Step], net_param: Any, write_diff: bool) -> None:
    """Append every layer's LayerParameter with its blobs to a NetParameter."""
    for step in steps:
        layer = net_param.layer.add()
        layer.MergeFromString(step.layer.param.SerializeToString())
        del layer.blobs[:]
        for blob in step.layer.blobs:
            array_to_blob(blob.data, layer.blobs.add(), blob.diff if write_diff else None)
