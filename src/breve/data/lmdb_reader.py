"""LMDB databases read, as Caffe and its tools write them.

The file's B+ tree is walked here, with every offset checked, and not in liblmdb: that library trusts the file, and
aborted the process for 3 of 60 files with damaged bytes; it also refuses to open a database twice in one process, as
a net for training and one for testing do, and writes a lock file beside it.

The format (version 1, little endian, 64 bits; `mdb.c` of LMDB 0.9): pages of one size, numbered from 0, begin with a
header of 16 bytes and a table of 2-byte offsets to their nodes. Pages 0 and 1 are meta pages; the one of the later
transaction holds. A node of a branch page points to the page of all keys from its own key on; the first one's key is
left out. A node of a leaf page holds a key and its value, or the number of the overflow pages that hold the value.
"""

from __future__ import annotations

import os
import struct
import weakref
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from breve.errors import DataError

MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER_BYTES = 16
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
BIG_VALUE = 0x01
NO_PAGE = 2**64 - 1
MAX_DEPTH = 32
WINDOW_BYTES = 1 << 16  # read at once: some 80 of MNIST's digits

_PAGE = struct.Struct("<Q2xHHH")  # number, flags, end of the offsets' table, start of the nodes
_OVERFLOW = struct.Struct("<Q2xHI")  # number, flags, count of pages
_META = struct.Struct("<II16xI44x4xHH24xQQQQ")
_NODE = struct.Struct("<HHHH")  # size or page number (low, high), flags or page number (highest), key size


class _Meta(NamedTuple):
    magic: int
    version: int
    page_bytes: int
    flags: int
    depth: int
    entries: int
    root: int
    last_page: int
    transaction: int


class LmdbReader:
    """The records of a database in the order of their keys, for one thread at a time.

    `path` is the database's folder, or its `data.mdb`; nobody may write it meanwhile. Raises DataError where it is
    missing, empty, truncated, damaged or foreign: when opened as far as that shows there, else when the damage is met.

    >>> import tempfile
    >>> from breve.data.lmdb_writer import write_lmdb
    >>> path = tempfile.mkdtemp() + "/digits"
    >>> write_lmdb(path, [(b"00000000", b"zero"), (b"00000001", b"one")])
    2
    >>> reader = LmdbReader(path)
    >>> len(reader), list(reader.items(after=b"00000000"))
    (2, [(b'00000001', b'one')])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        file = Path(path) / "data.mdb" if os.path.isdir(path) else Path(path)
        try:
            self._file = open(file, "rb", buffering=0)  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise DataError(
                f"{self.path} is no LMDB database that can be read", found=f"{file}: {error.strerror}"
            ) from error
        weakref.finalize(self, self._file.close)
        self._size_bytes = os.fstat(self._file.fileno()).st_size
        self._window, self._window_start = b"", 0
        try:
            self._meta = self._read_meta()
            self._check_size()
        except DataError:
            self.close()
            raise

    def __len__(self) -> int:
        """Number of records."""
        return self._meta.entries

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, from the first, or from the first key beyond `after`. Raises DataError."""
        for number in self._leaves(self._meta.root, self._meta.depth, after):
            page = self._pages(number, 1)
            nodes = self._nodes(page, number, LEAF)
            start = 0 if after is None else bisect_right(nodes, after, key=lambda node: _key(page, node))
            after = None
            for node in nodes[start:]:
                low, high, flags, key_bytes = _NODE.unpack_from(page, node)
                key = node + _NODE.size
                value = key + key_bytes
                end = value + (low | high << 16)
                if flags:
                    yield page[key:value], self._big_value(page[value : value + 8], end - value, flags)
                elif end <= len(page):
                    yield page[key:value], page[value:end]
                else:
                    raise self._damaged(f"a record reaches beyond its page {number}")

    def _leaves(self, number: int, depth: int, after: bytes | None) -> Iterator[int]:
        """The numbers of the leaf pages, from the one where `after` would be."""
        if depth == 1:
            yield number
            return
        page = self._pages(number, 1)
        nodes = self._nodes(page, number, BRANCH)
        start = 0 if after is None else bisect_right(nodes, after, 1, key=lambda node: _key(page, node)) - 1
        for node in nodes[start:]:
            low, high, highest, _ = _NODE.unpack_from(page, node)
            yield from self._leaves(low | high << 16 | highest << 32, depth - 1, after)
            after = None

    def _nodes(self, page: bytes, number: int, kind: int) -> tuple[int, ...]:
        found, flags, end, _ = _PAGE.unpack_from(page)
        if found != number or flags != kind or not HEADER_BYTES + 2 <= end <= len(page):
            raise self._damaged(f"page {number} is no {'leaf' if kind == LEAF else 'branch'} page")
        nodes = struct.unpack_from(f"<{(end - HEADER_BYTES) // 2}H", page, HEADER_BYTES)
        if min(nodes) < end or max(nodes) > len(page) - _NODE.size:
            raise self._damaged(f"page {number} has a node outside itself")
        return nodes

    def _big_value(self, pointer: bytes, size: int, flags: int) -> bytes:
        if flags != BIG_VALUE:
            raise DataError(f"{self.path} holds databases of its own, not Caffe's records")
        number = int.from_bytes(pointer, "little")
        count = (HEADER_BYTES + size - 1) // self._meta.page_bytes + 1
        pages = self._pages(number, count)
        if len(pointer) < 8 or _OVERFLOW.unpack_from(pages) != (number, OVERFLOW, count):
            raise self._damaged(f"page {number} is no overflow page of {count}")
        return pages[HEADER_BYTES : HEADER_BYTES + size]

    def _pages(self, number: int, count: int) -> bytes:
        page_bytes = self._meta.page_bytes
        return self._read(number * page_bytes, count * page_bytes)

    def _read(self, start: int, size: int) -> bytes:
        offset = start - self._window_start
        if not 0 <= offset <= len(self._window) - size:
            offset = 0
            self._read_window(start, size)
        return self._window[offset : offset + size]

    def _read_window(self, start: int, size: int) -> None:
        whole = start + size <= self._size_bytes
        if whole:
            self._file.seek(start)
            self._window, self._window_start = self._file.read(max(size, WINDOW_BYTES)), start
        if not whole or len(self._window) < size:
            raise self._damaged(f"bytes {start} to {start + size} are missing", "is truncated")

    def _read_meta(self) -> _Meta:
        first = self._meta_at(0)
        second = self._meta_at(first.page_bytes)
        meta = max(first, second, key=lambda m: m.transaction)
        if meta.flags or (meta.entries and not 1 <= meta.depth <= MAX_DEPTH):
            raise DataError(
                f"{self.path} is an LMDB database, but not of Caffe's kind",
                found=f"flags {meta.flags:#x}, depth {meta.depth}",
            )
        if not meta.entries or meta.root == NO_PAGE:
            raise DataError(
                f"{self.path} is empty", expected="at least one record", found="none", hint="write the database again"
            )
        return meta

    def _meta_at(self, start: int) -> _Meta:
        page = self._read(start, HEADER_BYTES + _META.size)
        meta = _Meta(*_META.unpack_from(page, HEADER_BYTES))
        if not _PAGE.unpack_from(page)[1] & META or meta.magic != MAGIC:
            raise DataError(
                f"{self.path} is no LMDB database",
                hint="is it of another kind (LevelDB, HDF5), or from a 32-bit machine?",
            )
        if meta.version != VERSION:
            raise DataError(f"{self.path} is an LMDB database of another version", expected=VERSION, found=meta.version)
        if meta.page_bytes < 512 or meta.page_bytes & (meta.page_bytes - 1):
            raise self._damaged(f"its page size is {meta.page_bytes}")
        return meta

    def _check_size(self) -> None:
        if self._size_bytes < (self._meta.last_page + 1) * self._meta.page_bytes:
            for _ in self.items():  # pages at the end may be unused: only those of records count
                pass

    def _damaged(self, message: str, kind: str = "is damaged") -> DataError:
        return DataError(f"{self.path} {kind}: {message}", hint="copy the database again, or convert it again")


def _key(page: bytes, node: int) -> bytes:
    start = node + _NODE.size
    return page[start : start + _NODE.unpack_from(page, node)[3]]
