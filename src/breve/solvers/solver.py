"""The training loop, as Caffe's `solver.cpp` runs it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar

import numpy as np

from breve.kernels.update import sum_of_squares
from breve.net import Net
from breve.solvers import snapshot
from breve.solvers.description import Description, NetChoice
from breve.solvers.losses import LossAverage
from breve.solvers.policies import learning_rate
from breve.solvers.report import Report
from breve.solvers.rules import RULES
from breve.solvers.scores import Means, Scores


class Action(Enum):
    """What a solver may be asked to do between two iterations."""

    NONE = "none"
    SNAPSHOT = "snapshot"
    STOP = "stop"


Callback = Callable[[], Any]


class Solver:
    """Trains a net as a solver prototxt says.

    `source` is the path of a solver prototxt or a SolverParameter. The rule is that of its `type`; the subclasses named
    after one rule use theirs whatever it says, as Caffe's do. `weights` are files to start from, in place of the
    solver's own `weights`.

    Attributes: `net` and `test_nets`; `param`, the SolverParameter; `iter`, the number of updates done; `current_step`
    of the learning-rate policy; `lr`, the rate of the next update; `history`, the rule's arrays, one for each learnable
    parameter and then, for rules that keep two, another for each; `report`, which tells of progress;
    `requested_action`, a function asked between iterations what to do.

    Raises ParseError, SolverError, and what building the nets raises.
    """

    type: ClassVar[str] = ""
    net_class: ClassVar[Callable[..., Net]] = Net

    def __init__(self, source: str | os.PathLike[str] | Any, *, weights: str | None = None) -> None:
        self.description = Description(source, self.type)
        self.param = self.description.param
        self.rule = RULES[self.param.type]
        self.report = Report()
        self.requested_action: Callable[[], Action] = lambda: Action.NONE
        self.iter, self.current_step = 0, 0
        self.losses = LossAverage(self.param.average_loss)
        self._resumed = False
        self._stopped = False
        self._callbacks: list[tuple[Callback, Callback]] = []
        files = [weights] if weights is not None else list(self.param.weights)
        self.net = self._make_net(self.description.train_net, files, 0)
        self.test_nets = [self._make_net(n, files, 1 + i) for i, n in enumerate(self.description.test_nets)]
        for net in self.test_nets:
            net.share_trained_layers_with(self.net)
        parameters = self.net.learnable_params
        self.history = [np.zeros(p.shape, p.dtype) for _ in range(self.rule.num_histories) for p in parameters]

    def _make_net(self, choice: NetChoice, weights: list[str], number: int) -> Net:
        seed = self.param.random_seed + number if self.param.random_seed >= 0 else None
        net = self.net_class(choice.source, choice.phase, level=choice.level, stages=choice.stages, seed=seed)
        for path in self.description.weight_files(weights):
            net.copy_from(path)
        return net

    def add_callback(self, on_start: Callback, on_gradients_ready: Callback) -> None:
        """Call `on_start()` before each iteration's forward pass and `on_gradients_ready()` before its update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def step(self, iterations: int) -> None:
        """Do `iterations` updates, testing, showing and snapshotting where the prototxt says so."""
        last = self.iter + iterations
        self._stopped = False
        if not self._resumed:
            self.losses = LossAverage(self.param.average_loss)
        self._resumed = False
        while self.iter < last and not self._stopped:
            self._iterate()

    def _iterate(self) -> None:
        if self._is_due(self.param.test_interval) and (self.iter > 0 or self.param.test_initialization):
            self.test_all()
            if self._stopped:
                return
        for on_start, _ in self._callbacks:
            on_start()
        loss = self._forward_backward()
        if self._is_due(self.param.display):
            self.report.displayed(self, loss)
        for _, on_gradients_ready in self._callbacks:
            on_gradients_ready()
        self.apply_update()
        self.iter += 1
        self.report.iterated(self, loss)
        wanted = self.requested_action()
        if self._is_due(self.param.snapshot) or wanted is Action.SNAPSHOT:
            self.snapshot()
        self._stopped = wanted is Action.STOP

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self.iter % interval == 0

    def _forward_backward(self) -> float:
        self.net.clear_param_diffs()
        loss = 0.0
        with np.errstate(all="ignore"):  # divergence is told of in words
            for _ in range(self.param.iter_size):
                loss += self.net.forward_from_to()
                self.net.backward_from_to()
        loss /= self.param.iter_size
        if math.isfinite(self.losses.mean) and not math.isfinite(loss):
            self.report.diverged(self, loss)
        return self.losses.add(loss)

    def solve(self, resume_file: str | os.PathLike[str] | None = None) -> None:
        """Train up to `max_iter`, from `resume_file` (a `.solverstate`) if given; then snapshot, and test once more."""
        self.description.check_solvable()
        self.report.solving(self)
        if resume_file is not None:
            self.restore(resume_file)
        self.step(self.param.max_iter - self.iter)
        wanted = self.param.snapshot_after_train or self._stopped
        if wanted and not self._is_due(self.param.snapshot):
            self.snapshot()
        if not self._stopped:
            self._finish()
        self.report.done(self._stopped)

    def _finish(self) -> None:
        """Show the loss and scores that the last update led to, where `display` and `test_interval` ask for them."""
        if self._is_due(self.param.display):
            self.report.finished(self, self.losses.add(self.net.forward_from_to()))
        if self._is_due(self.param.test_interval):
            self.test_all()

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return learning_rate(self.param, self.iter, self.current_step)[0]

    def apply_update(self) -> None:
        """Clip, average, regularise and apply the gradients that lie in the parameters' diffs."""
        rate, step = learning_rate(self.param, self.iter, self.current_step)
        if step > self.current_step and self.param.lr_policy == "multistep":
            self.report.stepped(self, step)
        self.current_step = step
        if self._is_due(self.param.display):
            self.report.rated(self, rate)
        scale = self._clip_scale() / self.param.iter_size
        rate *= self.rule.correction(self.param, self.iter)
        for index in range(len(self.net.learnable_params)):
            self._update_parameter(index, rate, scale)

    def _clip_scale(self) -> float:
        """The factor that brings the L2 norm of all gradients together down to `clip_gradients`."""
        limit = self.param.clip_gradients
        if limit < 0:
            return 1.0
        norm = sum(sum_of_squares(p.diff_memory) for p in self.net.learnable_params) ** 0.5
        if not norm > limit:
            return 1.0
        self.report.clipped(norm, limit)
        return limit / norm

    def _update_parameter(self, index: int, rate: float, scale: float) -> None:
        parameter = self.net.learnable_params[index]
        decay = self.param.weight_decay * self.net.params_weight_decay[index]
        l2, l1 = (decay, 0.0) if self.param.regularization_type == "L2" else (0.0, decay)
        local_rate = rate * self.net.params_lr[index]
        histories = self.history[index :: len(self.net.learnable_params)]
        scalars = (scale, l2, l1, local_rate, *self.rule.constants(self.param))
        self.rule.kernel(
            parameter.memory,
            parameter.diff_memory,
            *(h.reshape(-1) for h in histories),
            *(parameter.dtype.type(s) for s in scalars),
        )

    def test_all(self) -> None:
        """Run every test net for its `test_iter` batches and report the means of its outputs."""
        for number in range(len(self.test_nets)):
            if not self._stopped:
                self.test(number)

    def test(self, number: int = 0) -> Scores:
        """Score test net `number` and report it; the mean of each output. Empty when stopped."""
        self.report.testing(self, number)
        loss, scores = self.score(number)
        if self._stopped:
            self.report.test_interrupted()
        else:
            self.report.tested(self, number, scores, loss if self.param.test_compute_loss else None)
        return scores

    def score(self, number: int = 0) -> tuple[float, Scores]:
        """Run test net `number` for its `test_iter` batches; the mean of its loss and of each output."""
        self.test_nets[number].share_trained_layers_with(self.net)
        means = Means(self.test_nets[number])
        for _ in range(self.param.test_iter[number]):
            self._obey_between_batches()
            if self._stopped:
                return 0.0, {}
            means.run_batch()
        return means.loss, means.scores

    def _obey_between_batches(self) -> None:
        wanted = self.requested_action()
        if wanted is Action.SNAPSHOT:
            self.snapshot()
        self._stopped = wanted is Action.STOP

    def snapshot(self) -> str:
        """Write `PREFIX_iter_N.caffemodel` and `.solverstate`; the latter's path. Raises SolverError."""
        return snapshot.save(self)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a `.solverstate`: breve's own give the very run that was interrupted; Caffe's are read too.

        Raises FileFormatError for a damaged file, SolverError where it does not fit; nothing has changed then.
        """
        self.report.restoring(str(path))
        snapshot.restore(self, path)
        self._resumed = True

    def close(self) -> None:
        """Stop the background readers of all nets."""
        for net in (self.net, *self.test_nets):
            net.close()
