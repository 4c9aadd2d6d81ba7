"""Kernel, stride, pad and dilation, as ConvolutionParameter and PoolingParameter give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from breve.errors import LayerError

Sizes = tuple[int, ...]
HOLES = frozenset(f"convolution_param.{field}" for field in ("hole", "hole_h", "hole_w"))
"""What DeepLab's fork calls the dilation."""


@dataclass(frozen=True)
class Window:
    """What a ConvolutionParameter says of each spatial axis."""

    kernel: Sizes
    stride: Sizes
    pad: Sizes
    dilation: Sizes

    @property
    def extent(self) -> Sizes:
        """Pixels that the dilated kernel spans."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def plane(self) -> Window:
        """The same window on two axes at least: axes of one pixel are put in front."""
        missing = max(0, 2 - len(self.kernel))
        one, zero = (1,) * missing, (0,) * missing
        return Window(one + self.kernel, one + self.stride, zero + self.pad, one + self.dilation)


def read_window(param: Any, spatial_axes: int) -> Window:
    """The window of a ConvolutionParameter: `kernel_size` once or per axis, or `kernel_h` and `kernel_w`; likewise
    `stride` and `pad`; `dilation` once or per axis. Raises LayerError.
    """
    window = Window(
        kernel=_sizes(param, "kernel_size", "kernel", spatial_axes, None),
        stride=_sizes(param, "stride", "stride", spatial_axes, 1),
        pad=_sizes(param, "pad", "pad", spatial_axes, 0),
        dilation=_dilation(param, spatial_axes),
    )
    for name in ("kernel", "stride", "dilation"):
        if 0 in getattr(window, name):
            raise LayerError(f"{name} is zero", expected="at least 1 in each axis", found=getattr(window, name))
    return window


def _sizes(param: Any, field: str, stem: str | None, spatial_axes: int, default: int | None) -> Sizes:
    """One field for all spatial axes, either repeated or as `stem_h` and `stem_w`."""
    repeated = tuple(getattr(param, field))
    if stem and (param.HasField(f"{stem}_h") or param.HasField(f"{stem}_w")):
        if spatial_axes != 2:
            raise LayerError(f"{stem}_h and {stem}_w are for two spatial axes", found=spatial_axes, hint=f"use {field}")
        if repeated:
            raise LayerError(f"{field} and {stem}_h, {stem}_w are given together", hint="give one of them")
        return getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w")
    if not repeated and default is not None:
        return (default,) * spatial_axes
    if len(repeated) not in (1, spatial_axes):
        raise LayerError(f"{field} does not fit", expected=f"1 or {spatial_axes} values", found=len(repeated))
    return repeated if len(repeated) == spatial_axes else repeated * spatial_axes


def _dilation(param: Any, spatial_axes: int) -> Sizes:
    """`dilation`, or what DeepLab's fork called it: `hole` for all axes, or `hole_h` and `hole_w`."""
    if not any(param.HasField(name) for name in ("hole", "hole_h", "hole_w")):
        return _sizes(param, "dilation", None, spatial_axes, 1)
    if param.dilation:
        raise LayerError("dilation and hole are given together", hint="give one of them")
    if param.HasField("hole"):
        return (param.hole,) * spatial_axes
    if spatial_axes != 2:
        raise LayerError("hole_h and hole_w are for two spatial axes", found=spatial_axes, hint="use dilation")
    return param.hole_h, param.hole_w


def pair(param: Any, field: str, stem: str, default: int | None) -> tuple[int, int]:
    """Height and width as in a PoolingParameter: `field` for both, or `stem_h` and `stem_w`. Raises LayerError."""
    both, one_h, one_w = (param.HasField(name) for name in (field, f"{stem}_h", f"{stem}_w"))
    if one_h != one_w or (both and one_h):
        raise LayerError(
            f"{field} and {stem}_h, {stem}_w do not fit", expected=f"{field}, or both {stem}_h and {stem}_w"
        )
    if one_h:
        return getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w")
    if not both and default is None:
        raise LayerError(f"{field} is missing", expected=f"{field}, or {stem}_h and {stem}_w")
    return (getattr(param, field),) * 2
