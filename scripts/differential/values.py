"""Random layers that compute on values: pointwise, products, normalisation, recurrence."""

from __future__ import annotations

import numpy as np
from drawing import Layer, Random, any_shape, either_sign, flag, image, normal, one_of, whole

SAFE_IN_PLACE = ("ReLU", "Sigmoid", "TanH", "ELU", "Exp", "Softmax", "Threshold")
"""Of Caffe's others AbsVal refuses; BNLL, Log and Power read, backward, what they have overwritten."""


def activation(r: Random) -> Layer:
    """A pointwise layer with random constants."""
    a, b, c = (f"{v:.3f}" for v in r.uniform(0.2, 2, 3))
    shape = any_shape(r)
    type_, fields = one_of(
        r,
        ("ReLU", f"relu_param {{ negative_slope: {one_of(r, 0, a)} }}"), ("Sigmoid", ""), ("TanH", ""), ("AbsVal", ""),
        ("BNLL", ""), ("ELU", f"elu_param {{ alpha: {a} }}"),
        ("Exp", f"exp_param {{ base: {one_of(r, -1, a)} scale: {b} shift: {c} }}"),
        ("Log", f"log_param {{ base: {one_of(r, -1, 2.5)} scale: {b} shift: {c} }}"),
        ("Power", f"power_param {{ power: {one_of(r, 0, 1, 2, 3, a)} scale: {b} shift: {c} }}"),
        ("Swish", f"swish_param {{ beta: {a} }}"), ("Threshold", f"threshold_param {{ threshold: {a} }}"),
        ("Softmax", f"softmax_param {{ axis: {either_sign(r, int(r.integers(len(shape))), len(shape))} }}"),
    )  # fmt: skip
    x = normal(r, *shape)
    x = np.abs(x) if type_ in ("Log", "Power") else x
    in_place = type_ in SAFE_IN_PLACE and r.random() < 0.3
    return Layer(type_, fields, [x], backward=type_ != "Threshold", in_place=in_place)


def dropout(r: Random) -> Layer:
    """At test time, when it draws nothing."""
    fields = f"dropout_param {{ dropout_ratio: {r.random():.2f} }}"
    return Layer("Dropout", fields, [normal(r, *any_shape(r))], phase="TEST", in_place=r.random() < 0.3)


def inner_product(r: Random) -> Layer:
    """Any axis, either order of the weights."""
    shape = any_shape(r)
    axis = either_sign(r, int(r.integers(len(shape))), len(shape))
    fields = f"num_output: {r.integers(1, 40)} axis: {axis} transpose: {flag(r)} bias_term: {flag(r)}"
    return Layer("InnerProduct", f"inner_product_param {{ {fields} }}", [normal(r, *shape)])


def embed(r: Random) -> Layer:
    """Whole numbers to rows."""
    words = int(r.integers(1, 9))
    fields = f"num_output: {r.integers(1, 9)} input_dim: {words} bias_term: {flag(r)}"
    return Layer("Embed", f"embed_param {{ {fields} }}", [whole(r, words, *any_shape(r))])


def batch_norm(r: Random) -> Layer:
    """By the statistics of all batches; of one batch the Caffe at hand takes none (docs/caffe.md)."""
    shape = (int(r.integers(2, 5)), *(int(d) for d in r.integers(1, 7, r.integers(1, 4))))
    phase = one_of(r, "TRAIN", "TEST")
    fields = f"eps: {r.uniform(1e-3, 0.1):.4f}" + one_of(r, "", " moving_average_fraction: 0.9")
    fields += " use_global_stats: true" if phase == "TRAIN" else one_of(r, "", " use_global_stats: true")
    return Layer(
        "BatchNorm", f"batch_norm_param {{ {fields} }}", [normal(r, *shape)], phase=phase, positive_params=(1, 2),
        in_place=r.random() < 0.3,
    )  # fmt: skip


def mvn(r: Random) -> Layer:
    """All four ways."""
    fields = f"normalize_variance: {flag(r)} across_channels: {flag(r)} eps: 0.01"
    return Layer("MVN", f"mvn_param {{ {fields} }}", [normal(r, *image(r, size=8))])


def scale_or_bias(r: Random) -> Layer:
    """Learned, or by a second bottom; some of the axes."""
    type_ = one_of(r, "Scale", "Bias")
    shape = any_shape(r)
    axis = int(r.integers(len(shape)))
    axes = int(r.integers(0, len(shape) - axis + 1))
    said = either_sign(r, axis, len(shape))
    bias = f" bias_term: {flag(r)}" if type_ == "Scale" else ""
    x = normal(r, *shape)
    if r.random() < 0.4:
        return Layer(type_, f"{type_.lower()}_param {{ axis: {said}{bias} }}", [x, normal(r, *shape[axis:][:axes])])
    axes = -1 if axes == len(shape) - axis and r.random() < 0.5 else axes
    fields = f"{type_.lower()}_param {{ axis: {said} num_axes: {axes}{bias} }}"
    return Layer(type_, fields, [x], in_place=r.random() < 0.3)


def prelu(r: Random) -> Layer:
    """One slope a channel, or one."""
    shape = (*any_shape(r), 3)[:4]  # Caffe aborts on one axis, and on five
    fields = f"prelu_param {{ channel_shared: {flag(r)} }}"
    return Layer("PReLU", fields, [normal(r, *shape)], in_place=r.random() < 0.3)


def eltwise(r: Random) -> Layer:
    """Two or three bottoms."""
    shape, count = any_shape(r), int(r.integers(2, 4))
    operation = one_of(r, "PROD", "SUM", "MAX")
    coefficients = "".join(f" coeff: {v:.2f}" for v in r.uniform(-2, 2, count)) if operation == "SUM" else ""
    stable = f" stable_prod_grad: {flag(r)}" if operation == "PROD" else ""
    bottoms = [normal(r, *shape) for _ in range(count)]
    return Layer("Eltwise", f"eltwise_param {{ operation: {operation}{coefficients}{stable} }}", bottoms)


def reduction(r: Random) -> Layer:
    """Four operations over the last axes."""
    shape = any_shape(r)
    axis = either_sign(r, int(r.integers(len(shape))), len(shape))
    fields = f"operation: {one_of(r, 'SUM', 'ASUM', 'SUMSQ', 'MEAN')} axis: {axis} coeff: {r.uniform(-2, 2):.3f}"
    return Layer("Reduction", f"reduction_param {{ {fields} }}", [normal(r, *shape)])


def recurrent(r: Random) -> Layer:
    """LSTM or RNN over a few steps, with static input and exposed state."""
    type_, num_output = one_of(r, "LSTM", "RNN"), int(r.integers(1, 9))
    steps, streams = (int(d) for d in r.integers(1, 6, 2))
    x = normal(r, steps, streams, *(int(d) for d in r.integers(1, 5, r.integers(1, 3))))
    bottoms = [x, whole(r, 2, steps, streams)] + [normal(r, streams, int(r.integers(1, 5)))] * int(r.integers(2))
    states = (2 if type_ == "LSTM" else 1) * int(one_of(r, 0, 0, 1))
    bottoms += [normal(r, 1, streams, num_output) for _ in range(states)]
    fields = f"num_output: {num_output}" + (" expose_hidden: true" if states else "")
    return Layer(type_, f"recurrent_param {{ {fields} }}", bottoms, tops=1 + states, steps=int(one_of(r, 1, 2)))


GENERATORS = [
    activation, activation, activation, dropout, inner_product, embed, batch_norm, mvn, scale_or_bias, scale_or_bias,
    prelu, eltwise, reduction, recurrent, recurrent,
]  # fmt: skip
