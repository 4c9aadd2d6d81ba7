"""Random layers without bottoms: constants, and files in order. What they draw themselves cannot be compared."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from drawing import Layer, Random, any_shape, one_of
from PIL import Image

from breve.data.datum import pack
from breve.data.lmdb_writer import write_lmdb

PYTHON_LAYER = """import caffe_under_test as caffe


class Twice(caffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str or 2)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff
"""


def dims(shape) -> str:
    """A BlobShape."""
    return "shape { " + " ".join(f"dim: {d}" for d in shape) + " }"


def dummy_data(r: Random) -> Layer:
    """Constants; random fillers draw in another order than Caffe's."""
    tops = int(r.integers(1, 4))
    shapes = [any_shape(r) for _ in range(one_of(r, 1, tops))]
    fillers = [f'data_filler {{ type: "constant" value: {v:.3f} }}' for v in r.uniform(-2, 2, one_of(r, 0, 1, tops))]
    fields = " ".join([*map(dims, shapes), *fillers])
    return Layer("DummyData", f"dummy_data_param {{ {fields} }}", tops=tops, backward=False)


def parameter(r: Random) -> Layer:
    """A learnable top."""
    return Layer("Parameter", f"parameter_param {{ {dims(any_shape(r))} }}")


def transform(r: Random, size: int, channels: int) -> str:
    """What can be done to an image without drawing; the crop is the middle's when testing."""
    crop = one_of(r, "", f"crop_size: {r.integers(1, size + 1)}")
    mean = one_of(r, "", "mean_value: 20", "".join(f" mean_value: {v}" for v in r.integers(0, 128, channels)))
    return f"transform_param {{ {crop} {mean} scale: {r.uniform(0.01, 2):.3f} }}"


def data(r: Random) -> Layer:
    """A database read round and round."""
    size, channels, count = int(r.integers(1, 12)), int(one_of(r, 1, 3)), int(r.integers(1, 9))
    images = r.integers(0, 256, (count, channels, size, size)).astype(np.uint8)
    records = [(b"%08d" % i, pack(x, int(r.integers(300)))) for i, x in enumerate(images)]
    fields = f'data_param {{ source: "NAME_db" backend: LMDB batch_size: {r.integers(1, 6)} }}'
    return Layer(
        "Data", f"{fields} {transform(r, size, channels)}", tops=int(r.integers(1, 3)), backward=False, phase="TEST",
        steps=4, files={"db": lambda path: write_lmdb(path, records)},
    )  # fmt: skip


def image_data(r: Random) -> Layer:
    """Pictures of a list, in colour."""
    size, count = int(r.integers(1, 12)), int(r.integers(1, 5))
    pictures = r.integers(0, 256, (count, size, size, 3)).astype(np.uint8)

    def write(path: Path) -> None:
        names = [f"{path.name}_{i}.png" for i in range(count)]
        for name, pixels in zip(names, pictures, strict=True):
            Image.fromarray(pixels).save(path.parent / name)
        path.write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))

    fields = f'image_data_param {{ source: "NAME_list" batch_size: {r.integers(1, 6)} }}'
    return Layer(
        "ImageData", f"{fields} {transform(r, size, 3)}", tops=2, backward=False, phase="TEST", steps=3,
        files={"list": write},
    )  # fmt: skip


def hdf5_data(r: Random) -> Layer:
    """Rows of two datasets in one or two files."""
    shapes, counts = [any_shape(r, 3), any_shape(r, 2)], [int(n) for n in r.integers(1, 7, r.integers(1, 3))]
    rows = [[r.standard_normal((n, *shape)).astype(np.float32) for shape in shapes] for n in counts]

    def write(path: Path) -> None:
        names = [f"{path.name}_{i}.h5" for i in range(len(counts))]
        for name, arrays in zip(names, rows, strict=True):
            with h5py.File(path.parent / name, "w") as file:
                file["y0"], file["y1"] = arrays
        path.write_text("\n".join(names) + "\n")

    fields = f'hdf5_data_param {{ source: "NAME_list" batch_size: {r.integers(1, 6)} }}'
    return Layer("HDF5Data", fields, tops=2, backward=False, steps=4, files={"list": write})


def memory_data(r: Random) -> Layer:
    """Arrays that the user gives, read round and round."""
    batch, rounds, (c, h, w) = int(r.integers(1, 4)), int(r.integers(1, 4)), (int(d) for d in r.integers(1, 6, 3))
    arrays = r.standard_normal((batch * rounds, c, h, w)), r.integers(0, 9, batch * rounds)
    fields = f"memory_data_param {{ batch_size: {batch} channels: {c} height: {h} width: {w} }}"
    return Layer(
        "MemoryData", fields, tops=2, backward=False, steps=4, arrays=tuple(a.astype(np.float32) for a in arrays)
    )


def python(r: Random) -> Layer:
    """A layer of the user's own, in a module beside the net."""
    fields = f'python_param {{ module: "user_layers" layer: "Twice" param_str: "{one_of(r, "", "0.5")}" }}'
    return Layer("Python", fields, [r.standard_normal(any_shape(r)).astype(np.float32)])


GENERATORS = [dummy_data, parameter, data, image_data, hdf5_data, memory_data, python]
