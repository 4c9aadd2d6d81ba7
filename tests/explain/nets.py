"""Small nets to explain."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import text_format

from breve.net import Net
from breve.proto import NetParameter


def net_of(text: str, *shapes: tuple[int, ...], seed: int = 0, phase: str = "TRAIN", **options: Any) -> Net:
    """A net of the layers in `text` behind an Input layer with tops x, x1, ... of normal random numbers."""
    tops = [f"x{i or ''}" for i in range(len(shapes))]
    dims = " ".join(f"shape {{ {' '.join(f'dim: {d}' for d in shape)} }}" for shape in shapes)
    head = f'layer {{ name: "in" type: "Input" {" ".join(f"top: {t!r}" for t in tops)} input_param {{ {dims} }} }}'
    net = Net(text_format.Parse(head + text, NetParameter()), phase, seed=seed, **options)
    rng = np.random.default_rng(seed)
    for name in tops:
        net.blobs[name].data[...] = rng.standard_normal(net.blobs[name].shape)
    for blob in net.learnable_params:
        blob.data[...] = rng.standard_normal(blob.shape) * 0.5
    return net
