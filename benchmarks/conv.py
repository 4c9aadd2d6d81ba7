"""Convolutions of known networks, three passes, beside PyTorch in both of its memory formats, in one run.

    python benchmarks/conv.py --shape vgg16 --pass forward --algorithm winograd --seconds 50

A row gives the algorithm, its time, PyTorch's better time and format, their ratio, effective GFLOP/s (those of a plain
convolution), their fraction of the micro-kernel's speed at that moment, and the largest error against float64, relative
to the largest value. The last lines give the geometric mean of the ratios for each pass, and the worst. What disturbs a
shared machine may last longer than a row takes: with --runs 3 all is measured three times over, and the last lines are
of the medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from breve.blob import aligned_zeros
from breve.errors import UnsupportedError
from breve.kernels import convolution
from breve.kernels.threads import get_num_threads, set_num_threads
from shapes import SHAPES, Shape
from timing import medians_ms, peak_loop

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
IMAGES_CHECKED, OUTPUTS_CHECKED = 1, 4
RANDOM = np.random.default_rng(0)


@dataclass
class Row:
    """One shape, pass and algorithm, measured."""

    shape: Shape
    pass_name: str
    algorithm: str
    breve_ms: float
    torch_ms: float
    torch_format: str
    peak: float
    """GFLOP/s of the micro-kernel alone, measured in turns with the pass."""
    error: float

    @property
    def ratio(self) -> float:
        """How many times faster than PyTorch."""
        return self.torch_ms / self.breve_ms

    def text(self) -> str:
        """One line of the table."""
        gflops = self.shape.geometry.flops / self.breve_ms / 1e6
        return (
            f"{self.shape.name:30s} {self.pass_name:17s} {self.algorithm:12s} {self.breve_ms:8.2f} ms"
            f"  torch {self.torch_ms:8.2f} ms {self.torch_format:13s} {self.ratio:6.2f}x"
            f"  {gflops:6.0f} GFLOP/s {gflops / self.peak:5.0%}  error {self.error:.0e}"
        )


def normal(size: int) -> np.ndarray:
    """Random numbers, other ones at each call, aligned as a blob's are."""
    array = aligned_zeros(size, np.float32)
    array[...] = RANDOM.standard_normal(size, np.float32)
    return array


def feature_map(batch: int, channels: int, size: tuple[int, ...]) -> np.ndarray:
    """A random feature map in Caffe's order and NHWC memory."""
    values = normal(batch * channels * size[0] * size[1])
    return values.reshape(batch, *size, channels).transpose(0, 3, 1, 2)


class Case:
    """The arrays of one shape: in NHWC memory for breve, in both formats for PyTorch."""

    def __init__(self, shape: Shape) -> None:
        self.shape, g = shape, shape.geometry
        self.bottom, self.top_diff = (
            feature_map(g.batch, channels, size)
            for channels, size in ((g.channels, g.in_shape), (g.num_output, g.out_shape))
        )
        self.weight = normal(g.num_output * (g.channels // g.group) * g.kernel[0] * g.kernel[1])
        self.weight = self.weight.reshape(g.num_output, g.channels // g.group, *g.kernel)
        self.bias = normal(g.num_output) if shape.bias else None
        self.top = feature_map(g.batch, g.num_output, g.out_shape)
        self.bottom_diff = feature_map(g.batch, g.channels, g.in_shape)
        self.weight_diff = aligned_zeros(self.weight.size, np.float32).reshape(self.weight.shape)
        self.bias_diff = aligned_zeros(g.num_output, np.float32) if shape.bias else None

    def breve(self, plan: convolution.ConvPlan, pass_name: str) -> Callable[[], object]:
        """A call of one pass."""
        return {
            "forward": lambda: plan.forward(self.bottom, self.weight, self.bias, self.top),
            "backward_data": lambda: plan.backward_data(self.top_diff, self.weight, self.bottom_diff),
            "backward_weights": lambda: plan.backward_weights(
                self.top_diff, self.bottom, self.weight_diff, self.bias_diff
            ),
        }[pass_name]

    def torch(self, memory_format: torch.memory_format, pass_name: str) -> Callable[[], object]:
        """PyTorch's call of the same pass."""
        arrays = (self.bottom, self.weight, self.top_diff)
        x, w, dy = (torch.from_numpy(a).contiguous(memory_format=memory_format) for a in arrays)
        b = None if self.bias is None else torch.from_numpy(self.bias)
        s = self.shape
        sizes = ([s.stride] * 2, [s.pad] * 2, [1, 1])
        if pass_name == "forward":
            return lambda: torch.nn.functional.conv2d(x, w, b, *sizes, s.group)
        wanted = [
            pass_name == "backward_data",
            pass_name == "backward_weights",
            s.bias and pass_name != "backward_data",
        ]
        bias_sizes = [s.num_output] if s.bias else None
        backward = torch.ops.aten.convolution_backward
        return lambda: backward(dy, x, w, bias_sizes, *sizes, False, [0, 0], s.group, wanted)

    def error(self, plan: convolution.ConvPlan, pass_name: str) -> float:
        """Largest error of what breve computed last, on one image or four outputs, relative to the largest value."""
        s = self.shape
        sizes = ([s.stride] * 2, [s.pad] * 2, [1, 1])
        x, w, dy = (
            torch.from_numpy(np.ascontiguousarray(a)).double() for a in (self.bottom, self.weight, self.top_diff)
        )
        if pass_name == "forward":
            b = None if self.bias is None else torch.from_numpy(self.bias).double()
            expected = torch.nn.functional.conv2d(x[:IMAGES_CHECKED], w, b, *sizes, s.group)
            found = self.top[:IMAGES_CHECKED]
        elif pass_name == "backward_data":
            expected = torch.nn.grad.conv2d_input(x[:IMAGES_CHECKED].shape, w, dy[:IMAGES_CHECKED], *sizes, s.group)
            found = self.bottom_diff[:IMAGES_CHECKED]
        else:
            outputs = OUTPUTS_CHECKED if s.group == 1 else s.num_output
            self.weight_diff[...] = 0
            self.breve(plan, pass_name)()
            expected = torch.nn.grad.conv2d_weight(x, w[:outputs].shape, dy[:, :outputs], *sizes, s.group)
            found = self.weight_diff[:outputs]
        return float(np.abs(found - expected.numpy()).max() / expected.abs().max())


def measure(shape: Shape, pass_name: str, algorithms: list[str | None], check: bool) -> list[Row]:
    """PyTorch's better format, then each algorithm that computes this pass."""
    case = Case(shape)
    runs = {name: case.torch(memory_format, pass_name) for name, memory_format in FORMATS.items()}
    plans = {}
    for algorithm in algorithms:
        plan = convolution.plan(shape.geometry, np.float32, algorithm)
        try:
            name = plan.algorithms[pass_name]
        except UnsupportedError:
            continue
        plans[name], runs[name] = plan, case.breve(plan, pass_name)
    runs["peak"], peak_gflop = peak_loop()
    times = medians_ms(runs)
    peer = min(FORMATS, key=lambda name: times[name])
    rows = []
    for name, plan in plans.items():
        runs[name]()
        error = case.error(plan, pass_name) if check else float("nan")
        rows.append(
            Row(shape, pass_name, name, times[name], times[peer], peer, peak_gflop / times["peak"] * 1e3, error)
        )
    return rows


def summary(rows: list[Row]) -> str:
    """Geometric mean and worst ratio of each pass: over the fastest algorithm of each shape, in the median of runs."""
    lines = []
    for pass_name in convolution.PASSES:
        runs: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row.pass_name == pass_name:
                runs.setdefault((row.shape.name, row.algorithm), []).append(row.ratio)
        best: dict[str, float] = {}
        for (shape, _), ratios in runs.items():
            best[shape] = max(float(np.median(ratios)), best.get(shape, 0.0))
        if best:
            worst = min(best, key=lambda shape: best[shape])
            mean = float(np.exp(np.mean(np.log(list(best.values())))))
            slower = sum(ratio < 1 for ratio in best.values())
            lines.append(
                f"{pass_name:17s} geometric mean {mean:.2f}x over {len(best)} shapes, {slower} below 1.0x;"
                f" worst {best[worst]:.2f}x {worst}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="", help="only shapes whose name contains one of these, comma-separated")
    parser.add_argument("--pass", dest="passes", default=",".join(convolution.PASSES), help="passes, comma-separated")
    parser.add_argument("--algorithm", default="", help="algorithms, comma-separated; without it, the one chosen")
    parser.add_argument("--threads", type=int, default=get_num_threads())
    parser.add_argument(
        "--runs", type=int, default=1, help="how many times all is measured; the last lines take medians"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no measurement after this time")
    parser.add_argument("--no-check", action="store_true", help="do not compute errors")
    options = parser.parse_args()
    set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    algorithms: list[str | None] = [*options.algorithm.split(",")] if options.algorithm else [None]
    wanted = [shape for shape in SHAPES if any(part in shape.name for part in options.shape.split(","))]
    start, rows = time.perf_counter(), []
    print(f"{options.threads} threads; torch {torch.__version__}")
    for shape, pass_name in [*product(wanted, options.passes.split(","))] * options.runs:
        if time.perf_counter() - start > options.seconds:
            print("out of time")
            break
        found = measure(shape, pass_name, algorithms, not options.no_check)
        rows += found
        for row in found:
            print(row.text(), flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
