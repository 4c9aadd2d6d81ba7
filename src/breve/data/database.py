"""A database of records, whichever library keeps it: LMDB, or LevelDB where plyvel is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from breve.data.lmdb_reader import LmdbReader
from breve.errors import DataError, UnsupportedError


class Database(Protocol):
    """Records in the order of their keys."""

    path: str

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, from the first, or from the first key beyond `after`."""

    def close(self) -> None:
        """Let go of files."""


def open_database(path: str | os.PathLike[str], backend: str = "LMDB") -> Database:
    """Open a database for reading; `backend` is "LMDB" or "LEVELDB".

    Raises DataError where it is missing, empty, damaged or of the other backend; UnsupportedError for LevelDB without
    plyvel.
    """
    found = _backend(Path(path))
    if not os.path.exists(path):
        raise DataError(
            f"there is no database {path}", hint="write it with `breve convert-mnist` or `breve convert-imageset`"
        )
    if found not in (None, backend):
        raise DataError(f"{path} is of another backend", expected=backend, found=found, hint=f"say `backend: {found}`")
    return LmdbReader(path) if backend == "LMDB" else LevelDbReader(path)


def _backend(path: Path) -> str | None:
    if (path / "data.mdb").exists():
        return "LMDB"
    return "LEVELDB" if (path / "CURRENT").exists() else None


class LevelDbReader:
    """The records of a LevelDB database, read by plyvel. LevelDB lets one process at a time open a database."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            import plyvel
        except ImportError as error:
            raise UnsupportedError(
                f"{path}: reading LevelDB needs the package plyvel",
                hint="pip install plyvel, or convert the images again with `backend: LMDB`",
            ) from error
        self._error: Any = plyvel.Error
        with self._checked():
            self._database = plyvel.DB(self.path, create_if_missing=False)
            if next(iter(self._database), None) is None:
                raise DataError(f"{self.path} is empty", hint="write the database again")

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, from the first, or from the first key beyond `after`. Raises DataError."""
        with self._checked():
            yield from self._database.iterator(start=after, include_start=False)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise DataError(f"{self.path} cannot be read as LevelDB", found=error) from error
