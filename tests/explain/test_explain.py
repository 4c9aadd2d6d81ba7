"""`breve.explain`: the user's own numbers, the way to the loss, what is said of each layer, and what is refused."""

import json

import numpy as np
import pytest

import breve
from breve.errors import NetError
from breve.explain.numeric import derivative
from breve.explain.unfold import Pass
from breve.explain.verdict import factor_of
from explain.nets import net_of

NET = """
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
LABELS = """layer { name: "l" type: "DummyData" top: "label"
    dummy_data_param { data_filler { value: 2 } shape { dim: 3 } } }"""


def trained_net(**options):
    net = net_of("force_backward: true " + LABELS + NET, (3, 2, 8, 8), **options)
    net.forward()
    net.clear_param_diffs()
    net.backward()
    return net


def test_values_are_those_of_the_users_own_pass_bit_for_bit():
    net = trained_net()
    rng = np.random.default_rng(0)
    for blob, layer in (("x", "conv"), ("conv", "relu"), ("pool", "drop"), ("ip", "loss")):
        for _ in range(5):
            at = tuple(int(rng.integers(d)) for d in net.blobs[blob].shape)
            explained = breve.explain(net, layer, "data", at)
            if blob in ("x", "ip"):  # nobody works in place on these: the net still holds what the layer wrote
                assert explained.value == net.blobs[blob].diff[at]
    for layer, params in net.params.items():
        for wrt, blob in zip(("weights", "bias"), params, strict=True):
            at = tuple(int(rng.integers(d)) for d in blob.shape)
            assert breve.explain(net, layer, wrt, at).value == blob.diff[at]


def test_the_net_is_left_as_it_was():
    net = trained_net()
    before = {name: (blob.data.copy(), blob.diff.copy()) for name, blob in net.blobs.items()}
    params = [(blob.data.copy(), blob.diff.copy()) for blob in net.learnable_params]
    states = [str(layer.rng.bit_generator.state) for layer in net.layers]
    breve.explain(net, "conv", "weights", (0, 0, 1, 1))
    for name, (data, diff) in before.items():
        np.testing.assert_array_equal(net.blobs[name].data, data)
        np.testing.assert_array_equal(net.blobs[name].diff, diff)
    for blob, (data, diff) in zip(net.learnable_params, params, strict=True):
        np.testing.assert_array_equal(blob.data, data)
        np.testing.assert_array_equal(blob.diff, diff)
    assert [str(layer.rng.bit_generator.state) for layer in net.layers] == states


def test_gradient_wrt_data_is_there_though_the_net_did_not_want_it():
    net = net_of(LABELS + NET, (3, 2, 8, 8))
    net.forward()
    assert not net.steps[2].propagate_down[0]
    assert breve.explain(net, "conv", "data", (0, 0, 3, 3)).numeric.verdict.startswith("agrees")


def test_diffs_that_the_user_gave_the_outputs_are_the_objective():
    net = net_of('layer { name: "t" type: "TanH" bottom: "x" top: "y" }', (2, 3))
    net.forward()
    net.blobs["y"].diff[...] = 5
    e = breve.explain(net, "t", "data", (1, 2))
    assert e.terms.top_diff.tolist() == [5]
    assert "the diffs that the net's outputs hold" in e.remarks[0]


def test_json_has_the_keys_and_reads_back_the_engines_numbers():
    net = trained_net()
    e = breve.explain(net, "conv", "data", (0, 1, 4, 4))
    told = json.loads(json.dumps(e.to_json(), allow_nan=False))
    assert set(told) >= {
        "layer", "type", "wrt", "index", "value", "terms", "sum", "derivations", "ulp", "numeric", "algorithm",
        "algorithm_error",
    }  # fmt: skip
    assert set(told["terms"][0]) >= {"top_index", "top_diff", "factor_index", "factor", "product"}
    assert set(told["derivations"]) == {"chain_rule", "rotated_kernel", "gemm_col2im"}
    assert set(told["numeric"]) >= {"value", "step", "verdict"}
    assert (told["layer"], told["type"], told["wrt"], told["index"]) == ("conv", "Convolution", "data", [0, 1, 4, 4])
    assert told["value"] == net.blobs["x"].diff[0, 1, 4, 4]
    weight = net.params["conv"][0].data
    for term in told["terms"]:
        assert term["factor"] == weight[tuple(term["factor_index"])]
        assert term["product"] == term["top_diff"] * term["factor"]
    assert told["sum"] == pytest.approx(sum(t["product"] for t in told["terms"]), rel=1e-12)
    assert abs(told["ulp"]) < 64


def test_text_tells_the_whole_story():
    e = breve.explain(trained_net(), "conv", "data", (0, 1, 4, 4))
    text = str(e)
    for part in (
        "dX[0, 1, 4, 4] of layer 'conv' (Convolution)", "y * 1 - 0 + r * 1 = h=4", "36 terms", "running sum",
        "correlation with the rotated kernel", "W^T . dY, then col2im", "units in the last place", "agrees (to",
        "The way to the loss", "What texts call it", "the objective is the net's loss",
    ):  # fmt: skip
        assert part in text, part
    assert "(all: --terms all)" in text
    assert "(all: --terms all)" not in e.to_text(terms=None)


def test_text_of_terms_that_are_all_zero_shows_some_and_counts_the_others():
    net = net_of(
        'layer { name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param { kernel_size: 3 } }', (1, 1, 5, 5)
    )
    net.blobs["x"].data[0, 0, 1, 1] = -100
    text = breve.explain(net, "p", "data", (0, 0, 1, 1)).to_text(80, terms=3)
    assert "4 terms" in text
    assert sum(line.startswith("   [0,0,") for line in text.splitlines()) == 3
    assert "and 1 that is zero" in text


def test_text_fits_a_narrow_terminal():
    e = breve.explain(trained_net(), "conv", "data", (0, 1, 4, 4))
    table = e.to_text(80).split("36 terms")[1].split("The way")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def test_way_goes_layer_by_layer_to_the_loss():
    net = trained_net()
    links = breve.explain(net, "conv", "data", (0, 1, 4, 4)).chain
    assert [link.layer for link in links] == ["conv", "relu", "pool", "drop", "ip", "loss", ""]
    assert [link.blob for link in links] == ["x", "conv", "conv", "pool", "pool", "ip", "loss"]
    assert links[-1].diff == 1
    assert links[0].diff == net.blobs["x"].diff[0, 1, 4, 4]


def test_symbols_name_the_blobs_of_this_net():
    symbols = {s.symbol: s.here for s in breve.explain(trained_net(), "conv", "bias", (0,)).symbols}
    assert symbols["δ^l = ∂L/∂z^l"] == "blobs['conv'].diff, once 'relu' has run backward over it"
    assert symbols["a^l, δ^l (merged)"] == "blobs['pool'].data, .diff"
    assert symbols["∂L/∂a^(l-1)"] == "blobs['x'].diff"


def test_relu_gate_and_pooling_window_are_told():
    run = Pass(trained_net())
    relu = run.records[run.number("relu")].bottom_data[0]
    closed = tuple(int(i) for i in np.argwhere(relu < 0)[0])
    assert run.explain("relu", "data", closed).remarks[-1].endswith("slope 0: the gate is closed")
    told = run.explain("pool", "data", (0, 0, 3, 2)).remarks[-1]
    assert told.startswith("window (1, 1): rows 2 to 3, columns 2 to 3; maximum ")


def test_tie_goes_to_the_first_and_is_told():
    net = net_of(
        'layer { name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param { kernel_size: 2 } }', (1, 1, 2, 2)
    )
    net.blobs["x"].data[...] = [[[[1, 3], [3, 3]]]]
    run = Pass(net)
    first, second = run.explain("p", "data", (0, 0, 0, 1)), run.explain("p", "data", (0, 0, 1, 0))
    assert first.value == first.terms.top_diff[0] != 0
    assert second.value == 0
    assert "a tie of 3, the first in reading order takes all" in second.remarks[-1]
    assert second.numeric.verdict.startswith("kink")


def test_average_at_the_border_counts_padding_as_caffe_does():
    text = """layer { name: "p" type: "Pooling" bottom: "x" top: "y"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }"""
    run = Pass(net_of(text, (1, 1, 5, 5)))
    e = run.explain("p", "data", (0, 0, 0, 0))
    assert e.terms.factor.tolist() == [1 / 9]
    assert "divided by 9, of which 4 lie in the image" in e.remarks[-1]


def test_three_paths_of_batch_norm_add_up():
    run = Pass(net_of('layer { name: "b" type: "BatchNorm" bottom: "x" top: "y" }', (3, 2, 4, 4)))
    e = run.explain("b", "data", (1, 1, 2, 3))
    paths = [float(remark.rsplit("= ", 1)[1]) for remark in e.remarks[-3:]]
    assert sum(paths) == pytest.approx(e.sum, abs=1e-8 * max(map(abs, paths)))
    assert [remark.split(":")[0] for remark in e.remarks[-3:]] == [
        "through the value itself", "through the mean", "through the variance",
    ]  # fmt: skip


def test_softmax_loss_is_p_minus_y():
    run = Pass(trained_net())
    p = np.exp(run.records[run.number("loss")].bottom_data[0][1].astype(np.float64))
    p /= p.sum()
    e = run.explain("loss", "data", (1, 2))
    assert e.sum == pytest.approx((p[2] - 1) / 3, rel=1e-6)
    assert "p - y = " in e.remarks[-1]


def test_dropout_mask_is_that_of_the_users_pass():
    net = net_of('force_backward: true layer { name: "d" type: "Dropout" bottom: "x" top: "y" }', (4, 50))
    net.forward()
    net.blobs["y"].diff[...] = 1
    net.backward()
    for at in ((0, 0), (1, 7), (2, 30), (3, 49)):
        e = breve.explain(net, "d", "data", at)
        assert e.value == e.sum == net.blobs["x"].diff[at]


def test_split_adds_up_its_readers():
    text = """layer { name: "a" type: "TanH" bottom: "x" top: "a" }
        layer { name: "b" type: "TanH" bottom: "x" top: "b" }"""
    run = Pass(net_of(text, (2, 3)))
    e = run.explain("x_in_0_split", "data", (1, 1))
    assert len(e.terms) == 2
    assert "2 layers read this blob" in e.remarks[-1]


def test_layer_without_gradient_says_why():
    e = Pass(net_of(LABELS + NET.replace("SoftmaxWithLoss", "Accuracy"), (3, 2, 8, 8))).explain("loss", "data", (0, 0))
    assert e.value == 0
    assert "does not change with small changes" in e.formula


@pytest.mark.parametrize(
    ("layer", "wrt", "at", "message"),
    [
        ("cnov", "data", (0, 0, 0, 0), "no layer is named 'cnov'.*did you mean 'conv'"),
        ("conv", "wieghts", (0, 0, 0, 0), "unknown wrt.*did you mean 'weights'"),
        ("relu", "weights", (0,), r"layer 'relu' \(ReLU\) has no weights; it has 0 parameters"),
        ("conv", "data", (0, 0, 8, 0), "no such element of data.*expected an index from 0,0,0,0 to 2,1,7,7"),
        ("conv", "bias", (0, 0), "expected an index from 0 to 3, found 0,0"),
    ],
)
def test_what_is_not_there_is_refused_with_a_hint(layer, wrt, at, message):
    with pytest.raises(NetError, match=message):
        breve.explain(net_of(LABELS + NET, (3, 2, 8, 8)), layer, wrt, at)


def test_float64_nets_are_explained_too():
    net = net_of(LABELS + NET, (3, 2, 8, 8), dtype=np.float64)
    net.forward()
    e = breve.explain(net, "conv", "data", (0, 1, 4, 4))
    assert e.dtype == "float64"
    assert e.value == pytest.approx(e.sum, rel=1e-12)


@pytest.mark.parametrize(("at", "slope"), [(0.3, 2 * 0.3), (-2.0, -4.0)])
def test_derivative_by_differences(at, slope):
    estimate = derivative(lambda h: (at + h) ** 2 - at**2)
    assert estimate.value == pytest.approx(slope, rel=1e-9)
    assert estimate.kink is None


def test_derivative_of_a_function_in_float32_takes_large_steps():
    def change(h):
        return float(np.float32(np.sin(np.float32(1 + h))) - np.float32(np.sin(np.float32(1))))

    estimate = derivative(change)
    assert estimate.value == pytest.approx(np.cos(1), abs=20 * estimate.uncertainty)
    assert estimate.uncertainty < 1e-3


@pytest.mark.parametrize(
    ("analytic", "numeric", "words"),
    [
        (1.0, 0.5, "factor of 2"),
        (1.0, 4.0, "factor of 1/4"),
        (-1.0, 1.0, "wrong sign"),
        (1.0, 0.7, "factor of 1.429"),
        (1, 0, ""),
    ],
)
def test_factor_between_two_numbers_in_words(analytic, numeric, words):
    assert words in factor_of(analytic, numeric)


def test_values_are_those_of_the_users_pass_where_layers_run_in_one_sweep():
    text = """force_backward: true
    layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
    layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 5 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }"""
    net = net_of(LABELS + text, (3, 2, 8, 8))
    net.forward()
    net.clear_param_diffs()
    net.backward()
    rng = np.random.default_rng(0)
    for _ in range(20):
        at = tuple(int(rng.integers(d)) for d in (3, 2, 8, 8))
        assert breve.explain(net, "conv", "data", at).value == net.blobs["x"].diff[at]
        at = tuple(int(rng.integers(d)) for d in (4, 2, 3, 3))
        assert breve.explain(net, "conv", "weights", at).value == net.params["conv"][0].diff[at]
