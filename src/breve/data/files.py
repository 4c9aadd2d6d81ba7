"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from breve.errors import DataError

DATABASE_FILES = frozenset({"data.mdb", "lock.mdb"})


@contextmanager
def whole_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that is renamed to `path` when the block ends without an error, and removed otherwise.

    With `overwrite` an older database there is replaced, but nothing else is. Raises DataError when `path` is taken.
    """
    target = Path(path)
    check_free(target, overwrite)
    make_folder(target.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise DataError(f"{target} cannot be written", found=error.strerror) from error
    try:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Refuse a path that is taken, unless by a database that may be overwritten. Raises DataError."""
    target = Path(path)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise DataError(f"{target} exists already", hint="choose another name, remove it, or ask to overwrite it")
    if not target.is_dir() or target.is_symlink() or not DATABASE_FILES.issuperset(os.listdir(target)):
        raise DataError(f"{target} is no database, so it is not overwritten", hint="choose another name or remove it")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing. Raises DataError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be made", found=error.strerror) from error
