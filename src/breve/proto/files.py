"""Files on disk: read with an error that says what is wrong, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from breve.errors import FileFormatError, did_you_mean

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

FOREIGN_FORMATS: list[tuple[bytes, str, str]] = [
    (b"version https://git-lfs", "a git-LFS pointer", "the file itself is elsewhere: fetch it with `git lfs pull`"),
    (HDF5_MAGIC, "an HDF5 file", "its name should end in .h5"),
    (b"PK\x03\x04", "a zip archive", "unpack it first (a PyTorch checkpoint is a zip archive too)"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"7z\xbc\xaf", "a 7-zip archive", "unpack it first"),
    (b"<!DOCTYPE", "a web page", "the download fetched a page about the file: download the file itself"),
    (b"<html", "a web page", "the download fetched a page about the file: download the file itself"),
    (b"\x93NUMPY", "a NumPy array", "load it with numpy.load"),
    (b"\x80\x02", "a Python pickle", "Caffe's weights are .caffemodel files"),
    (b"\x89PNG", "a PNG image", "images are read by data layers"),
    (b"\xff\xd8\xff", "a JPEG image", "images are read by data layers"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
]
"""What other files begin with, what they are, and what to do."""


def read_bytes(path: str | os.PathLike[str], limit_bytes: int | None = None) -> bytes:
    """The whole of a file. Raises FileFormatError where it is missing, unreadable, empty or larger than the limit."""
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise FileFormatError(
                "the file is too large for a protobuf message",
                where=str(path),
                expected=f"at most {limit_bytes:,} bytes",
                found=f"{size_bytes:,}",
                hint="keep it as HDF5 (.h5), which has no such limit",
            )
        content = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=str(path), hint=_neighbours(path)) from error
    if not content:
        raise FileFormatError("the file is empty", where=str(path), hint="it was cut off: download or write it again")
    return content


def refuse_foreign(content: bytes, path: str | os.PathLike[str], wanted: str) -> None:
    """Raise FileFormatError where the first bytes are those of another well-known kind of file."""
    for magic, kind, hint in FOREIGN_FORMATS:
        if content.startswith(magic):
            raise FileFormatError("another kind of file", where=str(path), expected=wanted, found=kind, hint=hint)


def is_text(content: bytes) -> bool:
    """Whether the first 4 KB hold no control characters but white space."""
    return not any(byte < 32 and byte not in b"\t\n\v\f\r" for byte in content[:4096])


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well and deleted when it does not.

    Raises FileFormatError where the folder is missing or may not be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "note") as temporary:
    ...         _ = temporary.write_text("all of it")
    ...     (Path(folder) / "note").read_text()
    'all of it'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        hint = "" if path.parent.is_dir() else f"make the folder {path.parent} first"
        raise FileFormatError(f"cannot be written: {error.strerror or error}", where=str(path), hint=hint) from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file is on the disk, so that a power cut cannot leave its name on an empty one."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _neighbours(path: Path) -> str:
    """A hint for a path that cannot be read: the nearest names beside it, or the folder that is missing."""
    if path.is_dir():
        return "it is a folder; give a file in it"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return did_you_mean(path.name, (other.name for other in path.parent.iterdir()))
