"""Training as a person sees it on a terminal: a line for what happened, and below them a bar with the time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import Progress, TextColumn

from breve.cli.bar import progress_bar
from breve.cli.log import log_to_stdout
from breve.solvers import Action
from breve.solvers.report import Report
from breve.solvers.scores import Scores, outputs

if TYPE_CHECKING:
    from breve.solvers import Solver

BETWEEN_UPDATES_S = 0.1


class TerminalReport(Report):
    """Tells of training on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=None, rate="", loss="", speed="")
        self._first, self._first_at, self._shown_at = -1, 0.0, 0.0

    def _say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=True, soft_wrap=True)

    def solving(self, solver: Solver) -> None:
        """Training begins."""
        count = sum(blob.count for blob in solver.net.learnable_params)
        self._say(
            f"Training {solver.net.name or 'the net'}: {count:,} parameters, {solver.param.type}, "
            f"lr_policy {solver.param.lr_policy}, to iteration {solver.param.max_iter:,}"
        )
        self._progress.start()

    def iterated(self, solver: Solver, loss: float) -> None:
        """Move the bar, at most ten times a second. Speed is counted from the end of the first iteration on."""
        now = time.perf_counter()
        if self._first < 0:
            self._first, self._first_at = solver.iter, now
            self._progress.reset(self._task, total=solver.param.max_iter, completed=solver.iter)
        elif now - self._shown_at < BETWEEN_UPDATES_S and solver.iter < solver.param.max_iter:
            return
        speed = (solver.iter - self._first) / max(now - self._first_at, 1e-9)
        self._shown_at = now
        self._progress.update(
            self._task,
            completed=solver.iter,
            description="training",
            loss=f"loss {loss:.4g}",
            rate=f"lr {solver.lr:.4g}",
            speed=f"{speed:.1f} it/s",
        )

    def asked(self, action: Action) -> None:
        """A signal has come; the bar says what it will lead to after this iteration."""
        coming = {Action.STOP: "stopping", Action.SNAPSHOT: "snapshot"}
        if action in coming:
            self._progress.update(self._task, description=coming[action], refresh=True)

    def diverged(self, solver: Solver, loss: float) -> None:
        """The loss is no longer a number."""
        self._say(
            f"Iteration {solver.iter}: the loss is {loss:g}, training has diverged; lower base_lr or set clip_gradients"
        )

    def displayed(self, solver: Solver, loss: float) -> None:
        """The averaged loss, and whatever else the net gives."""
        scores = outputs(solver.net)
        scores.pop("loss", None)  # its average is shown
        self._say(f"Iteration {solver.iter}: loss = {loss:.4g}, lr = {solver.lr:.4g}{_listed(scores)}")

    def rated(self, solver: Solver, rate: float) -> None:
        """The rate stands beside the loss already."""

    def stepped(self, solver: Solver, step: int) -> None:
        """A stepvalue of lr_policy multistep is reached."""
        self._say(f"Iteration {solver.iter}: step {step} of the learning rate")

    def clipped(self, norm: float, limit: float) -> None:
        """Too frequent to show."""

    def testing(self, solver: Solver, number: int) -> None:
        """The bar says so."""
        self._progress.update(self._task, description="testing ")

    def tested(self, solver: Solver, number: int, scores: Scores, loss: float | None) -> None:
        """The means of a test net's outputs."""
        which = f"test net #{number}" if len(solver.test_nets) > 1 else "test"
        total = f", loss of the net = {loss:.4g}" if loss is not None else ""
        self._say(f"Iteration {solver.iter}, {which}: {(_listed(scores) + total).removeprefix(', ')}")

    def test_interrupted(self) -> None:
        """A stop was asked for during a test."""
        self._say("Test interrupted.")

    def snapshotting(self, path: str, what: str = "") -> None:
        """A model or solver state is about to be written."""
        self._say(f"Writing {what or 'model'} {path}")

    def restoring(self, path: str) -> None:
        """A solver state is about to be read."""
        self._say(f"Going on from {path}")

    def finished(self, solver: Solver, loss: float | None) -> None:
        """The loss after the last update."""
        if loss is not None:
            self._say(f"Iteration {solver.iter}: loss = {loss:.4g}")

    def done(self, stopped_early: bool) -> None:
        """Nothing more will come."""
        self._progress.update(self._task, description="stopped " if stopped_early else "done    ")
        if stopped_early:
            self._say("Stopped early; go on from here with --snapshot and the solver state above.")


def _listed(scores: Scores) -> str:
    """`, name = value` for outputs of one number; of others their shape."""
    return "".join(
        f", {name} = {values.item():.4g}" if values.size == 1 else f", {name}: {' x '.join(map(str, values.shape))}"
        for name, values in scores.items()
    )


@contextmanager
def reporter(terminal: bool) -> Iterator[Report]:
    """The way to tell of training: for a person on a terminal, else as Caffe's log."""
    if not terminal:
        log_to_stdout()
        yield Report()
        return
    columns = [TextColumn(f"{{task.fields[{name}]}}") for name in ("loss", "rate", "speed")]
    progress = progress_bar(*columns)
    try:
        yield TerminalReport(progress)
    finally:
        progress.stop()
