"""What the recordings in `expected.npz` are of: a net of one data layer each, in a phase, run some times.

Paths are relative to this folder. What is random is not here: other tests count it.
"""

VALUES = "mean_value: 104 mean_value: 117 mean_value: 123"


def data(source, batch_size, transform=""):
    return (
        f'layer {{ name: "d" type: "Data" top: "data" top: "label" transform_param {{ {transform} }} '
        f'data_param {{ source: "{source}" backend: LMDB batch_size: {batch_size} }} }}'
    )


def images(batch_size, param="", transform=""):
    return (
        'layer { name: "d" type: "ImageData" top: "data" top: "label" image_data_param { source: "pictures.txt" '
        f'root_folder: "pictures/" batch_size: {batch_size} {param} }} transform_param {{ {transform} }} }}'
    )


def windows(number, param, transform):
    return (
        f'layer {{ name: "d" type: "WindowData" top: "data" top: "label" transform_param {{ {transform} }} '
        f'window_data_param {{ source: "windows_{number}.txt" root_folder: "pictures/" batch_size: 2 fg_fraction: 0.5 '
        f"{param} }} }}"
    )


HDF5 = (
    'layer { name: "d" type: "HDF5Data" top: "data" top: "pairs" top: "label" '
    'hdf5_data_param { source: "hdf5.txt" batch_size: 4 } }'
)

CASES = {
    "data": ("TRAIN", 7, data("small_lmdb", 9)),
    "data_big": ("TEST", 2, data("big_lmdb", 2)),
    "data_crop": ("TEST", 2, data("small_lmdb", 5, "crop_size: 3 scale: 0.25 mean_value: 7")),
    "data_mean_values": ("TRAIN", 1, data("small_lmdb", 5, f"scale: 0.1 {VALUES}")),
    "data_mean_file": ("TEST", 1, data("small_lmdb", 5, 'crop_size: 4 mean_file: "mean.binaryproto"')),
    "encoded": ("TEST", 6, data("encoded_lmdb", 1)),
    "encoded_color": ("TEST", 6, data("encoded_lmdb", 1, "force_color: true")),
    "encoded_gray": ("TEST", 6, data("encoded_lmdb", 1, "force_gray: true")),
    "images": ("TEST", 6, images(1)),
    "images_gray": ("TEST", 6, images(1, "is_color: false")),
    "images_smaller": ("TEST", 2, images(4, "new_height: 9 new_width: 11")),
    "images_larger": ("TEST", 1, images(6, "new_height: 31 new_width: 40")),
    "images_halved": ("TEST", 1, images(1, "new_height: 8 new_width: 12")),
    "images_cropped": ("TEST", 1, images(3, "new_height: 12 new_width: 12", "crop_size: 10 scale: 0.5 mean_value: 9")),
    "hdf5": ("TRAIN", 5, HDF5),
    "windows_warp": ("TRAIN", 1, windows(0, "", "crop_size: 10")),
    "windows_context": ("TRAIN", 1, windows(1, "context_pad: 2", f"crop_size: 12 {VALUES}")),
    "windows_square": ("TRAIN", 1, windows(2, 'crop_mode: "square"', 'crop_size: 5 mean_file: "mean.binaryproto"')),
    "windows_square_context": (
        "TRAIN",
        1,
        windows(3, 'crop_mode: "square" context_pad: 3 scale: 0.25', "crop_size: 13"),
    ),
}
