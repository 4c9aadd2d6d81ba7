"""Caffe's messages as protobuf classes, made when first imported from the compiled `caffe.proto`.

`caffe.binpb` is what `protoc --descriptor_set_out` makes of `caffe.proto` (`make proto`). Classes made from a descriptor
work with any protobuf runtime, where generated `_pb2` modules are tied to theirs. A pool of our own keeps them apart from
another `caffe` package in the same process.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _load() -> dict[str, Any]:
    described = descriptor_pb2.FileDescriptorSet.FromString(files(__package__).joinpath("caffe.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.AddSerializedFile(file.SerializeToString())
    names = [message.name for file in described.file for message in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in names}


MESSAGES = _load()
