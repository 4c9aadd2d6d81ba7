"""Where arrays begin in memory."""

import numpy as np
import pytest

from breve.blob import ALIGNMENT_BYTES, PAGE_BYTES, aligned_zeros


@pytest.mark.parametrize("size", [1, 1000, 1024, 300_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_from_a_cache_line_on(size, dtype):
    array = aligned_zeros(size, dtype)
    assert array.ctypes.data % ALIGNMENT_BYTES == 0
    assert (array.shape, array.dtype) == ((size,), dtype)
    assert not array.any()


def test_large_arrays_begin_on_all_lines_of_a_page_in_turn():
    lines = PAGE_BYTES // ALIGNMENT_BYTES
    first = {aligned_zeros(PAGE_BYTES, np.float32).ctypes.data % PAGE_BYTES // ALIGNMENT_BYTES for _ in range(lines)}
    assert first == set(range(lines))
