"""Old forms of nets and solvers against what Caffe 1.0 makes of them (`upgrades/*_current.prototxt`)."""

import logging
from pathlib import Path

import pytest

from breve.errors import NetError, SolverError
from breve.proto import MESSAGES, NetParameter, SolverParameter
from breve.proto.binary import array_to_blob, blob_to_array, read_net_binary, write_binary
from breve.proto.schema import WIRE_MESSAGES
from breve.proto.text import parse, read_net, read_net_file
from breve.proto.upgrade import current_type, needs_upgrade, upgrade_net, upgrade_solver
from breve.proto.upgrade_v0 import V0_TYPES

UPGRADES = Path(__file__).parent / "upgrades"
OLD = pytest.mark.parametrize("name", ["v0", "v1", "batch_norm"])


@OLD
def test_text_is_upgraded_as_caffe_does(name):
    net = read_net(UPGRADES / f"{name}.prototxt")
    net.ClearField("state")
    assert net == parse((UPGRADES / f"{name}_current.prototxt").read_text(), NetParameter)


@OLD
def test_binary_is_upgraded_as_text_is(name, tmp_path):
    path = UPGRADES / f"{name}.prototxt"
    write_binary(parse(path.read_text(), NetParameter), tmp_path / "old.caffemodel")
    assert read_net_binary(tmp_path / "old.caffemodel").SerializeToString() == read_net(path).SerializeToString()


@OLD
def test_upgraded_nets_need_no_upgrade(name):
    old = parse((UPGRADES / f"{name}.prototxt").read_text(), NetParameter)
    assert needs_upgrade(old)
    new = read_net(UPGRADES / f"{name}.prototxt")
    assert not needs_upgrade(new)
    again = NetParameter()
    again.CopyFrom(new)
    upgrade_net(again)
    assert again == new


@OLD
def test_layers_keep_their_lines(name):
    path = UPGRADES / f"{name}.prototxt"
    file, lines = read_net_file(path), path.read_text().split("\n")
    assert len(file.message.layer) == len(file.layer_lines)
    for layer, number in list(zip(file.message.layer, file.layer_lines, strict=True))[1:]:
        assert f'name: "{layer.name}"' in lines[number - 1] + lines[number]
    assert lines[file.layer_lines[0] - 1].startswith("input:")


def test_the_files_name_every_old_type():
    v0 = {layer.layer.type for layer in parse((UPGRADES / "v0.prototxt").read_text(), NetParameter).layers}
    assert v0 == {*V0_TYPES, "padding"} - {"im2col"}
    v1 = {layer.type for layer in parse((UPGRADES / "v1.prototxt").read_text(), NetParameter).layers}
    assert v1 == {number for number in MESSAGES["V1LayerParameter"].LayerType.values() if 0 < number < 47000}
    assert current_type("NONE") == ""


def test_blobs_move_along():
    net = WIRE_MESSAGES["NetParameter"]()
    v0 = net.layers.add(bottom=["x"], top=["y"]).layer
    v0.name, v0.type = "ip", "innerproduct"
    array_to_blob(blob_to_array(MESSAGES["BlobProto"](shape={"dim": [2]}, data=[1, 2])), v0.blobs.add())
    upgrade_net(net)
    assert net.layer[0].type == "InnerProduct"
    assert blob_to_array(net.layer[0].blobs[0]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layers { } layer { name: "x" }', "old `layers` and new `layer` are mixed"),
        (
            'input: "x"',
            "inputs and their shapes do not match; expected 1 input_shape, or 4 input_dim, found 0 input_shape",
        ),
        ('input: "x" input_dim: [1, 2]', "found 0 input_shape and 2 input_dim"),
        ('input: "x" input: "y" input_dim: [1, 2, 3, 4, 5]', "found 0 input_shape and 5 input_dim"),
        ('input: "x" input: "y" input_shape { dim: 1 }', "expected 2 input_shape, or 8 input_dim"),
        ('layers { layer { name: "x" type: "convolution" } }', "layer 'x' has an unknown V0 type 'convolution'"),
        (
            'layers { layer { name: "p" type: "padding" } top: "y" }'
            'layers { layer { name: "r" type: "relu" } bottom: "y" }',
            "padding layer 'p' feeds layer 'r' (relu); expected one conv or pool layer",
        ),
    ],
)
def test_contradictions_are_errors(text, message):
    with pytest.raises(NetError) as caught:
        upgrade_net(parse(text, NetParameter), where="net.prototxt")
    assert str(caught.value).startswith("net.prototxt: ")
    assert message in str(caught.value)


def test_an_input_may_have_no_axes():
    net = parse('input: "x" input: "y" input_shape { } input_shape { dim: 2 }', NetParameter)
    upgrade_net(net)
    assert [list(shape.dim) for shape in net.layer[0].input_param.shape] == [[], [2]]


def test_what_a_v0_type_has_no_use_for_is_told(caplog):
    net = parse('layers { layer { name: "r" type: "relu" num_output: 3 } bottom: "x" top: "y" }', NetParameter)
    with caplog.at_level(logging.WARNING, "breve"):
        upgrade_net(net)
    assert "layer 'r' (relu): num_output is not a parameter of this type; ignored" in caplog.text


def test_transforms_that_caffe_would_not_look_at_are_told(caplog):
    net = parse('layer { name: "d" type: "Data" data_param { scale: 2 mirror: true } }', NetParameter)
    with caplog.at_level(logging.WARNING, "breve"):
        upgrade_net(net)
    assert "layer 'd': scale, mirror in data_param has no effect; move it to transform_param" in caplog.text
    assert not net.layer[0].HasField("transform_param")


def test_scale_of_windows_is_looked_at_and_not_warned_of(caplog):
    net = parse('layer { name: "d" type: "WindowData" window_data_param { scale: 2 } }', NetParameter)
    with caplog.at_level(logging.WARNING, "breve"):
        upgrade_net(net)
    assert not caplog.records
    net.layer[0].window_data_param.mirror = True
    upgrade_net(net)
    assert "layer 'd': mirror in window_data_param has no effect" in caplog.text


def test_each_upgrade_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, "breve"):
        read_net(UPGRADES / "v0.prototxt")
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "upgraded V0 layers to V1",
        "upgraded `layers` to `layer`",
        "upgraded input fields to an Input layer",
    ]


@pytest.mark.parametrize("number", range(6))
def test_solver_types(number):
    solver = SolverParameter(solver_type=number)
    assert needs_upgrade(solver)
    upgrade_solver(solver)
    assert solver.type == ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"][number]
    assert not needs_upgrade(solver)


def test_both_solver_types_are_an_error():
    with pytest.raises(SolverError, match="keep type"):
        upgrade_solver(SolverParameter(type="SGD", solver_type=0))


def test_nets_inside_a_solver_are_upgraded():
    solver = parse(
        "train_net_param { layers { type: RELU } } test_net_param { layers { type: TANH } }", SolverParameter
    )
    assert needs_upgrade(solver)
    upgrade_solver(solver)
    assert (solver.train_net_param.layer[0].type, solver.test_net_param[0].layer[0].type) == ("ReLU", "TanH")


def test_old_snapshots_of_caffe(models):
    folder = models / "old_snapshots"
    text = read_net(folder / "lenet_v1_train_test.prototxt")
    binary = read_net_binary(folder / "lenet_iter_5000.caffemodel")
    assert [layer.type for layer in binary.layer][:3] == ["Data", "Convolution", "Pooling"]
    convolution = next(layer for layer in text.layer if layer.name == "conv1")
    assert [param.lr_mult for param in convolution.param] == [1, 2]
    assert blob_to_array(binary.layer[1].blobs[0]).shape == (20, 1, 5, 5)
