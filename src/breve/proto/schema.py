"""Caffe's messages as protobuf classes, made when first imported from the compiled `caffe.proto`.

`caffe.binpb` is what protoc makes of `caffe.proto` (`make proto`). Classes made from a descriptor work with any
protobuf runtime, where generated `_pb2` modules are tied to theirs. Pools of our own keep them apart from another
`caffe` package in the same process.

Three sets of classes read the same bytes:

- `MESSAGES`: the schema as it is, for text and for small binary messages;
- `WIRE_MESSAGES`: a blob's values as bytes, the form they have in the file, for nets with their weights. Read as
  `repeated float` the values of a large net become Python floats one by one;
- `WEIGHT_MESSAGES`: moreover of layers only name, type and blobs. Forks of Caffe gave the same field numbers to
  different parameters, so that is all that a caffemodel of unknown origin can be asked for. The rest is kept unread.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_BLOB_VALUES = {"data", "diff", "double_data", "double_diff"}
_WEIGHT_FIELDS = {
    "NetParameter": {"name", "layer", "layers"},
    "LayerParameter": {"name", "type", "blobs"},
    "V1LayerParameter": {"name", "type", "blobs", "layer"},
    "V0LayerParameter": {"name", "type", "blobs"},
}


def _classes(edit: Callable[[Any], None] = lambda message: None) -> dict[str, Any]:
    """The message classes by name, their descriptors changed by `edit` first."""
    described = descriptor_pb2.FileDescriptorSet.FromString(files(__package__).joinpath("caffe.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        for message in file.message_type:
            edit(message)
        pool.AddSerializedFile(file.SerializeToString())
    names = [message.name for file in described.file for message in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in names}


def is_repeated(field: Any) -> bool:
    """Whether a field descriptor is of a repeated field; runtimes before 6 know only its label."""
    known = getattr(field, "is_repeated", None)
    return field.label == field.LABEL_REPEATED if known is None else known


def _values_as_bytes(message: Any) -> None:
    """Packed numbers and bytes look the same on the wire; repeated, as numbers may come in several packs."""
    for field in message.field:
        if message.name == "BlobProto" and field.name in _BLOB_VALUES:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
            field.options.ClearField("packed")


def _weights_alone(message: Any) -> None:
    _values_as_bytes(message)
    wanted = _WEIGHT_FIELDS.get(message.name)
    if wanted:
        kept = [field for field in message.field if field.name in wanted]
        del message.field[:]
        message.field.extend(kept)


MESSAGES = _classes()
WIRE_MESSAGES = _classes(_values_as_bytes)
WEIGHT_MESSAGES = _classes(_weights_alone)
