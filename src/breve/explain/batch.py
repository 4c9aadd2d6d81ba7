"""What a net's inputs hold: values from a file, or, for a net that holds none, a batch at random."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.data.picture import read_picture, resize
from breve.errors import DataError, NetError, did_you_mean


def read_inputs(net: Any, path: str, scale: float = 1.0) -> None:
    """Put arrays of an `.npz` into the blobs of their names, or a picture, times `scale`, into the net's first input.

    An `.npz` of one array need not name the input. Inputs take the arrays' shapes; a picture is resized to the
    input's. Raises DataError, NetError.
    """
    if not net.inputs:
        raise NetError("the net has no input to fill: its data layers read their own", hint="leave --input out")
    if path.lower().endswith((".npz", ".npy")):
        for name, array in _arrays(net, path).items():
            net.blobs[name].reshape(*array.shape)
            net.blobs[name].data[...] = array
        net.reshape()
        return
    blob = net.blobs[net.inputs[0]]
    if blob.ndim != 4 or blob.shape[1] not in (1, 3):
        raise NetError("a picture fits an input of 1 or 3 channels alone", expected="(N, C, H, W)", found=blob.shape)
    image = resize(read_picture(path, blob.shape[1]), *blob.shape[2:])
    blob.data[...] = image.astype(np.float32) * np.float32(scale)


def _arrays(net: Any, path: str) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as arrays", found=error) from error
    if len(arrays) == 1 and next(iter(arrays)) not in net.inputs:
        arrays = {net.inputs[0]: next(iter(arrays.values()))}
    for name in arrays:
        if name not in net.inputs:
            raise DataError(f"{path} holds '{name}', which is no input of the net", hint=did_you_mean(name, net.inputs))
    return arrays


def fill_empty_inputs(net: Any, seed: int = 0) -> list[tuple[Blob, str]]:
    """Give every all-zero top of a layer without bottoms random values; those that got some, with their names.

    Bottoms that gradients never reach are labels: they get whole numbers below the layer's number of channels.
    """
    rng = np.random.default_rng(seed)
    filled: list[tuple[Blob, str]] = []
    for step in net.steps:
        for blob in step.top if not step.bottom and not step.layer.blobs else ():
            if blob.count and not blob.data.any():
                classes = label_classes(net, blob)
                draw = rng.standard_normal(blob.shape) if classes is None else rng.integers(classes, size=blob.shape)
                blob.data[...] = draw.astype(np.float32)
                filled += [(blob, name) for name, known in net.blobs.items() if known is blob]
    return filled


def label_classes(net: Any, blob: Any) -> int | None:
    """How many classes a blob of labels may name; None for a blob that is read as data."""
    found = None
    for step in net.steps:
        for i, bottom in enumerate(step.bottom):
            if bottom is not blob:
                continue
            if step.layer.type == "Split":
                counts = [label_classes(net, top) for top in step.top]
                found = None if None in counts else min(c for c in counts if c is not None)
            elif step.layer.type == "Embed":
                found = step.layer.param.embed_param.input_dim
            elif i and i in step.layer.unforced_bottoms:
                found = _classes(step.bottom[0].shape)
            else:
                return None
    return found


def _classes(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 1
