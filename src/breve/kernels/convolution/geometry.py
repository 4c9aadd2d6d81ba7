"""The sizes of one convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from breve.errors import LayerError


@dataclass(frozen=True)
class ConvGeometry:
    """A convolution of `(batch, channels, *in_shape)` with weights `(num_output, channels / group, *kernel)`.

    out = (in + 2 pad - (dilation (kernel - 1) + 1)) // stride + 1, in each spatial axis, as in Caffe's conv_layer.

    >>> ConvGeometry(1, 3, 8, (5, 5), kernel=(3, 3), stride=(2, 2), pad=(1, 1), dilation=(1, 1)).out_shape
    (3, 3)
    """

    batch: int
    channels: int
    num_output: int
    in_shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int = 1

    def __post_init__(self) -> None:
        if self.group < 1 or self.channels % self.group or self.num_output % self.group:
            raise LayerError(
                "channels and num_output must be multiples of group",
                expected=f"multiples of {self.group}",
                found=f"{self.channels} and {self.num_output}",
            )
        if any(d < 1 for d in self.kernel + self.stride + self.dilation) or any(p < 0 for p in self.pad):
            raise LayerError("kernel, stride and dilation must be positive, pad not negative", found=self)
        if any(o < 1 for o in self.out_shape):
            raise LayerError(
                "the kernel is larger than the padded input",
                expected="an output of one pixel at least",
                found=f"{self.out_shape}",
            )

    @cached_property
    def extent(self) -> tuple[int, ...]:
        """Pixels that a dilated kernel spans: dilation (kernel - 1) + 1."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    @cached_property
    def out_shape(self) -> tuple[int, ...]:
        """Spatial shape of the output."""
        return tuple(
            (i + 2 * p - e) // s + 1
            for i, p, e, s in zip(self.in_shape, self.pad, self.extent, self.stride, strict=True)
        )

    @cached_property
    def is_1x1(self) -> bool:
        """Kernel 1, stride 1, no pad: the column matrix is the input itself."""
        return all(k == s == 1 and p == 0 for k, s, p in zip(self.kernel, self.stride, self.pad, strict=True))

    @cached_property
    def is_pointwise(self) -> bool:
        """Kernel 1, no pad: every output sees one pixel."""
        return all(k == 1 and p == 0 for k, p in zip(self.kernel, self.pad, strict=True))

    @cached_property
    def one_row(self) -> ConvGeometry:
        """Where every output sees one pixel: the same, but all pixels that are seen are one row of one image."""
        pixels = self.batch * math.prod(self.out_shape)
        return ConvGeometry(1, self.channels, self.num_output, (1, pixels), (1, 1), (1, 1), (0, 0), (1, 1), self.group)

    @cached_property
    def flops(self) -> int:
        """Multiplications and additions of one plain pass."""
        return (
            2
            * self.batch
            * self.num_output
            * math.prod(self.out_shape)
            * (self.channels // self.group)
            * math.prod(self.kernel)
        )
