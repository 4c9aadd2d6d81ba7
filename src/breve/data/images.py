"""Databases made of pictures, and the mean of a database: Caffe's `convert_imageset` and `compute_image_mean`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from breve.data.database import open_database
from breve.data.datum import pack, pack_encoded, parse, pixels
from breve.data.files import check_free
from breve.data.imagelist import read_list
from breve.data.lmdb_writer import write_lmdb
from breve.data.picture import decode_picture, encode_picture, read_file, resize
from breve.errors import DataError

SHUFFLE_SEED = 1701

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are (0 where nobody knows)."""
Skip = Callable[[DataError], None]
"""Called with what is wrong with a picture that is left out."""


def write_imageset(
    listfile: str | os.PathLike[str],
    root: str,
    out: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    gray: bool = False,
    shuffle: bool = False,
    encoded: bool = False,
    encode_type: str = "",
    check_size: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    skip: Skip | None = None,
) -> int:
    """Write an LMDB of the pictures that `listfile` names, in lines `name label`; return their number.

    Keys are `%08d_name`. `root` goes before every name as it is. `size` (height, width) resizes the pictures. `shuffle`
    mixes the list, the same way every time. `encoded` keeps the files' own content where it need not be changed, and
    else encodes as the file was, or as `encode_type` ("jpg", "png") says. With `check_size` all pictures must have as
    many values as the first.

    Raises DataError for a picture that cannot be read, and then writes nothing; with `skip`, calls that and goes on.
    """
    check_free(out, overwrite)
    entries = read_list(listfile)
    if shuffle:
        entries = [entries[i] for i in np.random.RandomState(SHUFFLE_SEED).permutation(len(entries))]
    conversion = _Conversion(root, 1 if gray else 3, size, encoded or bool(encode_type), encode_type, check_size)
    return write_lmdb(out, conversion.records(entries, progress, skip), overwrite=overwrite)


class _Conversion(NamedTuple):
    root: str
    channels: int
    size: tuple[int, int] | None
    encoded: bool
    encode_type: str
    check_size: bool

    def records(
        self, entries: list[tuple[str, int]], progress: Progress | None, skip: Skip | None
    ) -> Iterator[tuple[bytes, bytes]]:
        first_size = 0
        for number, (name, label) in enumerate(entries):
            if progress is not None:
                progress(number, len(entries))
            try:
                content, image = self.read(self.root + name)
            except DataError as error:
                if skip is None:
                    raise
                skip(error)
                continue
            first_size = first_size or image.size
            if self.check_size and image.size != first_size:
                raise DataError(f"{name} is of another size", expected=f"{first_size} values", found=image.size)
            yield f"{number:08d}_{name}".encode(), self.datum(name, content, image, label)

    def read(self, path: str) -> tuple[bytes, np.ndarray]:
        content = read_file(path)
        try:
            image = decode_picture(content, self.channels)
        except DataError as error:
            error.message = f"{path}: {error.message}"
            raise
        return content, resize(image, *self.size) if self.size else image

    def datum(self, name: str, content: bytes, image: np.ndarray, label: int) -> bytes:
        if not self.encoded:
            return pack(image, label)
        kind = name.rpartition(".")[2].lower().replace("jpeg", "jpg")
        wanted = self.encode_type or kind
        kept = wanted == kind and self.size is None and len(decode_picture(content, None)) == self.channels
        return pack_encoded(content if kept else encode_picture(image, wanted), label)


def compute_mean(
    source: str | os.PathLike[str], backend: str = "LMDB", *, progress: Progress | None = None
) -> np.ndarray:
    """The mean image (C, H, W), float32, of a database whose images are of one size; `write_mean` writes it.

    Raises DataError naming the record that differs.
    """
    database = open_database(source, backend)
    total, count = np.zeros(0), 0
    for key, value in database.items():
        datum = parse(value)
        image = decode_picture(datum.data, None) if datum.encoded else pixels(datum)
        if not count:
            total = np.zeros(image.shape)
        if image.shape != total.shape:
            raise DataError(
                f"{source}, record {key.decode('latin-1')!r}: an image has another shape than the first",
                expected=total.shape,
                found=image.shape,
                hint="convert the pictures to one size",
            )
        total += image
        count += 1
        if progress is not None:
            progress(count, 0)
    database.close()
    return (total / count).astype(np.float32)
