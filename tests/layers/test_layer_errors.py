"""What layers refuse, and in which words."""

import numpy as np
import pytest

from breve.errors import DataError, LayerError, NetError
from breve.layers import layer_class
from layer_run import LayerRun

NAN_LABELS = [0.0, np.nan]


def zeros(*shapes):
    return [np.zeros(shape) for shape in shapes]


def test_unknown_type_names_the_nearest():
    with pytest.raises(NetError, match="unknown layer type 'Relu'; did you mean 'ReLU'"):
        layer_class("Relu")


@pytest.mark.parametrize(
    ("prototxt", "values", "tops", "message"),
    [
        (
            'type: "ReLU" relu_param { negative_slope: -1 }',
            zeros((2, 3)),
            0,
            "cannot work in place; expected >= 0, found -1",
        ),
        ('type: "ELU" elu_param { alpha: -1 }', zeros((2, 3)), 0, "cannot work in place"),
        (
            'type: "Dropout" dropout_param { dropout_ratio: 1 }',
            zeros((2, 3)),
            1,
            "dropout_ratio is out of range; expected 0 <=",
        ),
        ('type: "Exp" exp_param { base: 0 }', zeros((2,)), 1, "exp_param.base is out of range; expected -1 for e"),
        ('type: "Log" log_param { base: 1 }', zeros((2,)), 1, "log_param.base cannot be 1"),
        (
            'type: "Input" input_param { shape { dim: 1 } shape { dim: 2 } }',
            [],
            3,
            "one shape, or one for each top; expected 1 or 3",
        ),
        ('type: "Input" input_param { shape { dim: -1 } }', [], 1, "negative dim"),
        ('type: "Input" transform_param { scale: 2 }', [], 1, "Input does not transform its data"),
        ('type: "DummyData" transform_param { mirror: true }', [], 1, "DummyData does not transform its data"),
        ('type: "DummyData" dummy_data_param { shape { dim: 1 } num: 2 }', [], 1, "both shape and num"),
        ('type: "DummyData" dummy_data_param { num: 2 }', [], 1, "one shape, or one for each top"),
        ('type: "Split"', zeros((2,)), 0, "Split cannot work in place"),
        ('type: "Flatten"', zeros((2, 3)), 0, "Flatten cannot work in place"),
        ('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', zeros((2, 3, 4)), 1, "end_axis lies before axis"),
        (
            'type: "Flatten" flatten_param { axis: 3 }',
            zeros((2, 3, 4)),
            1,
            "axis out of range; expected -3 to 2, found 3",
        ),
        (
            'type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }',
            zeros((2, 3)),
            1,
            "one -1 and no other negative",
        ),
        ('type: "Reshape" reshape_param { shape { dim: 4 dim: -1 } }', zeros((2, 3)), 1, "no dim for -1 fits"),
        (
            'type: "Reshape" reshape_param { shape { dim: 7 } }',
            zeros((2, 3)),
            1,
            r"changes the number of values; expected 6, of \[2, 3\]",
        ),
        (
            'type: "Reshape" reshape_param { shape { dim: 1 dim: 1 dim: 0 } }',
            zeros((2, 3)),
            1,
            "0 beyond the bottom's axes",
        ),
        (
            'type: "Reshape" reshape_param { axis: 3 }',
            zeros((2, 3)),
            1,
            "axis is out of range; expected -3 to 2, found 3",
        ),
        (
            'type: "Reshape" reshape_param { axis: 1 num_axes: 2 }',
            zeros((2, 3)),
            1,
            "num_axes is out of range; expected -1 to 1",
        ),
        ('type: "Concat"', zeros((2, 3, 4), (2, 3, 5)), 1, "bottom 1 cannot be joined to the first along axis 1"),
        ('type: "Concat" concat_param { axis: 0 concat_dim: 1 }', zeros((2, 3)), 1, "both axis and concat_dim"),
        ('type: "Slice"', zeros((2, 3)), 2, "cannot be cut evenly; expected a multiple of 2, found 3"),
        (
            'type: "Slice" slice_param { slice_point: 1 }',
            zeros((2, 3)),
            3,
            "slice_point between any two tops; expected 2, found 1",
        ),
        ('type: "Slice" slice_param { slice_point: 3 }', zeros((2, 3)), 2, "must increase; expected between 0 and 3"),
        ('type: "Eltwise"', zeros((2, 3), (3, 2)), 1, "bottom 1 differs in shape"),
        (
            'type: "Eltwise" eltwise_param { coeff: 1 }',
            zeros((2,), (2,)),
            1,
            "one coeff for each bottom; expected 2, found 1",
        ),
        ('type: "Eltwise" eltwise_param { operation: MAX coeff: 1 coeff: 1 }', zeros((2,), (2,)), 1, "for sums only"),
        ('type: "Crop" crop_param { offset: 3 }', zeros((1, 1, 4, 4), (1, 1, 2, 2)), 1, "reaches beyond the bottom"),
        (
            'type: "Crop" crop_param { axis: 1 offset: 3 offset: 1 }',
            zeros((1, 1, 4, 4), (1, 1, 2, 2)),
            1,
            "expected 1 or 3, found 2",
        ),
        ('type: "Crop"', zeros((1, 1, 4, 4), (1, 2, 2)), 1, "as many axes"),
        ('type: "Tile"', zeros((2, 3)), 1, "tiles is missing or too small"),
        ('type: "BatchReindex"', zeros((2, 3), (2, 1)), 1, "must be a vector"),
        ('type: "Filter"', zeros((2, 3), (3,)), 1, "one value for each sample"),
        ('type: "Filter"', zeros((2, 3), (2,)), 2, "a top for each bottom but the selector; expected 1, found 2"),
        ('type: "SoftmaxWithLoss"', zeros((2, 3), (3,)), 1, "same first dimension"),
        ('type: "EuclideanLoss"', zeros((2, 3), (2, 2)), 1, "as many values"),
        ('type: "SigmoidCrossEntropyLoss"', zeros((2, 3), (2, 2)), 1, "as many values"),
        ('type: "ContrastiveLoss"', zeros((2, 3), (2, 4), (2,)), 1, r"must be \(N, C\)"),
        ('type: "ContrastiveLoss"', zeros((2, 3), (2, 3), (2, 2)), 1, "one flag for each pair"),
        ('type: "InfogainLoss"', zeros((2, 3), (2,)), 1, "needs its matrix"),
        (
            'type: "InfogainLoss"',
            zeros((2, 3), (2,), (2, 2)),
            1,
            "a row and a column for each class; expected 9, found 4",
        ),
        (
            'type: "Accuracy" accuracy_param { top_k: 4 }',
            zeros((2, 3), (2,)),
            1,
            "top_k is out of range; expected 1 to 3",
        ),
        ('type: "ArgMax" argmax_param { top_k: 4 }', zeros((2, 3)), 1, "top_k is out of range; expected 1 to 3"),
    ],
)
def test_setup_refuses(prototxt, values, tops, message):
    with pytest.raises(LayerError, match=message):
        LayerRun(prototxt, values, tops=tops or 1, in_place=tops == 0)


@pytest.mark.parametrize(
    ("prototxt", "values", "error", "message"),
    [
        ('type: "SoftmaxWithLoss"', [np.zeros((2, 3)), np.array([0, 3])], DataError, r"from 0 to 2, found 3 at \(1,\)"),
        (
            'type: "SoftmaxWithLoss"',
            [np.zeros((2, 3)), np.array([-1, 0])],
            DataError,
            r"from 0 to 2, found -1 at \(0,\)",
        ),
        ('type: "SoftmaxWithLoss"', [np.zeros((2, 3)), np.array(NAN_LABELS)], DataError, r"found nan at \(1,\)"),
        ('type: "SoftmaxWithLoss"', zeros((2, 3, 2), (2, 1)), LayerError, "one label for each prediction"),
        ('type: "Accuracy"', [np.zeros((1, 3, 2)), np.array([[[0, 9]]])], DataError, r"found 9 at \(0, 0, 1\)"),
        ('type: "HingeLoss"', [np.zeros((1, 3)), np.array([3])], DataError, "found 3"),
        ('type: "MultinomialLogisticLoss"', [np.zeros((1, 3)), np.array([3])], DataError, "found 3"),
        ('type: "InfogainLoss"', [np.zeros((1, 3)), np.array([3]), np.eye(3)], DataError, "found 3"),
        ('type: "BatchReindex"', [np.zeros((2, 3)), np.array([0, 2])], DataError, r"0 to 1, found 2 at \(1,\)"),
    ],
)
def test_forward_refuses(prototxt, values, error, message):
    run = LayerRun(prototxt, values)
    with pytest.raises(error, match=message):
        run.forward()


@pytest.mark.parametrize(
    ("prototxt", "values", "wanted"),
    [
        ('type: "SoftmaxWithLoss"', zeros((2, 3), (2,)), 1),
        ('type: "HingeLoss"', zeros((2, 3), (2,)), 1),
        ('type: "MultinomialLogisticLoss"', zeros((2, 3), (2,)), 1),
        ('type: "InfogainLoss"', zeros((2, 3), (2,), (3, 3)), 2),
        ('type: "SigmoidCrossEntropyLoss"', zeros((2, 3), (2, 3)), 1),
        ('type: "ContrastiveLoss"', zeros((2, 3), (2, 3), (2,)), 2),
        ('type: "BatchReindex"', zeros((2, 3), (2,)), 1),
        ('type: "Filter"', zeros((2, 3), (2,)), 1),
        ('type: "Accuracy"', zeros((2, 3), (2,)), 0),
        ('type: "ArgMax"', zeros((2, 3)), 0),
        ('type: "Threshold"', zeros((2, 3)), 0),
    ],
)
def test_backward_refuses_what_has_no_gradient(prototxt, values, wanted):
    run = LayerRun(prototxt, values)
    outputs = run.forward()
    with pytest.raises(LayerError, match="gives no gradient"):
        run.backward(outputs, [i == wanted for i in range(len(values))])
