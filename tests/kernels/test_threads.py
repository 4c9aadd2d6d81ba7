"""Thread counts, concurrent callers, forked processes."""

import doctest
import os
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest
from numba import prange

from breve.errors import BreveError
from breve.kernels import threads
from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import (
    get_num_threads,
    inline,
    kernel,
    launching,
    physical_cores,
    set_num_threads,
    threads_for,
)

PROGRAM = """
import os, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_threads import add_rows, launch_rows
a = np.ones((64, 100))
out = np.empty(64)
add_rows(a, out)
launch_rows(a, out)
child = os.fork()
if child == 0:
    for rows in (add_rows, launch_rows):
        out[:] = 0
        rows(a, out)
        if (out != 100).any():
            os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@kernel
def add_rows(a, out):
    for i in prange(a.shape[0]):
        total = 0.0
        for j in range(a.shape[1]):
            total += a[i, j]
        out[i] = total


@launching
def _launch_rows(a, out, workers):
    launch(_add_row, a.shape[0], workers, (a, out))


@inline
def _add_row(task, worker, a, out):
    out[task] = a[task].sum()


def launch_rows(a, out):
    _launch_rows(a, out, get_num_threads())


@pytest.fixture(autouse=True)
def _keep_count():
    count = get_num_threads()
    yield
    set_num_threads(count)


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, os.path.dirname(__file__)],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


def test_results_are_equal_for_any_number_of_threads():
    a = np.random.default_rng(0).standard_normal((50, 1000))
    results = []
    for count in (1, 2, 64):
        set_num_threads(count)
        results.append(np.empty(50))
        add_rows(a, results[-1])
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"), reason="no way to flush there")
@pytest.mark.parametrize("rows", [add_rows, launch_rows])
@pytest.mark.parametrize("count", [1, 2])
def test_denormals_count_as_zero_in_kernels_and_nowhere_else(rows, count):
    set_num_threads(count)
    a, out = np.full((64, 100), 1e-310), np.empty(64)
    rows(a, out)
    np.testing.assert_array_equal(out, 0)
    assert (a.sum(1) > 0).all()


def test_examples_run():
    assert doctest.testmod(threads) == (0, 2)


SMALL = threads.SMALL  # as it is outside tests


@pytest.mark.skipif(physical_cores() < 2, reason="one core")
def test_little_work_is_done_by_one_thread(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", SMALL)
    count = get_num_threads()
    try:
        set_num_threads(2)
        assert threads_for(1000) == 1
        assert threads_for(1 << 30) == 2
    finally:
        set_num_threads(count)


def test_count_is_at_most_the_processors():
    set_num_threads(1)
    assert get_num_threads() == 1
    set_num_threads(100_000)
    assert get_num_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_count_that_is_no_positive_integer_is_refused(count):
    with pytest.raises(BreveError, match="positive integer"):
        set_num_threads(count)


def test_physical_cores_are_at_most_the_affinity():
    assert 1 <= physical_cores() <= len(os.sched_getaffinity(0))


def test_quota_of_a_control_group_limits_the_cores(monkeypatch):
    monkeypatch.setattr(threads, "_read", lambda path: "50000 100000" if path.endswith("cpu.max") else "")
    assert physical_cores() == 1


def test_hyper_threads_count_once(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
    pairs = {f"cpu{p}/": f"{p % 4},{p % 4 + 4}" for p in range(8)}
    monkeypatch.setattr(threads, "_read", lambda path: next((v for k, v in pairs.items() if k in path), ""))
    assert physical_cores() == 4


@pytest.mark.parametrize(("value", "printed"), [("1", "1"), ("", str(physical_cores()))])
def test_environment_sets_the_count(value, printed):
    program = "from breve.kernels.threads import get_num_threads; print(get_num_threads())"
    assert run(program, BREVE_NUM_THREADS=value, OMP_NUM_THREADS="").stdout.strip() == printed


def test_environment_that_is_no_number_is_refused():
    found = run("import breve.kernels.threads", BREVE_NUM_THREADS="many")
    assert "BREVE_NUM_THREADS must be a positive integer; found 'many'" in found.stderr


def test_several_python_threads_may_call_at_once():
    a = np.ones((200, 200))
    outs = [np.zeros(200) for _ in range(6)]

    def work(out):
        for _ in range(50):
            out[:] = 0
            add_rows(a, out)

    workers = [threading.Thread(target=work, args=(out,)) for out in outs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all((out == 200).all() for out in outs)


def test_cache_sees_an_edit_in_the_file_of_a_called_function(tmp_path):
    helper = "from breve.kernels.threads import inline\n@inline\ndef amount():\n    return {}\n"
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import caller; print(caller.double())"
    (tmp_path / "caller.py").write_text(
        "from breve.kernels.threads import launching\nfrom helper import amount\n"
        "@launching\ndef double():\n    return 2 * amount()\n"
    )
    for number, doubled in (("7", "14"), ("7", "14"), ("800", "1600")):
        (tmp_path / "helper.py").write_text(helper.format(number))
        assert run(program, NUMBA_CACHE_DIR=str(tmp_path / "cache")).stdout.strip() == doubled


def test_cache_sees_an_edit_behind_a_launched_body(tmp_path):
    helper = "from breve.kernels.threads import inline\n@inline\ndef amount():\n    return {}\n"
    (tmp_path / "caller.py").write_text(
        "from breve.kernels.microkernel.launch import launch\n"
        "from breve.kernels.threads import inline, launching\nfrom helper import amount\n"
        "@launching\ndef fill(a):\n    launch(put, a.size, 1, (a,))\n"
        "@inline\ndef put(task, worker, a):\n    a[task] = amount()\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import caller, numpy\n"
        "a = numpy.zeros(2); caller.fill(a); print(int(a.sum()))"
    )
    for number, doubled in (("7", "14"), ("7", "14"), ("800", "1600")):
        (tmp_path / "helper.py").write_text(helper.format(number))
        assert run(program, NUMBA_CACHE_DIR=str(tmp_path / "cache")).stdout.strip() == doubled


def test_damaged_cache_is_compiled_again(tmp_path):
    (tmp_path / "seven.py").write_text(
        "from breve.kernels.threads import launching\n@launching\ndef f():\n    return 7\n"
    )
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import seven; print(seven.f())"
    cache = tmp_path / "cache"
    for suffix in ("nbi", "nbc"):
        assert run(program, NUMBA_CACHE_DIR=str(cache)).stdout.strip() == "7"
        (damaged,) = cache.rglob(f"seven.f-*.{suffix}")
        damaged.write_bytes(damaged.read_bytes()[:-20])
    assert run(program, NUMBA_CACHE_DIR=str(cache)).stdout.strip() == "7"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_forked_process_computes(layer):
    if layer == "omp":
        pytest.importorskip("numba.np.ufunc.omppool")
    found = run(PROGRAM, NUMBA_THREADING_LAYER=layer)
    assert found.stdout.strip() == "0", found.stderr
