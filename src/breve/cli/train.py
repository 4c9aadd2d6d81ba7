"""`breve train`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from breve.cli.command import Command

if TYPE_CHECKING:
    from breve.solvers import Solver

EFFECT = click.Choice(["snapshot", "stop", "none"])


@click.command(cls=Command)
@click.option("--solver", "solver_file", required=True, metavar="FILE", help="The solver prototxt.")
@click.option("--weights", metavar="FILES", help="Start from these .caffemodel files (separated by commas).")
@click.option("--snapshot", metavar="FILE", help="Go on from this .solverstate.")
@click.option(
    "--iterations", type=click.IntRange(min=0), metavar="N", help="Train to iteration N in place of max_iter."
)
@click.option("--sigint_effect", type=EFFECT, default="stop", show_default=True, help="What Ctrl-C does.")
@click.option("--sighup_effect", type=EFFECT, default="snapshot", show_default=True, help="What a hang-up does.")
def train(
    solver_file: str,
    weights: str | None,
    snapshot: str | None,
    iterations: int | None,
    sigint_effect: str,
    sighup_effect: str,
) -> None:
    """Train a net as a solver prototxt says.

    On a terminal progress is shown; into a pipe or file go lines in the form of Caffe's log. Ctrl-C takes a snapshot
    and stops; a second one ends at once.
    """
    if weights and snapshot:
        raise click.UsageError("give --snapshot to go on with a run, or --weights to start from them, not both")
    with training(solver_file, weights, sigint_effect, sighup_effect) as solver:
        if iterations is not None:
            solver.param.max_iter = iterations
        solver.solve(snapshot)


@contextmanager
def training(
    solver_file: str, weights: str | None = None, sigint: str = "stop", sighup: str = "snapshot"
) -> Iterator[Solver]:
    """A solver that tells of its progress on stdout and obeys signals while the block runs."""
    from breve.cli.signals import EFFECTS, watched
    from breve.cli.view import reporter
    from breve.solvers import Solver

    with reporter(sys.stdout.isatty()) as report, closing(Solver(solver_file, weights=weights)) as solver:
        solver.report = report
        with watched(EFFECTS[sigint], EFFECTS[sighup], report) as requests:
            solver.requested_action = requests.take
            yield solver
