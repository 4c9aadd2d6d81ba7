"""`breve train`."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click

from breve.cli.command import Command

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
    from breve.cli.signals import EFFECTS, watched
    from breve.cli.view import reporter
    from breve.solvers import Solver

    with ExitStack() as stack:
        report = stack.enter_context(reporter(sys.stdout.isatty()))
        solver = Solver(solver_file, weights=weights)
        stack.callback(solver.close)
        if iterations is not None:
            solver.param.max_iter = iterations
        solver.report = report
        requests = stack.enter_context(watched(EFFECTS[sigint_effect], EFFECTS[sighup_effect]))
        solver.requested_action = requests.take
        solver.solve(snapshot)
