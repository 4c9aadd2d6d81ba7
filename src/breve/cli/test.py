"""`breve test`."""

from __future__ import annotations

import sys
from typing import Any

import click
import numpy as np

from breve.cli.bar import counted
from breve.cli.command import Command


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


class Means:
    """Running sums of a net's loss and outputs."""

    def __init__(self, net: Any) -> None:
        self.net, self.batches, self._loss = net, 0, 0.0
        self._sums: dict[str, Any] = dict.fromkeys(net.outputs, 0.0)

    def run_batch(self) -> None:
        """Run the net once and add what it gives."""
        self._loss += self.net.forward()
        self.batches += 1
        for name in self._sums:
            self._sums[name] = self._sums[name] + self.net.blobs[name].data.astype(np.float64)

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self._loss / self.batches

    def lines(self) -> list[str]:
        """`name = mean`, with what it is of the loss, for every element of every output."""
        from breve.solvers.report import output_lines

        return list(output_lines(self.net, {name: total / self.batches for name, total in self._sums.items()}))


def _score_on_terminal(net: Any, iterations: int) -> None:
    means = Means(net)
    with counted("testing") as show:
        for done in range(iterations):
            means.run_batch()
            show(done + 1, iterations)
    click.echo("\n".join([f"Loss: {means.loss:g}", *means.lines()]))


def _score_to_log(net: Any, iterations: int) -> None:
    from breve.cli.log import log

    log.info("Running for %d iterations.", iterations)
    means = Means(net)
    for batch in range(iterations):
        means.run_batch()
        for name in net.outputs:
            for value in net.blobs[name].data.ravel():
                log.info("Batch %d, %s = %g", batch, name, value)
    for line in [f"Loss: {means.loss:g}", *means.lines()]:
        log.info(line)
