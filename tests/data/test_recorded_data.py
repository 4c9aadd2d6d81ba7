"""Data layers against what Caffe 1.0 read from the same files (`recorded/`, by `record.py` there)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from breve.data.database import open_database
from breve.data.datum import parse
from breve.data.lmdb_reader import LmdbReader
from breve.net import Net
from breve.proto import NetParameter
from data.recorded.cases import CASES

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture(scope="module")
def expected():
    with np.load(RECORDED / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", CASES)
def test_data_layer_reads_what_caffe_read(name, expected, monkeypatch):
    monkeypatch.chdir(RECORDED)
    phase, runs, prototxt = CASES[name]
    net = Net(text_format.Parse(prototxt, NetParameter()), phase)
    for run in range(runs):
        net.forward()
        for blob in net.blobs:
            want = expected[f"{name}/{run}/{blob}"]
            # PNGs to grey: libpng rounds down, OpenCV's own conversion to the nearest
            tolerance = 1 if name in ("encoded_gray", "images_gray") and blob == "data" else 1e-5
            np.testing.assert_allclose(net.blobs[blob].data, want, rtol=0, atol=tolerance)
    net.close()


def assert_records(database, count: int, size: int) -> None:
    records = list(database.items())
    assert [key for key, _ in records] == [b"%08d" % i for i in range(count)]
    for i, (_, value) in enumerate(records):
        datum = parse(value)
        assert (datum.channels, datum.height, datum.width, datum.label) == (3, size, size, i * 7 % 300)
        assert datum.data == ((np.arange(3 * size * size) * 11 + i * 37) % 256).astype(np.uint8).tobytes()


@pytest.mark.parametrize(("name", "count", "size"), [("small_lmdb", 48, 6), ("big_lmdb", 3, 40)])
def test_lmdb_written_by_caffe_is_read(name, count, size):
    assert_records(LmdbReader(RECORDED / name), count, size)


def test_leveldb_written_by_caffe_is_read(tmp_path):
    pytest.importorskip("plyvel", reason="LevelDB needs plyvel, which is not installed")
    shutil.copytree(RECORDED / "small_leveldb", tmp_path / "db")
    database = open_database(tmp_path / "db", "LEVELDB")
    assert_records(database, 48, 6)
    assert [key for key, _ in database.items(after=b"00000045")] == [b"00000046", b"00000047"]
    database.close()
