"""Text files: what is read, what is refused and in which words, and where the layers stand."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breve.errors import BreveError, FileFormatError, ParseError
from breve.proto import MESSAGES, LayerParameter, NetParameter, SolverParameter
from breve.proto.text import parse, read_net, read_net_file, read_solver, read_text, to_text
from breve.proto.tokens import layer_lines, tokens

NET = """\
# a net
name: "small"
layer {
  name: "data" type: "Input" top: "data"
  input_param { shape { dim: [1, 3, 8, 8] } }
}
layer
{
  name: "layer { # not a comment" type: 'Convolution' bottom: "data", top: "conv";
  convolution_param < num_output: 0x10 kernel_size: 3 weight_filler { type: "xavier" std: 1.5f } >
}
layer: [ { name: "relu" }, {
  name: "prob" } ]
"""


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('name: "a", force_backward: true; debug_info: false', "name", "a"),
        ("name: 'a' \"b\"\n'c'", "name", "abc"),
        ('name: "\\x41\\101\\n"', "name", "AA\n"),
        ("input_dim: [1, 2] input_dim: 010 input_dim: 0x10", "input_dim", [1, 2, 8, 16]),
        ("input_dim: []", "input_dim", []),
        ("force_backward: t", "force_backward", True),
        ("force_backward: 1", "force_backward", True),
        ("name: 'a' # comment", "name", "a"),
    ],
)
def test_what_protobuf_accepts_in_c_is_accepted(text, field, value):
    assert getattr(parse(text, NetParameter), field) == value


def test_numbers_in_all_their_forms():
    text = "loss_weight: 1.5f loss_weight: [.5, 1., 2f] loss_weight: 1e-3 loss_weight: -inf loss_weight: nan"
    values = list(parse(text, LayerParameter).loss_weight)
    assert values[:5] == pytest.approx([1.5, 0.5, 1, 2, 1e-3])
    assert values[5] == float("-inf")
    assert values[6] != values[6]


def test_enum_by_name_and_by_number():
    assert parse("phase: TRAIN", MESSAGES["NetState"]) == parse("phase: 0", MESSAGES["NetState"])


ERRORS = [
    ('layer { nme: "x" }', "net:1:9: unknown field 'nme' in layer; did you mean 'name'?"),
    (
        "layer {\n  convolution_param { pda: 1 }\n}",
        "net:2:23: unknown field 'pda' in convolution_param; did you mean 'pad'",
    ),
    (
        "layer { kernel_size: 3 }",
        "net:1:9: unknown field 'kernel_size' in layer; it belongs inside convolution_param or pool",
    ),
    (
        'layer {\n name: "a"\nlayer { }',
        "net:3:1: unknown field 'layer' in layer; it belongs further out: is a } missing before it?",
    ),
    ("layer { pooling_param { pool: MAXX } }", "net:1:31: 'pool' has no value MAXX; did you mean 'MAX'?"),
    ("layer { include { phase: 7 } }", "net:1:26: 'phase' has no value 7; known: TEST, TRAIN"),
    ('state { phase: "test" }', "net:1:16: 'phase' has no value \"test\"; write TEST"),
    ('layers { type: "Convolution" }', "net:1:16: 'type' has no value \"Convolution\"; write CONVOLUTION"),
    (
        "layer { type: SOFTMAX_LOSS }",
        "net:1:15: wrong value for 'type'; expected a string in quotes, found SOFTMAX_LOSS; write \"SoftmaxWithLoss\"",
    ),
    ('name: "a"\nname: "b" "c"', "net:2:1: 'name' is given twice in NetParameter; it takes one value"),
    ("layer { pooling_param { }\n pooling_param { } }", "net:2:2: 'pooling_param' is given twice in layer"),
    (
        "input_dim: 3.5",
        "net:1:12: wrong value for 'input_dim'; expected an integer from -2147483648 to 2147483647, found 3.5",
    ),
    (
        "layer { pooling_param { pad: -3 } }",
        "net:1:30: wrong value for 'pad'; expected an integer from 0 to 4294967295, found -3",
    ),
    ("layer { loss_weight: abc }", "net:1:22: wrong value for 'loss_weight'; expected a number, found abc"),
    ("force_backward: yes", "net:1:17: wrong value for 'force_backward'; expected true or false, found yes"),
    ("name: small", "net:1:7: wrong value for 'name'; expected a string in quotes, found small; write \"small\""),
    ('name: "small\n', "net:1:7: the string of 'name' is not closed on its line; found \"small"),
    ('name "small"', "net:1:6: 'name' has no value; expected : after name, found \"small\""),
    ("name:", "net:1:5: 'name' has no value"),
    ('layer: "x"', "net:1:8: wrong value for 'layer'; expected {, found \"x\""),
    ("input_dim: [1 2]", "net:1:15: the list breaks off; expected , or ], found 2"),
    ('layer { name: "a"\n  input_param { shape { dim: 1 } }', "net:1:1: `layer` begins here and is never closed"),
    ("layer { top: 'a' ]", "net:1:18: no field; expected the name of a field of layer, found ]"),
    ("layer { }\n}", "net:2:1: no field; expected the name of a field of NetParameter, found }"),
    ("// a comment of another language", "net:1:1: no field; expected the name of a field of NetParameter, found /"),
    (
        "layer { }\nlayer {\n clip_param { min: 0 } }",
        "net:2: required fields are missing; expected layer[1].clip_param.max",
    ),
    ("layer { [ext.field]: 1 }", "net:1:10: no field; expected the name of a field of layer"),
    (r'name: "\xff"', "net:1:13: Couldn't parse string"),
    (r'name: "C:\\data\new\mnist"', r"net:1:20: unknown escape \m; write \\ for a backslash, or / in a path"),
    (r"name: 'C:\Users'", r"net:1:10: unknown escape \U"),
    (r"name: '\400'", r"net:1:8: unknown escape \400"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_error_says_where_what_and_what_instead(text, message):
    with pytest.raises(ParseError) as caught:
        parse(text, NetParameter, "net")
    assert str(caught.value).startswith(message)


def where_parsing_stops(text):
    try:
        parse(text, NetParameter, "net")
    except ParseError as error:
        return error.where
    return "net:0"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_text_gives_a_parse_error_and_nothing_else(data):
    parts = [token.text for token in tokens(NET)]
    at = data.draw(st.integers(0, len(parts) - 1))
    rest = data.draw(st.sampled_from([parts[at + 1 :], parts[at:], []]))
    junk = data.draw(
        st.lists(st.sampled_from([*"{}[]<>:,;\"'#\\\n-", "layer", "name", "1", "é", "\x01", '"x"']), max_size=4)
    )
    assert re.match(r"net:\d+(:\d+)?$", where_parsing_stops(" ".join(parts[:at] + junk + rest)))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_a_net_or_a_parse_error(text):
    assert where_parsing_stops(text).startswith("net:")


def test_layer_lines_follow_braces_strings_and_comments():
    assert layer_lines(NET) == [3, 7, 12, 12]
    assert [layer.name for layer in parse(NET, NetParameter).layer] == [
        "data",
        "layer { # not a comment",
        "relu",
        "prob",
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text("layer{}#\"'\\ \n", max_size=8), st.integers(0, 3)), max_size=6))
def test_layer_lines_match_the_layers(layers):
    text = "".join("\n" * gap + to_text(NetParameter(layer=[LayerParameter(name=name)])) for name, gap in layers)
    lines = text.split("\n")
    assert len(layer_lines(text)) == len(layers)
    assert all(lines[line - 1].startswith("layer {") for line in layer_lines(text))


def test_text_round_trip_of_a_net():
    net = parse(NET, NetParameter)
    assert parse(to_text(net), NetParameter) == net


@settings(max_examples=50, deadline=None)
@given(
    name=st.text(),
    weights=st.lists(st.floats(width=32, allow_nan=False)),
    dims=st.lists(st.integers(-(2**31), 2**31 - 1)),
)
def test_text_round_trip_of_any_values(name, weights, dims):
    net = NetParameter(name=name, input_dim=dims, layer=[LayerParameter(name=name, loss_weight=weights)])
    assert parse(to_text(net), NetParameter) == net


def test_net_file_says_where_each_layer_stands(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('input: "x" input_dim: [1, 1, 2, 2]\n\nlayers { name: "a" type: RELU bottom: "x" top: "y" }\n')
    file = read_net_file(path)
    assert [layer.type for layer in file.message.layer] == ["Input", "ReLU"]
    assert file.where(0) == f"{path}:1"
    assert file.where(1) == f"{path}:3"
    assert read_net(path) == file.message


def test_bytes_that_are_not_utf8_do_not_matter_in_comments(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"# caf\xe9\nname: 'a'")
    assert read_net(path).name == "a"


def test_a_byte_order_mark_and_windows_line_ends_are_nothing(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"\xef\xbb\xbfname: 'a' # one\r\nforce_backward: true\r\n")
    assert read_net(path).force_backward


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x0a\x05LeNet\x12\x00", "expected text (.prototxt), found binary data"),
        (b"name: 'a'\x00", "found binary data"),
        (b"PK\x03\x04....", "found a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "found a git-LFS pointer"),
        ("name: 'a'".encode("utf-16"), "found text in UTF-16; save it as UTF-8"),
        (b"<!DOCTYPE html><html>", "found a web page"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, message):
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=re.escape(str(path))) as caught:
        read_text(path)
    assert message in str(caught.value)


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "solver.prototxt").write_text("base_lr: 1")
    with pytest.raises(FileFormatError, match=r"did you mean 'solver.prototxt'\?"):
        read_solver(tmp_path / "sovler.prototxt")
    with pytest.raises(FileFormatError, match="there is no folder"):
        read_solver(tmp_path / "nowhere" / "solver.prototxt")
    with pytest.raises(FileFormatError, match="it is a folder"):
        read_solver(tmp_path)


def test_solver_is_read_and_its_snapshots_named_after_it(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text("base_lr: 0.1 solver_type: ADAGRAD")
    solver = read_solver(path)
    assert (solver.type, solver.HasField("solver_type")) == ("AdaGrad", False)
    assert solver.snapshot_prefix == str(tmp_path / "solver")
    path.write_text(f"snapshot_prefix: '{tmp_path}'")
    assert read_solver(path).snapshot_prefix == str(tmp_path / "solver")
    path.write_text("snapshot_prefix: 'weights/net'")
    assert read_solver(path).snapshot_prefix == "weights/net"


def test_errors_of_a_solver_name_the_file(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text("type: 'SGD'\nsolver_type: SGD")
    with pytest.raises(BreveError, match=re.escape(f"{path}: both solver_type and type are given")):
        read_solver(path)
    with pytest.raises(ParseError, match="unknown field 'base_learning_rate'"):
        parse("base_learning_rate: 1", SolverParameter)


def test_published_nets_are_read(models):
    for path in models.glob("*/*.prototxt"):
        if "solver" in path.name:
            assert read_solver(path).base_lr > 0
        else:
            file = read_net_file(path)
            assert len(file.layer_lines) == len(file.message.layer) > 5
            assert parse(to_text(file.message), NetParameter) == file.message
