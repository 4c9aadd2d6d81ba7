"""What a solver tells while it trains, in Caffe's words, through the logger "breve".

The lines are those of Caffe's `solver.cpp`, so that what reads Caffe's logs reads these. A command line that shows
progress in another way replaces `solver.report` by a subclass.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from breve.solvers.scores import Scores, outputs, score_lines

if TYPE_CHECKING:
    from breve.solvers.solver import Action, Solver

log = logging.getLogger("breve")


class Report:
    """Every occasion that a solver tells of, each a method; here as lines of Caffe's log."""

    def solving(self, solver: Solver) -> None:
        """Training begins."""
        log.info("Solving %s", solver.net.name)
        log.info("Learning Rate Policy: %s", solver.param.lr_policy)

    def iterated(self, solver: Solver, loss: float) -> None:
        """One iteration is done; `loss` is averaged over `average_loss` iterations."""

    def asked(self, action: Action) -> None:
        """A signal asks for a snapshot or a stop after this iteration. May be called at any moment."""

    def diverged(self, solver: Solver, loss: float) -> None:
        """The loss is no longer a number; told once."""
        log.warning(
            "Iteration %d, the loss is %g: training has diverged; lower base_lr or set clip_gradients",
            solver.iter,
            loss,
        )

    def displayed(self, solver: Solver, loss: float) -> None:
        """An iteration that `display` asks to show has its loss."""
        log.info("Iteration %d, loss = %g", solver.iter, loss)
        for number, line in enumerate(score_lines(solver.net, outputs(solver.net))):
            log.info("    Train net output #%d: %s", number, line)

    def rated(self, solver: Solver, rate: float) -> None:
        """The learning rate of an iteration that `display` asks to show."""
        log.info("Iteration %d, lr = %g", solver.iter, rate)

    def stepped(self, solver: Solver, step: int) -> None:
        """A stepvalue of lr_policy multistep is reached."""
        log.info("MultiStep Status: Iteration %d, step = %d", solver.iter, step)

    def clipped(self, norm: float, limit: float) -> None:
        """The gradients are scaled down to `limit`."""
        log.info(
            "Gradient clipping: scaling down gradients (L2 norm %g > %g) by scale factor %g", norm, limit, limit / norm
        )

    def testing(self, solver: Solver, number: int) -> None:
        """A test net begins its test."""
        log.info("Iteration %d, Testing net (#%d)", solver.iter, number)

    def tested(self, solver: Solver, number: int, scores: Scores, loss: float | None) -> None:
        """A test net has the means of its outputs, and of its loss where `test_compute_loss` asks for it."""
        if loss is not None:
            log.info("Test loss: %g", loss)
        for i, line in enumerate(score_lines(solver.test_nets[number], scores)):
            log.info("    Test net output #%d: %s", i, line)

    def test_interrupted(self) -> None:
        """A stop was asked for during a test."""
        log.info("Test interrupted.")

    def snapshotting(self, path: str, what: str = "") -> None:
        """A model, or `what`, is about to be written."""
        kind = "HDF5" if path.endswith(".h5") else "binary proto"
        log.info("Snapshotting %sto %s file %s", what and what + " ", kind, path)

    def restoring(self, path: str) -> None:
        """A solver state is about to be read."""
        log.info("Restoring previous solver status from %s", path)

    def finished(self, solver: Solver, loss: float | None) -> None:
        """Training is over; `loss` is that of one more forward pass, where `display` asks for it."""
        if loss is not None:
            log.info("Iteration %d, loss = %g", solver.iter, loss)

    def done(self, stopped_early: bool) -> None:
        """Nothing more will come."""
        log.info("Optimization stopped early." if stopped_early else "Optimization Done.")
