"""The net: owns blobs, layers and the plan."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from breve import weights
from breve.blob import Blob
from breve.errors import NetError, did_you_mean
from breve.graph.build import AUTOMATIC, Build
from breve.graph.description import LayerSpec, specs
from breve.graph.fusion import Plan
from breve.graph.plan import Step
from breve.graph.rules import PHASES, filter_layers
from breve.graph.splits import insert_splits
from breve.layers.base import Layer
from breve.proto import NetParameter
from breve.proto.binary import write_net
from breve.randomness import next_seed

Source = str | os.PathLike[str] | Any


class Net:
    """A network built from a prototxt, in one phase.

    `source` is the path of a prototxt or a NetParameter. `phase` is "TRAIN" or "TEST" (by default what the
    description says, else TEST); `level` and `stages` select layers. `weights` is a `.caffemodel`. `dtype` is float32
    or float64 for every blob. `seed` makes fillers and random layers repeatable.

    `forward` returns the loss: the sum over tops of loss weight times value. `backward` gives every blob's `diff` the
    derivative of that loss with respect to its `data`; parameter diffs accumulate until `clear_param_diffs`.

    Raises ParseError, NetError or LayerError, naming file, line and layer.

    >>> from breve.proto.text import parse
    >>> net = Net(parse('''layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 2] } } }
    ...     layer { name: "y" type: "ReLU" bottom: "x" top: "y" }''', NetParameter))
    >>> net.blobs["x"].data[...] = [[1, 2]]
    >>> net.forward(), net.blobs["y"].data.tolist()
    (0.0, [[1.0, 2.0]])
    """

    def __init__(
        self,
        source: Source,
        phase: str | None = None,
        *,
        weights: Source | None = None,
        level: int | None = None,
        stages: Iterable[str] = (),
        dtype: Any = np.float32,
        seed: int | None = None,
    ) -> None:
        param, layer_specs = _described(source)
        state = _state(param, phase, level, stages)
        self.param = param
        self.name: str = param.name
        self.phase: str = PHASES[state.phase]
        self.dtype = np.dtype(dtype)
        self.seed = next_seed() if seed is None else seed
        taking_part = insert_splits(filter_layers(layer_specs, state))
        build = Build(taking_part, self.phase, self.dtype, self.seed, param.force_backward)
        self._adopt(build)
        if any(layer.blobs for layer in param.layer):
            self.copy_from(param)
        if weights is not None:
            self.copy_from(weights)

    def _adopt(self, build: Build) -> None:
        self.steps: list[Step] = build.steps
        self.plan = Plan(build.steps)
        self.layers: list[Layer] = [step.layer for step in build.steps]
        self.layer_names: list[str] = [layer.name for layer in self.layers]
        self.blobs: dict[str, Blob] = {
            n: b for n, b in zip(build.blob_names, build.blobs, strict=True) if n != AUTOMATIC
        }
        self.params: dict[str, list[Blob]] = {layer.name: layer.blobs for layer in self.layers if layer.blobs}
        self.learnable_params: list[Blob] = build.parameters.learnable
        self.params_lr: list[float] = build.parameters.lr_mults
        self.params_weight_decay: list[float] = build.parameters.decay_mults
        self.inputs: list[str] = [t for layer in self.layers if layer.type == "Input" for t in layer.param.top]
        self.outputs: list[str] = sorted(build.unread)
        self.bottom_ids, self.top_ids = build.bottom_ids, build.top_ids
        self.blob_names: list[str] = build.blob_names

    def forward(self, start: int | str | None = None, end: int | str | None = None) -> float:
        """Run from layer `start` to `end`, both included (numbers or names; the whole net by default); the loss."""
        return self.forward_from_to(self._index(start, 0), self._index(end, len(self.steps) - 1))

    def backward(self, start: int | str | None = None, end: int | str | None = None) -> None:
        """Run backward from layer `start` (the last by default) down to `end` (the first), both included."""
        self.backward_from_to(self._index(start, len(self.steps) - 1), self._index(end, 0))

    def forward_from_to(self, first: int = 0, last: int | None = None) -> float:
        """Run layers number `first` to `last`, both included; their part of the loss. All forward calls end here."""
        return self.plan.forward(first, len(self.steps) - 1 if last is None else last)

    def backward_from_to(self, last: int | None = None, first: int = 0) -> None:
        """Run backward from layer number `last` down to `first`, both included. All backward calls end here."""
        self.plan.backward(len(self.steps) - 1 if last is None else last, first)

    def _index(self, layer: int | str | None, default: int) -> int:
        if layer is None:
            return default
        if isinstance(layer, str):
            if layer not in self.layer_names:
                raise NetError(f"no layer is named '{layer}'", hint=did_you_mean(layer, self.layer_names))
            return self.layer_names.index(layer)
        if not 0 <= layer < len(self.steps):
            raise NetError("no such layer number", expected=f"0 to {len(self.steps) - 1}", found=layer)
        return layer

    def reshape(self) -> None:
        """Shape every blob anew after an input blob was reshaped. `forward` does so by itself, layer by layer."""
        for step in self.steps:
            step.reshape()

    def clear_param_diffs(self) -> None:
        """Set the gradient of every parameter to zero."""
        for blob in self.learnable_params:
            blob.diff[...] = 0

    def copy_from(self, source: Source) -> None:
        """Copy the parameters of layers with the same names from a `.caffemodel`(`.h5`) or a NetParameter.

        Raises FileFormatError for a damaged file, NetError where counts or shapes differ; nothing is copied then.
        """
        weights.copy_from(self.steps, source)

    def share_trained_layers_with(self, other: Net) -> None:
        """Let parameters of layers with the same names be those of `other`: one memory, no copy. Raises NetError."""
        for step in self.steps:
            for blob, theirs in zip(step.layer.blobs, other.params.get(step.layer.name, ()), strict=False):
                if blob.shape != theirs.shape:
                    raise NetError(
                        "cannot share parameters of another shape",
                        where=step.where,
                        expected=blob.shape,
                        found=theirs.shape,
                    )
                blob.share_data(theirs)

    def to_proto(self, write_diff: bool = False) -> Any:
        """The net as a NetParameter with its parameters (and their gradients), as Caffe saves it."""
        return weights.to_proto(self.name, self.steps, write_diff)

    def save(self, path: str | os.PathLike[str], write_diff: bool = False) -> None:
        """Write a `.caffemodel` (HDF5 when the name ends in `.h5`), whole or not at all."""
        write_net(self.to_proto(write_diff), path)

    def close(self) -> None:
        """Stop the background readers of data layers. A closed net still holds its blobs."""
        for layer in self.layers:
            layer.close()


def _described(source: Source) -> tuple[Any, list[LayerSpec]]:
    if isinstance(source, (str, os.PathLike)):
        from breve.proto.text import read_net_file

        file = read_net_file(source)
        return file.message, specs(file.message, file.path, file.layer_lines)
    from breve.proto.upgrade import upgrade_net

    param = NetParameter()
    param.CopyFrom(source)
    upgrade_net(param)
    return param, specs(param)


def _state(param: Any, phase: str | None, level: int | None, stages: Iterable[str]) -> Any:
    state = type(param.state)()
    state.CopyFrom(param.state)
    if phase is not None:
        if phase not in PHASES:
            raise NetError("unknown phase", expected=" or ".join(PHASES), found=phase)
        state.phase = PHASES.index(phase)
    if level is not None:
        state.level = level
    state.stage.extend(stages)
    return state
