"""Batches from a database of Datums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from breve.data.database import Database, open_database
from breve.data.datum import parse, pixels, unpack_alike
from breve.data.loader import ImageLoader
from breve.data.picture import decode_picture
from breve.data.reader import Batch, State
from breve.data.transform import DataTransformer

Record = tuple[bytes, bytes]


class DatabaseLoader(ImageLoader):
    """Loads `batch_size` records at a time in the order of their keys, and begins again after the last.

    `rand_skip` skips a random number of records, less than it, at first.
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
        super().__init__(source, batch_size, transformer, rng, dtype)
        self.backend = backend
        self._key: bytes | None = None
        self._open()
        for _ in range(rng.integers(rand_skip) if rand_skip else 0):
            self._key, _ = next(self._records)
        key, value = next(self._records)
        with self.named(_record(key)):
            self.shape = transformer.shape(self._image(parse(value)).shape)
        self.close()

    def load(self, batch: Batch) -> None:
        """Fill `batch` with the next records."""
        records = list(islice(self._records, self.batch_size))
        with self.named(_record(records[0][0])):
            alike = unpack_alike([value for _, value in records])
            if alike is not None:
                self.check(alike[0].shape[1:])
        self.fill(batch, *(alike or self._unpack(records)))
        self._key = records[-1][0]

    def _unpack(self, records: Sequence[Record]) -> tuple[list[np.ndarray], list[int]]:
        images, labels = [], []
        for key, value in records:
            with self.named(_record(key)):
                datum = parse(value)
                images.append(self._image(datum))
                labels.append(datum.label)
                self.check(images[-1].shape)
        return images, labels

    def _image(self, datum: Any) -> np.ndarray:
        return decode_picture(datum.data, self.transformer.channels) if datum.encoded else pixels(datum)

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


def _record(key: bytes) -> str:
    return f"record {key.decode('latin-1')!r}"
