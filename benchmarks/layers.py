"""Pooling, LRN, BatchNorm with Scale, and PReLU at the shapes of known networks, beside PyTorch in one run.

    python benchmarks/layers.py [--only SUBSTRING] [--seconds 50]

Each row gives forward and backward of one layer (BatchNorm together with its Scale, both in place, as ResNet has them)
as a net runs it: breve's median time in milliseconds, PyTorch's in the better of its two memory formats, and their
ratio. The last line gives the geometric mean of the ratios, and the worst.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from breve import Net
from breve.kernels.threads import get_num_threads
from breve.proto import NetParameter
from breve.proto.text import parse
from timing import median_ms

FORMATS = (torch.contiguous_format, torch.channels_last)
SCALE = 'type: "Scale" scale_param { bias_term: true }'
PRELU = 'type: "PReLU"'


@dataclass
class Row:
    """One or two layers on one shape, and the PyTorch function that computes the same."""

    name: str
    shape: tuple[int, int, int, int]
    prototxts: tuple[str, ...]
    torch_run: Callable[..., torch.Tensor]
    in_place: bool = False


def pool(name: str, shape: tuple[int, int, int, int], method: str, kernel: int, stride: int) -> Row:
    text = f'type: "Pooling" pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} }}'
    run = functional.max_pool2d if method == "MAX" else functional.avg_pool2d
    return Row(f"{name} pool {method}", shape, (text,), lambda x, *_: run(x, kernel, stride, ceil_mode=True))


def lrn(name: str, shape: tuple[int, int, int, int]) -> Row:
    text = 'type: "LRN" lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }'
    return Row(f"{name} LRN", shape, (text,), lambda x, *_: functional.local_response_norm(x, 5, 1e-4, 0.75, 1.0))


def norm(name: str, shape: tuple[int, int, int, int]) -> Row:
    def run(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, None, None, scale, shift, True, eps=1e-5)

    return Row(f"{name} BatchNorm + Scale", shape, ('type: "BatchNorm"', SCALE), run, in_place=True)


def prelu(name: str, shape: tuple[int, int, int, int]) -> Row:
    return Row(f"{name} PReLU", shape, (PRELU,), lambda x, slope, _: functional.prelu(x, slope), in_place=True)


ROWS = [
    pool("lenet 1", (64, 20, 24, 24), "MAX", 2, 2),
    pool("lenet 2", (64, 50, 8, 8), "MAX", 2, 2),
    pool("cifar10 1", (100, 32, 32, 32), "MAX", 3, 2),
    pool("cifar10 2", (100, 32, 16, 16), "AVE", 3, 2),
    pool("cifar10 3", (100, 64, 8, 8), "AVE", 3, 2),
    pool("caffenet 1", (64, 96, 55, 55), "MAX", 3, 2),
    pool("caffenet 2", (64, 256, 27, 27), "MAX", 3, 2),
    pool("caffenet 5", (64, 256, 13, 13), "MAX", 3, 2),
    pool("vgg16 1", (8, 64, 224, 224), "MAX", 2, 2),
    pool("vgg16 3", (8, 256, 56, 56), "MAX", 2, 2),
    pool("vgg16 5", (8, 512, 14, 14), "MAX", 2, 2),
    pool("resnet50 1", (16, 64, 112, 112), "MAX", 3, 2),
    pool("resnet50 end", (16, 2048, 7, 7), "AVE", 7, 1),
    pool("one image", (1, 64, 112, 112), "MAX", 3, 2),
    lrn("caffenet 1", (64, 96, 27, 27)),
    lrn("caffenet 2", (64, 256, 13, 13)),
    norm("resnet50 1", (16, 64, 112, 112)),
    norm("resnet50 2", (16, 256, 56, 56)),
    norm("resnet50 3", (16, 128, 28, 28)),
    norm("resnet50 4", (16, 1024, 14, 14)),
    norm("resnet50 5", (16, 2048, 7, 7)),
    norm("mobilenet 1", (16, 32, 112, 112)),
    norm("mobilenet 5", (16, 512, 14, 14)),
    prelu("mtcnn", (64, 28, 46, 46)),
    prelu("resnet-like", (16, 64, 56, 56)),
]


def ours(row: Row) -> tuple[float, float]:
    """Median times of forward and backward, as a net runs the layers."""
    shape = " ".join(f"dim: {size}" for size in row.shape)
    texts = [f'layer {{ name: "in" type: "Input" top: "0" input_param {{ shape {{ {shape} }} }} }}']
    for number, text in enumerate(row.prototxts):
        bottom, top = ("0", "0") if row.in_place else (str(number), str(number + 1))
        texts.append(f'layer {{ name: "layer{number}" bottom: "{bottom}" top: "{top}" {text} }}')
    net, last = Net(parse("force_backward: true " + " ".join(texts), NetParameter), "TRAIN"), len(row.prototxts)
    net.blobs["0"].data[...] = np.random.default_rng(0).standard_normal(row.shape)
    top = net.steps[-1].top[0]
    net.forward()
    top.diff[...] = np.random.default_rng(1).standard_normal(top.shape)
    backward_ms = median_ms(lambda: net.backward_from_to(last, 1))
    return median_ms(lambda: net.forward_from_to(1, last)), backward_ms


def theirs(row: Row, memory_format: torch.memory_format) -> tuple[float, float]:
    """Median times of PyTorch's forward and backward."""
    x = torch.randn(row.shape).to(memory_format=memory_format).requires_grad_()
    scale, shift = torch.full((row.shape[1],), 0.25).requires_grad_(), torch.zeros(row.shape[1]).requires_grad_()
    y = row.torch_run(x, scale, shift)
    diff, wanted = torch.randn_like(y), [x, scale, shift]
    backward_ms = median_ms(lambda: torch.autograd.grad(y, wanted, diff, retain_graph=True, allow_unused=True))
    with torch.no_grad():
        return median_ms(lambda: row.torch_run(x, scale, shift)), backward_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop when so much time has passed")
    args = parser.parse_args()
    torch.set_num_threads(get_num_threads())
    start, ratios = time.monotonic(), {}
    for row in ROWS:
        if args.only not in row.name or time.monotonic() - start > args.seconds:
            continue
        breve_ms, torch_ms = ours(row), min((theirs(row, f) for f in FORMATS), key=sum)
        ratios[row.name] = sum(torch_ms) / sum(breve_ms)
        print(
            f"{row.name:32s} forward {breve_ms[0]:7.2f} ms, torch {torch_ms[0]:7.2f}   backward {breve_ms[1]:7.2f} ms,"
            f" torch {torch_ms[1]:7.2f}   {ratios[row.name]:6.2f}x",
            flush=True,
        )
    worst = min(ratios, key=lambda name: ratios[name])
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    print(f"geometric mean {mean:.2f}x, worst {ratios[worst]:.2f}x ({worst}), on {get_num_threads()} threads")


if __name__ == "__main__":
    main()
