"""A net's layers once more, on blobs of their own: what `explain` and `check` run, so that the net stays as it was."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.explain.twin import MOVE_STATISTICS, Fixed, address, is_source, pass_state, twin_of, wanted_bottoms
from breve.graph.fusion import Plan
from breve.graph.plan import Step
from breve.layers.base import Layer


class Replica:
    """Every layer of `net` newly made, with the net's data, parameters and random state, and every gradient wanted.

    The tops of layers without bottoms are fixed at what they hold. Gradients flow from the net's losses; in a net
    without a loss from the diffs of its outputs or, where those are all zero, from random ones (`objective` says
    which). They flow as under `force_backward`, except where the prototxt says `propagate_down: false`. An `exact`
    replica works in float64 by the algorithms that all others are measured against.
    """

    def __init__(self, net: Any, seed: int = 0, *, exact: bool = False) -> None:
        self.exact, self.dtype = exact, np.dtype(np.float64) if exact else net.dtype
        self._blobs: dict[int, Blob] = {}
        self._params: dict[int, Blob] = {}
        self.names = {id(self._copied(blob)): name for name, blob in net.blobs.items()}
        self.states: list[dict[str, Any]] = []
        self.steps = [self._copy(step) for step in net.steps]
        self.objective = self._seed_outputs(net, seed)
        self._plan_backward()
        in_place = self.in_place_blobs()
        batch = [top for step in self.steps if not step.bottom for top in step.top if id(top) in in_place]
        moving = [blob for step in self.steps if step.layer.type in MOVE_STATISTICS for blob in step.layer.blobs]
        self._initial = {id(blob): (blob, blob.data.copy()) for blob in (*batch, *moving)}
        owners = Counter(address(blob) for step in self.steps for blob in step.layer.blobs)
        self.shared_params = {address for address, count in owners.items() if count > 1}

    def _copied(self, blob: Blob) -> Blob:
        """The replica of a blob, with its data."""
        if id(blob) not in self._blobs:
            twin = Blob(blob.shape, self.dtype, channels_last=blob.channels_last)
            twin.data[...] = blob.data
            self._blobs[id(blob)] = twin
        return self._blobs[id(blob)]

    def _copy(self, step: Step) -> Step:
        bottom, top = [self._copied(b) for b in step.bottom], [self._copied(b) for b in step.top]
        layer = Fixed(step.layer) if is_source(step.layer) else twin_of(step.layer, exact=self.exact)
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
            place = address(theirs)
            if theirs.count and place in self._params:
                ours.share_data(self._params[place])
                ours.share_diff(self._params[place])
            elif theirs.dtype == self.dtype and twin.type not in MOVE_STATISTICS:
                ours.share_data(theirs)
            else:
                ours.data[...] = theirs.data
            self._params[place] = ours
        twin.param_propagate_down = [True] * len(twin.blobs)

    def in_place_blobs(self) -> set[int]:
        """The ids of the blobs that some layer works on in place."""
        return {id(t) for step in self.steps for t in step.top if any(t is b for b in step.bottom)}

    def _seed_outputs(self, net: Any, seed: int) -> str:
        from breve.explain.layers import has_gradient

        self.seeds: list[tuple[Blob, np.ndarray | None]] = []
        self._seed = seed
        if any(any(step.loss_weights) for step in self.steps):
            return "the net's loss"
        ends = [net.blobs[name] for name in net.outputs if name in net.blobs]
        ends = [b for b in ends if any(b is t for s in net.steps if has_gradient(s.layer.type) for t in s.top)]
        held = any(blob.diff.any() for blob in ends)
        self.seeds = [(self._copied(blob), blob.diff.copy() if held else None) for blob in ends]
        if held:
            return "the diffs that the net's outputs hold (it has no loss)"
        return f"the sum of the net's outputs weighted by normal random numbers of seed {seed} (it has no loss)"

    def _seed_diffs(self) -> list[tuple[Blob, np.ndarray]]:
        """The diffs that gradients flow from in a net without a loss, for the outputs' present shapes."""
        rng = np.random.default_rng(self._seed)
        return [
            (blob, rng.standard_normal(blob.shape).astype(np.float32) if diff is None else diff)
            for blob, diff in self.seeds
        ]

    def _plan_backward(self) -> None:
        """Which layers the objective depends on, and through which bottoms."""
        reached = {id(blob) for blob, _ in self.seeds}
        for step in reversed(self.steps):
            lit = any(w or id(t) in reached for t, w in zip(step.top, step.loss_weights, strict=True))
            step.needs_backward = lit
            if lit:
                step.propagate_down = wanted_bottoms(step.layer, len(step.bottom))
                reached |= {id(b) for b, yes in zip(step.bottom, step.propagate_down, strict=True) if yes}

    def initial_data(self, blob: Blob) -> np.ndarray:
        """The array that a blob's data start every pass from; the data themselves where no layer overwrites them."""
        return self._initial[id(blob)][1] if id(blob) in self._initial else blob.data

    def start_forward(self) -> None:
        """Put back what a pass overwrites: statistics, a batch that is worked on in place, random states."""
        for step, state in zip(self.steps, self.states, strict=True):
            step.layer.set_state(copy.deepcopy(state))
        for blob, value in self._initial.values():
            blob.data[...] = value

    def start_backward(self) -> None:
        """Parameter diffs zero; in a net without a loss, the diffs that gradients flow from in its outputs."""
        for step in self.steps:
            for blob in step.layer.blobs:
                blob.diff[...] = 0
        for blob, diff in self._seed_diffs():
            blob.diff[...] = diff

    def plan(self) -> Plan:
        """The plan by which the net itself runs, groups of layers in one sweep."""
        return Plan(self.steps)

    def run_as_net(self) -> None:
        """One pass forward and backward by the plan."""
        plan, last = self.plan(), len(self.steps) - 1
        self.start_forward()
        plan.forward(0, last)
        self.start_backward()
        plan.backward(last, 0)

    def run(self) -> None:
        """One pass forward and backward, layer by layer."""
        self.objective_value()
        self.start_backward()
        for step in reversed(self.steps):
            step.backward()

    def objective_value(self) -> float:
        """A pass forward; the loss, or the weighted sum of the outputs."""
        self.start_forward()
        loss = sum(step.forward() for step in self.steps)
        return loss + sum(float(np.vdot(diff.astype(np.float64), blob.data)) for blob, diff in self._seed_diffs())
