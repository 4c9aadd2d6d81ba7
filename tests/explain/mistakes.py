"""Mistakes that people make in backward passes, each planted in one layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from breve import functional
from breve.explain.layers.convolution_matrices import spread

After = Callable[[Any, Any, Any], None]

CONV = 'type: "Convolution" convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "msra" }} {} }}'


@dataclass(frozen=True)
class Mistake:
    """A backward pass that goes on to do `after(layer, top, bottom)`, in the layer that `prototxt` describes."""

    name: str
    layer_class: str
    prototxt: str
    after: After
    wrt: str
    what: str = "gradient"
    shape: tuple[int, ...] = (2, 4, 6, 6)
    bottoms: int = 1
    tops: int = 1
    rounded: bool = False
    """Inputs rounded to whole numbers, so that there are ties."""

    def spoil(self, original: Callable[..., None]) -> Callable[..., None]:
        """The backward pass with the mistake in it."""

        def backward(layer: Any, top: Any, propagate_down: Any, bottom: Any) -> None:
            kept = [b.diff.copy() for b in layer.blobs], [b.diff.copy() for b in bottom]
            original(layer, top, propagate_down, bottom)
            layer.diffs_before = kept
            self.after(layer, top, bottom)

        return backward


def data_diff(**change: Any) -> After:
    """The gradient wrt data of another convolution."""

    def after(layer: Any, top: Any, bottom: Any) -> None:
        w = layer.window
        weight = change.get("weight", lambda w: w)(layer.blobs[0].data)
        sizes = {"stride": w.stride, "pad": w.pad, "dilation": w.dilation, "group": layer.group}
        sizes |= {k: v for k, v in change.items() if k != "weight"}
        bottom[0].diff[...] = functional.conv2d_backward_data(
            top[0].diff, np.ascontiguousarray(weight), bottom[0].shape[2:], algorithm="im2col", **sizes
        )

    return after


def _stride_holes_missing(layer: Any, top: Any, bottom: Any) -> None:
    """dY is used as it is, where stride - 1 zeros belong between its elements."""
    dense = np.zeros(spread(top[0].diff.reshape(-1, *top[0].shape[2:]), layer.window.stride).shape, top[0].dtype)
    rows, columns = top[0].shape[2:]
    dense[:, :rows, :columns] = top[0].diff.reshape(-1, rows, columns)
    bottom[0].diff[...] = functional.conv2d_backward_data(
        dense.reshape(*top[0].shape[:2], *dense.shape[1:]), layer.blobs[0].data, bottom[0].shape[2:], algorithm="im2col"
    )


def _padding_counted(layer: Any, top: Any, bottom: Any) -> None:
    """Padding taken as a copy of the border, where it is zero."""
    wide = np.pad(bottom[0].data, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    weight_diff, _ = functional.conv2d_backward_weights(top[0].diff, wide, 3, algorithm="im2col")
    layer.blobs[0].diff[...] = layer.diffs_before[0][0] + weight_diff


def _padding_not_taken_off(layer: Any, top: Any, bottom: Any) -> None:
    """The padded image's gradient cut to size from its corner."""
    wide = functional.conv2d_backward_data(top[0].diff, layer.blobs[0].data, (8, 8), stride=2, algorithm="im2col")
    bottom[0].diff[...] = wide[:, :, :6, :6]


def _groups_swapped(layer: Any, top: Any, bottom: Any) -> None:
    half = bottom[0].shape[1] // 2
    bottom[0].diff[...] = np.roll(bottom[0].diff, half, axis=1)


def _bias_over_wrong_axis(layer: Any, top: Any, bottom: Any) -> None:
    layer.blobs[1].diff[...] = layer.diffs_before[0][1] + top[0].diff.sum((0, 1, 3))


def _weights_twice(layer: Any, top: Any, bottom: Any) -> None:
    layer.blobs[0].diff[...] += layer.blobs[0].diff - layer.diffs_before[0][0]


def _weights_overwritten(layer: Any, top: Any, bottom: Any) -> None:
    layer.blobs[0].diff[...] -= layer.diffs_before[0][0]


def _bottom_added_to(layer: Any, top: Any, bottom: Any) -> None:
    bottom[0].diff[...] += layer.diffs_before[1][0]


def _last_row_lost(layer: Any, top: Any, bottom: Any) -> None:
    bottom[0].diff[:, :, -1] = 0


def _weights_transposed(layer: Any, top: Any, bottom: Any) -> None:
    own = layer.blobs[0].diff - layer.diffs_before[0][0]
    layer.blobs[0].diff[...] = layer.diffs_before[0][0] + own.T


def _average_over_what_is_inside(layer: Any, top: Any, bottom: Any) -> None:
    """Each window's sum divided by the pixels it has in the image, where Caffe counts the padding too."""
    bottom[0].diff[...] = 0
    height, width = bottom[0].shape[2:]
    for y, x in np.ndindex(*top[0].shape[2:]):
        rows, columns = (
            slice(max(0, 2 * y - 1), min(2 * y + 2, height)),
            slice(max(0, 2 * x - 1), min(2 * x + 2, width)),
        )
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        bottom[0].diff[:, :, rows, columns] += top[0].diff[:, :, y : y + 1, x : x + 1] / area


def _tie_given_twice(layer: Any, top: Any, bottom: Any) -> None:
    wide_top = top[0].data.repeat(2, 2).repeat(2, 3)
    bottom[0].diff[...] = (bottom[0].data == wide_top) * top[0].diff.repeat(2, 2).repeat(2, 3)


def _mask_of_the_wrong_sign(layer: Any, top: Any, bottom: Any) -> None:
    bottom[0].diff[...] = top[0].diff * (bottom[0].data < 0)


def _slope_at_the_input(layer: Any, top: Any, bottom: Any) -> None:
    x = bottom[0].data
    bottom[0].diff[...] = top[0].diff * x * (1 - x)


def _last_reader_wins(layer: Any, top: Any, bottom: Any) -> None:
    bottom[0].diff[...] = top[-1].diff


def _variance_path_missing(layer: Any, top: Any, bottom: Any) -> None:
    x, dy = bottom[0].data, top[0].diff
    sigma = np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    bottom[0].diff[...] = (dy - dy.mean((0, 2, 3), keepdims=True)) / sigma


def _neighbours_forgotten(layer: Any, top: Any, bottom: Any) -> None:
    bottom[0].diff[...] = top[0].diff * top[0].data / bottom[0].data


def _not_averaged(layer: Any, top: Any, bottom: Any) -> None:
    bottom[0].diff[...] *= bottom[0].shape[0]


def _one_not_taken_off(layer: Any, top: Any, bottom: Any) -> None:
    x = bottom[0].data
    p = np.exp(x - x.max(1, keepdims=True))
    bottom[0].diff[...] = top[0].diff * p / p.sum(1, keepdims=True) / x.shape[0]


def _gamma_meets_the_output(layer: Any, top: Any, bottom: Any) -> None:
    layer.blobs[0].diff[...] = layer.diffs_before[0][0] + (top[0].diff * top[0].data).sum((0, 2, 3))


def _kept_not_scaled(layer: Any, top: Any, bottom: Any) -> None:
    bottom[0].diff[...] *= 0.5


def _coefficient_forgotten(layer: Any, top: Any, bottom: Any) -> None:
    bottom[1].diff[...] = top[0].diff


def _first_part_for_all(layer: Any, top: Any, bottom: Any) -> None:
    bottom[1].diff[...] = top[0].diff[:, : bottom[1].shape[1]]


SQUARE_PRODUCT = 'type: "InnerProduct" inner_product_param { num_output: 6 weight_filler { type: "xavier" } }'
PADDED_AVERAGE = 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }'
MAXIMUM = 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }'
STRIDED = CONV.format("stride: 2 pad: 1")
MISTAKES = [
    Mistake(
        "kernel not rotated", "Convolution", CONV.format(""), data_diff(weight=lambda w: w[:, :, ::-1, ::-1]), "data"
    ),
    Mistake("kernel transposed", "Convolution", CONV.format(""), data_diff(weight=lambda w: w.swapaxes(2, 3)), "data"),
    Mistake(
        "stride hole missing",
        "Convolution",
        CONV.format("stride: 2"),
        _stride_holes_missing,
        "data",
        shape=(2, 4, 7, 7),
    ),
    Mistake("padding counted", "Convolution", CONV.format("pad: 1"), _padding_counted, "weights"),
    Mistake("padding shifted", "Convolution", STRIDED, _padding_not_taken_off, "data"),
    Mistake("dilation ignored", "Convolution", CONV.format("dilation: 2 pad: 2"), data_diff(dilation=1, pad=1), "data"),
    Mistake("groups swapped", "Convolution", CONV.format("group: 2"), _groups_swapped, "data"),
    Mistake("bias over the wrong axis", "Convolution", CONV.format(""), _bias_over_wrong_axis, "bias"),
    Mistake("factor of 2, as by momentum", "Convolution", CONV.format(""), _weights_twice, "weights"),
    Mistake("parameter diff overwritten", "Convolution", CONV.format(""), _weights_overwritten, "weights", "rule"),
    Mistake("bottom diff added to", "Convolution", CONV.format(""), _bottom_added_to, "data", "rule"),
    Mistake("last row lost", "Deconvolution", CONV.format("").replace("Conv", "Deconv", 1), _last_row_lost, "data"),
    Mistake(
        "weights transposed",
        "InnerProduct",
        SQUARE_PRODUCT,
        _weights_transposed,
        "weights",
        shape=(3, 6),
    ),
    Mistake(
        "average over the wrong area",
        "Pooling",
        PADDED_AVERAGE,
        _average_over_what_is_inside,
        "data",
    ),
    Mistake(
        "tie given twice",
        "Pooling",
        MAXIMUM,
        _tie_given_twice,
        "data",
        "rule",
        rounded=True,
    ),
    Mistake("mask of the wrong sign", "ReLU", 'type: "ReLU"', _mask_of_the_wrong_sign, "data"),
    Mistake("slope at the input", "Sigmoid", 'type: "Sigmoid"', _slope_at_the_input, "data"),
    Mistake("overwritten at a split", "Split", 'type: "Split"', _last_reader_wins, "data", tops=2),
    Mistake("variance path missing", "BatchNorm", 'type: "BatchNorm"', _variance_path_missing, "data"),
    Mistake(
        "neighbours forgotten", "LRN", 'type: "LRN" lrn_param { local_size: 3 alpha: 2 }', _neighbours_forgotten, "data"
    ),
    Mistake(
        "gamma meets the output",
        "Scale",
        'type: "Scale" scale_param { bias_term: true }',
        _gamma_meets_the_output,
        "weights",
    ),
    Mistake("kept values not scaled", "Dropout", 'type: "Dropout"', _kept_not_scaled, "data"),
    Mistake(
        "coefficient forgotten",
        "Eltwise",
        'type: "Eltwise" eltwise_param { coeff: 1 coeff: -1 }',
        _coefficient_forgotten,
        "data1",
        bottoms=2,
    ),
    Mistake("first part for all", "Concat", 'type: "Concat"', _first_part_for_all, "data1", bottoms=2),
]

LOSS = 'type: "SoftmaxWithLoss" bottom: "label"'
LOSS_MISTAKES = [
    Mistake("not averaged over the batch", "SoftmaxWithLoss", LOSS, _not_averaged, "data", shape=(3, 5)),
    Mistake("one not taken off at the label", "SoftmaxWithLoss", LOSS, _one_not_taken_off, "data", shape=(3, 5)),
]
