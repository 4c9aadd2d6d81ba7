"""`breve explain` and `breve check` on the command line."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from breve.layers import python
from breve.net import Net

NET = """name: "small"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
    convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
"""
OWN = """import caffe

class Own(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = FACTOR * top[0].diff
"""

ZERO = """
layer { name: "in" type: "Input" top: "x" top: "label" input_param { shape { dim: [2, 3, 5, 5] } shape { dim: 2 } } }
layer { name: "cut" type: "Convolution" bottom: "x" top: "y" propagate_down: false
    convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "ip" type: "InnerProduct" bottom: "y" top: "ip"
    inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "count" type: "Accuracy" bottom: "ip" bottom: "label" top: "count" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def small(folder):
    (folder / "small.prototxt").write_text(NET)
    return folder


def test_explain_prints_and_writes_json_and_page(breve, small):
    at = ("--model", "small.prototxt", "--layer", "conv", "--wrt", "data", "--at", "0,1,2,3")
    result = breve("explain", *at, "--json", "out.json", "--html", "out.html", "--seed", 3)
    assert result.code == 0, result.err
    assert "dX[0, 1, 2, 3] of layer 'conv' (Convolution)" in result.out
    assert "'x' is given random values of seed 3" in result.err
    told = json.loads((small / "out.json").read_text())
    assert told["index"] == [0, 1, 2, 3]
    assert len({round(v, 12) for v in told["derivations"].values()}) == 1
    assert "<title>small: backpropagation" in (small / "out.html").read_text()
    assert {p.name for p in small.iterdir()} >= {"out.json", "out.html"}
    assert not list(small.glob(".out*"))


def test_explain_reads_inputs_from_arrays(breve, small):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 5, 5)).astype(np.float32)
    np.savez(small / "in.npz", x=x)
    net = Net("small.prototxt", "TRAIN")
    net.save("small.caffemodel")
    arguments = ("--weights", "small.caffemodel", "--input", "in.npz", "--layer", "conv", "--wrt", "weights")
    result = breve("explain", "--model", "small.prototxt", *arguments, "--at", "1,2,0,1", "--json", "o.json")
    assert result.code == 0, result.err
    terms = json.loads((small / "o.json").read_text())["terms"]
    assert all(term["factor"] == x[tuple(term["factor_index"])] for term in terms)


def test_explain_reads_a_picture(breve, small):
    pixels = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
    Image.fromarray(pixels).save(small / "in.png")
    arguments = ("--input", "in.png", "--scale", 0.5, "--layer", "conv", "--wrt", "weights", "--at", "0,0,0,0")
    result = breve("explain", "--model", "small.prototxt", *arguments, "--json", "o.json")
    assert result.code == 0, result.err
    term = json.loads((small / "o.json").read_text())["terms"][0]
    assert term["factor"] == 0.5 * pixels[0, 0, 2]  # channel 0 is blue


def test_explain_runs_a_net_on_its_own_data(breve, folder):
    result = breve("explain", "--model", "net.prototxt", "--layer", "ip", "--wrt", "weights", "--at", "3,10")
    assert result.code == 0, result.err
    assert "4 terms" in result.out
    assert "the objective is the net's loss" in result.out
    assert result.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layer", "cnov", "--at", "0"), "no layer is named 'cnov'"),
        (("--layer", "conv", "--at", "0,9,0,0"), "no such element of data of layer 'conv'"),
        (("--layer", "conv", "--at", "zero"), "expected whole numbers separated by commas"),
        (("--layer", "conv", "--at", "0,0,0,0", "--input", "gone.npz"), "gone.npz"),
        (("--layer", "conv", "--at", "0,0,0,0", "--input", "other.npz"), "holds 'a', which is no input of the net"),
        (("--layer", "conv", "--at", "0,0,0,0", "--terms", "few"), "expected a number or all"),
        (("--layer", "conv", "--at", "0,0,0,0", "--json", "no/where.json"), "no"),
    ],
)
def test_explain_says_what_is_wrong(breve, small, arguments, message):
    np.savez(small / "other.npz", a=np.zeros(1), b=np.zeros(1))
    result = breve("explain", "--model", "small.prototxt", *arguments)
    assert result.code != 0
    assert message in result.err
    assert "Traceback" not in result.err


def test_check_of_a_right_net(breve, small):
    result = breve("check", "--model", "small.prototxt", "--quick", "--json", "out.json")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-2].endswith("checks, nothing wrong")
    report = json.loads((small / "out.json").read_text())
    assert report["ok"]
    assert {f["layer"] for f in report["findings"]} == {"conv", "relu", "(the whole net)"}


def test_check_of_one_layer(breve, small):
    result = breve("check", "--model", "small.prototxt", "--layer", "relu")
    assert result.code == 0, result.err
    assert "Convolution" not in result.out


@pytest.mark.parametrize(("factor", "code"), [(2, 0), (4, 1)])
def test_check_runs_python_layers_when_allowed_and_exits_with_1_when_wrong(breve, small, monkeypatch, factor, code):
    monkeypatch.syspath_prepend(str(small))
    monkeypatch.setitem(python._state, "allowed", False)
    for module in ("own", "caffe"):  # `import caffe` in the module is to give breve's
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, module)
    (small / "own.py").write_text(OWN.replace("FACTOR", str(factor)))
    param = 'python_param { module: "own" layer: "Own" }'
    (small / "own.prototxt").write_text(NET + f'layer {{ name: "own" type: "Python" bottom: "y" top: "z" {param} }}')
    refused = breve("check", "--model", "own.prototxt", "--quick")
    assert refused.code == 1
    assert "--allow-python-layers" in refused.err
    result = breve("check", "--model", "own.prototxt", "--quick", "--allow-python-layers")
    assert result.code == code, result.out + result.err
    assert ("off by a factor of 2" in result.out) == bool(code)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layer", "cnov", "--at", "0,0,0,0"), "no layer is named 'cnov'; did you mean 'conv'?"),
        (("--layer", "conv", "--at", "0,3,0,0"), "expected an index from 0,0,0,0 to 1,2,5,5"),
        (("--layer", "conv", "--at", "0,-1,0,0"), "found 0,-1,0,0"),
        (("--layer", "relu", "--wrt", "weights", "--at", "0"), "has no weights; it has 0 parameters"),
        (("--layer", "conv", "--wrt", "wieghts", "--at", "0,0,0,0"), "did you mean 'weights'?"),
        (("--layer", "in", "--at", "0,0,0,0"), "has no data; it has 0 bottoms"),
        (("--layer", "conv", "--at", "0,0,0,0", "--html", "no/page.html"), "make the folder no first"),
    ],
)
def test_wrong_questions_are_answered_on_one_line(breve, small, options, said):
    result = breve("explain", "--model", "small.prototxt", *options)
    assert result.code == 1
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_gradient_that_training_leaves_out_says_so(breve, folder):
    frozen = 'name: "cut" type: "Convolution" param { lr_mult: 0 }'
    text = ZERO.replace("propagate_down: false", "").replace('name: "cut" type: "Convolution"', frozen)
    (folder / "frozen.prototxt").write_text(text)
    asked = ("--model", "frozen.prototxt", "--layer", "cut", "--at", "0,0,0,0")
    assert "its lr_mult is 0; it is computed here" in breve("explain", *asked, "--wrt", "weights").out
    assert "nothing below learns; it is computed here" in breve("explain", *asked, "--wrt", "data").out
    assert "training leaves it out" not in breve("explain", *asked[:-1], "0", "--wrt", "bias").out


def test_an_empty_batch_is_named(breve, folder):
    (folder / "empty.prototxt").write_text(ZERO.replace("dim: [2, 3", "dim: [0, 3").replace("dim: 2", "dim: 0"))
    found = breve("explain", "--model", "empty.prototxt", "--layer", "ip", "--wrt", "weights", "--at", "0,0")
    assert (found.code, found.err.strip()) == (
        1,
        "error: layer 'ip' reads an empty batch: there is no gradient to explain",
    )
    checked = breve("check", "--model", "empty.prototxt")
    assert (checked.code, "nothing was checked" in checked.out) == (0, True)


@pytest.mark.parametrize(
    ("layer", "wrt", "at", "why"),
    [
        ("loss", "data1", "1", "it is read as labels, places or a shape"),
        ("count", "data", "1,2", "no gradient flows through layers of type Accuracy"),
        ("norm", "weights", "3", "it is a statistic"),
        ("cut", "data", "0,0,0,0", "the prototxt says propagate_down: false"),
    ],
)
def test_a_gradient_that_is_zero_by_rule_says_why(breve, folder, layer, wrt, at, why):
    (folder / "zero.prototxt").write_text(ZERO)
    where = ("--layer", layer, "--wrt", wrt, "--at", at)
    result = breve("explain", "--model", "zero.prototxt", *where, "--json", "o.json")
    assert result.code == 0, result.err
    assert why in result.out
    told = json.loads((folder / "o.json").read_text())
    assert (told["value"], told["terms"], told["algorithm"]) == (0, [], "none")
    assert "agrees" not in told["numeric"]["verdict"]
