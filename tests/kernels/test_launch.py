"""Loops over tasks: every task once, whatever the number of threads and however long one of them takes."""

import re

import numba
import numpy as np
import pytest

from breve.kernels.microkernel.launch import _load, launch
from breve.kernels.threads import get_num_threads, inline, inline_allocating, launching, set_num_threads


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
def test_every_task_runs_once(threads, tasks, rounds):
    set_num_threads(threads)
    workers = get_num_threads()
    counts, seen = np.zeros(tasks * rounds, np.int64), np.full(tasks * rounds, -1)
    note_all(counts, seen, rounds, workers)
    assert (counts == 1).all()
    assert ((seen >= 0) & (seen < workers)).all()


PATIENCE = 2_000_000_000  # looks, of a nanosecond or more


@inline
def wait_in_the_first(task, worker, done, workers_seen):
    if task == 0:
        looks = 0
        while looks < PATIENCE and _load(done, 0) < workers_seen.size - 1:
            looks += 1
        if looks == PATIENCE:
            return
    done[0] += 1
    workers_seen[task] = worker


@launching
def let_one_wait_for_all(done, workers_seen, workers):
    launch(wait_in_the_first, workers_seen.size, workers, (done, workers_seen))


def test_tasks_of_a_worker_that_is_held_up_are_taken_over():
    set_num_threads(2)
    if get_num_threads() < 2:
        pytest.skip("there is one processor")
    done, seen = np.zeros(1, np.int64), np.full(100, -1)
    let_one_wait_for_all(done, seen, 2)
    assert (seen[1:] == 1 - seen[0]).all()  # half of them were to be run by the worker that waits


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_tuples_and_arrays_of_any_type_reach_the_body(dtype):
    total = np.zeros(5, dtype)
    add((3, 4, 5), np.array([1, 2], dtype), total, get_num_threads())
    assert total.tolist() == [8, 11, 8, 11, 8]


def fill_one_of_two(task, worker, first, second, numbers):
    for number in numbers:  # which array, and from where: numba cannot leave the counting out by itself
        chosen, at = first, number
        if number % 2:
            chosen, at = second, 0
        chosen[at : at + 1 + task] = number


borrowing, counting = inline(fill_one_of_two), inline_allocating(fill_one_of_two)


def fill_borrowing(first, second, numbers, workers):
    launch(borrowing, 2, workers, (first, second, numbers))


def fill_counting(first, second, numbers, workers):
    launch(counting, 2, workers, (first, second, numbers))


@pytest.mark.parametrize(("fill", "counts"), [(fill_borrowing, False), (fill_counting, True)])
def test_body_that_borrows_counts_no_references(fill, counts):
    """Threads that did would pass the cache line of the count to and fro."""
    arrays, compiled = (np.zeros(9), np.zeros(9)), numba.njit(fill)
    compiled(*arrays, np.array([4, 3]), 1)
    assert arrays[0][4:6].tolist() == [4, 4]
    assert arrays[1][:2].tolist() == [3, 3]
    (text,) = compiled.inspect_llvm().values()
    body = re.search(r"^define [^\n]*fill_one_of_two.*?^}", text, re.MULTILINE | re.DOTALL)
    assert ("NRT_incref" in body.group()) == counts
