"""The thread that reads ahead: order, errors, state, and its end."""

import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from breve.data.reader import Reader
from breve.errors import DataError


class Counter:
    """Loads 0, 1, 2, ...; fails at `broken`."""

    dtype = np.dtype(np.float32)

    def __init__(self, broken=None):
        self.number, self.broken, self.closed = 0, broken, 0
        self.loaded = 0

    def shapes(self):
        return [(2,)]

    def load(self, batch):
        if self.number == self.broken:
            raise DataError(f"number {self.number} is broken")
        batch.arrays[0][...] = self.number
        self.number += 1
        self.loaded += 1

    def state(self):
        return {"number": self.number}

    def set_state(self, state):
        self.number = state["number"]

    def close(self):
        self.closed += 1


def take(reader):
    batch = reader.take()
    value = float(batch.arrays[0][0])
    reader.give_back(batch)
    return value


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "breve-reader"]


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition()


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    gc.collect()
    before = len(readers())
    yield
    gc.collect()
    assert len(readers()) == before


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_batches_come_in_order_and_no_more_than_asked_ahead(ahead):
    loader = Counter()
    reader = Reader(loader, ahead)
    assert loader.loaded == 0
    for i in range(20):
        assert take(reader) == i
    wait_until(lambda: loader.loaded == 20 + ahead)
    time.sleep(0.02)
    assert loader.loaded == 20 + ahead
    reader.close()


def test_state_is_that_of_the_last_batch_taken():
    reader = Reader(Counter(), 5)
    assert reader.state == {"number": 0}
    for _ in range(3):
        take(reader)
    assert reader.state == {"number": 3}
    reader.close()
    assert take(reader) == 3
    reader.set_state({"number": 10})
    assert [take(reader), take(reader)] == [10, 11]
    reader.close()


def test_error_is_raised_where_it_happens_and_again_and_goes_away_with_its_cause():
    loader = Counter(broken=3)
    reader = Reader(loader, 2)
    assert [take(reader) for _ in range(3)] == [0, 1, 2]
    for _ in range(3):
        with pytest.raises(DataError, match="number 3 is broken"):
            reader.take()
    assert loader.closed == 1
    loader.broken = None
    reader.set_state(reader.state)
    assert take(reader) == 3
    reader.close()


def test_thread_ends_with_its_reader():
    loader = Counter()
    reader = Reader(loader, 3)
    take(reader)
    assert len(readers()) == 1
    del reader
    gc.collect()
    assert readers() == []
    assert loader.closed == 1


def test_thread_ends_with_a_reader_in_a_cycle():
    class Owner:
        pass

    owner = Owner()
    owner.self, owner.reader = owner, Reader(Counter(), 3)
    take(owner.reader)
    del owner
    gc.collect()
    assert readers() == []


def test_close_twice_and_before_the_first_batch():
    reader = Reader(Counter(), 1)
    reader.close()
    take(reader)
    reader.close()
    reader.close()


def test_many_readers_start_and_stop():
    for _ in range(100):
        reader = Reader(Counter(), 3)
        assert take(reader) == 0
        reader.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_process_goes_on_by_itself():
    reader = Reader(Counter(), 3)
    assert take(reader) == 0
    child = os.fork()
    if not child:
        os._exit(0 if [take(reader), take(reader)] == [1, 2] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert take(reader) == 1
    reader.close()


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise ValueError('oops')"])
def test_interpreter_ends_while_a_thread_waits(end):
    code = f"""
import numpy as np
from breve.data.reader import Reader
class Counter:
    dtype = np.dtype(np.float32)
    def shapes(self): return [(100,)]
    def load(self, batch): batch.arrays[0][...] = 1
    def state(self): return {{}}
    def set_state(self, state): pass
    def close(self): print("closed")
reader = Reader(Counter(), 3)
reader.take()
{end}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if not end else 3 if "Exit" in end else 1)
    assert done.stdout == "closed\n"
    assert "Fatal" not in done.stderr
