"""Phase, level and stage rules."""

import pytest
from google.protobuf import text_format

from breve.errors import NetError
from breve.graph.description import LayerSpec
from breve.graph.rules import filter_layers
from breve.proto import LayerParameter, NetState


def kept(rules: str, state: str) -> bool:
    param = text_format.Parse(f'name: "a" type: "ReLU" {rules}', LayerParameter())
    return bool(filter_layers([LayerSpec(param)], text_format.Parse(state, NetState())))


@pytest.mark.parametrize(
    ("rules", "state", "expected"),
    [
        ("", "phase: TRAIN", True),
        ("include { phase: TRAIN }", "phase: TRAIN", True),
        ("include { phase: TRAIN }", "phase: TEST", False),
        ("exclude { phase: TRAIN }", "phase: TEST", True),
        ("exclude { phase: TRAIN }", "phase: TRAIN", False),
        ("include { min_level: 2 }", "level: 1", False),
        ("include { min_level: 2 max_level: 3 }", "level: 3", True),
        ("include { max_level: 3 }", "level: 4", False),
        ('include { stage: "a" stage: "b" }', 'stage: "a"', False),
        ('include { stage: "a" stage: "b" }', 'stage: ["b", "c", "a"]', True),
        ('include { not_stage: "a" }', 'stage: "a"', False),
        ('include { phase: TRAIN } include { stage: "x" }', 'phase: TEST stage: "x"', True),
        ('exclude { phase: TRAIN } exclude { stage: "x" }', 'phase: TEST stage: "x"', False),
    ],
)
def test_layer_takes_part_when_its_rules_say_so(rules, state, expected):
    assert kept(rules, state) is expected


def test_include_beside_exclude_is_an_error():
    with pytest.raises(NetError, match=r"layer 'a' \(ReLU\): a layer has both include and exclude"):
        kept("include { phase: TRAIN } exclude { phase: TEST }", "phase: TEST")
