"""`caffe.Net`: breve's net with pycaffe's calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from breve import net
from breve.errors import NetError, did_you_mean
from breve.graph.rules import PHASES


class Net(net.Net):
    """`Net(file, phase)` or `Net(file, weights, phase)`, phases as `caffe.TRAIN` and `caffe.TEST`.

    `forward` and `backward` take input blobs by keyword and return the outputs (or the inputs' diffs) by name.
    """

    def __init__(
        self,
        network_file: Any,
        *args: Any,
        phase: int | str | None = None,
        weights: Any = None,
        level: int = 0,
        stages: Iterable[str] | None = None,
        **options: Any,
    ) -> None:
        if len(args) == 2:
            weights, phase = args
        elif len(args) == 1:
            phase = args[0]
        elif args:
            raise TypeError(f"Net takes (file, phase) or (file, weights, phase), found {1 + len(args)} arguments")
        if phase is None or phase not in (0, 1, *PHASES):
            raise NetError("the phase must be given", expected="caffe.TRAIN or caffe.TEST", found=phase)
        phase = phase if isinstance(phase, str) else PHASES[phase]
        super().__init__(network_file, phase, weights=weights, level=level, stages=stages or (), **options)

    @property
    def _layer_names(self) -> list[str]:
        return self.layer_names

    @property
    def _blob_names(self) -> list[str]:
        return self.blob_names

    @property
    def layer_dict(self) -> dict[str, Any]:
        """The layers by name."""
        return dict(zip(self.layer_names, self.layers, strict=True))

    @property
    def top_names(self) -> dict[str, list[str]]:
        """The names of each layer's tops."""
        return {
            name: [self.blob_names[i] for i in ids] for name, ids in zip(self.layer_names, self.top_ids, strict=True)
        }

    @property
    def bottom_names(self) -> dict[str, list[str]]:
        """The names of each layer's bottoms."""
        return self._names(self.bottom_ids)

    def _names(self, ids: list[list[int]]) -> dict[str, list[str]]:
        return {layer: [self.blob_names[i] for i in row] for layer, row in zip(self.layer_names, ids, strict=True)}

    @property
    def blob_loss_weights(self) -> dict[str, float]:
        """The weight of each blob in the loss."""
        weights = dict.fromkeys(self.blobs, 0.0)
        for step, ids in zip(self.steps, self.top_ids, strict=True):
            weights.update({self.blob_names[i]: w for i, w in zip(ids, step.loss_weights, strict=True) if w})
        return weights

    def _top_ids(self, layer: int) -> list[int]:
        return self.top_ids[layer]

    def _bottom_ids(self, layer: int) -> list[int]:
        return self.bottom_ids[layer]

    def _forward(self, first: int, last: int) -> float:
        return self.forward_from_to(first, last)

    def _backward(self, last: int, first: int) -> None:
        self.backward_from_to(last, first)

    def forward(  # type: ignore[override]  # pycaffe's own call
        self, blobs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **inputs: Any
    ) -> Any:
        """Copy `inputs` into the input blobs, run layers `start` to `end`, return outputs (and `blobs`) by name."""
        self._copy_in(inputs, self.inputs, "data")
        self._forward(self._index(start, 0), self._index(end, len(self.steps) - 1))
        names = self._tops_of(end) if end is not None else self.outputs
        return {name: self.blobs[name].data for name in [*names, *(blobs or ())]}

    def backward(  # type: ignore[override]  # pycaffe's own call
        self, diffs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **seeds: Any
    ) -> Any:
        """Copy `seeds` into output diffs, run back from `start` to `end`, return input diffs (and `diffs`) by name."""
        self._copy_in(seeds, self._tops_of(start) if start is not None else self.outputs, "diff")
        self._backward(self._index(start, len(self.steps) - 1), self._index(end, 0))
        names = self._bottoms_of(end) if end is not None else self.inputs
        return {name: self.blobs[name].diff for name in [*names, *(diffs or ())]}

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Let the net's MemoryData layer read `data` (M, C, H, W) and `labels` (M). Raises NetError, DataError."""
        layers: list[Any] = [layer for layer in self.layers if layer.type == "MemoryData"]
        if not layers:
            raise NetError("the net has no MemoryData layer to take the arrays", hint="write into net.blobs instead")
        layers[0].set_arrays(data, labels)

    def _tops_of(self, layer: str) -> list[str]:
        return [self.blob_names[i] for i in self.top_ids[self._index(layer, 0)]]

    def _bottoms_of(self, layer: str) -> list[str]:
        return [self.blob_names[i] for i in self.bottom_ids[self._index(layer, 0)]]

    def _copy_in(self, arrays: dict[str, Any], known: list[str], what: str) -> None:
        if arrays and set(arrays) != set(known):
            odd = sorted(set(arrays) ^ set(known))
            raise NetError(f"{what} must be given for {known}", found=sorted(arrays), hint=did_you_mean(odd[0], known))
        for name, array in arrays.items():
            target = getattr(self.blobs[name], what)
            try:
                target[...] = array
            except ValueError as error:
                raise NetError(
                    f"{what} of blob '{name}' has another shape",
                    expected=target.shape,
                    found=np.shape(array),
                    hint="reshape the blob and the net first",
                ) from error

    def share_with(self, other: net.Net) -> None:
        """Let parameters of layers with the same names be `other`'s."""
        self.share_trained_layers_with(other)
