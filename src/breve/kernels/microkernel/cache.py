"""Machine code kept on disk: a file is whole, right and ours, or it is built anew.

A file holds a magic line, the SHA-256 of its key and contents, and the contents. The key is a text that says everything
that the contents depend on, so a file of another version, processor or name does not verify.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

_MAGIC = b"breve object 1\n"
_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Where breve keeps what it can rebuild: `BREVE_CACHE_DIR`, or `breve` in the user's cache folder."""
    if given := os.environ.get("BREVE_CACHE_DIR"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "breve"


def read(key: str) -> bytes | None:
    """The contents kept under a key, or None when there are none that verify."""
    try:
        stored = _path(key).read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    contents = stored[start:]
    return contents if stored[:start] == _MAGIC + _digest(key, contents) else None


def write(key: str, contents: bytes) -> None:
    """Keep contents under a key; a folder that cannot be written just means that nothing is kept."""
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + _digest(key, contents) + contents)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


def _path(key: str) -> Path:
    return cache_folder() / "microkernel" / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".bin")


def _digest(key: str, contents: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + contents).digest()
