"""Bad input: one message that says what, where and what to do; exit code 1; no traceback; nothing half-written."""

from pathlib import Path

import pytest


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def truncate_weights(breve):
    assert breve("train", "--solver", "solver.prototxt").code == 0
    weights = Path("small_iter_8.caffemodel")
    weights.write_bytes(weights.read_bytes()[:-100])
    return "--weights", weights


def other_weights(breve):
    assert breve("train", "--solver", "solver.prototxt").code == 0
    edit("net.prototxt", "num_output: 10", "num_output: 12")
    return "--weights", "small_iter_8.caffemodel"


def other_state(breve):
    assert breve("train", "--solver", "solver.prototxt").code == 0
    edit("solver.prototxt", "base_lr", 'type: "Adam" base_lr')
    return "--snapshot", "small_iter_8.solverstate"


def net(old, new):
    return lambda breve: edit("net.prototxt", old, new) or ()


def solver(old, new):
    return lambda breve: edit("solver.prototxt", old, new) or ()


CASES = {
    "missing net": (
        solver('"net.prototxt"', '"nett.prototxt"'),
        "solver.prototxt:1: there is no file nett.prototxt; looked in the current directory and at nett.prototxt",
    ),
    "unknown layer type": (
        net('"InnerProduct"', '"InerProduct"'),
        "net.prototxt:7: layer 'ip' (InerProduct): unknown layer type 'InerProduct'; did you mean 'InnerProduct'",
    ),
    "unknown field of a layer": (
        net("num_output", "num_outputs"),
        "net.prototxt:9:25: unknown field 'num_outputs' in inner_product_param; did you mean 'num_output'?",
    ),
    "unknown field of the solver": (
        solver("base_lr", "base_lrr"),
        "solver.prototxt:2:1: unknown field 'base_lrr' in SolverParameter; did you mean 'base_lr'?",
    ),
    "wrong kind of value": (
        solver('"fixed"', "fixed"),
        "solver.prototxt:3:12: wrong value for 'lr_policy'; expected a string in quotes, found fixed",
    ),
    "unknown policy": (
        solver('"fixed"', '"fixxed"'),
        "solver.prototxt:3: unknown lr_policy 'fixxed'; did you mean 'fixed'?",
    ),
    "field missing": (solver('"fixed"', '"step"'), "solver.prototxt:3: lr_policy 'step' needs gamma"),
    "dangling bottom": (
        net('bottom: "y" bottom', 'bottom: "z" bottom'),
        "net.prototxt:15: layer 'loss' (SoftmaxWithLoss): unknown bottom blob 'z'; known: label, x, y",
    ),
    "missing database": (
        net('"digits"', '"digitts"'),
        "net.prototxt:2: layer 'data' (Data): there is no database digitts; write it with",
    ),
    "label out of range": (
        net("num_output: 10", "num_output: 3"),
        "layer 'accuracy' (Accuracy): a label is out of range; expected",
    ),
    "snapshots cannot be written": (
        solver('"small"', '"gone/small"'),
        "solver.prototxt:9: snapshots cannot be written; expected a folder gone to write to, found no such folder",
    ),
    "weights missing": (lambda breve: ("--weights", "w.caffemodel"), "there is no file w.caffemodel"),
    "weights truncated": (truncate_weights, "small_iter_8.caffemodel: truncated or damaged; expected trained weights"),
    "weights of another shape": (
        other_weights,
        "net.prototxt:7: layer 'ip' (InnerProduct): ",
    ),
    "state of another rule": (
        other_state,
        "small_iter_8.solverstate: the solver state is of another net or another type of solver; expected 4 history",
    ),
    "state missing": (lambda breve: ("--snapshot", "s.solverstate"), "s.solverstate: cannot be read: No such file"),
}


@pytest.mark.parametrize("case", CASES)
def test_train_says_what_is_wrong(breve, folder, case):
    spoil, message = CASES[case]
    more = spoil(breve)
    before = sorted(folder.rglob("*"))
    result = breve("train", "--solver", "solver.prototxt", *more)
    assert result.code == 1
    assert message in result.err
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) == 1
    assert "Traceback" not in result.out + result.err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("train", "--solver", "gone.prototxt"), "error: gone.prototxt: cannot be read: No such file"),
        (("test", "--model", "gone.prototxt", "--weights", "w"), "error: gone.prototxt: cannot be read"),
        (("test", "--model", "net.prototxt", "--weights", "w"), "error: w: cannot be read"),
        (("time", "--model", "solver.prototxt"), "error: solver.prototxt:1"),
        (("upgrade", "gone.prototxt", "new.prototxt"), "error: gone.prototxt: cannot be read"),
        (("upgrade", "net.prototxt", "gone/new.prototxt"), "error: gone/new.prototxt: cannot be written"),
        (("upgrade", "digits/data.mdb", "new.caffemodel"), "error: digits/data.mdb: truncated or damaged"),
        (("demo", "--data", "gone"), "error: gone has no train-images-idx3-ubyte"),
        (("convert-mnist", "gone", "gone", "new"), "error: gone cannot be read"),
        (("convert-mnist", "net.prototxt", "net.prototxt", "new"), "error: net.prototxt is no IDX file"),
    ],
    ids=lambda v: "" if isinstance(v, str) else " ".join(v),
)
def test_other_commands_say_what_is_wrong(breve, folder, args, message):
    before = sorted(folder.rglob("*"))
    result = breve(*args)
    assert result.code == 1
    assert result.err.startswith(message)
    assert len(result.err.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("args", [("--debug", "train"), ("train", "--debug")])
def test_debug_shows_the_traceback(breve, folder, args):
    result = breve(*args, "--solver", "gone.prototxt")
    assert result.code == 1
    assert "Traceback (most recent call last)" in result.err
    assert result.err.splitlines()[-1].startswith("error: gone.prototxt: cannot be read")


def test_a_fault_of_our_own_is_told_from_a_users(breve, folder, monkeypatch):
    def broken(self):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("breve.solvers.Solver.apply_update", broken)
    result = breve("train", "--solver", "solver.prototxt")
    assert result.code == 1
    assert result.err == "error: ZeroDivisionError: division by zero; this is a fault in breve, --debug shows where\n"


@pytest.mark.parametrize(
    "args",
    [("train",), ("train", "--solver", "s", "--weights", "w", "--snapshot", "s"), ("trian",), ("train", "--sover")],
)
def test_wrong_usage_is_exit_code_2(breve, folder, args):
    result = breve(*args)
    assert result.code == 2
    assert "Usage: breve" in result.err
