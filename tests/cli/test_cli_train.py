"""`breve train`: Caffe's log in a pipe, a bar on a terminal, signals, resuming."""

import os
import re
import signal
import subprocess

import pytest

LINE = re.compile(r"^[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.py:\d+\] (.*)$")


def messages(out):
    """What the lines of a log say; each must have the prefix that Caffe's lines have."""
    matches = [LINE.match(line) for line in out.splitlines()]
    assert all(matches), out
    return [match[1] for match in matches]


def test_a_pipe_gets_caffes_log(breve, folder):
    result = breve("train", "--solver", "solver.prototxt")
    assert (result.code, result.err) == (0, "")
    number = r"-?[\d.]+(e-?\d+)?"
    expected = [
        "Solving small",
        "Learning Rate Policy: fixed",
        r"Iteration 0, Testing net \(#0\)",
        rf"    Test net output #0: accuracy = {number}",
        rf"    Test net output #1: loss = {number} \(\* 1 = {number} loss\)",
        rf"Iteration 0, loss = {number}",
        rf"    Train net output #0: loss = {number} \(\* 1 = {number} loss\)",
        r"Iteration 0, lr = 0\.1",
        r"Iteration 4, Testing net \(#0\)",
        rf"    Test net output #0: accuracy = {number}",
        rf"    Test net output #1: loss = {number} \(\* 1 = {number} loss\)",
        rf"Iteration 4, loss = {number}",
        rf"    Train net output #0: loss = {number} \(\* 1 = {number} loss\)",
        r"Iteration 4, lr = 0\.1",
        r"Snapshotting to binary proto file small_iter_8\.caffemodel",
        r"Snapshotting solver state to binary proto file small_iter_8\.solverstate",
        rf"Iteration 8, loss = {number}",
        r"Iteration 8, Testing net \(#0\)",
        rf"    Test net output #0: accuracy = {number}",
        rf"    Test net output #1: loss = {number} \(\* 1 = {number} loss\)",
        r"Optimization Done\.",
    ]
    got = messages(result.out)
    assert len(got) == len(expected)
    for pattern, line in zip(expected, got, strict=True):
        assert re.fullmatch(pattern, line)


def test_iterations_stand_in_for_max_iter(breve, folder):
    result = breve("train", "--solver", "solver.prototxt", "--iterations", 3)
    assert result.code == 0
    assert (folder / "small_iter_3.caffemodel").exists()


def test_resuming_ends_as_the_whole_run(breve, folder):
    whole = messages(breve("train", "--solver", "solver.prototxt").out)
    weights = (folder / "small_iter_8.caffemodel").read_bytes()
    breve("train", "--solver", "solver.prototxt", "--iterations", 4)
    (folder / "small_iter_8.caffemodel").unlink()
    result = breve("train", "--solver", "solver.prototxt", "--snapshot", "small_iter_4.solverstate")
    resumed = messages(result.out)
    assert resumed[2] == "Restoring previous solver status from small_iter_4.solverstate"
    start = whole.index("Iteration 4, Testing net (#0)")
    assert resumed[3:] == whole[start:]
    assert (folder / "small_iter_8.caffemodel").read_bytes() == weights


def test_weights_are_a_start(breve, folder):
    first = messages(breve("train", "--solver", "solver.prototxt").out)
    result = breve("train", "--solver", "solver.prototxt", "--weights", "small_iter_8.caffemodel")
    again = messages(result.out)
    assert result.code == 0
    assert "Iteration 0, Testing net (#0)" in again
    assert again[3:5] != first[3:5]


def endless(folder, extra=""):
    text = (folder / "solver.prototxt").read_text()
    (folder / "solver.prototxt").write_text(text.replace("max_iter: 8", "max_iter: 100000000") + extra)


def wait_for(stream, words):
    """Read a stream's lines until one holds the words."""
    seen = []
    for line in iter(stream.readline, ""):
        seen.append(line)
        if words in line:
            return seen
    raise AssertionError("".join(seen))


@pytest.mark.parametrize("extra", ["", "snapshot_after_train: false"])
def test_interrupt_takes_a_snapshot_and_stops(spawn, folder, extra):
    endless(folder, extra)
    process = spawn("train", "--solver", "solver.prototxt", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(process.stdout, "Iteration 8, loss")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == ""
    assert out.splitlines()[-1].endswith("] Optimization stopped early.")
    (state,) = folder.glob("small_iter_*.solverstate")
    assert state.with_suffix(".caffemodel").exists()


def test_hangup_takes_a_snapshot_and_goes_on(spawn, folder):
    endless(folder)
    process = spawn("train", "--solver", "solver.prototxt", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(process.stdout, "Iteration 8, loss")
    process.send_signal(signal.SIGHUP)
    wait_for(process.stdout, "Snapshotting solver state")
    wait_for(process.stdout, ", loss = ")
    assert process.poll() is None
    assert list(folder.glob("small_iter_*.solverstate"))


def test_a_second_interrupt_ends_at_once(spawn, folder):
    endless(folder)
    text = (folder / "solver.prototxt").read_text().replace("test_iter: 2", "test_iter: 100000000")
    (folder / "solver.prototxt").write_text(text)
    process = spawn("train", "--solver", "solver.prototxt", "--sigint_effect", "stop", stdout=subprocess.PIPE)
    wait_for(process.stdout, "Testing net")
    os.kill(process.pid, signal.SIGSTOP)  # both signals are then received before the solver looks
    process.send_signal(signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (0, 130)  # 0 where the first one had already ended the test


def test_a_terminal_gets_a_bar_and_no_log_prefix(spawn, folder):
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
    process = spawn("train", "--solver", "solver.prototxt", stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    screen = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other side has closed
            break
        if not chunk:
            break
        screen += chunk
    os.close(ours)
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.decode())
    assert "Training small: 650 parameters, SGD, lr_policy fixed, to iteration 8" in text
    assert re.search(r"Iteration 4, test: accuracy = [\d.]+, loss = [\d.]+", text)
    assert re.search(r"Iteration 4: loss = [\d.]+, lr = 0\.1", text)
    assert re.search(r"done +.* 8/8 loss [\d.]+ lr 0\.1 [\d.]+ it/s", text)
    assert "solver.py" not in text
