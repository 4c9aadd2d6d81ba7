"""Split layers: names and places are those of Caffe's insert_splits.cpp."""

import pytest
from google.protobuf import text_format

from breve.errors import NetError
from breve.graph.description import specs
from breve.graph.splits import insert_splits
from breve.proto import NetParameter


def split(text: str) -> list[str]:
    """Each layer as `name: bottoms -> tops`, with its loss weights when it has some."""
    lines = []
    for spec in insert_splits(specs(text_format.Parse(text, NetParameter()), "net.prototxt", [3, 4, 5, 6])):
        p = spec.param
        weights = f" {list(p.loss_weight)}" if p.loss_weight else ""
        lines.append(f"{p.name}: {','.join(p.bottom)} -> {','.join(p.top)}{weights}")
    return lines


def test_one_reader_needs_no_split():
    assert split('layer { name: "a" top: "x" } layer { name: "b" bottom: "x" top: "y" }') == ["a:  -> x", "b: x -> y"]


def test_two_readers_read_two_tops_of_a_split():
    text = 'layer { name: "a" top: "x" } layer { name: "b" bottom: "x" top: "y" }'
    text += 'layer { name: "c" bottom: "x" bottom: "y" top: "z" }'
    assert split(text) == [
        "a:  -> x",
        "x_a_0_split: x -> x_a_0_split_0,x_a_0_split_1",
        "b: x_a_0_split_0 -> y",
        "c: x_a_0_split_1,y -> z",
    ]


def test_in_place_layer_is_split_after_itself():
    text = (
        'layer { name: "a" top: "x" } layer { name: "relu" bottom: "x" top: "x" }'
        'layer { name: "b" bottom: "x" top: "y" } layer { name: "c" bottom: "x" top: "z" }'
    )
    assert split(text) == [
        "a:  -> x",
        "relu: x -> x",
        "x_relu_0_split: x -> x_relu_0_split_0,x_relu_0_split_1",
        "b: x_relu_0_split_0 -> y",
        "c: x_relu_0_split_1 -> z",
    ]


def test_loss_that_is_also_read_moves_its_weight_to_the_split():
    text = 'layer { name: "a" top: "x" loss_weight: 2 } layer { name: "b" bottom: "x" top: "y" }'
    assert split(text) == [
        "a:  -> x",
        "x_a_0_split: x -> x_a_0_split_0,x_a_0_split_1 [2.0, 0.0]",
        "b: x_a_0_split_1 -> y",
    ]


def test_dangling_bottom_names_line_layer_and_nearest_blob():
    text = 'layer { name: "a" type: "Input" top: "conv1" } layer { name: "b" type: "ReLU" bottom: "cnov1" top: "y" }'
    with pytest.raises(NetError) as error:
        split(text)
    assert str(error.value) == "net.prototxt:4: layer 'b' (ReLU): unknown bottom blob 'cnov1'; did you mean 'conv1'?"
