"""The schema against the facts: every message, field, number, label, type and default of Caffe 1.0 (`caffe.tsv`)."""

import csv
import importlib.util
from pathlib import Path

import pytest

from breve.proto import schema
from breve.proto.schema import MESSAGES, WEIGHT_MESSAGES, WIRE_MESSAGES, is_repeated
from breve.proto.text import parse

ROOT = Path(__file__).parents[2]
OURS = 47000  # a fork's field in a message of Caffe has a number from here
TYPES = {
    field_type: name.removeprefix("TYPE_").lower()
    for name, field_type in schema.descriptor_pb2.FieldDescriptorProto.Type.items()
}


def facts(name="caffe"):
    with (Path(__file__).parent / f"{name}.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def type_name(field):
    named = field.message_type or field.enum_type
    return named.full_name.removeprefix("caffe.") if named else TYPES[field.type]


def label(field):
    if is_repeated(field):
        return "repeated"
    return (
        "required"
        if field.containing_type.fields_by_name[field.name] in required(field.containing_type)
        else "optional"
    )


def required(descriptor):
    missing = MESSAGES[descriptor.name]().FindInitializationErrors()
    return [descriptor.fields_by_name[name] for name in missing]


def default(field):
    """The default as the facts write it; floats to the digits of float32."""
    value = field.default_value
    if not field.has_default_value:
        return ""
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return str(value).lower() if isinstance(value, bool) else f"{value:.7g}" if isinstance(value, float) else str(value)


def enum_type(name):
    if "." not in name:
        return MESSAGES["NetState"].DESCRIPTOR.file.enum_types_by_name[name]
    message, enum = name.split(".")
    return MESSAGES[message].DESCRIPTOR.enum_types_by_name[enum]


@pytest.mark.parametrize(
    "fact", [f for f in facts() if f["kind"] == "field"], ids=lambda f: f"{f['message or enum']}.{f['name']}"
)
def test_field_is_as_in_caffe(fact):
    field = MESSAGES[fact["message or enum"]].DESCRIPTOR.fields_by_name[fact["name"]]
    assert (str(field.number), label(field), type_name(field)) == (fact["number"], fact["label"], fact["type"])
    assert default(field) == fact["default"].removesuffix(" [packed]")


def test_messages_of_forks_are_as_theirs():
    """Those that are known here have all their fields, but for two."""
    of_caffe = {fact["message or enum"] for fact in facts()}
    left_out = {("ROIPoolingParameter", "pooled_size"), ("AnnotatedDatum", "record_id")}
    checked = 0
    for fact in facts("forks"):
        message = fact["message or enum"]
        if fact["kind"] == "field" and message in MESSAGES and message not in of_caffe:
            if (message, fact["name"]) in left_out:
                continue
            field = MESSAGES[message].DESCRIPTOR.fields_by_name[fact["name"]]
            assert (str(field.number), label(field), type_name(field)) == (fact["number"], fact["label"], fact["type"])
            assert default(field) == fact["default"], fact
            checked += 1
    assert checked > 300


def test_enum_values_are_as_in_caffe():
    for fact in facts():
        if fact["kind"] == "enum":
            values = enum_type(fact["message or enum"]).values_by_name
            assert values[fact["name"]].number == int(fact["number"]), fact


def test_packed_fields_are_those_of_caffe():
    described = schema.descriptor_pb2.FileDescriptorSet.FromString((ROOT / "src/breve/proto/caffe.binpb").read_bytes())
    messages = {message.name: message for file in described.file for message in file.message_type}
    packed = {
        (name, field.name) for name, message in messages.items() for field in message.field if field.options.packed
    }
    assert packed == {(f["message or enum"], f["name"]) for f in facts() if f["default"].endswith("[packed]")}


def test_what_forks_added_to_caffes_messages_clashes_with_nothing():
    known = {(fact["message or enum"], fact["name"]) for fact in facts()}
    for message in {fact["message or enum"] for fact in facts() if fact["kind"] == "field"}:
        for field in MESSAGES[message].DESCRIPTOR.fields:
            ssd = message == "LayerParameter" and 200 <= field.number <= 207
            raw = message == "BlobProto" and field.name.startswith("raw_")
            ours = (message, field.name) == ("SolverState", "breve_state")
            assert (message, field.name) in known or field.number >= OURS or ssd or raw or ours, (message, field.name)


def test_compiled_schema_is_that_of_the_source(tmp_path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    spec = importlib.util.spec_from_file_location("make_proto", ROOT / "scripts" / "make_proto.py")
    make_proto = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_proto)
    make_proto.compile_schema(tmp_path / "caffe.binpb")
    fresh, kept = ((folder / "caffe.binpb").read_bytes() for folder in (tmp_path, ROOT / "src/breve/proto"))
    parsed = schema.descriptor_pb2.FileDescriptorSet.FromString
    assert parsed(fresh) == parsed(kept), "run `make proto`"


def test_classes_for_weights_know_names_types_and_blobs():
    assert set(WEIGHT_MESSAGES["LayerParameter"].DESCRIPTOR.fields_by_name) == {"name", "type", "blobs"}
    assert set(WEIGHT_MESSAGES["NetParameter"].DESCRIPTOR.fields_by_name) == {"name", "layer", "layers"}


def test_messages_of_all_three_sets_understand_each_other():
    net = parse(
        'name: "n" layer { name: "l" type: "ReLU" blobs { data: [1, 2] } relu_param { } }', MESSAGES["NetParameter"]
    )
    content = net.SerializeToString()
    for classes in (WIRE_MESSAGES, WEIGHT_MESSAGES):
        assert (
            MESSAGES["NetParameter"].FromString(classes["NetParameter"].FromString(content).SerializeToString()) == net
        )
