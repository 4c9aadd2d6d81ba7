"""What every layer saw and left in one pass of a net."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.explain.replica import Replica
from breve.explain.twin import MOVE_STATISTICS, address
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


class Recorder:
    """Runs a replica and records its layers.

    Arrays are recorded as they are, without a copy, except those of blobs that a layer works on in place.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica, self.steps = replica, replica.steps
        self._in_place = replica.in_place_blobs()
        self._copies: dict[tuple[int, str], np.ndarray] = {}

    def run(self, wanted: Collection[int]) -> dict[int, Record]:
        """One pass, layer by layer; the records of the `wanted` layers (by number)."""
        records = {}
        self.replica.start_forward()
        self._copies.clear()
        for number, step in enumerate(self.steps):
            if number in wanted:
                records[number] = self._before(number)
            step.forward()
            self._forget_copies(step)
            if number in wanted:
                records[number].top_data = self._kept(step.top, "data")
        self.replica.start_backward()
        for number, step in reversed(list(enumerate(self.steps))):
            if number in wanted:
                self._recorded_backward(step, records[number])
            else:
                step.backward()
                self._forget_copies(step)
        return records

    def run_as_net(self, number: int) -> Record:
        """One pass as the net itself runs it, but for one layer, which is run by itself and recorded."""
        step, plan, last = self.steps[number], self.replica.plan(), len(self.steps) - 1
        self.replica.start_forward()
        self._copies.clear()
        plan.forward(0, number - 1)
        record = self._before(number)
        step.forward()
        self._forget_copies(step)
        record.top_data = self._kept(step.top, "data")
        plan.forward(number + 1, last)
        self.replica.start_backward()
        plan.backward(last, number + 1)
        self._copies.clear()
        self._recorded_backward(step, record)
        return record

    def _before(self, number: int) -> Record:
        """A layer's record as it is before the layer runs."""
        step, names = self.steps[number], self.replica.names
        return Record(
            step.layer,
            step.where,
            [names.get(id(b), "(automatic)") for b in step.bottom],
            [names.get(id(b), "(automatic)") for b in step.top],
            step.propagate_down,
            bottom_data=self._kept(step.bottom, "data"),
            top_data=[],
            top_diff=[],
            bottom_diff=[],
            param_data=[b.data.copy() if step.layer.type in MOVE_STATISTICS else b.data for b in step.layer.blobs],
            param_diff=[],
            state=self.replica.states[number],
            in_place_bottoms=[next((i for i, b in enumerate(step.bottom) if b is t), None) for t in step.top],
        )

    def _recorded_backward(self, step: Step, record: Record) -> None:
        record.top_diff = self._kept(step.top, "diff")
        shared = self.replica.shared_params
        others = [(i, b.diff.copy()) for i, b in enumerate(step.layer.blobs) if address(b) in shared]
        for i, _ in others:
            step.layer.blobs[i].diff[...] = 0
        step.backward()
        self._forget_copies(step)
        record.bottom_diff = self._kept(step.bottom, "diff")
        record.param_diff = [blob.diff for blob in step.layer.blobs]
        for i, diff in others:
            record.param_diff[i] = record.param_diff[i].copy()
            step.layer.blobs[i].diff[...] += diff

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
