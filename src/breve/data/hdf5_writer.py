"""An HDF5 file that grows row by row."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import h5py
import numpy as np

from breve.errors import DataError


class Hdf5Writer:
    """Appends rows to the datasets of an HDF5 file, which takes its name at `close`. Raises DataError."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            self._file = h5py.File(self._temporary, "w")
        except OSError as error:
            raise DataError(f"{path} cannot be written", found=error) from error

    def append(self, arrays: dict[str, np.ndarray]) -> None:
        """Add rows to the datasets, which the first ones make. Raises DataError where rows change their shape."""
        for name, array in arrays.items():
            dataset = self._file.get(name)
            if dataset is None:
                self._file.create_dataset(name, data=array, maxshape=(None, *array.shape[1:]))
                continue
            if dataset.shape[1:] != array.shape[1:]:
                raise DataError(
                    f"{self.path}: rows of '{name}' have changed their shape",
                    expected=dataset.shape[1:],
                    found=array.shape[1:],
                )
            dataset.resize(len(dataset) + len(array), axis=0)
            dataset[-len(array) :] = array

    def close(self) -> None:
        """Close the file and give it its name."""
        self._file.close()
        os.replace(self._temporary, self.path)
