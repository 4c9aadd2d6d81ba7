"""Random losses, and what is counted beside them."""

from __future__ import annotations

import numpy as np
from drawing import Layer, Random, any_shape, distinct, either_sign, flag, image, normal, one_of, whole


def scores(r: Random, make=normal) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores of two classes or more along an axis, a label for each prediction, and the axis as one may say it."""
    shape = list(image(r, channels=8, size=4))
    axis = int(one_of(r, 1, 1, 2, 3))
    shape[axis] += 2
    labels = whole(r, shape[axis], *(d for i, d in enumerate(shape) if i != axis))
    return make(r, *shape), labels, either_sign(r, axis, len(shape))


def loss_param(r: Random, ignored: int, old: bool = True) -> str:
    """A way to divide, the new one or the `old` too, and perhaps a label to ignore."""
    way = one_of(r, "", *(f"normalization: {mode}" for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")))
    if old and r.random() < 0.3:
        way = f"normalize: {flag(r)}"
    return f"loss_param {{ {one_of(r, '', f'ignore_label: {ignored}')} {way} }}"


def weight(r: Random) -> str:
    """A loss weight, or none."""
    return one_of(r, "", f"loss_weight: {r.uniform(-2, 2):.2f}")


def accuracy(r: Random) -> Layer:
    """Top k, with labels to ignore, and for each class if wished."""
    x, labels, axis = scores(r, distinct)
    ignore = one_of(r, "", "ignore_label: 1")
    fields = f"accuracy_param {{ top_k: {r.integers(1, x.shape[axis])} axis: {axis} {ignore} }}"
    return Layer("Accuracy", fields, [x, labels], tops=int(r.integers(1, 3)), backward=False, phase="TEST")


def softmax_loss(r: Random) -> Layer:
    """All normalisations, with labels to ignore."""
    x, labels, axis = scores(r)
    fields = f"{loss_param(r, 0)} softmax_param {{ axis: {axis} }} {weight(r)}"
    return Layer("SoftmaxWithLoss", fields, [x, labels])


def infogain_loss(r: Random) -> Layer:
    """With its matrix as a third bottom; Caffe refuses the old `normalize` here."""
    x, labels, axis = scores(r)
    axis %= 4  # Caffe wants it from the front
    classes = x.shape[axis]
    matrix = r.uniform(0, 1, (1, 1, classes, classes)).astype(np.float32)
    fields = f"{loss_param(r, 0, old=False)} infogain_loss_param {{ axis: {axis} }} {weight(r)}"
    return Layer("InfogainLoss", fields, [x, labels, matrix])


def sigmoid_loss(r: Random) -> Layer:
    """With labels to ignore."""
    shape = any_shape(r)
    fields = f"{loss_param(r, 0)} {weight(r)}"
    return Layer("SigmoidCrossEntropyLoss", fields, [normal(r, *shape), whole(r, 2, *shape)])


def other_loss(r: Random) -> Layer:
    """Hinge, Euclidean, contrastive, multinomial."""
    n, c = int(r.integers(1, 6)), int(r.integers(2, 7))
    labels = whole(r, c, n)
    probabilities = r.dirichlet(np.ones(c), n).astype(np.float32)
    legacy = one_of(r, "true", "false")
    contrastive = f"contrastive_loss_param {{ margin: {r.uniform(0.5, 4):.2f} legacy_version: {legacy} }}"
    type_, fields, bottoms = one_of(
        r,
        ("HingeLoss", f"hinge_loss_param {{ norm: {one_of(r, 'L1', 'L2')} }}", [normal(r, n, c), labels]),
        ("EuclideanLoss", "", [normal(r, n, c), normal(r, n, c)]),
        ("ContrastiveLoss", contrastive, [normal(r, n, c), normal(r, n, c), whole(r, 2, n)]),
        ("MultinomialLogisticLoss", "", [probabilities, labels]),
    )
    return Layer(type_, f"{fields} {weight(r)}", bottoms)


GENERATORS = [accuracy, softmax_loss, softmax_loss, infogain_loss, sigmoid_loss, other_loss, other_loss]
