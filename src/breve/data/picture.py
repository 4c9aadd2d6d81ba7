"""Picture files as arrays (C, H, W) of bytes, channels blue, green, red: what OpenCV gives Caffe."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from breve.errors import DataError

WEIGHT_ONE = 1 << 11
"""OpenCV interpolates bytes in fixed point, with weights of 11 bits."""


def read_picture(path: str | os.PathLike[str], channels: int | None = 3) -> np.ndarray:
    """The picture in a file, with 3 channels or 1, or with None those it has. Raises DataError."""
    try:
        return decode_picture(read_file(path), channels)
    except DataError as error:
        error.message = f"{os.fspath(path)}: {error.message}"
        raise


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a picture's file. Raises DataError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"the picture {os.fspath(path)} cannot be read", found=error.strerror) from error


def decode_picture(content: bytes, channels: int | None = 3) -> np.ndarray:
    """The picture in the content of a file (JPEG, PNG, ...), as uint8 (C, H, W).

    With 3 channels or 1 it is turned as its EXIF orientation says; with None it stays as it is, and a picture with
    transparency has 4. Grey is 0.299 R + 0.587 G + 0.114 B, a JPEG's own luminance, as in OpenCV. Raises DataError.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if channels == 1:
                image.draft("L", image.size)
            pixels = np.asarray(_converted(image, channels))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            "a picture cannot be decoded", found=error, hint="is it whole, and JPEG, PNG or the like?"
        ) from error
    if pixels.ndim == 2:
        return pixels[None]
    planes = pixels.transpose(2, 0, 1)
    return _grey(planes) if channels == 1 else np.ascontiguousarray(planes[[2, 1, 0, *range(3, len(planes))]])


def _converted(image: Image.Image, channels: int | None) -> Image.Image:
    """An image of one of the modes L, RGB, RGBA."""
    if image.mode.startswith("I"):
        if channels is None:
            raise DataError(
                "a picture has more than 8 bits a channel", hint="set force_color or force_gray, or convert it"
            )
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if channels is None:
        transparent = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
        return image.convert("RGBA" if transparent else "L" if image.mode in ("1", "L") else "RGB")
    image = ImageOps.exif_transpose(image)
    plain = image.mode in ("1", "L", "LA")
    return image.convert("L" if plain and channels == 1 else "RGB")


def _grey(planes: np.ndarray) -> np.ndarray:
    """Red, green, blue (3, H, W) as (1, H, W), rounded as OpenCV does."""
    red, green, blue = planes.astype(np.int32)
    return ((4899 * red + 9617 * green + 1868 * blue + 8192) >> 14).astype(np.uint8)[None]


def encode_picture(image: np.ndarray, kind: str) -> bytes:
    """The content of a picture file of `kind` ("png", "jpg", ...) showing `image` (1 or 3, H, W). Raises DataError.

    JPEGs are of quality 95, as OpenCV writes them.
    """
    file_format = Image.registered_extensions().get(f".{kind}")
    if file_format is None:
        raise DataError(f"pictures cannot be encoded as {kind!r}", hint="png and jpg are what Caffe reads")
    pixels = image[0] if len(image) == 1 else image[::-1].transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, file_format, quality=95)
    return buffer.getvalue()


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (C, H, W), uint8, in another size: bilinear without smoothing, to the last bit as OpenCV's `resize`.

    A picture halved both ways is averaged over 2 x 2 pixels.
    """
    _, old_height, old_width = image.shape
    if (old_height, old_width) == (height, width):
        return image
    if (old_height, old_width) == (2 * height, 2 * width):
        sums = image.astype(np.int32).reshape(-1, height, 2, width, 2).sum((2, 4))
        return ((sums + 2) >> 2).astype(np.uint8)
    first, second, first_weight, second_weight = _neighbours(width, old_width, stop_at_edges=True)
    rows = image[:, :, first] * first_weight + image[:, :, second] * second_weight
    first, second, first_weight, second_weight = _neighbours(height, old_height, stop_at_edges=False)
    upper = (rows[:, first] >> 4) * first_weight[:, None] >> 16
    lower = (rows[:, second] >> 4) * second_weight[:, None] >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _neighbours(size: int, old_size: int, stop_at_edges: bool) -> tuple[np.ndarray, ...]:
    """Of each new pixel the two old ones around its centre, and their weights."""
    position = ((np.arange(size) + 0.5) * (old_size / size) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.intp)
    fraction = position - first.astype(np.float32)
    if stop_at_edges:
        fraction[(first < 0) | (first >= old_size - 1)] = 0
    weights = [np.rint(part * np.float32(WEIGHT_ONE)).astype(np.int32) for part in (1 - fraction, fraction)]
    return np.clip(first, 0, old_size - 1), np.clip(first + 1, 0, old_size - 1), *weights
