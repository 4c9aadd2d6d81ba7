"""Layers that read and write files. A source holds one batch, so that every forward gives the same."""

import atexit
import tempfile
from pathlib import Path

import numpy as np

from layers.cases import Case

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
FOLDER = tempfile.TemporaryDirectory()
atexit.register(FOLDER.cleanup)
HDF5_LIST = Path(FOLDER.name) / "hdf5.txt"
HDF5_LIST.write_text(f"{RECORDED}/rows_1.h5\n")

CASES = [
    Case("data", f'type: "Data" data_param {{ source: "{RECORDED}/big_lmdb" backend: LMDB batch_size: 3 }}', tops=2),
    Case(
        "data_transformed",
        f'type: "Data" data_param {{ source: "{RECORDED}/big_lmdb" backend: LMDB batch_size: 3 }}'
        " transform_param { crop_size: 32 mean_value: [104, 117, 123] scale: 0.1 }",
        phase="TEST",
    ),
    Case(
        "image_data",
        f'type: "ImageData" image_data_param {{ source: "{RECORDED}/pictures.txt" root_folder: "{RECORDED}/pictures/"'
        " batch_size: 6 new_height: 8 new_width: 8 }",
        tops=2,
    ),
    Case(
        "hdf5_data",
        f'type: "HDF5Data" top: "data" top: "label" hdf5_data_param {{ source: "{HDF5_LIST}" batch_size: 2 }}',
        tops=2,
    ),
    Case(
        "hdf5_output",
        f'type: "HDF5Output" hdf5_output_param {{ file_name: "{FOLDER.name}/output.h5" }}',
        [(2, 3, 4, 5), (2,)],
        tops=0,
        gradient=(),
    ),
    Case(
        "memory_data",
        'type: "MemoryData" memory_data_param { batch_size: 2 channels: 1 height: 3 width: 4 }',
        tops=2,
        prepare=lambda layer: layer.set_arrays(np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4), np.arange(2)),
    ),
    Case(
        "window_data",
        f'type: "WindowData" window_data_param {{ source: "{RECORDED}/windows_0.txt"'
        f' root_folder: "{RECORDED}/pictures/"'
        " batch_size: 2 fg_fraction: 0.5 } transform_param { crop_size: 10 }",
        tops=2,
    ),
]
