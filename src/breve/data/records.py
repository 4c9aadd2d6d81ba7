"""Batches from a database of Datums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from breve.data.database import Database, open_database
from breve.data.datum import parse, pixels, unpack_alike
from breve.data.picture import decode_picture
from breve.data.reader import Batch, State
from breve.data.transform import DataTransformer
from breve.errors import BreveError, DataError

Record = tuple[bytes, bytes]


class DatabaseLoader:
    """Loads `batch_size` records at a time in the order of their keys, and begins again after the last.

    Arrays: the transformed images (N, C, h, w) and the labels (N,). `rand_skip` skips a random number of records, less
    than it, at first. In batches of one, images may differ in size. Raises DataError naming the record.
    """

    def __init__(
        self,
        source: str,
        backend: str,
        batch_size: int,
        transformer: DataTransformer,
        rng: np.random.Generator,
        dtype: Any,
        rand_skip: int = 0,
    ) -> None:
        self.source, self.backend, self.batch_size = source, backend, batch_size
        self.transformer, self.rng, self.dtype = transformer, rng, np.dtype(dtype)
        self._key: bytes | None = None
        self._open()
        for _ in range(rng.integers(rand_skip) if rand_skip else 0):
            self._key, _ = next(self._records)
        key, value = next(self._records)
        with self._named(key):
            self._shape = transformer.shape(self._image(parse(value)).shape)
        self.close()

    def shapes(self) -> list[tuple[int, ...]]:
        """Of images and labels; an image's as the first record has it."""
        return [(self.batch_size, *self._shape), (self.batch_size,)]

    def load(self, batch: Batch) -> None:
        """Fill `batch` with the next records."""
        records = list(islice(self._records, self.batch_size))
        with self._named(records[0][0]):
            alike = unpack_alike([value for _, value in records])
            if alike is not None:
                self._check(alike[0].shape[1:])
        images, labels = alike or self._unpack(records)
        out = batch.reshape(0, (len(records), *self.transformer.shape(images[0].shape)))
        self.transformer(images, out, self.rng)
        batch.arrays[1][...] = labels
        self._key = records[-1][0]

    def _unpack(self, records: Sequence[Record]) -> tuple[list[np.ndarray], list[int]]:
        images, labels = [], []
        for key, value in records:
            with self._named(key):
                datum = parse(value)
                images.append(self._image(datum))
                labels.append(datum.label)
                self._check(images[-1].shape)
        return images, labels

    def _image(self, datum: Any) -> np.ndarray:
        return decode_picture(datum.data, self.transformer.channels) if datum.encoded else pixels(datum)

    def _check(self, image: tuple[int, ...]) -> None:
        shape = self.transformer.shape(image)
        if shape != self._shape and self.batch_size > 1:
            raise DataError(
                "an image has another shape than the first",
                expected=" x ".join(map(str, self._shape)),
                found=" x ".join(map(str, shape)),
                hint="convert the images to one size, use crop_size, or batch_size: 1",
            )

    def state(self) -> State:
        """The key of the last record loaded, and the state of the random generator."""
        key = None if self._key is None else self._key.decode("latin-1")
        return {"key": key, "rng": self.rng.bit_generator.state}

    def set_state(self, state: State) -> None:
        """Go on after the record of a key."""
        self.close()
        self._key = None if state["key"] is None else state["key"].encode("latin-1")
        self.rng.bit_generator.state = state["rng"]
        self._open()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _open(self) -> None:
        self._database: Database = open_database(self.source, self.backend)
        self._records = self._cycle()

    def _cycle(self) -> Iterator[Record]:
        yield from self._database.items(after=self._key)
        while True:
            yield from self._database.items()

    @contextmanager
    def _named(self, key: bytes) -> Iterator[None]:
        """Let errors say which record they are about."""
        try:
            yield
        except BreveError as error:
            error.message = f"{self.source}, record {key.decode('latin-1')!r}: {error.message}"
            raise
