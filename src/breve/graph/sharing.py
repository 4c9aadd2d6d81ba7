"""A net's parameters, those shared by name once, with their learning rates, as in Caffe's Net::AppendParam."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.base import Layer
from breve.proto import MESSAGES

PERMISSIVE = 1  # ParamSpec.DimCheckMode


@dataclass
class Owner:
    """The first layer that names a parameter, and where it stands in the list of learnable ones."""

    index: int
    where: str


@dataclass
class Parameters:
    """Learnable parameters in the order of their owners, with `lr_mult` and `decay_mult` beside them."""

    learnable: list[Blob] = field(default_factory=list)
    lr_mults: list[float] = field(default_factory=list)
    decay_mults: list[float] = field(default_factory=list)
    _mults_given: list[list[bool]] = field(default_factory=list)
    _owners: dict[str, Owner] = field(default_factory=dict)

    def add(self, layer: Layer, where: str) -> None:
        """Take in a layer's parameters: new ones are learnable, those of a known name share its owner's memory."""
        specs = list(layer.param.param)
        if len(specs) > len(layer.blobs):
            raise LayerError(
                "more `param` entries than parameters", expected=f"{len(layer.blobs)} at most", found=len(specs)
            )
        layer.param_propagate_down = [True] * len(layer.blobs)
        specs += [MESSAGES["ParamSpec"]() for _ in range(len(layer.blobs) - len(specs))]
        for i, (blob, spec) in enumerate(zip(layer.blobs, specs, strict=True)):
            owner = self._owners.get(spec.name) if spec.name else None
            if owner is None:
                self._own(blob, spec, where)
            else:
                self._share(blob, spec, owner)
            layer.param_propagate_down[i] = spec.lr_mult != 0

    def _own(self, blob: Blob, spec: Any, where: str) -> None:
        if spec.name:
            self._owners[spec.name] = Owner(len(self.learnable), where)
        self.learnable.append(blob)
        self.lr_mults.append(spec.lr_mult)
        self.decay_mults.append(spec.decay_mult)
        self._mults_given.append([spec.HasField("lr_mult"), spec.HasField("decay_mult")])

    def _share(self, blob: Blob, spec: Any, owner: Owner) -> None:
        source = self.learnable[owner.index]
        same = blob.count == source.count if spec.share_mode == PERMISSIVE else blob.shape == source.shape
        if not same:
            raise LayerError(
                f"parameter '{spec.name}' is shared with {owner.where} and must have its shape",
                expected=source.shape,
                found=blob.shape,
            )
        for k, (word, mults) in enumerate((("lr_mult", self.lr_mults), ("decay_mult", self.decay_mults))):
            if not spec.HasField(word):
                continue
            given = getattr(spec, word)
            if self._mults_given[owner.index][k] and given != mults[owner.index]:
                raise LayerError(
                    f"shared parameter '{spec.name}' has another {word} than in {owner.where}",
                    expected=mults[owner.index],
                    found=given,
                )
            mults[owner.index] = given
            self._mults_given[owner.index][k] = True
        blob.share_data(source)
        blob.share_diff(source)
