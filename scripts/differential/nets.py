"""Random nets: blocks of layers one after another, so that steps are fused, blobs split and layers work in place."""

from __future__ import annotations

from dataclasses import dataclass

from drawing import Layer, Random, flag, normal, one_of, whole


@dataclass
class Net(Layer):
    """Layers as text, over the bottoms that the text calls x0, x1."""

    text: str = ""

    def prototxt(self) -> str:
        """The whole net."""
        lines = ["force_backward: true"]
        for i, values in enumerate(self.bottoms):
            dims = " ".join(f"dim: {d}" for d in values.shape)
            lines.append(f'layer {{ name: "x{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {dims} }} }} }}')
        return "\n".join([*lines, self.text, ""])


class Builder:
    """Adds layers; a method takes blobs' names and gives the top's, channels and size being kept beside."""

    def __init__(self, r: Random, channels: int, size: int) -> None:
        self.r, self.channels, self.size = r, channels, size
        self.lines: list[str] = []
        self.convolutions: list[str] = []
        """The last convolution's line."""

    def add(self, type_: str, bottoms: str, fields: str = "", in_place: bool = False) -> str:
        """A layer; the name of its top."""
        name = f"{type_.lower()}{len(self.lines)}"
        top = bottoms if in_place else name
        names = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
        self.lines.append(f'layer {{ name: "{name}" type: "{type_}" {names} top: "{top}" {fields} }}')
        return top

    def conv(self, x: str, num_output: int = 0, keep: bool = False) -> str:
        """A convolution, its size kept if wished."""
        group = self.channels if self.r.random() < 0.2 and not num_output else 1
        num_output = num_output or (group if group > 1 else int(self.r.integers(1, 20)))
        kernel, stride = int(one_of(self.r, 1, 3, 5)), 1 if keep else int(one_of(self.r, 1, 1, 2))
        fields = f"num_output: {num_output} kernel_size: {kernel} pad: {kernel // 2} stride: {stride} group: {group}"
        y = self.add("Convolution", x, f"convolution_param {{ {fields} bias_term: {flag(self.r)} }}")
        self.convolutions = self.lines[-1:]
        self.channels, self.size = num_output, (self.size - 1) // stride + 1
        return y

    def activation(self, x: str) -> str:
        """One in place, or none."""
        type_, fields = one_of(
            self.r, ("", ""), ("ReLU", ""), ("ReLU", ""), ("ReLU", "relu_param { negative_slope: 0.1 }"),
            ("TanH", ""), ("Sigmoid", ""), ("PReLU", ""), ("ELU", ""),
        )  # fmt: skip
        return self.add(type_, x, fields, in_place=True) if type_ else x

    def pool(self, x: str) -> str:
        """Halved, of at least two pixels."""
        if self.size < 2:
            return x
        kernel = int(one_of(self.r, 2, 3)) if self.size > 2 else 2
        self.size = -(-(self.size - kernel) // 2) + 1
        method = one_of(self.r, "MAX", "AVE")
        return self.add("Pooling", x, f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: 2 }}")

    def normalised(self, x: str) -> str:
        """BatchNorm, Scale and an activation, in place or not; only on what no layer reads backward (docs/caffe.md)."""
        fields = "batch_norm_param { use_global_stats: true eps: 0.01 }"
        y = self.add("BatchNorm", x, fields, in_place=self.lines[-1:] == self.convolutions and self.r.random() < 0.7)
        y = self.add("Scale", y, f"scale_param {{ bias_term: {flag(self.r)} }}", in_place=self.r.random() < 0.7)
        return self.activation(y)

    def local_response(self, x: str) -> str:
        """LRN."""
        region = one_of(self.r, "ACROSS_CHANNELS", "WITHIN_CHANNEL")
        return self.add("LRN", x, f"lrn_param {{ local_size: 3 alpha: 0.5 norm_region: {region} }}")

    def branches(self, x: str) -> str:
        """Two convolutions of one blob, side by side."""
        channels, total, parts = self.channels, 0, []
        for _ in range(2):
            self.channels = channels
            parts.append(self.activation(self.conv(x, keep=True)))
            total += self.channels
        self.channels = total
        return self.add("Concat", " ".join(parts))

    def residual(self, x: str) -> str:
        """A convolution, and what it came from."""
        y = self.conv(x, num_output=self.channels, keep=True)
        operation = one_of(self.r, "SUM", "SUM", "MAX", "PROD")
        y = self.add("Eltwise", f"{y} {x}", f"eltwise_param {{ operation: {operation} }}")
        return self.activation(y)

    def convolved(self, x: str) -> str:
        """A convolution and its activation."""
        return self.activation(self.conv(x))


def net(r: Random) -> Layer:
    """Some blocks, a product perhaps, and a loss or none."""
    batch, channels, size = int(r.integers(1, 4)), int(r.integers(1, 9)), int(r.integers(6, 20))
    build = Builder(r, channels, size)
    blocks = [
        Builder.convolved, Builder.convolved, Builder.pool, Builder.normalised, Builder.local_response,
        Builder.branches, Builder.residual,
    ]  # fmt: skip
    top = "x0"
    for _ in range(r.integers(2, 7)):
        top = one_of(r, *blocks)(build, top)
    bottoms = [normal(r, batch, channels, size, size)]
    classes = int(r.integers(2, 12))
    if r.random() < 0.8 or top == "x0":
        top = build.add("InnerProduct", top, f"inner_product_param {{ num_output: {classes} }}")
        loss = one_of(r, "", "SoftmaxWithLoss", "HingeLoss")
        if loss:
            top = build.add("Power", top, "power_param { scale: 0.05 }")  # a sure softmax rounds its gradient away
            build.add(loss, f"{top} x1")
            bottoms.append(whole(r, classes, batch))
    phase = one_of(r, "TRAIN", "TEST")
    return Net("(net)", bottoms=bottoms, phase=phase, positive_params=(1, 2), text="\n".join(build.lines))


GENERATORS = [net, net, net, net, net]
