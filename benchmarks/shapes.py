"""The convolutions that are measured: all of six networks, and some that none of them has."""

from __future__ import annotations

from dataclasses import dataclass

from breve.kernels.convolution import ConvGeometry


@dataclass(frozen=True)
class Shape:
    """A square convolution at the batch size its network is trained with here; `count` times in that network."""

    net: str
    batch: int
    channels: int
    size: int
    num_output: int
    kernel: int
    stride: int = 1
    pad: int = 0
    group: int = 1
    bias: bool = True
    count: int = 1

    @property
    def name(self) -> str:
        """For example `resnet50:64x56-128k3s2`: channels x size - num_output, kernel, stride, group."""
        extras = (("s", self.stride), ("g", self.group))
        extra = "".join(f"{letter}{number}" for letter, number in extras if number > 1)
        return f"{self.net}:{self.channels}x{self.size}-{self.num_output}k{self.kernel}{extra}"

    @property
    def geometry(self) -> ConvGeometry:
        """Its sizes, as the kernels take them."""
        sizes = ((size, size) for size in (self.size, self.kernel, self.stride, self.pad))
        in_shape, kernel, stride, pad = sizes
        return ConvGeometry(
            self.batch, self.channels, self.num_output, in_shape, kernel, stride, pad, (1, 1), self.group
        )


SHAPES = (
    Shape("lenet", 64, 1, 28, 20, 5),
    Shape("lenet", 64, 20, 12, 50, 5),
    Shape("cifar10_quick", 100, 3, 32, 32, 5, pad=2),
    Shape("cifar10_quick", 100, 32, 16, 32, 5, pad=2),
    Shape("cifar10_quick", 100, 32, 8, 64, 5, pad=2),
    Shape("caffenet", 64, 3, 227, 96, 11, stride=4),
    Shape("caffenet", 64, 96, 27, 256, 5, pad=2, group=2),
    Shape("caffenet", 64, 256, 13, 384, 3, pad=1),
    Shape("caffenet", 64, 384, 13, 384, 3, pad=1, group=2),
    Shape("caffenet", 64, 384, 13, 256, 3, pad=1, group=2),
    Shape("vgg16", 8, 3, 224, 64, 3, pad=1),
    Shape("vgg16", 8, 64, 224, 64, 3, pad=1),
    Shape("vgg16", 8, 64, 112, 128, 3, pad=1),
    Shape("vgg16", 8, 128, 112, 128, 3, pad=1),
    Shape("vgg16", 8, 128, 56, 256, 3, pad=1),
    Shape("vgg16", 8, 256, 56, 256, 3, pad=1, count=2),
    Shape("vgg16", 8, 256, 28, 512, 3, pad=1),
    Shape("vgg16", 8, 512, 28, 512, 3, pad=1, count=2),
    Shape("vgg16", 8, 512, 14, 512, 3, pad=1, count=3),
    Shape("resnet50", 16, 3, 224, 64, 7, stride=2, pad=3, bias=False),
    Shape("resnet50", 16, 64, 56, 64, 1, bias=False),
    Shape("resnet50", 16, 64, 56, 64, 3, pad=1, bias=False, count=3),
    Shape("resnet50", 16, 64, 56, 256, 1, bias=False, count=4),
    Shape("resnet50", 16, 256, 56, 64, 1, bias=False, count=2),
    Shape("resnet50", 16, 256, 56, 128, 1, bias=False),
    Shape("resnet50", 16, 128, 56, 128, 3, stride=2, pad=1, bias=False),
    Shape("resnet50", 16, 128, 28, 512, 1, bias=False, count=4),
    Shape("resnet50", 16, 256, 56, 512, 1, stride=2, bias=False),
    Shape("resnet50", 16, 512, 28, 128, 1, bias=False, count=3),
    Shape("resnet50", 16, 128, 28, 128, 3, pad=1, bias=False, count=3),
    Shape("resnet50", 16, 512, 28, 256, 1, bias=False),
    Shape("resnet50", 16, 256, 28, 256, 3, stride=2, pad=1, bias=False),
    Shape("resnet50", 16, 256, 14, 1024, 1, bias=False, count=6),
    Shape("resnet50", 16, 512, 28, 1024, 1, stride=2, bias=False),
    Shape("resnet50", 16, 1024, 14, 256, 1, bias=False, count=5),
    Shape("resnet50", 16, 256, 14, 256, 3, pad=1, bias=False, count=5),
    Shape("resnet50", 16, 1024, 14, 512, 1, bias=False),
    Shape("resnet50", 16, 512, 14, 512, 3, stride=2, pad=1, bias=False),
    Shape("resnet50", 16, 512, 7, 2048, 1, bias=False, count=3),
    Shape("resnet50", 16, 1024, 14, 2048, 1, stride=2, bias=False),
    Shape("resnet50", 16, 2048, 7, 512, 1, bias=False, count=2),
    Shape("resnet50", 16, 512, 7, 512, 3, pad=1, bias=False, count=2),
    Shape("mobilenet", 16, 3, 224, 32, 3, stride=2, pad=1, bias=False),
    Shape("mobilenet", 16, 32, 112, 32, 3, pad=1, group=32, bias=False),
    Shape("mobilenet", 16, 32, 112, 64, 1, bias=False),
    Shape("mobilenet", 16, 64, 112, 64, 3, stride=2, pad=1, group=64, bias=False),
    Shape("mobilenet", 16, 64, 56, 128, 1, bias=False),
    Shape("mobilenet", 16, 128, 56, 128, 3, pad=1, group=128, bias=False),
    Shape("mobilenet", 16, 128, 56, 128, 1, bias=False),
    Shape("mobilenet", 16, 128, 56, 128, 3, stride=2, pad=1, group=128, bias=False),
    Shape("mobilenet", 16, 128, 28, 256, 1, bias=False),
    Shape("mobilenet", 16, 256, 28, 256, 3, pad=1, group=256, bias=False),
    Shape("mobilenet", 16, 256, 28, 256, 1, bias=False),
    Shape("mobilenet", 16, 256, 28, 256, 3, stride=2, pad=1, group=256, bias=False),
    Shape("mobilenet", 16, 256, 14, 512, 1, bias=False),
    Shape("mobilenet", 16, 512, 14, 512, 3, pad=1, group=512, bias=False, count=5),
    Shape("mobilenet", 16, 512, 14, 512, 1, bias=False, count=5),
    Shape("mobilenet", 16, 512, 14, 512, 3, stride=2, pad=1, group=512, bias=False),
    Shape("mobilenet", 16, 512, 7, 1024, 1, bias=False),
    Shape("mobilenet", 16, 1024, 7, 1024, 3, pad=1, group=1024, bias=False),
    Shape("mobilenet", 16, 1024, 7, 1024, 1, bias=False),
    Shape("other", 32, 64, 32, 64, 3, pad=1),
    Shape("other", 32, 96, 35, 96, 3, pad=1),
    Shape("other", 16, 192, 27, 160, 3, pad=1),
    Shape("other", 1, 256, 56, 256, 3, pad=1),
    Shape("other", 32, 48, 35, 64, 5, pad=2),
    Shape("other", 16, 128, 28, 128, 5, pad=2),
    Shape("other", 16, 128, 17, 128, 7, pad=3),
    Shape("other", 16, 100, 30, 50, 4, stride=2, pad=1),
    Shape("other", 16, 96, 56, 96, 5, pad=2, group=96),
    Shape("other", 16, 96, 56, 96, 7, pad=3, group=96),
    Shape("other", 16, 64, 56, 128, 3, pad=1, group=64),
)
"""Every distinct convolution of LeNet, cifar10_quick, CaffeNet, VGG-16, ResNet-50 and MobileNet, then others."""
