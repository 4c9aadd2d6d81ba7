"""From described layers to blobs and steps: names become blobs, types become layers, as Caffe's Net::Init."""

from __future__ import annotations

from typing import Any

from breve.blob import Blob
from breve.errors import LayerError, NetError, UnsupportedError, did_you_mean, located
from breve.graph import backward
from breve.graph.description import LayerSpec
from breve.graph.plan import Step
from breve.graph.sharing import Parameters
from breve.layers import layer_class
from breve.layers.base import Layer
from breve.proto.forks import fork_fields
from breve.randomness import layer_generator

AUTOMATIC = "(automatic)"


class Build:
    """The growing net: `steps`, `blobs` with their `blob_names`, `parameters`, and which blobs nobody has read yet."""

    def __init__(self, specs: list[LayerSpec], phase: str, dtype: Any, seed: int, force_backward: bool) -> None:
        self.phase, self.dtype, self.seed = phase, dtype, seed
        self.steps: list[Step] = []
        self.blobs: list[Blob] = []
        self.blob_names: list[str] = []
        self.bottom_ids: list[list[int]] = []
        self.top_ids: list[list[int]] = []
        self.parameters = Parameters()
        self.unread: dict[str, int] = {}
        self._ids: dict[str, int] = {}
        self._needs: list[backward.Needs] = []
        self._blob_needs: set[int] = set()
        self._places: dict[str, str] = {}
        for spec in specs:
            with located(spec.where):
                self._add(spec)
        self._plan_backward(force_backward)

    def _add(self, spec: LayerSpec) -> None:
        self._check_name(spec)
        rng = layer_generator(self.seed, spec.param.name)
        layer = layer_class(spec.param.type)(spec.param, self.phase, self.dtype, rng)
        check_counts(layer)
        check_fork_fields(layer)
        bottoms = [self._bottom(name) for name in spec.param.bottom]
        tops = [self._top(spec, j, name) for j, name in enumerate(spec.param.top)]
        if layer.auto_top_blobs:
            tops += [self._new_blob(AUTOMATIC) for _ in range(layer.top_counts[0] - len(tops))]
        weights = loss_weights(layer, len(tops))
        step = Step(
            layer, spec.where, [self.blobs[b] for b in bottoms], [self.blobs[t] for t in tops], weights, False, []
        )
        step.setup()
        self.parameters.add(layer, spec.where)
        self.steps.append(step)
        self.bottom_ids.append(bottoms)
        self.top_ids.append(tops)
        needs = backward.Needs(bottoms, tops, weights, any(layer.param_propagate_down))
        backward.from_parameters(needs, self._blob_needs, list(spec.param.propagate_down))
        self._needs.append(needs)

    def _check_name(self, spec: LayerSpec) -> None:
        name, wanted = spec.param.name, len(spec.param.propagate_down)
        if name in self._places:
            raise NetError(f"duplicate layer name '{name}'", hint=f"it is already the name of {self._places[name]}")
        if wanted not in (0, len(spec.param.bottom)):
            raise NetError(
                "propagate_down must be given once for each bottom", expected=len(spec.param.bottom), found=wanted
            )
        self._places[name] = spec.where

    def _bottom(self, name: str) -> int:
        if name not in self._ids:
            raise NetError(f"unknown bottom blob '{name}'", hint=did_you_mean(name, self._ids))
        self.unread.pop(name, None)
        return self._ids[name]

    def _top(self, spec: LayerSpec, j: int, name: str) -> int:
        if j < len(spec.param.bottom) and spec.param.bottom[j] == name:
            if not layer_class(spec.param.type).in_place:
                raise NetError(
                    f"this layer cannot work in place on blob '{name}'", hint="give its top a name of its own"
                )
            self.unread[name] = self._ids[name]
            return self._ids[name]
        if name in self._ids:
            raise NetError(f"top blob '{name}' is produced by two layers", hint="rename one of the tops")
        self._ids[name] = self.unread[name] = self._new_blob(name)
        return self._ids[name]

    def _new_blob(self, name: str) -> int:
        self.blobs.append(Blob((), self.dtype))
        self.blob_names.append(name)
        return len(self.blobs) - 1

    def _plan_backward(self, force_backward: bool) -> None:
        backward.from_losses(self._needs)
        if force_backward:
            allowed = [[b not in step.layer.unforced_bottoms for b in range(len(step.bottom))] for step in self.steps]
            backward.force(self._needs, allowed)
        for step, needs in zip(self.steps, self._needs, strict=True):
            step.needs_backward, step.propagate_down = needs.backward, needs.propagate_down
            if force_backward:
                step.layer.param_propagate_down = [True] * len(step.layer.blobs)


def check_counts(layer: Layer) -> None:
    """Raise LayerError unless the prototxt gives the layer as many bottoms and tops as it takes."""
    bottoms, tops = len(layer.param.bottom), len(layer.param.top)
    for word, found, (least, most) in (("bottoms", bottoms, layer.bottom_counts), ("tops", tops, layer.top_counts)):
        least = 0 if word == "tops" and layer.auto_top_blobs else least
        if found < least or (most is not None and found > most):
            raise LayerError(f"wrong number of {word}", expected=count_words(least, most), found=found)
    if layer.equal_counts and bottoms != tops:
        raise LayerError("it gives one top for each bottom", expected=f"{bottoms} tops", found=tops)


def check_fork_fields(layer: Layer) -> None:
    """Raise UnsupportedError where the prototxt sets what a fork of Caffe added and this layer does not honour."""
    unread = sorted(set(fork_fields(layer.param)) - layer.fork_fields)
    if unread:
        raise UnsupportedError(
            "fields of a fork of Caffe that this layer does not honour", found=", ".join(unread), hint="remove them"
        )


def count_words(least: int, most: int | None) -> str:
    """A range of counts in words."""
    return f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"


def loss_weights(layer: Layer, tops: int) -> list[float]:
    """The weight of each top in the net's loss: the prototxt's, or 1 for the first top of a loss layer."""
    given = list(layer.param.loss_weight)
    if given and len(given) != len(layer.param.top):
        raise LayerError(
            "loss_weight must be given once for each top or not at all", expected=len(layer.param.top), found=len(given)
        )
    weights = given or ([1.0] if layer.is_loss else [])
    return weights + [0.0] * (tops - len(weights))
