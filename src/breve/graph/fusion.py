"""Steps that run as one sweep over memory, where nobody can observe the difference.

    Convolution, ReLU                   the rectified linear unit is the end of the convolution's own sweep
    Eltwise (the sum of two), ReLU      one sweep forward, one backward
    BatchNorm, Scale, [ReLU]            one sweep forward; sums and one sweep backward
    Convolution, BatchNorm in place,    the convolution writes what backward needs where nothing overwrites it, and the
        Scale, [ReLU]                   sweep forward goes from there to the blob; by statistics that do not change, and
                                        without backward, all of it is the convolution's own sweep

The later layers of a group work in place, so their blob shows the same values after the group as after its last layer.
When only a part of a group runs, its layers run one by one, or as the smaller group that they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.errors import located
from breve.graph.plan import Step

CONVOLUTIONS = ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")


class Group:
    """Consecutive steps that run as one; `rest` is the group of all but the first, if they are one."""

    rest: Group | None = None

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)

    def forward(self) -> float:
        """Run all layers; no layer of a group contributes to the loss."""
        for step in self.steps:
            step.reshape_if_needed()
        with located(self.steps[0].where):
            self.sweep_forward()
        return 0.0

    def backward(self) -> None:
        """Run all layers backward."""
        if self.is_swept() and all(step.needs_backward for step in self.steps):
            with located(self.steps[0].where):
                self.sweep_backward()
        else:
            self.split()
            for step in reversed(self.steps):
                step.backward()

    def sweep_forward(self) -> None:
        """All layers at once."""
        raise NotImplementedError

    def sweep_backward(self) -> None:
        """All layers backward at once."""
        raise NotImplementedError

    def is_swept(self) -> bool:
        """Whether the last forward was that of the group, not of single layers."""
        raise NotImplementedError

    def split(self) -> None:
        """After a forward in one sweep, give each layer what its own backward needs."""


class RectifiedConvolution(Group):
    """A Convolution and a ReLU in place; only forward gains."""

    @classmethod
    def match(cls, steps: Sequence[Step]) -> RectifiedConvolution | None:
        """The group that begins with the first of the steps, if there is one."""
        if len(steps) < 2 or steps[0].layer.type not in CONVOLUTIONS or len(steps[0].top) != 1:
            return None
        return cls(steps[:2]) if _is_unit_on(steps[0], steps[1]) and _slope(steps[1]) == 0 else None

    def sweep_forward(self) -> None:
        """The convolution clamps its output."""
        layer: Any = self.steps[0].layer
        layer.forward_rectified(self.steps[0].bottom, self.steps[0].top)

    def is_swept(self) -> bool:
        """Never: backward runs layer by layer, which the blobs are all it takes for."""
        return False


class RectifiedSum(Group):
    """An Eltwise that adds two bottoms, and a ReLU in place: the end of a residual block."""

    @classmethod
    def match(cls, steps: Sequence[Step]) -> RectifiedSum | None:
        """The group that begins with the first of the steps, if there is one."""
        if len(steps) < 2 or steps[0].layer.type != "Eltwise" or not _is_unit_on(steps[0], steps[1]):
            return None
        layer: Any = steps[0].layer
        return cls(steps[:2]) if layer.adds_two and _slope(steps[1]) == 0 else None

    def sweep_forward(self) -> None:
        """Add and clamp."""
        layer: Any = self.steps[0].layer
        layer.forward_rectified(self.steps[0].bottom, self.steps[0].top[0])

    def sweep_backward(self) -> None:
        """Of the clamped gradient each bottom has its share."""
        layer: Any = self.steps[0].layer
        layer.backward_rectified(self.steps[0].top[0], self.steps[0].bottom)

    def is_swept(self) -> bool:
        """As good as always: the top is all that backward reads."""
        return all(self.steps[0].propagate_down)


class ScaledNormalisation(Group):
    """BatchNorm, a learned Scale of its channels and perhaps a ReLU, the last two in place."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__(steps)
        self._rule: Any = None
        self._state: list[bytes] = []
        self._constant_rule: Any = None
        self.norm: Any = steps[0].layer
        self.scale: Any = steps[1].layer

    @classmethod
    def match(cls, steps: Sequence[Step]) -> ScaledNormalisation | None:
        """The group that begins with the first of the steps, if there is one."""
        if len(steps) < 2 or [step.layer.type for step in steps[:2]] != ["BatchNorm", "Scale"]:
            return None
        norm, scale = steps[:2]
        layer: Any = norm.layer
        scales_channels = len(scale.bottom) == 1 and scale.layer.blobs[0].shape == norm.bottom[0].shape[1:2]
        axis = scale.layer.param.scale_param.axis
        if layer.is_nvidia or not (_in_place_on(norm, scale) and scales_channels and axis == 1):
            return None
        return cls(steps[:3] if len(steps) > 2 and _is_unit_on(scale, steps[2]) else steps[:2])

    @property
    def keeps(self) -> bool:
        """Whether backward will ask for the bottom's values."""
        return any(step.needs_backward for step in self.steps)

    def sweep_forward(self, bottom: Blob | None = None) -> None:
        """BatchNorm's sweep with the coefficients of Scale and the slope of ReLU; from another blob if one is given."""
        first = self.steps[0]
        self.norm.forward_scaled(
            first.bottom[0] if bottom is None else bottom, first.top[0], *self._coefficients(), self.keeps
        )
        self._rule = self.norm.rule

    def constant_rule(self) -> Any:
        """What is computed of each value, if it depends on nothing else and backward asks for nothing, else None."""
        if self.keeps or not self.norm.use_global_stats:
            return None
        state = [blob.data.tobytes() for blob in (*self.norm.blobs, *self.scale.blobs)]
        if state != self._state:
            self._state, self._constant_rule = state, self.norm.constant_rule(*self._coefficients())
        return self._constant_rule

    def _coefficients(self) -> tuple[np.ndarray, np.ndarray | None, float]:
        """Factor and shift of Scale, and the slope of ReLU."""
        blobs = self.scale.blobs
        shift = blobs[1].data if self.scale.param.scale_param.bias_term else None
        return blobs[0].data, shift, _slope(self.steps[2]) if len(self.steps) > 2 else 1.0

    def sweep_backward(self) -> None:
        """BatchNorm's sweep; its sums are the gradients of Scale's coefficients."""
        first = self.steps[0]
        is_apart = first.top[0] is not first.bottom[0]
        diffs = self.norm.backward_scaled(first.top[0], first.bottom[0], first.propagate_down[0], is_apart)
        wanted = self.scale.param_propagate_down
        for blob, diff, is_wanted in zip(self.scale.blobs, diffs, wanted, strict=False):
            if is_wanted:
                blob.diff[...] += diff

    def is_swept(self) -> bool:
        """Whether BatchNorm still has the rule of the group's forward."""
        return self._rule is not None and self.norm.rule is self._rule

    def split(self) -> None:
        """BatchNorm gets its own rule back, Scale the values that it would have kept."""
        if self.is_swept():
            self.scale.kept.values = self.norm.unscale()


class NormalisedConvolution(Group):
    """A Convolution and a ScaledNormalisation in place on its top."""

    rest: ScaledNormalisation

    def __init__(self, convolution: Step, rest: ScaledNormalisation) -> None:
        super().__init__([convolution, *rest.steps])
        self.rest, self._apart = rest, Blob((), convolution.top[0].dtype)

    @classmethod
    def match(cls, steps: Sequence[Step]) -> NormalisedConvolution | None:
        """The group that begins with the first of the steps, if there is one."""
        if steps[0].layer.type not in CONVOLUTIONS or len(steps[0].top) != 1:
            return None
        rest = ScaledNormalisation.match(steps[1:])
        return cls(steps[0], rest) if rest and _in_place_on(steps[0], steps[1]) else None

    def sweep_forward(self) -> None:
        """The convolution to a blob of the group's own, and from there on; or in place where nothing is kept."""
        convolution, first = self.steps[0], self.steps[1]
        bottom, rule = convolution.top[0], self.rest.constant_rule()
        layer: Any = convolution.layer
        if rule is not None and rule.slope in (0, 1) and layer.folds:
            layer.forward_normalised(convolution.bottom[0], bottom, rule)
            return
        if self.rest.keeps:
            bottom = self._apart
            bottom.reshape_like(convolution.top[0])
        layer.forward(convolution.bottom, [bottom])
        with located(first.where):
            self.rest.sweep_forward(bottom)

    def backward(self) -> None:
        """The normalisation's sweep, then the convolution."""
        self.rest.backward()
        self.steps[0].backward()

    def split(self) -> None:
        """The normalisation gives each layer what its own backward needs."""
        self.rest.split()


MATCHES: tuple[Callable[[Sequence[Step]], Group | None], ...] = (
    RectifiedConvolution.match,
    RectifiedSum.match,
    NormalisedConvolution.match,
    ScaledNormalisation.match,
)


class Plan:
    """The steps of a net in the order they run, and the groups among them."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self._starts: dict[int, Group] = {}
        self._members: dict[int, list[tuple[int, Group]]] = {}
        number = 0
        while number < len(self.steps):
            group = next(filter(None, (match(self.steps[number:]) for match in MATCHES)), None)
            if group is not None and not any(any(step.loss_weights) for step in group.steps):
                self._enter(number, group)
            number += len(group.steps) if number in self._starts and group is not None else 1

    def _enter(self, number: int, group: Group) -> None:
        """Note a group that starts at a step, and the group that its other steps are without the first."""
        self._starts[number] = group
        for member in range(number, number + len(group.steps)):
            self._members.setdefault(member, []).append((number, group))
        if group.rest is not None:
            self._enter(number + 1, group.rest)

    def forward(self, first: int, last: int) -> float:
        """Run steps `first` to `last`, both included; their part of the loss."""
        loss, number = 0.0, first
        while number <= last:
            group = self._starts.get(number)
            whole = group is not None and number + len(group.steps) - 1 <= last
            run = group if group is not None and whole else self.steps[number]
            loss += run.forward()
            number += len(run.steps) if isinstance(run, Group) else 1
        return loss

    def backward(self, last: int, first: int) -> None:
        """Run steps `last` down to `first`, both included, backward."""
        number = last
        while number >= first:
            groups = self._members.get(number, [])
            whole = [(s, group) for s, group in groups if s >= first and number == s + len(group.steps) - 1]
            if whole:
                number, group = whole[0]
                group.backward()
            else:
                for _, group in groups:
                    group.split()
                self.steps[number].backward()
            number -= 1


def _in_place_on(before: Step, step: Step) -> bool:
    """Whether a step has the top of the one before as its first bottom, and works on it in place."""
    return step.bottom[:1] == before.top == step.top


def _is_unit_on(before: Step, step: Step) -> bool:
    """Whether a step is a ReLU in place on the top of the one before."""
    return step.layer.type == "ReLU" and _in_place_on(before, step)


def _slope(step: Step) -> float:
    layer: Any = step.layer
    return float(layer.slope)
