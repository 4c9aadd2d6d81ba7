"""The net as a whole: wiring, sharing, who gets gradients, reshaping, and what its errors say."""

import numpy as np
import pytest

from breve import Net
from breve.errors import LayerError, NetError, UnsupportedError
from breve.proto import NetParameter
from breve.proto.text import parse

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } } '
LABEL = 'layer { name: "lab" type: "Input" top: "label" input_param { shape { dim: 2 } } } '


def net(text, phase="TRAIN", **options):
    return Net(parse(text, NetParameter), phase, seed=1, **options)


def conv(name, bottom, top, extra=""):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top}" {extra} '
        'convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.5 } } } '
    )


def loss(name, bottom):
    return f'layer {{ name: "{name}" type: "SoftmaxWithLoss" bottom: "{bottom}" bottom: "label" top: "{name}" }} '


def classifier(name, bottom, extra=""):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {extra} '
        'inner_product_param { num_output: 5 weight_filler { type: "xavier" } } } '
    )


def fill_inputs(n):
    rng = np.random.default_rng(0)
    n.blobs["x"].data[...] = rng.standard_normal(n.blobs["x"].shape)
    n.blobs["label"].data[...] = [1, 3]


def test_a_seed_makes_two_nets_alike_and_another_seed_does_not():
    text = INPUT + conv("c", "x", "c")
    first, second = net(text), net(text)
    other = Net(parse(text, NetParameter), seed=2)
    np.testing.assert_array_equal(first.params["c"][0].data, second.params["c"][0].data)
    assert np.abs(first.params["c"][0].data - other.params["c"][0].data).max() > 0.1


def test_backward_gives_the_derivative_of_the_loss_with_respect_to_every_parameter():
    n = net(INPUT + LABEL + conv("c", "x", "c") + classifier("ip", "c") + loss("loss", "ip"), dtype=np.float64)
    fill_inputs(n)
    n.forward()
    n.clear_param_diffs()
    n.backward()
    for blob in n.learnable_params:
        direction = np.random.default_rng(1).standard_normal(blob.shape)
        start, step = blob.data.copy(), 1e-5
        blob.data[...] = start + step * direction
        up = n.forward()
        blob.data[...] = start - step * direction
        down = n.forward()
        blob.data[...] = start
        assert (up - down) / (2 * step) == pytest.approx((blob.diff * direction).sum(), rel=1e-6)


def test_parameter_gradients_accumulate_until_cleared():
    n = net(INPUT + LABEL + classifier("ip", "x") + loss("loss", "ip"))
    fill_inputs(n)
    n.forward()
    n.clear_param_diffs()
    n.backward()
    once = n.params["ip"][0].diff.copy()
    n.backward()
    np.testing.assert_allclose(n.params["ip"][0].diff, 2 * once, rtol=1e-6)


def test_blob_read_twice_gets_the_sum_of_both_gradients():
    eltwise = 'layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "d" top: "s" } '
    n = net(
        INPUT + LABEL + conv("c", "x", "c") + conv("d", "c", "d") + eltwise + classifier("ip", "s") + loss("loss", "ip")
    )
    fill_inputs(n)
    n.forward()
    n.backward()
    np.testing.assert_allclose(
        n.blobs["c"].diff, n.blobs["c_c_0_split_0"].diff + n.blobs["c_c_0_split_1"].diff, rtol=1e-5, atol=1e-7
    )
    assert np.abs(n.blobs["c_c_0_split_0"].diff).max() > 0


def test_loss_weight_scales_loss_and_gradient():
    def run(weight):
        text = INPUT + LABEL + classifier("ip", "x")
        text += (
            f'layer {{ name: "l" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "l" loss_weight: {weight} }}'
        )
        n = net(text)
        fill_inputs(n)
        total = n.forward()
        n.backward()
        return total, n.params["ip"][0].diff.copy()

    (one, one_diff), (three, three_diff) = run(1), run(3)
    assert three == pytest.approx(3 * one)
    np.testing.assert_allclose(three_diff, 3 * one_diff, rtol=1e-5)


def test_loss_layer_without_top_still_counts():
    n = net(
        INPUT
        + LABEL
        + classifier("ip", "x")
        + 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" }'
    )
    fill_inputs(n)
    assert n.forward() > 0
    assert "(automatic)" not in n.blobs


def test_layers_shared_by_name_have_one_parameter_and_the_sum_of_gradients():
    share = 'param { name: "w" } param { name: "b" }'
    n = net(
        INPUT
        + LABEL
        + conv("c", "x", "c", share)
        + conv("d", "c", "d", share)
        + classifier("ip", "d")
        + loss("loss", "ip")
    )
    assert len(n.learnable_params) == 4
    n.params["c"][0].data[0, 0, 0, 0] = 7
    assert n.params["d"][0].data[0, 0, 0, 0] == 7
    fill_inputs(n)
    n.forward()
    n.clear_param_diffs()
    n.backward()
    both = n.params["c"][0].diff.copy()
    n.clear_param_diffs()
    n.backward("loss", "d")
    last = n.params["c"][0].diff.copy()
    n.clear_param_diffs()
    n.backward("c", "c")
    np.testing.assert_allclose(both, last + n.params["c"][0].diff, rtol=1e-5, atol=1e-7)


def test_nothing_flows_below_the_last_layer_that_learns():
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    n = net(
        INPUT
        + LABEL
        + conv("c", "x", "c", frozen)
        + conv("d", "c", "d", frozen)
        + classifier("ip", "d")
        + loss("loss", "ip")
    )
    needs = {step.layer.name: (step.needs_backward, step.propagate_down) for step in n.steps}
    assert needs["c"] == (False, [False])
    assert needs["d"] == (False, [False])
    assert needs["ip"] == (True, [False])
    assert needs["loss"] == (True, [True, False])


def test_propagate_down_false_stops_the_gradient():
    n = net(INPUT + LABEL + conv("c", "x", "c") + classifier("ip", "c", "propagate_down: false") + loss("loss", "ip"))
    needs = {step.layer.name: step.needs_backward for step in n.steps}
    assert needs == {"in": False, "lab": False, "c": False, "ip": True, "loss": True}


def test_branch_that_no_loss_depends_on_is_not_run_backward():
    n = net(
        INPUT + LABEL + conv("c", "x", "c") + conv("side", "c", "side") + classifier("ip", "c") + loss("loss", "ip")
    )
    needs = {step.layer.name: step.needs_backward for step in n.steps}
    assert not needs["side"]
    assert needs["c"]


def test_force_backward_reaches_the_input_but_not_the_label():
    n = net("force_backward: true " + INPUT + LABEL + classifier("ip", "x") + loss("loss", "ip"))
    fill_inputs(n)
    n.forward()
    n.backward()
    assert np.abs(n.blobs["x"].diff).max() > 0
    assert n.steps[-1].propagate_down == [True, False]


def test_force_backward_passes_by_layers_without_a_gradient():
    accuracy = 'layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }'
    gradients = []
    for counted in (accuracy, ""):
        n = net("force_backward: true " + INPUT + LABEL + classifier("ip", "x") + counted + loss("loss", "ip"))
        fill_inputs(n)
        n.forward()
        n.backward()
        gradients.append(n.blobs["x"].diff.copy())
    assert gradients[0].any()
    np.testing.assert_array_equal(*gradients)


def test_reshaped_input_reshapes_the_net_at_the_next_forward():
    n = net(INPUT + conv("c", "x", "c"), "TEST")
    n.blobs["x"].reshape(5, 3, 7, 6)
    n.forward()
    assert n.blobs["c"].shape == (5, 3, 7, 6)
    n.blobs["x"].reshape(1, 3, 4, 4)
    n.reshape()
    assert n.blobs["c"].shape == (1, 3, 4, 4)


def test_part_of_a_net_runs_by_name_or_number():
    n = net(INPUT + conv("c", "x", "c") + conv("d", "c", "d"), "TEST")
    n.blobs["x"].data[...] = 1
    n.forward()
    whole = n.blobs["d"].data.copy()
    n.blobs["c"].data[...] *= 2
    n.forward("d", 2)
    assert np.abs(n.blobs["d"].data - whole).max() > 0.1


def test_user_views_of_parameters_are_followed():
    n = net(INPUT + conv("c", "x", "c"), "TEST")
    weight = n.params["c"][0].data
    n.blobs["x"].data[...] = 1
    n.forward()
    before = n.blobs["c"].data.copy()
    weight *= 2
    n.forward()
    np.testing.assert_allclose(n.blobs["c"].data, 2 * before, rtol=1e-5, atol=1e-6)


def test_outputs_are_the_blobs_that_nobody_reads():
    n = net(INPUT + conv("c", "x", "c") + conv("d", "c", "d") + conv("b", "c", "b"), "TEST")
    assert n.inputs == ["x"]
    assert n.outputs == ["b", "d"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (INPUT + conv("c", "y", "c"), NetError, r"layer 'c' \(Convolution\): unknown bottom blob 'y'"),
        (INPUT + conv("c", "x", "c") + conv("c", "c", "d"), NetError, "duplicate layer name 'c'"),
        (INPUT + conv("c", "x", "c") + conv("d", "x", "c"), NetError, "top blob 'c' is produced by two layers"),
        (INPUT + conv("c", "x", "x"), NetError, "cannot work in place on blob 'x'"),
        (INPUT + conv("c", "x", "c", "propagate_down: [true, false]"), NetError, "expected 1, found 2"),
        (INPUT + conv("c", "x", "c", "param {} param {} param {}"), LayerError, "more `param` entries"),
        (INPUT + conv("c", "x", "c", "loss_weight: [1, 2]"), LayerError, "loss_weight must be given once for each top"),
        (INPUT + 'layer { name: "r" type: "Rectify" bottom: "x" top: "y" }', NetError, "unknown layer type 'Rectify'"),
        (
            INPUT + 'layer { name: "r" type: "ReLU" top: "y" }',
            LayerError,
            "wrong number of bottoms; expected 1, found 0",
        ),
    ],
)
def test_inconsistent_net_is_refused(text, error, message):
    with pytest.raises(error, match=message):
        net(text)


def test_fork_field_that_a_layer_does_not_honour_is_refused():
    loss = "loss_param { label_smoothing: 0.1 }"
    text = INPUT + f'layer {{ name: "c" type: "SoftmaxWithLoss" bottom: "x" bottom: "x" top: "y" {loss} }}'
    with pytest.raises(UnsupportedError, match=r"layer 'c' .SoftmaxWithLoss.: fields of a fork.*label_smoothing"):
        net(text)


def test_shared_parameters_of_another_shape_are_refused():
    text = INPUT + conv("c", "x", "c", 'param { name: "w" }') + classifier("ip", "c", 'param { name: "w" }')
    with pytest.raises(LayerError, match=r"layer 'ip'.*parameter 'w' is shared with layer 'c'"):
        net(text)


def test_layer_number_or_name_that_is_not_there_is_refused():
    n = net(INPUT + conv("conv1", "x", "c"), "TEST")
    with pytest.raises(NetError, match="no layer is named 'conv2'; did you mean 'conv1'"):
        n.forward("conv2")
    with pytest.raises(NetError, match="no such layer number; expected 0 to 1, found 2"):
        n.forward(0, 2)


def test_weights_survive_a_file_and_shared_ones_a_file_that_holds_them_once(tmp_path):
    share = 'param { name: "w" } param { name: "b" }'
    text = INPUT + conv("c", "x", "c", share) + conv("d", "c", "d", share)
    first, other = net(text), Net(parse(text, NetParameter), seed=2)
    for name in ("weights.caffemodel", "weights.caffemodel.h5"):
        first.save(tmp_path / name)
        other.params["c"][0].data[...] = 0
        other.copy_from(tmp_path / name)
        np.testing.assert_array_equal(other.params["d"][0].data, first.params["c"][0].data)


def test_weights_of_another_shape_are_refused_and_nothing_is_copied():
    source = net(INPUT + conv("c", "x", "c") + classifier("ip", "c"))
    target = net(INPUT + conv("c", "x", "c") + classifier("ip", "x").replace("num_output: 5", "num_output: 6"))
    before = target.params["c"][0].data.copy()
    source.params["c"][0].data[...] = 7
    with pytest.raises(
        NetError, match=r"layer 'ip'.*parameter 0 has another shape; expected \(6, 48\), found \(5, 48\)"
    ):
        target.copy_from(source.to_proto())
    np.testing.assert_array_equal(target.params["c"][0].data, before)
