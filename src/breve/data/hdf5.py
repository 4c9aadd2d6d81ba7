"""Batches from HDF5 files of any size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from breve.data.loader import Order
from breve.data.reader import Batch, State
from breve.errors import DataError

SLAB_BYTES = 64 << 20
"""Read at once. Caffe reads whole files."""


class Slab(NamedTuple):
    """Rows of a dataset in memory, from row `start` on."""

    start: int
    rows: np.ndarray


class Table:
    """An HDF5 file's datasets `names`, of equally many rows. Raises DataError."""

    def __init__(self, path: str, names: list[str]) -> None:
        self.path = path
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=SLAB_BYTES)
        except OSError as error:
            raise DataError(f"{path} cannot be read as HDF5", found=error, hint="is it there, and whole?") from error
        try:
            self._datasets = {name: self._dataset(name) for name in names}
            self.count = self._count()
        except DataError:
            self.close()
            raise
        self._slabs: dict[str, Slab] = {}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of a row of each dataset."""
        return [dataset.shape[1:] for dataset in self._datasets.values()]

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows of a dataset, by their numbers. Consecutive ones, and all of a small dataset, are read by slabs."""
        dataset = self._datasets[name]
        slab_rows = max(len(rows), SLAB_BYTES // max(1, dataset.dtype.itemsize * math.prod(dataset.shape[1:])))
        if self.count > slab_rows and (np.diff(rows) != 1).any():
            return np.stack([self._read(name, slice(row, row + 1))[0] for row in rows.tolist()])
        slab = self._slabs.get(name)
        if slab is None or rows.min() < slab.start or rows.max() >= slab.start + len(slab.rows):
            start = 0 if self.count <= slab_rows else int(rows[0])
            slab = self._slabs[name] = Slab(start, self._read(name, slice(start, start + slab_rows)))
        return slab.rows[rows - slab.start]

    def _read(self, name: str, rows: slice) -> np.ndarray:
        try:
            return self._datasets[name][rows]
        except OSError as error:
            raise DataError(f"{self.path} is damaged in '{name}'", found=error, hint="write it again") from error

    def _dataset(self, name: str) -> Any:
        dataset = self._file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(
                f"{self.path} has no dataset '{name}'",
                found=", ".join(self._file) or "none",
                hint="a top is named after its dataset",
            )
        if dataset.dtype.kind not in "fiu" or dataset.ndim < 1:
            raise DataError(
                f"{self.path}: dataset '{name}' is of the wrong kind",
                expected="numbers, in rows",
                found=f"{dataset.dtype}, {dataset.ndim} axes",
            )
        return dataset

    def _count(self) -> int:
        counts = {name: len(dataset) for name, dataset in self._datasets.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise DataError(f"{self.path}: datasets have different numbers of rows, or none", found=counts)
        return next(iter(counts.values()))


class Hdf5Loader:
    """Loads `batch_size` rows at a time of the datasets `names` of the HDF5 files that the text file `source` lists.

    Files come in the order of the list and rows in their own, or, with `shuffle`, both shuffled in every epoch. A file
    is read by slabs of 64 MB, or when shuffled and larger, row by row. Raises DataError.
    """

    def __init__(
        self, source: str, names: list[str], batch_size: int, shuffle: bool, rng: np.random.Generator, dtype: Any
    ) -> None:
        self.names, self.batch_size, self.shuffle = names, batch_size, shuffle
        self.dtype = np.dtype(dtype)
        self._paths = _read_paths(source)
        self._files = Order(len(self._paths), shuffle, rng)
        self._row = 0
        self._row_shapes: list[tuple[int, ...]] = []
        self._open()
        self.close()

    def shapes(self) -> list[tuple[int, ...]]:
        """One for each dataset."""
        return [(self.batch_size, *shape) for shape in self._row_shapes]

    def load(self, batch: Batch) -> None:
        """Fill `batch` with the next rows."""
        filled = 0
        while filled < self.batch_size:
            rows = self._rows[self._row : self._row + self.batch_size - filled]
            for name, array in zip(self.names, batch.arrays, strict=True):
                array[filled : filled + len(rows)] = self._table.rows(name, rows)
            filled += len(rows)
            self._row += len(rows)
            if self._row == self._table.count:
                self._next_file()

    def _next_file(self) -> None:
        self._row = 0
        self._files.take(1)
        if len(self._paths) > 1:
            self.close()
            self._open()
        else:
            self._rows = self._row_order()

    def _open(self) -> None:
        self._table = Table(self._paths[self._files.peek()], self.names)
        self._rows = self._row_order()
        self._row_shapes = self._row_shapes or self._table.shapes()
        if self._table.shapes() != self._row_shapes:
            raise DataError(
                f"{self._table.path}: rows have another shape than the first file's",
                expected=dict(zip(self.names, self._row_shapes, strict=True)),
                found=dict(zip(self.names, self._table.shapes(), strict=True)),
            )

    def _row_order(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self._table.count)
        visit = [self._files.seed, self._files.epoch, self._files.position]
        return np.random.default_rng(visit).permutation(self._table.count)

    def state(self) -> State:
        """The place in the list of files, and the row."""
        return {"files": self._files.state(), "row": self._row}

    def set_state(self, state: State) -> None:
        """Go on from a state."""
        self.close()
        self._files.set_state(state["files"])
        self._row = state["row"]
        self._open()

    def close(self) -> None:
        """Close the file."""
        self._table.close()


def _read_paths(source: str) -> list[str]:
    try:
        paths = Path(source).read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        hint = "source is a text file that names HDF5 files, one a line"
        raise DataError(f"the list {source} cannot be read", found=error, hint=hint) from error
    if not paths:
        raise DataError(f"the list {source} is empty", expected="the names of HDF5 files")
    return paths
