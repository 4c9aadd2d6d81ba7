"""What happens to an image on its way into a net: Caffe's DataTransformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.errors import DataError, FileFormatError, LayerError
from breve.kernels.transform import transform_images
from breve.proto.binary import read_mean


class DataTransformer:
    """Crop, subtract the mean, scale and mirror, as a TransformationParameter says.

        out[n, c, y, x] = (image[n, c, top + y, left + x] - mean) * scale

    `crop_size` cuts a square, at random in TRAIN, from the middle otherwise; `mirror` turns every other image, drawn at
    random in both phases; `mean` is `mean_file`'s value at the pixel before cropping, or one of `mean_value`, which are
    one for all channels or one each. `force_color` and `force_gray` give pictures three channels or one.

    Raises LayerError for parameters that contradict each other and for a bad mean file.
    """

    def __init__(self, param: Any, phase: str) -> None:
        if param.HasField("mean_file") and param.mean_value:
            raise LayerError("transform_param has both mean_file and mean_value", hint="keep one of them")
        if param.force_color and param.force_gray:
            raise LayerError("transform_param has both force_color and force_gray", hint="keep one of them")
        self.crop_size: int = param.crop_size
        self.random_crop = phase == "TRAIN" and self.crop_size > 0
        self.mirror: bool = param.mirror
        self.scale: float = param.scale
        self.channels: int | None = 3 if param.force_color else 1 if param.force_gray else None
        self.mean, self.mean_is_image = _mean(param)

    def shape(self, image: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape (C, h, w) that an image of shape (C, H, W) gets. Raises DataError where there is none."""
        channels, height, width = image
        crop_size = self.crop_size
        if min(height, width) < crop_size:
            raise DataError(
                "an image is smaller than crop_size", expected=f"at least {crop_size}", found=f"{height} x {width}"
            )
        if self.channels not in (None, channels):
            kind = "force_color" if self.channels == 3 else "force_gray"
            hint = "it is for pictures (JPEG, PNG) in a database"
            raise DataError(
                f"{kind} cannot be honoured", expected=f"{self.channels} channels", found=channels, hint=hint
            )
        if self.mean_is_image and self.mean.shape != image:
            raise DataError(
                "the mean file does not fit the images", expected=f"a mean of {image}", found=self.mean.shape
            )
        if len(self.mean) not in (1, channels):
            raise DataError("mean_value does not fit the channels", expected=f"1 or {channels}", found=len(self.mean))
        return channels, crop_size or height, crop_size or width

    def __call__(self, images: Sequence[np.ndarray] | np.ndarray, out: np.ndarray, rng: np.random.Generator) -> None:
        """Transform images (C, H, W), uint8 or float32, of any sizes that give the same, into `out` (N, C, h, w).

        `out` lies in memory as (N, h, w, C). Raises DataError where an image does not fit.
        """
        if len({image.shape for image in images}) > 1:
            for n, image in enumerate(images):
                self(image[None], out[n : n + 1], rng)
            return
        batch = np.ascontiguousarray(images)
        if self.shape(batch.shape[1:]) != out.shape[1:]:
            raise DataError(
                "images differ in size or channels", expected=out.shape[1:], found=self.shape(batch.shape[1:])
            )
        count, channels, height, width = batch.shape
        mirrored = rng.integers(0, 2, count, bool) if self.mirror else np.zeros(count, bool)
        tops, lefts = self._corners(count, height - out.shape[2], width - out.shape[3], rng)
        mean = self.mean if self.mean_is_image else np.resize(self.mean, (channels, 1, 1))
        dtype = out.dtype.type
        transform_images(batch, tops, lefts, mirrored, mean.astype(dtype), dtype(self.scale), out.transpose(0, 2, 3, 1))

    def _corners(self, count: int, free_h: int, free_w: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.random_crop:
            return rng.integers(0, free_h + 1, count, np.intp), rng.integers(0, free_w + 1, count, np.intp)
        return np.full(count, free_h // 2, np.intp), np.full(count, free_w // 2, np.intp)


def _mean(param: Any) -> tuple[np.ndarray, bool]:
    """The mean as float32, (C, H, W) and True for an image, (C or 1, 1, 1) and False for values."""
    if param.HasField("mean_file"):
        try:
            mean = read_mean(param.mean_file)
        except FileFormatError as error:
            raise LayerError(f"mean_file: {error}") from error
        if mean.ndim < 3 or mean.size != math.prod(mean.shape[-3:]):
            raise LayerError(
                f"{param.mean_file} holds no mean image", expected="channels x height x width", found=mean.shape
            )
        return np.ascontiguousarray(mean.reshape(mean.shape[-3:]), np.float32), True
    return np.array(param.mean_value or [0], np.float32).reshape(-1, 1, 1), False
