"""Batches of pictures from a list of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from breve.data.loader import ImageLoader, Order
from breve.data.picture import read_picture, resize
from breve.data.reader import Batch, State
from breve.data.transform import DataTransformer
from breve.errors import DataError


def read_list(path: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """The lines `name label` of a list file; names may hold spaces. Raises DataError naming the line."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list {path} cannot be read", found=error) from error
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        *name, label = line.rsplit(maxsplit=1)
        if not name or not label.lstrip("+-").isdecimal():
            raise DataError(
                "a line of the list is not understood",
                where=f"{path}:{number}",
                expected="a file's name and an integer label",
                found=repr(line),
            )
        entries.append((name[0].lstrip(), int(label)))
    if not entries:
        raise DataError(f"the list {path} is empty", expected="lines of a file's name and a label")
    return entries


class ImageListLoader(ImageLoader):
    """Loads the pictures of a list file, in its order or shuffled anew in every epoch.

    `channels` is 3 or 1; with a `size` (height, width), pictures are resized to it; `root` goes before every name.
    """

    def __init__(
        self,
        source: str,
        batch_size: int,
        transformer: DataTransformer,
        rng: np.random.Generator,
        dtype: Any,
        *,
        root: str = "",
        channels: int = 3,
        size: tuple[int, int] | None = None,
        shuffle: bool = False,
        rand_skip: int = 0,
    ) -> None:
        super().__init__(source, batch_size, transformer, rng, dtype)
        self.root, self.channels, self.size = root, channels, size
        self._entries = read_list(source)
        skip = int(rng.integers(rand_skip)) if rand_skip else 0
        self._order = Order(len(self._entries), shuffle, rng, skip)
        name, _ = self._entries[self._order.peek()]
        with self.named(name):
            self.shape = transformer.shape(self._picture(name).shape)

    def load(self, batch: Batch) -> None:
        """Fill `batch` with the next pictures."""
        images, labels = [], []
        for index in self._order.take(self.batch_size):
            name, label = self._entries[index]
            with self.named(name):
                image = self._picture(name)
                self.check(image.shape)
            images.append(image)
            labels.append(label)
        self.fill(batch, images, labels)

    def _picture(self, name: str) -> np.ndarray:
        image = read_picture(self.root + name, self.channels)
        return resize(image, *self.size) if self.size else image

    def state(self) -> State:
        """The place in the list, and the state of the random generator."""
        return {"order": self._order.state(), "rng": self.rng.bit_generator.state}

    def set_state(self, state: State) -> None:
        """Go on from a state."""
        self._order.set_state(state["order"])
        self.rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """No file stays open."""
