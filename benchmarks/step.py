"""One training step of whole networks (forward, backward, update) beside PyTorch, in one process.

    python benchmarks/step.py [NET ...] [--steps 7] [--compile] [--layers]

breve trains the prototxt that `nets.py` writes; PyTorch a module made of the same layers, in both memory formats and,
with `--compile`, through torch.compile. All take turns. Times are medians in milliseconds; the ratio is PyTorch's best
over breve's.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import nets
from breve import SGDSolver, get_num_threads
from breve.proto import NetParameter
from breve.proto.text import parse
from timing import median_ms, medians_ms


def random_labels(batch):
    """Of the first ten classes: not one class for all, which a net learns in a step and then has no gradients."""
    return np.random.default_rng(0).integers(0, 10, batch)


LEARNING_RATE = 1e-5  # the weights stay what they are: VGG diverges at a rate that others learn with


class TorchNet(nn.Module):
    """The layers of a NetParameter as PyTorch modules; `forward(data, label)` is the loss, without one the scores."""

    def __init__(self, net_param, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.plan = []
        self.kinds = nn.ModuleDict()
        for layer in net_param.layer:
            module = make_module(layer, shapes)
            if module is not None:
                self.kinds[layer.name] = module
            self.plan.append((layer.name, layer.type, list(layer.bottom), list(layer.top)))

    def forward(self, data, label):
        blobs = {"data": data, "label": label}
        for name, type_, bottoms, tops in self.plan:
            if type_ == "DummyData":
                continue
            inputs = [blobs[b] for b in bottoms]
            if type_ == "SoftmaxWithLoss":
                return nn.functional.cross_entropy(inputs[0].flatten(1), inputs[1])
            blobs[tops[0]] = inputs[0] + inputs[1] if type_ == "Eltwise" else self.kinds[name](inputs[0])
        return blobs[tops[0]]


def make_module(layer, shapes):
    """The PyTorch module of one layer; None for those without."""
    channels = shapes[layer.bottom[0]][1] if layer.bottom else 0
    return {
        "Convolution": lambda: convolution(layer.convolution_param, channels),
        "ReLU": lambda: nn.ReLU(inplace=True),
        "Pooling": lambda: pooling(layer.pooling_param),
        "LRN": lambda: nn.LocalResponseNorm(
            layer.lrn_param.local_size, layer.lrn_param.alpha, layer.lrn_param.beta, layer.lrn_param.k
        ),
        "InnerProduct": lambda: nn.Sequential(nn.Flatten(1), nn.LazyLinear(layer.inner_product_param.num_output)),
        "BatchNorm": lambda: nn.BatchNorm2d(channels),  # its affine part stands for the Scale layer that follows
        "Scale": nn.Identity,
        "Dropout": lambda: nn.Dropout(layer.dropout_param.dropout_ratio),
    }.get(layer.type, lambda: None)()


def convolution(p, channels):
    pad = p.pad[0] if p.pad else 0
    stride = p.stride[0] if p.stride else 1
    return nn.Conv2d(channels, p.num_output, p.kernel_size[0], stride, pad, groups=p.group, bias=p.bias_term)


def pooling(p):
    if p.global_pooling:
        return nn.AdaptiveAvgPool2d(1)
    kind = nn.MaxPool2d if p.pool == p.MAX else nn.AvgPool2d
    return kind(p.kernel_size, p.stride, p.pad, ceil_mode=True)


def torch_step(net_param, shapes, memory_format, compiled):
    torch.manual_seed(0)
    data = torch.randn(shapes["data"]).to(memory_format=memory_format)
    label = torch.from_numpy(random_labels(shapes["label"][0]))
    model = TorchNet(net_param, shapes)
    model(data, label)
    model = model.to(memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    run = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        run(data, label).backward()
        optimizer.step()

    return step


def layer_table(net, steps):
    """Median time of each layer, forward and backward, slowest first."""
    rows = []
    for s in net.steps:
        backward = median_ms(s.backward, steps) if s.needs_backward else 0.0
        rows.append((median_ms(s.forward, steps), backward, s.layer.name, s.top[0].shape if s.top else ()))
    for forward, backward, name, shape in sorted(rows, key=lambda r: -r[0] - r[1])[:25]:
        print(f"    {name:24s} {forward:9.3f} ms {backward:9.3f} ms  {shape}")


def measure(name, args):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / f"{name}.prototxt").write_text(nets.NETS[name]())
        (path / "solver.prototxt").write_text(
            nets.solver(name)
            .replace(f'"{name}.prototxt"', f'"{path}/{name}.prototxt"')
            .replace("base_lr: 0.01", f"base_lr: {LEARNING_RATE}")
        )
        solver = SGDSolver(str(path / "solver.prototxt"))
        solver.step(1)
        solver.net.layers[0].forward = lambda bottom, top: None  # PyTorch keeps its batch, too
        labels = solver.net.blobs["label"].data
        labels[...] = random_labels(len(labels))
    net = solver.net
    shapes = {blob: net.blobs[blob].shape for blob in net.blobs}
    net_param = parse(nets.NETS[name](), NetParameter)
    runs = {"breve": lambda: solver.step(1)}
    for label, memory_format in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
        for compiled in (False, True) if args.compile else (False,):
            runs[label + " compiled" * compiled] = torch_step(net_param, shapes, memory_format, compiled)
            runs[label + " compiled" * compiled]()
    theirs = medians_ms(runs, args.steps)
    ours = theirs.pop("breve")
    best = min(theirs, key=theirs.get)
    print(
        f"{name:14s} breve {ours:9.2f} ms   PyTorch {theirs[best]:9.2f} ms ({best})   {theirs[best] / ours:5.2f}x   "
        + ", ".join(f"{k} {v:.1f}" for k, v in theirs.items()),
        flush=True,
    )
    if args.layers:
        layer_table(net, args.steps)
    return theirs[best] / ours


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="*", default=list(nets.NETS))
    parser.add_argument(
        "--steps", type=int, default=7, help="timed steps, fewer where they are long; the median counts"
    )
    parser.add_argument("--compile", action="store_true", help="try torch.compile too")
    parser.add_argument("--layers", action="store_true", help="list breve's slowest layers")
    args = parser.parse_args()
    torch.set_num_threads(get_num_threads())
    ratios = [measure(name, args) for name in args.net]
    product = 1.0
    for ratio in ratios:
        product *= ratio
    print(f"geometric mean {product ** (1 / len(ratios)):.2f}x on {get_num_threads()} threads")


if __name__ == "__main__":
    main()
