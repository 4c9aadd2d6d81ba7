"""The training loop: what happens at which iteration, what is reported, what is refused."""

import logging

import numpy as np
import pytest

from breve.errors import SolverError
from breve.proto import SolverParameter
from breve.solvers import Action, AdamSolver, SGDSolver, Solver


class Diary(list):
    """A report that keeps what it was told: (occasion, iteration)."""

    def __getattr__(self, occasion):
        def note(*told):
            iteration = told[0].iter if told and isinstance(told[0], Solver) else None
            self.append((occasion, iteration))

        return note

    def times(self, occasion):
        return [iteration for what, iteration in self if what == occasion]


def weights_of(net):
    return [blob.data.copy() for blob in net.learnable_params]


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_same_seed_gives_the_same_run(solver_file):
    runs = []
    for _ in range(2):
        solver = Solver(solver_file())
        solver.step(5)
        runs.append(weights_of(solver.net))
    assert same(*runs)
    other = Solver(solver_file(random_seed=4))
    other.step(5)
    assert not same(runs[0], weights_of(other.net))


def test_display_test_and_snapshot_come_at_their_intervals(solver_file):
    solver = Solver(solver_file(display=3, test_iter=2, test_interval=4, snapshot=5))
    diary = solver.report = Diary()
    solver.solve()
    assert diary.times("displayed") == [0, 3, 6]
    assert diary.times("rated") == [0, 3, 6]
    assert diary.times("testing") == [0, 4, 8]
    assert diary.times("iterated") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [path.name for path in sorted(solver_file().parent.glob("*.solverstate"))] == [
        "small_iter_5.solverstate",
        "small_iter_8.solverstate",
    ]
    assert diary[-1][0] == "done"


@pytest.mark.parametrize(("fields", "tested"), [({}, [0, 4]), ({"test_initialization": "false"}, [4])])
def test_first_test_can_be_left_out(solver_file, fields, tested):
    solver = Solver(solver_file(test_iter=1, test_interval=4, **fields))
    diary = solver.report = Diary()
    solver.step(5)
    assert diary.times("testing") == tested


def test_snapshot_after_train_can_be_left_out(solver_file, folder):
    Solver(solver_file(snapshot_after_train="false")).solve()
    assert not list(folder.glob("small_iter*"))


def test_log_is_caffes(solver_file, caplog):
    caplog.set_level(logging.INFO, "breve")
    solver = Solver(solver_file(display=2, average_loss=2, test_iter=1, test_interval=8, test_compute_loss="true"))
    losses = []
    solver.add_callback(lambda: None, lambda: losses.append(float(solver.net.blobs["loss"].data)))
    solver.solve()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == ["Solving small", "Learning Rate Policy: fixed", "Iteration 0, Testing net (#0)"]
    assert lines[3].startswith("Test loss: ")
    assert lines[4].startswith("    Test net output #0: loss = ")
    assert lines[5:8] == [
        f"Iteration 0, loss = {losses[0]:g}",
        f"    Train net output #0: loss = {losses[0]:g} (* 1 = {losses[0]:g} loss)",
        "Iteration 0, lr = 0.05",
    ]
    assert lines[8] == f"Iteration 2, loss = {(losses[1] + losses[2]) / 2:g}"
    assert "Snapshotting to binary proto file small_iter_8.caffemodel" in lines
    assert "Snapshotting solver state to binary proto file small_iter_8.solverstate" in lines
    assert lines[-1] == "Optimization Done."


def test_divergence_is_told_once(solver_file, caplog):
    solver = Solver(solver_file(base_lr=1e30))
    solver.step(5)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.endswith("diverged; lower base_lr or set clip_gradients")


def test_what_is_not_done_is_said(solver_file, caplog):
    Solver(solver_file(debug_info="true"))
    assert "solver.prototxt:9: debug_info prints nothing here" in caplog.text


def test_iter_size_averages_the_gradients_of_several_batches(solver_file):
    gradients = []
    solver = Solver(solver_file(iter_size=3, momentum=0))
    before = weights_of(solver.net)
    solver.add_callback(lambda: None, lambda: gradients.extend(b.diff.copy() for b in solver.net.learnable_params))
    solver.step(1)
    for old, new, gradient, lr in zip(before, weights_of(solver.net), gradients, solver.net.params_lr, strict=True):
        np.testing.assert_allclose(new, old - 0.05 * lr * gradient / 3, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped_by_their_norm_together(solver_file):
    gradients = []
    solver = Solver(solver_file(clip_gradients=0.01, momentum=0))
    before = weights_of(solver.net)
    solver.add_callback(lambda: None, lambda: gradients.extend(b.diff.copy() for b in solver.net.learnable_params))
    solver.step(1)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
    assert norm > 0.01
    for old, new, gradient, lr in zip(before, weights_of(solver.net), gradients, solver.net.params_lr, strict=True):
        np.testing.assert_allclose(new, old - 0.05 * lr * gradient * 0.01 / norm, rtol=1e-5, atol=1e-8)


def test_param_diff_is_the_last_update_as_in_caffe(solver_file):
    solver = Solver(solver_file())
    before = weights_of(solver.net)
    solver.step(1)
    for old, blob in zip(before, solver.net.learnable_params, strict=True):
        np.testing.assert_array_equal(old - blob.diff, blob.data)


def test_callbacks_come_before_forward_and_before_update(solver_file):
    solver, calls = Solver(solver_file()), []
    solver.add_callback(lambda: calls.append(("start", solver.iter)), lambda: calls.append(("gradients", solver.iter)))
    solver.step(2)
    assert calls == [("start", 0), ("gradients", 0), ("start", 1), ("gradients", 1)]


def test_a_stop_takes_a_snapshot_and_can_be_gone_on_from(solver_file, folder):
    solver = Solver(solver_file(snapshot_after_train="false"))
    diary = solver.report = Diary()
    solver.requested_action = lambda: Action.STOP if solver.iter == 3 else Action.NONE
    solver.solve()
    assert solver.iter == 3
    assert (folder / "small_iter_3.solverstate").exists()
    assert "finished" not in diary
    solver.requested_action = lambda: Action.NONE
    solver.solve()
    assert solver.iter == 8


def test_a_stop_during_a_test_ends_it(solver_file, folder):
    solver = Solver(solver_file(test_iter=1000, test_interval=4))
    diary = solver.report = Diary()
    solver.requested_action = lambda: Action.STOP
    solver.solve()
    assert "test_interrupted" in [what for what, _ in diary]
    assert (folder / "small_iter_0.solverstate").exists()


def test_a_snapshot_on_request_goes_on(solver_file, folder):
    solver = Solver(solver_file())
    solver.requested_action = lambda: Action.SNAPSHOT if solver.iter == 3 else Action.NONE
    solver.solve()
    assert solver.iter == 8
    assert (folder / "small_iter_3.caffemodel").exists()


def test_test_net_shares_the_trained_parameters(solver_file):
    solver = Solver(solver_file(test_iter=2, test_interval=100))
    solver.step(3)
    solver.test()
    assert np.shares_memory(solver.test_nets[0].params["ip"][0].data, solver.net.params["ip"][0].data)


def test_test_score_is_the_mean_of_the_batches(solver_file):
    solver = Solver(solver_file(test_iter=3, test_interval=100))
    again = Solver(solver_file(test_iter=3, test_interval=100))
    losses = [again.test_nets[0].forward() for _ in range(3)]
    assert float(solver.test()["loss"]) == pytest.approx(np.mean(losses), rel=1e-6)


def test_test_nets_in_caffes_order(solver_file, folder):
    text = (folder / "net.prototxt").read_text()
    (folder / "own.prototxt").write_text(text.replace('"small"', '"own"'))
    solver = Solver(solver_file('test_net: "own.prototxt" test_iter: 1 test_iter: 2', test_interval=5))
    assert [net.name for net in solver.test_nets] == ["own", "small"]
    assert [net.phase for net in solver.test_nets] == ["TEST", "TEST"]


def test_test_state_selects_layers(solver_file, folder):
    text = (folder / "net.prototxt").read_text()
    score = 'layer { name: "extra" type: "Silence" bottom: "x" include { stage: "deep" } }'
    (folder / "net.prototxt").write_text(text + score)
    solver = Solver(solver_file('test_state { stage: "deep" }', test_iter=1, test_interval=5))
    assert "extra" in solver.test_nets[0].layer_names
    assert "extra" not in solver.net.layer_names


def test_net_file_is_found_beside_the_solver(solver_file, monkeypatch, tmp_path_factory):
    path = solver_file()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert Solver(path).net.name == "small"


def test_net_within_the_solver(folder):
    from breve.proto.text import parse

    inner = (folder / "net.prototxt").read_text()
    param = parse(f'net_param {{ {inner} }} base_lr: 0.1 lr_policy: "fixed"', SolverParameter)
    solver = Solver(param)
    solver.step(2)
    assert solver.iter == 2


def test_weights_are_loaded_by_layer_name(solver_file, folder):
    trained = Solver(solver_file())
    trained.step(2)
    trained.net.save("trained.caffemodel")
    solver = Solver(solver_file(random_seed=9, test_iter=1, test_interval=5), weights="trained.caffemodel")
    assert same(weights_of(solver.net), weights_of(trained.net))
    from_field = Solver(solver_file('weights: "trained.caffemodel"', random_seed=9))
    assert same(weights_of(from_field.net), weights_of(trained.net))


def test_a_class_uses_its_own_rule_whatever_the_file_says(solver_file):
    assert SGDSolver(solver_file(type='"Adam"')).param.type == "SGD"
    assert len(AdamSolver(solver_file()).history) == 2 * len(AdamSolver(solver_file()).net.learnable_params)


def test_old_solver_type_is_understood(solver_file):
    assert Solver(solver_file(solver_type="ADAGRAD", momentum=None)).param.type == "AdaGrad"


def test_lr_is_that_of_the_next_update(solver_file):
    solver = Solver(solver_file(lr_policy='"step"', gamma=0.5, stepsize=2))
    rates = []
    for _ in range(4):
        rates.append(solver.lr)
        solver.step(1)
    np.testing.assert_allclose(rates, [0.05, 0.05, 0.025, 0.025], rtol=1e-6)


REFUSED = [
    ({"net": None}, "", "a solver has one training net; expected exactly one of net,.* found none of them"),
    ({}, 'train_net: "net.prototxt"', "a solver has one training net;.* found net and train_net"),
    ({"net": '"nett.prototxt"'}, "", r"solver.prototxt:\d+: there is no file nett.prototxt"),
    ({"type": '"Adamm"'}, "", r"solver.prototxt:\d+: unknown solver type 'Adamm'; did you mean 'Adam'"),
    ({"type": '"AdaGrad"'}, "", r"solver.prototxt:\d+: AdaGrad takes no momentum; found 0.9"),
    (
        {"type": '"RMSProp"', "momentum": None, "rms_decay": 1.5},
        "",
        "rms_decay is out of range; expected 0 <= value < 1",
    ),
    ({"type": '"Adam"', "momentum": 1}, "", "momentum is out of range"),
    ({"regularization_type": '"L3"'}, "", "unknown regularization_type; expected L1 or L2, found 'L3'"),
    ({"test_iter": 5}, "", "a test net needs test_interval; expected at least 1, found 0; write test_interval"),
    ({"test_interval": 5, "test_iter": 0}, "", r"solver.prototxt:\d+: test_iter is out of range; expected at least 1"),
    (
        {"test_interval": 5},
        'test_net: "net.prototxt"',
        "test_iter must be given once for each test net; expected 1, found 0",
    ),
    ({"test_interval": 5, "test_iter": 1}, "test_state {} test_state {}", "test_state is given once for each test net"),
    ({"iter_size": 0}, "", "iter_size is out of range; expected at least 1, found 0"),
    ({"average_loss": 0}, "", "average_loss is out of range"),
    ({}, 'weights: "gone.caffemodel"', r"solver.prototxt:\d+: there is no file gone.caffemodel"),
]


@pytest.mark.parametrize(("fields", "extra", "message"), REFUSED, ids=[r[2][-30:] for r in REFUSED])
def test_a_solver_that_makes_no_sense_is_refused(solver_file, fields, extra, message):
    with pytest.raises(SolverError, match=message):
        Solver(solver_file(extra, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_iter": None}, "max_iter is missing"),
        (
            {"snapshot_prefix": '"gone/small"'},
            "snapshots cannot be written; expected a folder gone to write to, found no such",
        ),
    ],
)
def test_what_training_needs_is_checked_before_it_begins(solver_file, fields, message):
    solver = Solver(solver_file(**fields))
    with pytest.raises(SolverError, match=message):
        solver.solve()
    assert solver.iter == 0
