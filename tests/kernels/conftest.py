"""Kernels are tested on small arrays, and on all threads none the less."""

import pytest

from breve.kernels import threads


@pytest.fixture(autouse=True)
def _all_threads_for_small_work(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 0)
