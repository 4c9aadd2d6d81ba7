"""What loaders of images have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from breve.data.reader import Batch, State
from breve.data.transform import DataTransformer
from breve.errors import BreveError, DataError


class ImageLoader:
    """A loader whose batches are transformed images (N, C, h, w) and their labels (N,).

    A subclass finds the images. In batches of one they may differ in size, in others they may not. DataErrors say which
    item of `source` they are about.
    """

    def __init__(
        self, source: str, batch_size: int, transformer: DataTransformer, rng: np.random.Generator, dtype: Any
    ) -> None:
        self.source, self.batch_size, self.transformer = source, batch_size, transformer
        self.rng, self.dtype = rng, np.dtype(dtype)
        self.shape: tuple[int, int, int] = (0, 0, 0)
        """Of the first image, transformed; the subclass sets it."""

    def shapes(self) -> list[tuple[int, ...]]:
        """Of images and labels."""
        return [(self.batch_size, *self.shape), (self.batch_size,)]

    def check(self, image: tuple[int, ...]) -> None:
        """Refuse an image (C, H, W) whose transformed shape is not that of the others. Raises DataError."""
        shape = self.transformer.shape(image)
        if shape != self.shape and self.batch_size > 1:
            raise DataError(
                "an image has another shape than the first",
                expected=" x ".join(map(str, self.shape)),
                found=" x ".join(map(str, shape)),
                hint="bring the images to one size, use crop_size, or batch_size: 1",
            )

    def fill(self, batch: Batch, images: Sequence[np.ndarray], labels: Sequence[int]) -> None:
        """Write the transformed images and the labels into the batch's arrays."""
        out = batch.reshape(0, (len(images), *self.transformer.shape(images[0].shape)))
        self.transformer(images, out, self.rng)
        batch.arrays[1][...] = labels

    @contextmanager
    def named(self, item: str) -> Iterator[None]:
        """Let errors say which item of the source they are about."""
        try:
            yield
        except BreveError as error:
            error.message = f"{self.source}, {item}: {error.message}"
            raise


class Order:
    """The order in which `count` items come, epoch after epoch: as they are, or shuffled anew in every epoch.

    An epoch's permutation depends on the seed, drawn once, and the epoch's number alone, so a state is three numbers.
    """

    def __init__(self, count: int, shuffle: bool, rng: np.random.Generator, skip: int = 0) -> None:
        self.count, self.shuffle = count, shuffle
        self.seed = int(rng.integers(2**62)) if shuffle else 0
        self.epoch, self.position = divmod(skip, count)
        self._order = self._permutation()

    def take(self, number: int) -> list[int]:
        """The next `number` items."""
        taken: list[int] = []
        while len(taken) < number:
            part = self._order[self.position : self.position + number - len(taken)]
            taken.extend(part.tolist())
            self.position += len(part)
            if self.position == self.count:
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._permutation()
        return taken

    def peek(self) -> int:
        """The next item."""
        return int(self._order[self.position])

    def state(self) -> State:
        """The seed, the epoch and the position in it."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def set_state(self, state: State) -> None:
        """Go on from a state."""
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"] % self.count
        self._order = self._permutation()

    def _permutation(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
