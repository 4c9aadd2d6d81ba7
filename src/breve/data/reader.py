"""Reading ahead: a thread that loads batches before they are asked for."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np

State = dict[str, Any]


class Batch:
    """Arrays of one batch, and where its loader stood after it."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.arrays = [empty(shape, dtype) for shape in shapes]
        self.state: State = {}

    def reshape(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Array `index`, new where it has another shape."""
        if self.arrays[index].shape != shape:
            self.arrays[index] = empty(shape, self.dtype)
        return self.arrays[index]


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that lies in memory as a blob does: four axes (N, C, H, W) as (N, H, W, C)."""
    if len(shape) != 4:
        return np.empty(shape, dtype)
    n, c, h, w = shape
    return np.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


class Loader(Protocol):
    """What loads batches, one after the other. It belongs to the reader's thread once that runs."""

    dtype: np.dtype

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of a batch's arrays."""

    def load(self, batch: Batch) -> None:
        """Fill the arrays of `batch` with the next batch."""

    def state(self) -> State:
        """Where the next batch begins: a position and the state of the random generator, as plain values."""

    def set_state(self, state: State) -> None:
        """Go on from `state`, with files opened anew."""

    def close(self) -> None:
        """Let go of files."""


class Reader:
    """Batches of a loader, up to `ahead` of them loaded in advance by a thread.

    The thread begins with the first `take`, and ends with `close`, when the reader is deleted, or when the interpreter
    exits. What goes wrong in it is raised by `take`. `state` is the loader's after the last batch taken, however far
    ahead the thread is: whoever sets it gets the very batches that would have followed.
    """

    def __init__(self, loader: Loader, ahead: int) -> None:
        self._loader, self._ahead = loader, max(ahead, 1)
        self._state = loader.state()
        self._work: _Work | None = None

    @property
    def state(self) -> State:
        """What `set_state` takes to go on from here."""
        return self._state

    def set_state(self, state: State) -> None:
        """Go on from `state`."""
        self.close()
        self._state = state

    def take(self) -> Batch:
        """The next batch, to be handed back with `give_back`. Raises what its loading raised, again and again."""
        if self._work is None or self._work.process != os.getpid():  # a forked process has no thread
            self._start()
        assert self._work is not None
        batch = self._work.full.get()
        if isinstance(batch, BaseException):
            self._work.full.put(batch)
            raise batch
        self._state = batch.state
        return batch

    def give_back(self, batch: Batch) -> None:
        """Let the batch's arrays be filled again."""
        if self._work is not None:
            self._work.free.put(batch)

    def close(self) -> None:
        """End the thread, if there is one. Another `take` goes on from `state`."""
        if self._work is not None:
            self._end()
            self._work = None

    def _start(self) -> None:
        self._loader.set_state(self._state)
        self._work = _Work(self._loader)
        for _ in range(self._ahead):
            self._work.free.put(Batch(self._loader.shapes(), self._loader.dtype))
        self._end = weakref.finalize(self, _end, self._work)
        self._work.thread.start()


class _Work:
    """What a reader and its thread share. It knows nothing of the reader, so that the reader can be deleted."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.free: SimpleQueue[Batch | None] = SimpleQueue()
        self.full: SimpleQueue[Batch | BaseException] = SimpleQueue()
        self.stop = threading.Event()
        self.process = os.getpid()
        self.thread = threading.Thread(target=self.run, name="breve-reader", daemon=True)

    def run(self) -> None:
        try:
            while (batch := self.free.get()) is not None and not self.stop.is_set():
                self.loader.load(batch)
                batch.state = self.loader.state()
                self.full.put(batch)
        except BaseException as error:
            self.full.put(error)
        finally:
            self.loader.close()


def _end(work: _Work) -> None:
    if work.process != os.getpid():
        return
    work.stop.set()
    work.free.put(None)
    if work.thread is not threading.current_thread():  # the collector of garbage may run in any thread
        work.thread.join()
