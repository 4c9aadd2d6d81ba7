"""Loops over tasks: every task once, by the worker whose run it is, whatever the number of threads."""

import numpy as np
import pytest

from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import get_num_threads, inline, launching, set_num_threads


@inline
def note(task, worker, counts, workers_seen, offset):
    counts[offset + task] += 1
    workers_seen[offset + task] = worker


@launching
def note_all(counts, workers_seen, rounds, workers):
    count = counts.size // rounds
    for i in range(rounds):
        launch(note, count, workers, (counts, workers_seen, i * count))


@inline
def add_first_and_last(task, worker, sizes, values, total):
    total[task] = values[task % 2] * sizes[0] + sizes[2]


@launching
def add(sizes, values, total, workers):
    launch(add_first_and_last, total.size, workers, (sizes, values, total))


@pytest.fixture(autouse=True)
def _keep_threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("tasks", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_task_runs_once_in_the_run_of_its_worker(threads, tasks, rounds):
    set_num_threads(threads)
    workers = get_num_threads()
    counts, seen = np.zeros(tasks * rounds, np.int64), np.full(tasks * rounds, -1)
    note_all(counts, seen, rounds, workers)
    assert (counts == 1).all()
    expected = [
        worker for worker in range(workers) for _ in range(*(tasks * w // workers for w in (worker, worker + 1)))
    ]
    assert seen.tolist() == expected * rounds


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_tuples_and_arrays_of_any_type_reach_the_body(dtype):
    total = np.zeros(5, dtype)
    add((3, 4, 5), np.array([1, 2], dtype), total, get_num_threads())
    assert total.tolist() == [8, 11, 8, 11, 8]
