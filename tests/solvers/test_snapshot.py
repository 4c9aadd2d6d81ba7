"""Snapshots: resuming gives the very run that was interrupted; damaged or foreign states change nothing."""

import shutil
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from breve.data.mnist import Digits, write_database
from breve.errors import BreveError, FileFormatError, SolverError
from breve.proto import NetParameter, SolverState
from breve.solvers import Action, Solver

SHARED = Path(__file__).parents[3] / "shared" / "models" / "old_snapshots"

RULES = {
    "SGD": {"lr_policy": '"multistep"', "gamma": 0.5},
    "Nesterov": {"lr_policy": '"step"', "gamma": 0.5, "stepsize": 3},
    "AdaGrad": {"momentum": None},
    "RMSProp": {"momentum": None, "rms_decay": 0.9},
    "AdaDelta": {"delta": 1e-4},
    "Adam": {"clip_gradients": 0.5},
}


def run(solver, iterations, snapshot_at=None):
    """The losses of some iterations, as shown (averaged), and weights and history at the end."""
    losses = []
    solver.report.iterated = lambda _, loss: losses.append(loss)
    solver.requested_action = lambda: Action.SNAPSHOT if solver.iter == snapshot_at else Action.NONE
    solver.step(iterations)
    return losses, everything(solver)


def everything(solver):
    return [solver.iter, *(b.data.copy() for b in solver.net.learnable_params), *(h.copy() for h in solver.history)]


@pytest.mark.parametrize("snapshot_format", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_run_is_the_interrupted_one_bit_for_bit(solver_file, rule, snapshot_format):
    steps = "stepvalue: 2 stepvalue: 6" if rule == "SGD" else ""
    path = solver_file(steps, type=f'"{rule}"', average_loss=4, snapshot_format=snapshot_format, **RULES[rule])
    whole_losses, whole = run(Solver(path), 10, snapshot_at=5)
    resumed = Solver(path)
    resumed.step(2)  # so that nothing is right by chance
    resumed.restore("small_iter_5.solverstate" + (".h5" if snapshot_format == "HDF5" else ""))
    assert resumed.iter == 5
    losses, end = run(resumed, 5)
    assert losses == whole_losses[5:]
    for mine, theirs in zip(end, whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_resumed_run_tests_on_the_same_batches(solver_file):
    path = solver_file(test_iter=2, test_interval=100)
    whole = Solver(path)
    whole.step(3)
    whole.test()
    state = whole.snapshot()
    resumed = Solver(path)
    resumed.restore(state)
    assert resumed.test() == whole.test()


DATA_NET = """
layer {
  name: "data" type: "Data" top: "x" top: "label"
  transform_param { scale: 0.01 crop_size: 5 mirror: true }
  data_param { source: "digits" backend: LMDB batch_size: 4 }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
"""


def test_a_resumed_run_reads_on_where_the_interrupted_one_stopped(solver_file, folder):
    rng = np.random.default_rng(1)
    write_database(
        Digits(rng.integers(0, 256, (10, 8, 8), np.uint8), rng.integers(0, 3, 10).astype(np.uint8)), "digits"
    )
    (folder / "net.prototxt").write_text(DATA_NET)
    path = solver_file(test_iter=3, test_interval=4)
    with closing(Solver(path)) as solver:
        whole_losses, whole = run(solver, 12, snapshot_at=5)
    with closing(Solver(path)) as resumed:
        resumed.restore("small_iter_5.solverstate")
        losses, end = run(resumed, 7)
    assert losses == whole_losses[5:]
    for mine, theirs in zip(end, whole, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_snapshot_without_its_seed_goes_on_the_same(solver_file):
    path = solver_file(random_seed=None)
    whole_losses, _ = run(Solver(path), 5, snapshot_at=2)
    resumed = Solver(path)
    resumed.restore("small_iter_2.solverstate")
    assert run(resumed, 3)[0] == whole_losses[2:]


def test_binary_state_holds_what_caffe_reads(solver_file):
    solver = Solver(solver_file())
    solver.step(3)
    state = SolverState.FromString(Path(solver.snapshot()).read_bytes())
    assert (state.iter, state.learned_net, state.current_step) == (3, "small_iter_3.caffemodel", 0)
    assert [list(blob.shape.dim) for blob in state.history] == [[4, 2, 3, 3], [4], [3, 16], [3]]
    np.testing.assert_array_equal(np.float32(state.history[1].data), solver.history[1])
    model = NetParameter.FromString(Path(state.learned_net).read_bytes())
    blobs = {layer.name: [np.float32(blob.data) for blob in layer.blobs] for layer in model.layer if layer.blobs}
    np.testing.assert_array_equal(blobs["ip"][0], solver.net.params["ip"][0].data.ravel())


def test_hdf5_state_holds_what_caffe_reads(solver_file):
    solver = Solver(solver_file(snapshot_format="HDF5", snapshot_diff="true"))
    solver.step(3)
    with h5py.File(solver.snapshot()) as state:
        assert (state["iter"][0], state["current_step"][0]) == (3, 0)
        assert state["learned_net"][()] == b"small_iter_3.caffemodel.h5"
        np.testing.assert_array_equal(state["history/2"][()], solver.history[2])
    with h5py.File("small_iter_3.caffemodel.h5") as model:
        np.testing.assert_array_equal(model["data/ip/0"][()], solver.net.params["ip"][0].data)
        np.testing.assert_array_equal(model["diff/ip/0"][()], solver.net.params["ip"][0].diff)


def test_the_model_is_found_beside_its_state(solver_file, folder):
    solver = Solver(solver_file())
    solver.step(2)
    solver.snapshot()
    (folder / "moved").mkdir()
    for name in ("small_iter_2.caffemodel", "small_iter_2.solverstate"):
        shutil.move(name, f"moved/{name}")
    resumed = Solver(solver_file(random_seed=8))
    resumed.restore("moved/small_iter_2.solverstate")
    np.testing.assert_array_equal(resumed.net.params["ip"][0].data, solver.net.params["ip"][0].data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def break_extra(path):
    state = SolverState.FromString(path.read_bytes())
    state.breve_state = b'{"nets": ['
    path.write_bytes(state.SerializeToString())


def lose_a_history(path):
    state = SolverState.FromString(path.read_bytes())
    del state.history[-1]
    path.write_bytes(state.SerializeToString())


def reshape_a_history(path):
    state = SolverState.FromString(path.read_bytes())
    state.history[2].shape.dim[:] = [16, 3]
    path.write_bytes(state.SerializeToString())


def cut_the_model(path):
    cut(path.with_suffix(".caffemodel"))


def lose_the_model(path):
    path.with_suffix(".caffemodel").unlink()


def write_text(path):
    path.write_text("iter: 5\n")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (cut, FileFormatError, "small_iter_3.solverstate: truncated or damaged"),
        (write_text, FileFormatError, "small_iter_3.solverstate: not a binary file"),
        (break_extra, FileFormatError, "breve's part of the solver state is damaged"),
        (
            lose_a_history,
            SolverError,
            "another net or another type of solver; expected 4 history blobs for type SGD, found 3",
        ),
        (reshape_a_history, SolverError, r"history blob 2 .* another shape; expected \(3, 16\), found \(16, 3\)"),
        (cut_the_model, FileFormatError, "small_iter_3.caffemodel: truncated or damaged"),
        (
            lose_the_model,
            SolverError,
            "the model file of this solver state is missing; expected small_iter_3.caffemodel",
        ),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_damaged_snapshot_changes_nothing(solver_file, damage, error, message):
    solver = Solver(solver_file())
    solver.step(3)
    state = Path(solver.snapshot())
    damage(state)
    other = Solver(solver_file(random_seed=11))
    other.step(1)
    before = everything(other)
    with pytest.raises(error, match=message):
        other.restore(state)
    for one, two in zip(before, everything(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_failed_snapshot_leaves_nothing_behind(solver_file, folder):
    solver = Solver(solver_file(snapshot_prefix='"gone/small"'))
    before = sorted(folder.iterdir())
    with pytest.raises(BreveError, match="make the folder gone first"):
        solver.snapshot()
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/models beside the repository")
def test_a_state_of_old_caffe_is_resumed(tmp_path):
    text = (SHARED / "lenet_v1_train_test.prototxt").read_text()
    start = text.index('layers {\n  name: "conv1"')
    inputs = """layers { name: "d" type: DUMMY_DATA top: "data" top: "label" dummy_data_param {
        num: 2 channels: 1 height: 28 width: 28 num: 2 channels: 1 height: 1 width: 1 } }"""
    (tmp_path / "net.prototxt").write_text('name: "LeNet"\n' + inputs + text[start:])
    solver_text = (SHARED / "lenet_v1_solver.prototxt").read_text()
    solver_text = solver_text.replace("examples/mnist/lenet_train_test", "net").replace("GPU", "CPU")
    (tmp_path / "solver.prototxt").write_text(solver_text.replace("test_i", "# test_i"))
    solver = Solver(tmp_path / "solver.prototxt")
    solver.restore(SHARED / "lenet_iter_5000.solverstate")
    state = SolverState.FromString((SHARED / "lenet_iter_5000.solverstate").read_bytes())
    assert solver.iter == 5000
    np.testing.assert_array_equal(solver.history[4].ravel(), np.float32(state.history[4].data))
    solver.step(1)
    assert solver.iter == 5001
