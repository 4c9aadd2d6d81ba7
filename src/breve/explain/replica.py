"""A net's layers once more, on blobs of their own: what `explain` and `check` run, so that the net stays as it was."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from types import MethodType
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.graph.fusion import Plan
from breve.graph.plan import Step
from breve.layers.base import Layer


@dataclass
class Record:
    """One layer's part in one pass: the arrays as the layer saw and left them, its own share of parameter diffs."""

    layer: Layer
    where: str
    bottom_names: list[str]
    top_names: list[str]
    propagate_down: list[bool]
    bottom_data: list[np.ndarray]
    top_data: list[np.ndarray]
    top_diff: list[np.ndarray]
    bottom_diff: list[np.ndarray]
    param_data: list[np.ndarray]
    param_diff: list[np.ndarray]
    state: dict[str, Any]
    in_place_bottoms: list[int | None]
    """For each top the bottom that it is, None where it has a blob of its own."""

    @property
    def type(self) -> str:
        """The layer's type."""
        return self.layer.type


class Replica:
    """Every layer of `net` newly made, with the net's data, parameters and random state, and every gradient wanted.

    The tops of layers without bottoms are fixed at what they hold. Gradients flow from the net's losses; in a net
    without a loss from the diffs of its outputs or, where those are all zero, from random ones (`objective` says
    which). They flow as under `force_backward`, except where the prototxt says `propagate_down: false`.
    """

    def __init__(self, net: Any, dtype: Any = None, seed: int = 0) -> None:
        self.dtype = np.dtype(net.dtype if dtype is None else dtype)
        self._blobs: dict[int, Blob] = {}
        self._params: dict[int, Blob] = {}
        self._copies: dict[tuple[int, str], np.ndarray] = {}
        self.names = {id(self._copied(blob)): name for name, blob in net.blobs.items()}
        self.states: list[dict[str, Any]] = []
        self.steps = [self._copy(step) for step in net.steps]
        self.objective = self._seed_outputs(net, seed)
        self._plan_backward()
        self._batch = [(top, top.data.copy()) for step in self.steps if not step.bottom for top in step.top]
        self._batch = [(top, value) for top, value in self._batch if id(top) in self._in_place]
        moving = [step.layer for step in self.steps if step.layer.type in MOVE_STATISTICS]
        self._initial = [(blob, blob.data.copy()) for layer in moving for blob in layer.blobs]
        owners = Counter(_address(blob) for step in self.steps for blob in step.layer.blobs)
        self._shared_params = {address for address, count in owners.items() if count > 1}

    def _copied(self, blob: Blob) -> Blob:
        """The replica of a blob, with its data."""
        if id(blob) not in self._blobs:
            twin = Blob(blob.shape, self.dtype, channels_last=blob.channels_last)
            twin.data[...] = blob.data
            self._blobs[id(blob)] = twin
        return self._blobs[id(blob)]

    def _copy(self, step: Step) -> Step:
        bottom, top = [self._copied(b) for b in step.bottom], [self._copied(b) for b in step.top]
        layer = Fixed(step.layer) if is_source(step.layer) else unfilled_copy(step.layer, self.dtype)
        twin = Step(layer, step.where, bottom, top, list(step.loss_weights), False, [False] * len(bottom))
        values = [t.data.copy() for t in top]
        twin.setup()
        for blob, value in zip(top, values, strict=True):
            if blob.shape == value.shape:
                blob.data[...] = value
        self._adopt(step.layer, layer)
        self.states.append(pass_state(step))
        return twin

    def _adopt(self, original: Layer, twin: Layer) -> None:
        """Read the net's own parameters where that is safe, else copy them; those shared in the net are shared here."""
        for theirs, ours in zip(original.blobs, twin.blobs, strict=True):
            address = _address(theirs)
            if theirs.count and address in self._params:
                ours.share_data(self._params[address])
                ours.share_diff(self._params[address])
            elif theirs.dtype == self.dtype and twin.type not in MOVE_STATISTICS:
                ours.share_data(theirs)
            else:
                ours.data[...] = theirs.data
            self._params[address] = ours
        twin.param_propagate_down = [True] * len(twin.blobs)

    def _seed_outputs(self, net: Any, seed: int) -> str:
        from breve.explain.layers import has_gradient

        self._seeds: list[tuple[Blob, np.ndarray | None]] = []
        self._seed = seed
        if any(any(step.loss_weights) for step in self.steps):
            return "the net's loss"
        ends = [net.blobs[name] for name in net.outputs if name in net.blobs]
        ends = [b for b in ends if any(b is t for s in net.steps if has_gradient(s.layer.type) for t in s.top)]
        held = any(blob.diff.any() for blob in ends)
        self._seeds = [(self._copied(blob), blob.diff.copy() if held else None) for blob in ends]
        if held:
            return "the diffs that the net's outputs hold (it has no loss)"
        return f"the sum of the net's outputs weighted by normal random numbers of seed {seed} (it has no loss)"

    def _set_seeds(self) -> None:
        """Put the diffs that gradients flow from into the outputs of a net without a loss, once shapes are known."""
        rng = np.random.default_rng(self._seed)
        for blob, diff in self._seeds:
            blob.diff[...] = rng.standard_normal(blob.shape).astype(np.float32) if diff is None else diff

    def _plan_backward(self) -> None:
        """Which layers the objective depends on, and through which bottoms."""
        reached = {id(blob) for blob, _ in self._seeds}
        for step in reversed(self.steps):
            lit = any(w or id(t) in reached for t, w in zip(step.top, step.loss_weights, strict=True))
            step.needs_backward = lit
            if lit:
                step.propagate_down = wanted_bottoms(step.layer, len(step.bottom))
                reached |= {id(b) for b, yes in zip(step.bottom, step.propagate_down, strict=True) if yes}

    def run(self, wanted: Collection[int] = ()) -> dict[int, Record]:
        """One pass forward and backward; the records of the `wanted` layers (by number)."""
        records = {}
        self.reset()
        self._restore_batch()
        for number, step in enumerate(self.steps):
            if number in wanted:
                records[number] = self._before(number, step)
            self._forward(number)
            self._forget_copies(step)
            if number in wanted:
                records[number].top_data = self._kept(step.top, "data")
        self._set_seeds()
        for number, step in reversed(list(enumerate(self.steps))):
            if number in wanted:
                self._recorded_backward(step, records[number])
            else:
                step.backward()
                self._forget_copies(step)
        return records

    def pass_as_net(self) -> None:
        """One pass as the net itself runs it, groups of layers in one sweep."""
        plan, last = self._start_again(), len(self.steps) - 1
        plan.forward(0, last)
        self._set_seeds()
        plan.backward(last, 0)

    def _start_again(self) -> Plan:
        """Everything as before a pass; the plan to run it by."""
        self.reset()
        self._restore_batch()
        self._copies.clear()
        for step, state in zip(self.steps, self.states, strict=True):
            step.layer.set_state(copy.deepcopy(state))
        return Plan(self.steps)

    def run_as_net(self, number: int) -> Record:
        """One pass as the net itself runs it, but for one layer, which is run by itself and recorded."""
        plan, last = self._start_again(), len(self.steps) - 1
        plan.forward(0, number - 1)
        record = self._before(number, self.steps[number])
        self.steps[number].forward()
        self._forget_copies(self.steps[number])
        record.top_data = self._kept(self.steps[number].top, "data")
        plan.forward(number + 1, last)
        self._set_seeds()
        plan.backward(last, number + 1)
        self._copies.clear()
        self._recorded_backward(self.steps[number], record)
        return record

    def forward(self, start: int = 0) -> float:
        """The layers from `start` on, as from the same random state every time; the loss."""
        self._restore_batch()
        return sum(self._forward(number) for number in range(start, len(self.steps)))

    def _restore_batch(self) -> None:
        """Inputs that a layer works on in place, as they were taken from the net."""
        for blob, value in self._batch:
            blob.data[...] = value

    def objective_value(self) -> float:
        """The objective after a forward pass: the loss, or the weighted sum of outputs."""
        loss = self.forward()
        rng, total = np.random.default_rng(self._seed), loss
        for blob, diff in self._seeds:
            weights = rng.standard_normal(blob.shape).astype(np.float32) if diff is None else diff
            total += float(np.vdot(np.asarray(weights, np.float64), blob.data))
        return total

    def _forward(self, number: int) -> float:
        self.steps[number].layer.set_state(copy.deepcopy(self.states[number]))
        return self.steps[number].forward()

    def backward(self) -> None:
        """All layers backward."""
        self._set_seeds()
        for step in reversed(self.steps):
            step.backward()

    def reset(self) -> None:
        """Statistics as they were taken from the net (a forward pass may move them), parameter diffs zero."""
        for blob, value in self._initial:
            blob.data[...] = value
        for step in self.steps:
            for blob in step.layer.blobs:
                blob.diff[...] = 0

    def _before(self, number: int, step: Step) -> Record:
        return Record(
            step.layer,
            step.where,
            [self.names.get(id(b), "(automatic)") for b in step.bottom],
            [self.names.get(id(b), "(automatic)") for b in step.top],
            step.propagate_down,
            bottom_data=self._kept(step.bottom, "data"),
            top_data=[],
            top_diff=[],
            bottom_diff=[],
            param_data=[b.data.copy() if step.layer.type in MOVE_STATISTICS else b.data for b in step.layer.blobs],
            param_diff=[],
            state=self.states[number],
            in_place_bottoms=[next((i for i, b in enumerate(step.bottom) if b is t), None) for t in step.top],
        )

    def _recorded_backward(self, step: Step, record: Record) -> None:
        record.top_diff = self._kept(step.top, "diff")
        shared = [(i, b.diff.copy()) for i, b in enumerate(step.layer.blobs) if _address(b) in self._shared_params]
        for i, _ in shared:
            step.layer.blobs[i].diff[...] = 0
        step.backward()
        self._forget_copies(step)
        record.bottom_diff = self._kept(step.bottom, "diff")
        record.param_diff = [blob.diff for blob in step.layer.blobs]
        for i, others in shared:
            record.param_diff[i] = record.param_diff[i].copy()
            step.layer.blobs[i].diff[...] += others

    def _kept(self, blobs: Iterable[Blob], name: str) -> list[np.ndarray]:
        """Data or diffs as they are now: a copy where a layer works in place on the blob later or has before."""
        return [self._copy_of(b, name) if id(b) in self._in_place else getattr(b, name) for b in blobs]

    def _copy_of(self, blob: Blob, name: str) -> np.ndarray:
        """One copy for the layer that has written a blob and the one that reads it next."""
        key = (id(blob), name)
        if key not in self._copies:
            self._copies[key] = getattr(blob, name).copy(order="K")
        return self._copies[key]

    def _forget_copies(self, step: Step) -> None:
        """A layer has written its tops' data, or its bottoms' diffs: copies of them are the past."""
        for blob in (*step.bottom, *step.top):
            for name in ("data", "diff"):
                if any(blob is other for other in (step.top if name == "data" else step.bottom)):
                    self._copies.pop((id(blob), name), None)

    @cached_property
    def _in_place(self) -> set[int]:
        return {id(t) for step in self.steps for t in step.top if any(t is b for b in step.bottom)}


MOVE_STATISTICS = {"BatchNorm", "Python"}
"""Types whose forward pass may write to their own parameters."""


def _address(blob: Blob) -> int:
    """Where a blob's data lie: the same for blobs that share memory."""
    return int(blob.data.__array_interface__["data"][0])


class Fixed(Layer):
    """Stands for a layer without bottoms: its tops hold the batch."""

    bottom_counts = (0, 0)
    top_counts = (0, None)

    def __init__(self, original: Layer) -> None:
        super().__init__(original.param, original.phase, original.dtype)

    def reshape(self, bottom: Any, top: Any) -> None:
        """The tops have their shapes."""

    def forward(self, bottom: Any, top: Any) -> None:
        """The tops have their values."""

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        """There is nothing below."""

    def set_state(self, state: dict[str, Any]) -> None:
        """It draws nothing."""


def is_source(layer: Layer) -> bool:
    """Whether a layer brings values from outside; the Parameter layer, which has no bottoms either, does not."""
    return not layer.param.bottom and not layer.blobs


def pass_state(step: Step) -> dict[str, Any]:
    """The layer's state as it was before its last forward pass, where the step remembers it."""
    state = step.layer.state()
    drawn_from = getattr(step, "drawn_from", None)
    return state if drawn_from is None else {**state, "rng": drawn_from}


def wanted_bottoms(layer: Layer, count: int) -> list[bool]:
    """Through which bottoms gradients flow: all but labels, selectors and those that the prototxt cuts off."""
    wanted = list(layer.param.propagate_down) or [True] * count
    closed = {*layer.unforced_bottoms, count - 1} if layer.type == "Filter" else layer.unforced_bottoms
    return [yes and i not in closed for i, yes in enumerate(wanted)]


def unfilled_copy(layer: Layer, dtype: Any) -> Layer:
    """A layer of the same class and parameters in `dtype`, not yet set up; its weights will be zero, not drawn.

    Methods that were replaced on the layer itself are replaced on the copy.
    """
    twin = type(layer)(layer.param, layer.phase, dtype, np.random.default_rng(0))
    for name, value in vars(layer).items():
        if callable(value) and callable(getattr(type(layer), name, None)):
            bound = isinstance(value, MethodType) and value.__self__ is layer
            setattr(twin, name, MethodType(value.__func__, twin) if bound else value)
    setattr(twin, "add_parameter", MethodType(_add_unfilled, twin))  # noqa: B010 (a method replaced on purpose)
    return twin


def _add_unfilled(layer: Layer, shape: Any, filler: Any) -> Blob:
    blob = Blob(shape, layer.dtype, channels_last=False)
    layer.blobs.append(blob)
    layer.param_propagate_down.append(True)
    return blob
