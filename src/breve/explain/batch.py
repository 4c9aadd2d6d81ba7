"""A batch at random for a net that holds none: numbers for data, classes for labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from breve.blob import Blob


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
            elif i in step.layer.unforced_bottoms or step.layer.type == "Accuracy":
                found = _classes(step.bottom[0].shape)
            else:
                return None
    return found


def _classes(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 1
