"""Random layers: a prototxt of one layer over Input layers, with values for its bottoms and parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Random = np.random.Generator


@dataclass
class Layer:
    """One layer as the generators below describe it."""

    type: str
    fields: str = ""
    bottoms: list[np.ndarray] = field(default_factory=list)
    tops: int = 1
    backward: bool = True
    phase: str = "TRAIN"
    positive_params: tuple[int, ...] = ()

    def prototxt(self) -> str:
        """The whole net, with gradients forced down to its inputs, but where Caffe would abort over whole numbers."""
        lines = [] if self.type in ("Embed", "BatchReindex") else ["force_backward: true"]
        for i, values in enumerate(self.bottoms):
            dims = " ".join(f"dim: {d}" for d in values.shape)
            lines.append(f'layer {{ name: "in{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {dims} }} }} }}')
        bottoms = " ".join(f'bottom: "x{i}"' for i in range(len(self.bottoms)))
        tops = " ".join(f'top: "y{i}"' for i in range(self.tops))
        lines.append(f'layer {{ name: "l" type: "{self.type}" {bottoms} {tops} {self.fields} }}')
        return "\n".join(lines) + "\n"


def one_of(r: Random, *values):
    """One of the values, evenly."""
    return values[r.integers(len(values))]


def normal(r: Random, *shape: int) -> np.ndarray:
    """Normally distributed values."""
    return r.standard_normal(shape).astype(np.float32)


def distinct(r: Random, *shape: int) -> np.ndarray:
    """Values that all differ, so that a maximum has no ties."""
    count = int(np.prod(shape))
    return (0.1 * (r.permutation(count) - count / 2)).reshape(shape).astype(np.float32)


def image(r: Random, batch: int = 4, channels: int = 20, size: int = 13) -> tuple[int, ...]:
    """A shape (N, C, H, W)."""
    return (*(int(r.integers(1, limit)) for limit in (batch, channels)), *(int(d) for d in r.integers(1, size, 2)))


def any_shape(r: Random) -> tuple[int, ...]:
    """A shape of one to five axes."""
    return tuple(int(d) for d in r.integers(1, 6, r.integers(1, 6)))


def window(r: Random, size: tuple[int, ...], dilated: bool) -> str:
    """Kernel, stride, pad and dilation that leave something of an image, as convolution_param's fields."""
    while True:
        k, s, p, d = (
            r.integers(1, 6, 2),
            r.integers(1, 4, 2),
            r.integers(0, 4, 2),
            r.integers(1, 3 if dilated else 2, 2),
        )
        if all(size[i] + 2 * p[i] >= d[i] * (k[i] - 1) + 1 for i in range(2)):
            break
    fields = f"kernel_h: {k[0]} kernel_w: {k[1]} stride_h: {s[0]} stride_w: {s[1]} pad_h: {p[0]} pad_w: {p[1]}"
    return f"{fields} dilation: {d[0]} dilation: {d[1]}" if dilated else fields


def convolution(r: Random) -> Layer:
    """Any window, any group."""
    group = int(one_of(r, 1, 1, 2, 3))
    n, _, h, w = image(r)
    channels, outputs = group * int(r.integers(1, 12)), group * int(r.integers(1, 12))
    fields = f"num_output: {outputs} group: {group} bias_term: {one_of(r, 'true', 'false')} {window(r, (h, w), True)}"
    return Layer("Convolution", f"convolution_param {{ {fields} }}", [normal(r, n, channels, h, w)])


def deconvolution(r: Random) -> Layer:
    """As convolution, with room for its pad."""
    group = int(one_of(r, 1, 1, 2))
    n, _, h, w = image(r, size=7)
    k = int(r.integers(1, 6))
    fields = f"num_output: {group * int(r.integers(1, 9))} group: {group} kernel_size: {k} stride: {r.integers(1, 4)}"
    fields += f" pad: {r.integers(0, (k + 1) // 2)} bias_term: {one_of(r, 'true', 'false')}"
    return Layer(
        "Deconvolution", f"convolution_param {{ {fields} }}", [normal(r, n, group * int(r.integers(1, 9)), h, w)]
    )


def im2col(r: Random) -> Layer:
    """Any window."""
    shape = image(r, channels=6)
    return Layer("Im2col", f"convolution_param {{ {window(r, shape[2:], True)} }}", [normal(r, *shape)])


def pooling(r: Random) -> Layer:
    """Maximum and average, clipped and padded; Caffe wants the pad smaller than the kernel."""
    shape = image(r)
    method = one_of(r, "MAX", "AVE")
    if r.random() < 0.1:
        return Layer("Pooling", f"pooling_param {{ pool: {method} global_pooling: true }}", [distinct(r, *shape)])
    while True:
        k, s = r.integers(1, 5, 2), r.integers(1, 4, 2)
        p = [int(r.integers(0, kernel)) for kernel in k]
        if all(shape[2 + i] + 2 * p[i] >= k[i] for i in range(2)):
            break
    fields = f"kernel_h: {k[0]} kernel_w: {k[1]} stride_h: {s[0]} stride_w: {s[1]} pad_h: {p[0]} pad_w: {p[1]}"
    return Layer("Pooling", f"pooling_param {{ pool: {method} {fields} }}", [distinct(r, *shape)])


def spp(r: Random) -> Layer:
    """A pyramid that the image is large enough for."""
    height = int(r.integers(1, 4))
    size = 2 ** (height - 1) + r.integers(0, 8, 2)
    values = distinct(r, int(r.integers(1, 4)), int(r.integers(1, 6)), int(size[0]), int(size[1]))
    return Layer("SPP", f"spp_param {{ pyramid_height: {height} pool: {one_of(r, 'MAX', 'AVE')} }}", [values])


def inner_product(r: Random) -> Layer:
    """Any axis, either order of the weights."""
    shape = any_shape(r)
    axis = int(r.integers(0, len(shape)))
    fields = f"num_output: {r.integers(1, 40)} axis: {axis} transpose: {one_of(r, 'true', 'false')}"
    fields += f" bias_term: {one_of(r, 'true', 'false')}"
    return Layer("InnerProduct", f"inner_product_param {{ {fields} }}", [normal(r, *shape)])


def embed(r: Random) -> Layer:
    """Whole numbers to rows."""
    words = int(r.integers(1, 9))
    fields = f"num_output: {r.integers(1, 9)} input_dim: {words} bias_term: {one_of(r, 'true', 'false')}"
    return Layer("Embed", f"embed_param {{ {fields} }}", [r.integers(0, words, any_shape(r)).astype(np.float32)])


def lrn(r: Random) -> Layer:
    """Both regions."""
    region = one_of(r, "ACROSS_CHANNELS", "WITHIN_CHANNEL")
    fields = f"local_size: {one_of(r, 1, 3, 5, 7)} alpha: {r.uniform(0.1, 2):.3f} beta: {r.uniform(0.1, 1):.3f}"
    fields += f" norm_region: {region}" + (f" k: {r.uniform(1, 3):.3f}" if region[0] == "A" else "")
    return Layer("LRN", f"lrn_param {{ {fields} }}", [normal(r, *image(r))])


def batch_norm(r: Random) -> Layer:
    """By the batch, or by statistics."""
    shape = (int(r.integers(2, 5)), *(int(d) for d in r.integers(1, 7, r.integers(1, 4))))
    fields = f"use_global_stats: {one_of(r, 'true', 'false')} eps: 0.01"
    return Layer("BatchNorm", f"batch_norm_param {{ {fields} }}", [normal(r, *shape)], positive_params=(1, 2))


def mvn(r: Random) -> Layer:
    """All four ways."""
    fields = f"normalize_variance: {one_of(r, 'true', 'false')} across_channels: {one_of(r, 'true', 'false')} eps: 0.01"
    return Layer("MVN", f"mvn_param {{ {fields} }}", [normal(r, *image(r, size=8))])


def scale_or_bias(r: Random) -> Layer:
    """Learned, or by a second bottom; some of the axes."""
    type_ = one_of(r, "Scale", "Bias")
    shape = any_shape(r)
    axis = int(r.integers(0, len(shape)))
    axes = int(r.integers(0, len(shape) - axis + 1))
    bias = f" bias_term: {one_of(r, 'true', 'false')}" if type_ == "Scale" else ""
    bottoms = [normal(r, *shape)]
    if r.random() < 0.4:
        bottoms.append(normal(r, *shape[axis : axis + axes]))
        return Layer(type_, f"{type_.lower()}_param {{ axis: {axis}{bias} }}", bottoms)
    return Layer(type_, f"{type_.lower()}_param {{ axis: {axis} num_axes: {axes}{bias} }}", bottoms)


def prelu(r: Random) -> Layer:
    """One slope a channel, or one."""
    shape = any_shape(r)
    shape = (*shape, 3)[:4]  # Caffe aborts on one axis, and on five
    return Layer("PReLU", f"prelu_param {{ channel_shared: {one_of(r, 'true', 'false')} }}", [normal(r, *shape)])


def activation(r: Random) -> Layer:
    """A pointwise layer with random constants."""
    a, b, c = (f"{v:.3f}" for v in r.uniform(0.2, 2, 3))
    type_, fields = one_of(
        r,
        ("ReLU", f"relu_param {{ negative_slope: {one_of(r, 0, a)} }}"), ("Sigmoid", ""), ("TanH", ""), ("AbsVal", ""),
        ("BNLL", ""), ("ELU", f"elu_param {{ alpha: {a} }}"),
        ("Exp", f"exp_param {{ base: {one_of(r, -1, a)} scale: {b} shift: {c} }}"),
        ("Log", f"log_param {{ base: {one_of(r, -1, 2.5)} scale: {b} shift: {c} }}"),
        ("Power", f"power_param {{ power: {one_of(r, 0, 1, 2, 3, a)} scale: {b} shift: {c} }}"),
        ("Swish", f"swish_param {{ beta: {a} }}"), ("Threshold", f"threshold_param {{ threshold: {a} }}"),
        ("Softmax", "softmax_param { axis: 0 }"),
    )  # fmt: skip
    x = normal(r, *any_shape(r))
    x = np.abs(x) if type_ in ("Log", "Power") else x
    return Layer(type_, fields, [x], backward=type_ != "Threshold")


def dropout(r: Random) -> Layer:
    """At test time, when it draws nothing."""
    return Layer(
        "Dropout", f"dropout_param {{ dropout_ratio: {r.random():.2f} }}", [normal(r, *any_shape(r))], phase="TEST"
    )


def eltwise(r: Random) -> Layer:
    """Two or three bottoms."""
    shape, count = any_shape(r), int(r.integers(2, 4))
    operation = one_of(r, "PROD", "SUM", "MAX")
    coefficients = "".join(f" coeff: {v:.2f}" for v in r.uniform(-2, 2, count)) if operation == "SUM" else ""
    stable = f" stable_prod_grad: {one_of(r, 'true', 'false')}" if operation == "PROD" else ""
    bottoms = [normal(r, *shape) for _ in range(count)]
    return Layer("Eltwise", f"eltwise_param {{ operation: {operation}{coefficients}{stable} }}", bottoms)


def concat(r: Random) -> Layer:
    """Parts of different size along one axis."""
    shape = list(any_shape(r))
    axis = int(r.integers(0, len(shape)))
    parts = [[*shape[:axis], int(r.integers(1, 6)), *shape[axis + 1 :]] for _ in range(r.integers(1, 4))]
    return Layer(
        "Concat", f"concat_param {{ axis: {axis - len(shape) * int(r.integers(2))} }}", [normal(r, *p) for p in parts]
    )


def slice_(r: Random) -> Layer:
    """Even parts, or at points."""
    shape, parts = list(any_shape(r)), int(r.integers(1, 4))
    axis = int(r.integers(0, len(shape)))
    if r.random() < 0.5:
        shape[axis] = parts * int(r.integers(1, 4))
        points = ""
    else:
        shape[axis] = int(r.integers(parts, 9))
        points = "".join(f" slice_point: {p}" for p in sorted(r.choice(np.arange(1, shape[axis]), parts - 1, False)))
    return Layer("Slice", f"slice_param {{ axis: {axis}{points} }}", [normal(r, *shape)], tops=parts)


def split(r: Random) -> Layer:
    """One to many."""
    return Layer("Split", "", [normal(r, *any_shape(r))], tops=int(r.integers(1, 4)))


def flatten(r: Random) -> Layer:
    """Some of the axes."""
    shape = any_shape(r)
    axis = int(r.integers(0, len(shape)))
    end = int(r.integers(axis, len(shape)))
    return Layer("Flatten", f"flatten_param {{ axis: {axis} end_axis: {end} }}", [normal(r, *shape)])


def reshape(r: Random) -> Layer:
    """The axes after some merged into one."""
    shape = any_shape(r)
    keep = int(r.integers(0, len(shape)))
    dims = "".join(f" dim: {one_of(r, 0, d)}" for d in shape[:keep])
    return Layer("Reshape", f"reshape_param {{ shape {{{dims} dim: -1 }} }}", [normal(r, *shape)])


def tile(r: Random) -> Layer:
    """Along any axis."""
    shape = any_shape(r)
    return Layer(
        "Tile", f"tile_param {{ axis: {r.integers(0, len(shape))} tiles: {r.integers(1, 5)} }}", [normal(r, *shape)]
    )


def crop(r: Random) -> Layer:
    """To a smaller blob."""
    shape = image(r, size=8)
    axis = int(r.integers(0, 4))
    like = [d if i < axis else int(r.integers(1, d + 1)) for i, d in enumerate(shape)]
    offsets = "".join(f" offset: {r.integers(0, d - s + 1)}" for d, s in zip(shape[axis:], like[axis:], strict=True))
    return Layer("Crop", f"crop_param {{ axis: {axis}{offsets} }}", [normal(r, *shape), normal(r, *like)])


def reduction(r: Random) -> Layer:
    """Four operations over the last axes."""
    shape = any_shape(r)
    fields = f"operation: {one_of(r, 'SUM', 'ASUM', 'SUMSQ', 'MEAN')} axis: {r.integers(0, len(shape))}"
    return Layer("Reduction", f"reduction_param {{ {fields} coeff: {r.uniform(-2, 2):.3f} }}", [normal(r, *shape)])


def batch_reindex(r: Random) -> Layer:
    """Rows picked, some twice."""
    shape = any_shape(r)
    rows = r.integers(0, shape[0], r.integers(1, 8)).astype(np.float32)
    return Layer("BatchReindex", "", [normal(r, *shape), rows], backward=False)


def argmax(r: Random) -> Layer:
    """Over all values of a sample, or along an axis."""
    shape = (int(r.integers(1, 4)), int(r.integers(2, 6)), int(r.integers(1, 4)), int(r.integers(1, 4)))
    axis = one_of(r, "", "axis: 1")
    fields = f"top_k: {r.integers(1, 3)} out_max_val: {one_of(r, 'true', 'false')} {axis}"
    return Layer("ArgMax", f"argmax_param {{ {fields} }}", [distinct(r, *shape)], backward=False)


def accuracy(r: Random) -> Layer:
    """Top k, with labels to ignore."""
    n, c, h, w = image(r, channels=8, size=4)
    c += 2
    ignore = one_of(r, "", "ignore_label: 1")
    labels = r.integers(0, c, (n, h, w)).astype(np.float32)
    fields = f"accuracy_param {{ top_k: {r.integers(1, c)} {ignore} }}"
    return Layer("Accuracy", fields, [distinct(r, n, c, h, w), labels], backward=False, phase="TEST")


def softmax_loss(r: Random) -> Layer:
    """All normalisations, with labels to ignore."""
    n, c, h, w = image(r, channels=8, size=4)
    labels = r.integers(0, c, (n, 1, h, w)).astype(np.float32)
    ignore = one_of(r, "", "ignore_label: 0")
    fields = f"loss_param {{ {ignore} normalization: {one_of(r, 'FULL', 'VALID', 'BATCH_SIZE', 'NONE')} }}"
    return Layer("SoftmaxWithLoss", fields, [normal(r, n, c, h, w), labels])


def sigmoid_loss(r: Random) -> Layer:
    """With targets between zero and one, or labels to ignore."""
    shape = any_shape(r)
    targets = r.integers(0, 2, shape).astype(np.float32)
    ignore = one_of(r, "", "ignore_label: 0")
    fields = f"loss_param {{ {ignore} normalization: {one_of(r, 'FULL', 'VALID', 'BATCH_SIZE', 'NONE')} }}"
    return Layer("SigmoidCrossEntropyLoss", fields, [normal(r, *shape), targets])


def other_loss(r: Random) -> Layer:
    """Hinge, Euclidean, contrastive, multinomial."""
    n, c = int(r.integers(1, 6)), int(r.integers(2, 7))
    labels = r.integers(0, c, n).astype(np.float32)
    probabilities = r.dirichlet(np.ones(c), n).astype(np.float32)
    legacy = (
        f"contrastive_loss_param {{ margin: {r.uniform(0.5, 4):.2f} legacy_version: {one_of(r, 'true', 'false')} }}"
    )
    return one_of(
        r,
        Layer("HingeLoss", f"hinge_loss_param {{ norm: {one_of(r, 'L1', 'L2')} }}", [normal(r, n, c), labels]),
        Layer("EuclideanLoss", "", [normal(r, n, c), normal(r, n, c)]),
        Layer("ContrastiveLoss", legacy, [normal(r, n, c), normal(r, n, c), r.integers(0, 2, n).astype(np.float32)]),
        Layer("MultinomialLogisticLoss", "", [probabilities, labels]),
    )


def recurrent(r: Random) -> Layer:
    """LSTM or RNN over a few steps."""
    steps, streams = (int(d) for d in r.integers(1, 6, 2))
    x = normal(r, steps, streams, *(int(d) for d in r.integers(1, 5, r.integers(1, 3))))
    cont = r.integers(0, 2, (steps, streams)).astype(np.float32)
    bottoms = [x, cont] + [normal(r, streams, int(r.integers(1, 5)))] * int(r.integers(2))
    fields = f"num_output: {r.integers(1, 9)}"
    return Layer(one_of(r, "LSTM", "RNN"), f"recurrent_param {{ {fields} }}", bottoms)


GENERATORS: list[Callable[[Random], Layer]] = [
    convolution, convolution, convolution, deconvolution, im2col, pooling, pooling, spp, inner_product, embed, lrn,
    batch_norm, mvn, scale_or_bias, prelu, activation, activation, dropout, eltwise, concat, slice_, split, flatten,
    reshape, tile, crop, reduction, batch_reindex, argmax, accuracy, softmax_loss, sigmoid_loss, other_loss, recurrent,
]  # fmt: skip


def draw(seed: int) -> Layer:
    """The layer that a seed stands for."""
    r = np.random.default_rng(seed)
    return one_of(r, *GENERATORS)(r)
