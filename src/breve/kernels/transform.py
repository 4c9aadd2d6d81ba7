"""The transformation of images on their way into a net: crop, mean, scale, mirror, and (C, H, W) to (H, W, C).

Serial, and without the interpreter's lock: it runs in the thread that reads ahead while kernels use all threads.
"""

from __future__ import annotations

import numpy as np

from breve.kernels.threads import serial


@serial
def transform_images(
    images: np.ndarray,
    tops: np.ndarray,
    lefts: np.ndarray,
    mirrored: np.ndarray,
    mean: np.ndarray,
    scale: float,
    out: np.ndarray,
) -> None:
    """out[n, y, x, c] = (images[n, c, tops[n] + y, lefts[n] + x] - mean[c, tops[n] + y, lefts[n] + x]) * scale.

    Where `mirrored[n]`, x counts from the right on the left side. `images` is (N, C, H, W), `out` (N, h, w, C), `mean`
    (C, H, W) or (C, 1, 1); `tops`, `lefts` (N,) intp, within the image; `mean`, `scale` and `out` of one type.
    """
    count, height, width, channels = out.shape
    for n in range(count):
        for y in range(height):
            for c in range(channels):
                row = images[n, c, tops[n] + y, lefts[n] : lefts[n] + width]
                out_row = out[n, y, :, c]
                if mean.shape[1] == 1 and mean.shape[2] == 1:
                    channel_mean = mean[c, 0, 0]
                    for x in range(width):
                        out_row[x] = (out.dtype.type(row[x]) - channel_mean) * scale
                else:
                    mean_row = mean[c, tops[n] + y, lefts[n] : lefts[n] + width]
                    for x in range(width):
                        out_row[x] = (out.dtype.type(row[x]) - mean_row[x]) * scale
            if mirrored[n]:
                for x in range(width // 2):
                    for c in range(channels):
                        left = out[n, y, x, c]
                        out[n, y, x, c] = out[n, y, width - 1 - x, c]
                        out[n, y, width - 1 - x, c] = left
