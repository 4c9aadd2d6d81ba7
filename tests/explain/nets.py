"""Small nets to explain."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import text_format

from breve.net import Net
from breve.proto import NetParameter
from breve.randomness import set_random_seed


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


def net_of_case(case: Any) -> tuple[Net, str]:
    """A net of one layer of the table of layers on its own values, and the layer's name. Losses have weight 1."""
    bottoms = [f"b{i}" for i in range(len(case.bottoms))]
    values = case.values()
    head = "".join(
        f'layer {{ name: "in_{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {d}" for d in value.shape)
        + " } } }\n"
        for name, value in zip(bottoms, values, strict=True)
    )
    names = " ".join(f"bottom: {name!r}" for name in bottoms) + " ".join(f" top: 't{i}'" for i in range(case.tops))
    set_random_seed(1)  # parameters that fillers draw anew in each run would now and then round beyond a tolerance
    net = Net(
        text_format.Parse(head + f'layer {{ name: "layer" {names} {case.prototxt} }}', NetParameter()), case.phase
    )
    for name, value in zip(bottoms, values, strict=True):
        net.blobs[name].data[...] = value
    net.forward()
    rng = np.random.default_rng(3)
    for i in range(case.tops) if not any(net.steps[-1].loss_weights) else ():
        if case.gradient_tops is None or i in case.gradient_tops:
            net.blobs[f"t{i}"].diff[...] = rng.standard_normal(net.blobs[f"t{i}"].shape)
    return net, "layer"
