"""Answers of whole networks to one image and to eight (forward in TEST, no loss) beside PyTorch, in one process.

    python benchmarks/inference.py [NET ...] [--batch 1 8] [--rounds 9]

breve runs what `nets.py` writes, but for the loss; PyTorch a module made of the same layers in eval mode, under
`inference_mode`, in both memory formats. All take turns. Times are medians in milliseconds; the ratio is PyTorch's best
over breve's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch

import nets
from breve import Net, get_num_threads
from breve.proto import NetParameter
from breve.proto.text import parse
from step import TorchNet
from timing import medians_ms

FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


def without_loss(name: str, batch: int) -> NetParameter:
    """The network up to its scores."""
    net_param = parse(nets.NETS[name](batch), NetParameter)
    del net_param.layer[-1]
    return net_param


def our_answer(net_param: NetParameter) -> tuple[Callable[[], object], dict[str, tuple[int, ...]]]:
    """A call that computes the scores anew, and the shapes of all blobs."""
    net = Net(net_param, "TEST")
    for blobs in net.params.values():
        if len(blobs) == 3:  # statistics of BatchNorm, zero at first: a variance of 0 would let values grow without end
            for blob, value in zip(blobs, (0, 1, 1), strict=True):
                blob.data[...] = value
    net.forward()
    net.layers[0].forward = lambda bottom, top: None  # PyTorch keeps its batch, too
    return net.forward, {name: blob.shape for name, blob in net.blobs.items()}


def their_answer(
    net_param: NetParameter, shapes: dict[str, tuple[int, ...]], memory_format: torch.memory_format
) -> Callable[[], object]:
    """The same by PyTorch."""
    data = torch.randn(shapes["data"]).to(memory_format=memory_format)
    model = TorchNet(net_param, shapes)

    def answer() -> object:
        with torch.inference_mode():
            return model(data, None)

    answer()  # sizes of lazy layers
    model.to(memory_format=memory_format).eval()
    return answer


def measure(name: str, batch: int, rounds: int) -> float:
    """Print a row; PyTorch's best time over breve's."""
    net_param = without_loss(name, batch)
    ours, shapes = our_answer(net_param)
    runs = {label: their_answer(net_param, shapes, memory_format) for label, memory_format in FORMATS.items()}
    theirs = medians_ms({"breve": ours} | runs, rounds)
    time = theirs.pop("breve")
    best = min(theirs, key=theirs.__getitem__)
    print(
        f"{name:14s} batch {batch:2d}  breve {time:8.2f} ms   PyTorch {theirs[best]:8.2f} ms ({best})   "
        f"{theirs[best] / time:5.2f}x",
        flush=True,
    )
    return theirs[best] / time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="*", default=list(nets.NETS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="images at once")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each; the median counts")
    args = parser.parse_args()
    torch.set_num_threads(get_num_threads())
    for batch in args.batch:
        ratios = [measure(name, batch, args.rounds) for name in args.net]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"geometric mean {mean:.2f}x for {batch} on {get_num_threads()} threads")


if __name__ == "__main__":
    main()
