"""What is written past the caches."""

import numpy as np
import pytest

from breve.blob import aligned_zeros
from breve.kernels import streaming
from breve.kernels.microkernel import STREAM


@pytest.fixture
def third_level_cache(tmp_path, monkeypatch):
    """Has `streaming` find what a test writes in place of the size of this processor's cache."""
    file = tmp_path / "size"
    monkeypatch.setattr(streaming, "CACHE_SIZE_FILE", file)
    monkeypatch.setattr(streaming, "physical_cores", lambda: 4)
    streaming.cache_bytes.cache_clear()
    yield file
    streaming.cache_bytes.cache_clear()


@pytest.mark.parametrize(
    ("text", "bytes_"), [("49152K\n", 48 << 20), ("307200K\n", 192 << 20), ("junk", 32 << 20), (None, 32 << 20)]
)
def test_what_goes_past_the_caches_depends_on_their_size(third_level_cache, text, bytes_):
    if text is not None:
        third_level_cache.write_text(text)
    assert streaming.least_bytes() == bytes_ / 2


@pytest.mark.parametrize(("text", "bytes_"), [("48K\n", 48 << 10), ("K", 32 << 10), (None, 32 << 10)])
def test_size_of_the_first_level_cache(text, bytes_, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "FIRST_SIZE_FILE", tmp_path / "size")
    if text is not None:
        (tmp_path / "size").write_text(text)
    assert streaming.first_level_bytes.__wrapped__() == bytes_


@pytest.mark.parametrize(("processor", "is_far"), [("znver5", False), ("alderlake", False), ("sapphirerapids", True)])
def test_the_third_level_is_far_on_processors_with_a_network_of_cores(processor, is_far, monkeypatch):
    monkeypatch.setattr(streaming, "host_processor", lambda: processor)
    assert streaming.third_level_is_far() == is_far


def test_only_large_arrays_of_whole_lines_go_past_the_caches(third_level_cache):
    third_level_cache.write_text("32768K")
    rows = aligned_zeros((6 << 20) + 16, np.float32)
    x, small = rows[: 6 << 20].reshape(-1, 16), rows[:64].reshape(-1, 16)
    assert streaming.stream_flag(small, x) == streaming.stream_flag(x, small) == STREAM
    assert streaming.stream_flag(small, small) == 0
    assert streaming.stream_flag(x, rows[1 : 1 + (6 << 20)].reshape(-1, 16)) == 0
    assert streaming.stream_flag(x, x.reshape(-1, 24)) == 0
    assert streaming.stream_flag(x, rows[: 6 << 20].reshape(-1, 24)[:, :16]) == 0
