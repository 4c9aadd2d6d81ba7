"""Steps that run as one sweep over memory, where nobody can observe the difference.

    Convolution, ReLU                   the rectified linear unit is the end of the convolution's own sweep
    BatchNorm, Scale, [ReLU]            one sweep forward; sums and one sweep backward

The later layers of a group work in place, so their blob shows the same values after the group as after its last layer.
When only a part of a group runs, its layers run one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from breve.errors import located
from breve.graph.plan import Step

CONVOLUTIONS = ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")


class Group:
    """Consecutive steps that run as one."""

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


class ScaledNormalisation(Group):
    """BatchNorm, a learned Scale of its channels and perhaps a ReLU, the last two in place."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__(steps)
        self._rule: Any = None
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

    def sweep_forward(self) -> None:
        """BatchNorm's sweep with the coefficients of Scale and the slope of ReLU."""
        blobs = self.scale.blobs
        shift = blobs[1].data if self.scale.param.scale_param.bias_term else None
        slope = _slope(self.steps[2]) if len(self.steps) > 2 else 1.0
        keeps = any(step.needs_backward for step in self.steps)
        first = self.steps[0]
        self.norm.forward_scaled(first.bottom[0], first.top[0], blobs[0].data, shift, slope, keeps)
        self._rule = self.norm.rule

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


MATCHES: tuple[Callable[[Sequence[Step]], Group | None], ...] = (RectifiedConvolution.match, ScaledNormalisation.match)


class Plan:
    """The steps of a net in the order they run, and the groups among them."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self._starts: dict[int, Group] = {}
        self._members: dict[int, tuple[int, Group]] = {}
        number = 0
        while number < len(self.steps):
            group = next(filter(None, (match(self.steps[number:]) for match in MATCHES)), None)
            if group is not None and not any(any(step.loss_weights) for step in group.steps):
                self._starts[number] = group
                self._members.update((number + i, (number, group)) for i in range(len(group.steps)))
            number += len(group.steps) if number in self._starts and group is not None else 1

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
            start, group = self._members.get(number, (number, None))
            if group is not None and start >= first and number == start + len(group.steps) - 1:
                group.backward()
                number = start
            else:
                if group is not None:
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
