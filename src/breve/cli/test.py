"""`breve test`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from breve.cli.bar import counted
from breve.cli.command import Command

if TYPE_CHECKING:
    from breve.solvers.scores import Means


@click.command(cls=Command)
@click.option("--model", required=True, metavar="FILE", help="The net's prototxt.")
@click.option("--weights", required=True, metavar="FILES", help="Its .caffemodel files (separated by commas).")
@click.option("--iterations", type=click.IntRange(min=1), default=50, show_default=True, help="Batches to run.")
@click.option("--level", type=int, default=0, show_default=True, help="The net's level.")
@click.option("--stage", default="", metavar="NAMES", help="The net's stages (separated by commas).")
def test(model: str, weights: str, iterations: int, level: int, stage: str) -> None:
    """Score a net: the mean of its outputs over batches.

    The net runs in phase TEST, on the data that its own data layers read. Into a pipe or file go lines in the form of
    Caffe's log, with each batch's outputs.
    """
    from breve.cli.log import log_to_stdout
    from breve.net import Net

    terminal = sys.stdout.isatty()
    if not terminal:
        log_to_stdout()
    net = Net(model, "TEST", level=level, stages=[name for name in stage.split(",") if name])
    try:
        for path in weights.split(","):
            net.copy_from(path.strip())
        (_score_on_terminal if terminal else _score_to_log)(net, iterations)
    finally:
        net.close()


def _lines(means: Means) -> list[str]:
    from breve.solvers.scores import score_lines

    return [f"Loss: {means.loss:g}", *score_lines(means.net, means.scores)]


def _score_on_terminal(net: Any, iterations: int) -> None:
    from breve.solvers.scores import Means

    means = Means(net)
    with counted("testing") as show:
        for done in range(iterations):
            means.run_batch()
            show(done + 1, iterations)
    click.echo("\n".join(_lines(means)))


def _score_to_log(net: Any, iterations: int) -> None:
    from breve.cli.log import log
    from breve.solvers.scores import Means, outputs

    log.info("Running for %d iterations.", iterations)
    means = Means(net)
    for batch in range(iterations):
        means.run_batch()
        for name, values in outputs(net).items():
            for value in values.ravel():
                log.info("Batch %d, %s = %g", batch, name, value)
    for line in _lines(means):
        log.info(line)
