"""Pixels of NHWC memory into panels of channels, as the micro-kernel reads them."""

from __future__ import annotations

from breve.kernels.microkernel import call
from breve.kernels.threads import inline

MANY_PANELS = 4  # of x or dY: each pixel is packed by itself
PIXELS = 8  # packed together otherwise: all that is packed of them is read while it is in the first-level cache


@inline
def pack_pixels(source, start, step, pixels, channels, width, packed, at, panel, copy):
    """Some pixels, `step` apart, into packed[panel, pixel, channel]: where panels are many, a pixel at a time.

    So it is read along, and not as many pages at once.
    """
    whole = channels // width
    whole = whole if whole >= MANY_PANELS else 0
    if whole > 0:
        for i in range(pixels):
            call(copy, whole, width, source, start + i * step, width, packed, at + i * width, panel)
    for i in range(0, pixels, PIXELS):
        for p in range(whole, (channels + width - 1) // width):
            call(
                copy, min(PIXELS, pixels - i), min(width, channels - p * width), source, start + i * step + p * width,
                step, packed, at + p * panel + i * width, width,
            )  # fmt: skip
