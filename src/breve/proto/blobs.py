"""BlobProtos to arrays and back, without Python floats between."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from breve.errors import FileFormatError
from breve.proto.schema import MESSAGES, WIRE_MESSAGES

_RAW_DTYPES = {0: "<f8", 1: "<f4", 2: "<f2"}


def blob_shape(blob: Any) -> tuple[int, ...]:
    """The shape of a BlobProto; four axes where it was written in the old way, as num, channels, height and width."""
    old = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in old):
        return tuple(getattr(blob, name) for name in old)
    return tuple(blob.shape.dim)


def blob_to_array(blob: Any, field: str = "data") -> np.ndarray:
    """The values of a BlobProto of any of the schema's classes, in its shape.

    `field` is "data" or "diff". float32; float64 where the blob holds doubles. The array may be read-only. Raises
    FileFormatError where the values do not fill the shape.

    >>> blob = array_to_blob(np.float32([[1, 2, 3]]), WIRE_MESSAGES["BlobProto"]())
    >>> blob_to_array(blob)
    array([[1., 2., 3.]], dtype=float32)
    """
    shape = blob_shape(blob)
    values = _values(blob, field)
    if values.size != math.prod(shape) or min(shape, default=0) < 0:
        found = f"{values.size} values of {field}"
        raise FileFormatError("a blob's values do not fill its shape", expected=f"shape {list(shape)}", found=found)
    return values.reshape(shape)


def array_to_blob(array: np.ndarray, blob: Any, diff: np.ndarray | None = None) -> Any:
    """Write an array's shape and values, and its gradient's, into a BlobProto of any class of the schema; returns it.

    float64 is kept as doubles, any other type becomes float32: what `Blob<double>` and `Blob<float>` of Caffe write.
    """
    wire = blob if _keeps_bytes(blob) else WIRE_MESSAGES["BlobProto"]()
    wire.Clear()
    wire.shape.dim.extend(array.shape)
    for field, values in (("data", array), ("diff", diff)):
        if values is not None:
            double = values.dtype == np.float64
            chunks = getattr(wire, f"double_{field}" if double else field)
            chunks.append(values.astype("<f8" if double else "<f4", order="C", copy=False).tobytes())
    if wire is not blob:
        blob.Clear()
        blob.MergeFromString(wire.SerializeToString())
    return blob


def _values(blob: Any, field: str) -> np.ndarray:
    """The values of "data" or "diff", whichever way the blob keeps them, as one row."""
    wire = _as_wire(blob)
    if getattr(wire, f"raw_{field}"):
        return _raw_values(wire, field)
    double = getattr(wire, f"double_{field}")
    chunks = double or getattr(wire, field)
    raw = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    dtype = np.dtype("<f8" if double else "<f4")
    if len(raw) % dtype.itemsize:
        raise FileFormatError(
            "a blob's values break off", expected=f"a multiple of {dtype.itemsize} bytes", found=len(raw)
        )
    return np.frombuffer(raw, dtype)


def _raw_values(wire: Any, field: str) -> np.ndarray:
    """NVIDIA's fork keeps values as plain bytes, with their type beside; half precision becomes float32."""
    dtype = _RAW_DTYPES.get(getattr(wire, f"raw_{field}_type"))
    raw = getattr(wire, f"raw_{field}")
    if dtype is None or len(raw) % np.dtype(dtype).itemsize:
        raise FileFormatError("a blob's raw values are of an unknown type or break off")
    values = np.frombuffer(raw, dtype)
    return values.astype("<f4") if dtype == "<f2" else values


def _as_wire(blob: Any) -> Any:
    """The blob with its values as bytes.

    protobuf itself packs them, where they are numbers, or were written one by one (which leaves the bytes empty).
    """
    if _keeps_bytes(blob) and (blob.data or blob.double_data or blob.raw_data):
        return blob
    packed = MESSAGES["BlobProto"].FromString(blob.SerializeToString()).SerializeToString()
    return WIRE_MESSAGES["BlobProto"].FromString(packed)


def _keeps_bytes(blob: Any) -> bool:
    data = blob.DESCRIPTOR.fields_by_name["data"]
    return data.type == data.TYPE_BYTES
