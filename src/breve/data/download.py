"""Fetch files whose content is known beforehand."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from breve.data.files import make_folder
from breve.errors import DataError
from breve.proto.files import whole_file

TIMEOUT_S = 30
CHUNK_BYTES = 1 << 16

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes fetched so far, and the bytes in all (0 where the server does not say)."""


def fetch(urls: Iterable[str], path: str | os.PathLike[str], sha256: str, progress: Progress | None = None) -> None:
    """Fetch a file from the first of `urls` that gives the right content, whole or not at all.

    `sha256` is the sum of the content, unpacked where it is gzipped: mirrors pack differently. A file at `path` that
    has it is kept. Raises DataError saying what each address gave.
    """
    target = Path(path)
    if target.is_file() and _sha256(target) == sha256:
        return
    make_folder(target.parent)
    failures = []
    for url in urls:
        try:
            with whole_file(target) as temporary:
                _copy(url, temporary, target.name, progress)
                if (found := _sha256(temporary)) != sha256:
                    raise DataError("other content", expected=f"sha256 {sha256}", found=found)
            return
        except DataError as error:
            failures.append(f"{url}: {error}")
    raise DataError(
        f"{target.name} cannot be fetched", found="; ".join(failures), hint="check the network, or fetch it by hand"
    )


def _copy(url: str, temporary: Path, name: str, progress: Progress | None) -> None:
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, open(temporary, "wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(name, done, total)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DataError("no answer" if not done else "the transfer broke off", found=error) from error
    if done < total:
        raise DataError("the transfer broke off", expected=f"{total} bytes", found=done)


def _sha256(path: Path) -> str:
    """The sum of a file's content, unpacked where it is gzipped; of nothing where that fails."""
    digest = hashlib.sha256()
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return "none: its gzip stream is damaged"
    return digest.hexdigest()
