"""Batches of windows cut out of pictures, as R-CNN trains on them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from breve.data.picture import read_picture, resize
from breve.data.reader import Batch, State
from breve.data.transform import DataTransformer
from breve.errors import DataError

CACHED_PICTURES = 256


class Window(NamedTuple):
    """A rectangle of a picture, its corners included, with its class and its overlap with the true rectangle."""

    picture: str
    label: int
    overlap: float
    x1: int
    y1: int
    x2: int
    y2: int


class Patch(NamedTuple):
    """What a window shows, resized, and where it belongs in the crop."""

    pixels: np.ndarray
    top: int
    left: int


def read_windows(path: str | os.PathLike[str], root: str = "") -> list[Window]:
    """The windows of a window file; `root` goes before every picture's name.

    For each picture the file says `# number name channels height width count`, then for each of its windows
    `label overlap x1 y1 x2 y2`. Raises DataError naming the picture.
    """
    try:
        words = iter(Path(path).read_text().split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the window file {path} cannot be read", found=error) from error
    windows: list[Window] = []
    for word in words:
        try:
            windows.extend(_picture_windows(word, words, root))
        except ValueError as error:
            place = f"after {windows[-1].picture}" if windows else "at its beginning"
            raise DataError(f"the window file {path} is not understood {place}", found=error) from error
    if not windows:
        raise DataError(f"the window file {path} has no windows")
    return windows


def _picture_windows(word: str, words: Iterator[str], root: str) -> list[Window]:
    if word != "#":
        raise ValueError(f"{word!r} where '#' should be")
    _, name = islice(words, 2)
    channels, _, _, count = map(int, islice(words, 4))
    if channels != 3:
        raise ValueError(f"{channels} channels where 3 should be")
    windows = []
    for _ in range(count):
        label, overlap = islice(words, 2)
        x1, y1, x2, y2 = map(int, islice(words, 4))
        if not (0 <= x1 <= x2 and 0 <= y1 <= y2):
            raise ValueError(f"corners {x1} {y1} {x2} {y2}")
        windows.append(Window(root + name, int(label), float(overlap), x1, y1, x2, y2))
    return windows


class WindowLoader:
    """Loads random windows: `fg_fraction` of a batch with overlap of `fg_threshold` at least, the others, whose label
    is 0, with less than `bg_threshold`. The latter come first.

    A window is warped to crop_size x crop_size, or with `square` extended to a square before, and with `context_pad`
    shows so many pixels more at each side; what lies outside the picture is zero. Raises DataError.
    """

    def __init__(self, param: Any, transformer: DataTransformer, rng: np.random.Generator, dtype: Any) -> None:
        """`param` is a WindowDataParameter."""
        self.transformer, self.rng, self.dtype = transformer, rng, np.dtype(dtype)
        self.crop_size, self.context_pad = transformer.crop_size, param.context_pad
        self.square = param.crop_mode == "square"
        windows = read_windows(param.source, param.root_folder)
        fg_count = int(param.batch_size * param.fg_fraction)
        self._kinds = (
            ([w._replace(label=0) for w in windows if w.overlap < param.bg_threshold], param.batch_size - fg_count),
            ([w for w in windows if w.overlap >= param.fg_threshold], fg_count),
        )
        for (kind, count), name in zip(self._kinds, ("bg_threshold", "fg_threshold"), strict=True):
            if count and not kind:
                raise DataError(f"{param.source} has no window on the right side of {name}")
        self._mean = self._mean_crop()
        self._read = lru_cache(CACHED_PICTURES)(read_picture) if param.cache_images else read_picture

    def shapes(self) -> list[tuple[int, ...]]:
        """Of images and labels."""
        count = sum(count for _, count in self._kinds)
        return [(count, 3, self.crop_size, self.crop_size), (count,)]

    def load(self, batch: Batch) -> None:
        """Fill `batch` with random windows."""
        chosen = [kind[i] for kind, count in self._kinds if count for i in self.rng.integers(len(kind), size=count)]
        images, labels = batch.arrays
        images[...] = 0
        for image, window in zip(images, chosen, strict=True):
            mirrored = self.transformer.mirror and bool(self.rng.integers(2))
            pixels, top, left = self.cut(self._read(window.picture), window, mirrored)
            place = np.s_[:, top : top + pixels.shape[1], left : left + pixels.shape[2]]
            mean = np.broadcast_to(self._mean, image.shape)[place]
            image[place] = (pixels.astype(self.dtype) - mean) * self.dtype.type(self.transformer.scale)
        labels[...] = [window.label for window in chosen]

    def cut(self, picture: np.ndarray, window: Window, mirrored: bool = False) -> Patch:
        """Cut a window out of its picture and warp it, as Caffe's window_data_layer does. Raises DataError."""
        _, height, width = picture.shape
        if window.x2 >= width or window.y2 >= height:
            raise DataError(
                f"a window reaches beyond {window.picture}", expected=f"within {width} x {height}", found=window[3:]
            )
        (x1, x2), (y1, y2) = self._expanded(window)
        columns, columns_before, columns_after = self._span(x1, x2, width)
        rows, rows_before, _ = self._span(y1, y2, height)
        left = columns_after if mirrored else columns_before
        cut = picture[:, max(y1, 0) : min(y2, height - 1) + 1, max(x1, 0) : min(x2, width - 1) + 1]
        size = min(rows, self.crop_size - rows_before), min(columns, self.crop_size - left)
        pixels = resize(cut, max(1, size[0]), max(1, size[1]))
        return Patch(pixels[:, :, ::-1] if mirrored else pixels, rows_before, left)

    def _expanded(self, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first and last column, and row, of a window with its context, which may lie outside the picture."""
        if not self.context_pad and not self.square:
            return (window.x1, window.x2), (window.y1, window.y2)
        scale = np.float32(self.crop_size) / np.float32(self.crop_size - 2 * self.context_pad)
        half_w, half_h = (np.float32((b - a + 1) / 2) for a, b in ((window.x1, window.x2), (window.y1, window.y2)))
        centre_x, centre_y = window.x1 + half_w, window.y1 + half_h
        if self.square:
            half_w = half_h = max(half_w, half_h)
        return tuple(  # type: ignore[return-value]
            (_rounded(centre - half * scale), _rounded(centre + half * scale))
            for centre, half in ((centre_x, half_w), (centre_y, half_h))
        )

    def _span(self, first: int, last: int, size: int) -> tuple[int, int, int]:
        """What a window is warped to along one axis: the part in the picture, and what lies before and after it."""
        scale = np.float32(self.crop_size) / np.float32(last - first + 1)
        before, after = max(0, -first), max(0, last - size + 1)
        return tuple(_rounded(part * scale) for part in (last - first + 1 - before - after, before, after))  # type: ignore[return-value]

    def _mean_crop(self) -> np.ndarray:
        """The mean of a crop: a mean image's middle, or the values."""
        mean = self.transformer.mean.astype(self.dtype)
        if not self.transformer.mean_is_image:
            if len(mean) not in (1, 3):
                raise DataError("mean_value does not fit the channels", expected="1 or 3", found=len(mean))
            return mean
        offset = (mean.shape[2] - self.crop_size) // 2
        mean = mean[:, offset : offset + self.crop_size, offset : offset + self.crop_size]
        if offset < 0 or mean.shape != (3, self.crop_size, self.crop_size):
            raise DataError(
                "the mean file does not fit crop_size",
                expected=f"3 x {self.crop_size} x {self.crop_size} or more",
                found=self.transformer.mean.shape,
            )
        return mean

    def state(self) -> State:
        """The state of the random generator: every batch is drawn anew."""
        return {"rng": self.rng.bit_generator.state}

    def set_state(self, state: State) -> None:
        """Go on from a state."""
        self.rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """No file stays open."""


def _rounded(value: Any) -> int:
    """To the nearest integer, halves away from zero, as C's `round`."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
