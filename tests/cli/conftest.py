"""A folder with a small database, net and solver, and the command `breve` run in it."""

import logging
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from breve.cli import main
from breve.data.mnist import Digits, write_database

NET = """name: "small"
layer {
  name: "data" type: "Data" top: "x" top: "label"
  transform_param { scale: 0.004 }
  data_param { source: "digits" backend: LMDB batch_size: 4 }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } }
}
layer {
  name: "accuracy" type: "Accuracy" bottom: "y" bottom: "label" top: "accuracy"
  include { phase: TEST }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
"""

SOLVER = """net: "net.prototxt"
base_lr: 0.1
lr_policy: "fixed"
max_iter: 8
display: 4
test_iter: 2
test_interval: 4
random_seed: 5
snapshot_prefix: "small"
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (10, 8, 8), np.uint8)
    write_database(Digits(images, np.arange(10).astype(np.uint8)), "digits")
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


@pytest.fixture
def breve(capsys):
    """Run the command in this process: its exit code and what it wrote."""
    log = logging.getLogger("breve")
    before = log.handlers[:], log.level, log.propagate

    def run(*args):
        code = 0
        try:
            main([str(arg) for arg in args])
        except SystemExit as ended:
            code = ended.code
        return Result(code, *capsys.readouterr())

    yield run
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture
def spawn():
    """Start the command in a process of its own."""
    processes = []

    def start(*args, **options):
        command = [sys.executable, "-m", "breve", *map(str, args)]
        processes.append(subprocess.Popen(command, text=True, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()
