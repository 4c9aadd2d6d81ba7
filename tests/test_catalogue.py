"""Every prototxt that the project ships, and an example of each layer, parsed, built, run forward and backward."""

from pathlib import Path

import numpy as np
import pytest

from breve.data.datum import pack
from breve.data.lmdb_writer import write_lmdb
from breve.layers import LAYERS
from breve.net import Net
from breve.proto import NetParameter
from breve.proto.text import parse, read_net, read_solver, to_text
from breve.solvers import get_solver
from layers.table import CASES

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path for folder in ("examples", "src") for path in (ROOT / folder).rglob("*.prototxt*"))
SOLVERS = [path for path in SHIPPED if path.stem.endswith("solver")]
NETS = [path for path in SHIPPED if path not in SOLVERS]
EXAMPLES = {type: next(case for case in CASES if case.type == type) for type in LAYERS}

by_name = pytest.mark.parametrize("path", NETS, ids=lambda path: path.name)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder with small databases where the examples expect MNIST's."""
    digits = np.random.default_rng(0).integers(0, 256, (10, 1, 32, 32)).astype(np.uint8)
    for part in ("train", "test"):
        records = [(b"%08d" % i, pack(digit, i)) for i, digit in enumerate(digits)]
        write_lmdb(tmp_path / "examples" / "mnist" / f"mnist_{part}_lmdb", records)
    for path in SHIPPED:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_both_ways(net):
    """Forward and backward; what was computed is finite."""
    loss = net.forward()
    assert np.isfinite(loss)
    net.clear_param_diffs()
    net.backward()
    for name, blob in net.blobs.items():
        assert np.isfinite(blob.data).all(), name
    for blob in net.learnable_params:
        assert np.isfinite(blob.diff).all()
    return loss


def test_there_are_nets_and_solvers():
    assert NETS
    assert SOLVERS


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@by_name
def test_shipped_net_runs_forward_and_backward(path, phase, sources):
    net = Net(sources / path.relative_to(ROOT), phase, seed=1)
    run_both_ways(net)
    net.close()


@by_name
def test_shipped_net_survives_writing(path, sources):
    described = read_net(sources / path.relative_to(ROOT))
    assert parse(to_text(described), NetParameter) == described


@pytest.mark.parametrize("path", SOLVERS, ids=lambda path: path.name)
def test_shipped_solver_takes_a_step(path, sources):
    param = read_solver(path.relative_to(ROOT))
    param.test_initialization = False
    solver = get_solver(param)
    before = [blob.data.copy() for blob in solver.net.learnable_params]
    solver.step(1)
    for blob, old in zip(solver.net.learnable_params, before, strict=True):
        assert np.isfinite(blob.data).all()
        assert (blob.data != old).any()


@pytest.mark.parametrize("type", LAYERS)
def test_minimal_example_of_a_layer_runs_in_a_net_forward_and_backward(type, tmp_path):
    case = EXAMPLES[type]
    values = case.values()
    (tmp_path / "net.prototxt").write_text(case.net_text(values))
    net = Net(tmp_path / "net.prototxt", case.phase, seed=1)
    if case.prepare is not None:
        case.prepare(net.layers[-1])
    for i, value in enumerate(values):
        net.blobs[f"x{i}"].data[...] = value
    run_both_ways(net)
    net.close()
