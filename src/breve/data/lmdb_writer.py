"""LMDB databases written, as Caffe reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import lmdb

from breve.data.files import whole_folder
from breve.errors import DataError

TRANSACTION_RECORDS = 1000
TRANSACTION_BYTES = 32 << 20


def write_lmdb(path: str | os.PathLike[str], records: Iterable[tuple[bytes, bytes]], *, overwrite: bool = False) -> int:
    """Write a database of (key, value) `records` to the folder `path`, whole or not at all; return their number.

    Raises DataError when `path` is taken (unless by a database, with `overwrite`), when a key comes twice, or when
    there are no records.

    >>> import tempfile
    >>> write_lmdb(tempfile.mkdtemp() + "/digits", [(b"00000000", b"zero"), (b"00000001", b"one")])
    2
    """
    with whole_folder(path, overwrite) as folder:
        environment = lmdb.open(str(folder), map_size=TRANSACTION_BYTES, sync=False, lock=False)
        try:
            count = 0
            for batch in _batches(records):
                _commit(environment, batch)
                count += len(batch)
            if not count:
                raise DataError(f"there are no records to write to {os.fspath(path)}")
            environment.sync(True)
        finally:
            environment.close()
        (folder / "lock.mdb").unlink(missing_ok=True)
    return count


def _batches(records: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    batch: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for key, value in records:
        batch.append((key, value))
        size_bytes += len(value)
        if len(batch) == TRANSACTION_RECORDS or size_bytes >= TRANSACTION_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _commit(environment: lmdb.Environment, batch: list[tuple[bytes, bytes]]) -> None:
    """Put a batch in one transaction; where the map is too small for it, double the map and begin again."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in batch:
                    if not (transaction.put(key, value, append=True) or transaction.put(key, value, overwrite=False)):
                        raise DataError(f"the key {key!r} comes twice")
            return
        except lmdb.MapFullError:
            environment.set_mapsize(environment.info()["map_size"] * 2)
        except lmdb.Error as error:
            raise DataError("LMDB cannot write the records", found=error) from error
