"""WindowData: which windows, how many of each kind, mirrored, resumed; wrong files refused. Pixels: `recorded/`."""

import json

import numpy as np
import pytest
from PIL import Image

from breve.data.windows import Window, read_windows
from breve.errors import DataError, LayerError
from data.data_layers import batches, equal, net_of

PICTURE = np.zeros((20, 30, 3), np.uint8)
PICTURE[..., 0] = np.arange(30) * 8
PICTURE[..., 1] = np.arange(20)[:, None] * 12
FG = [(label, 0.5 + label / 10, 2 * label, 1, 2 * label + 9, 10) for label in (1, 2, 3)]
BG = [(7, 0.1, 0, 0, 9, 9), (8, 0.49, 15, 5, 24, 14)]


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "p.png")
    write(tmp_path, FG + BG)
    return tmp_path


def write(folder, windows, head="# 0\np.png\n3\n20\n30\n"):
    lines = "".join(" ".join(map(str, window)) + "\n" for window in windows)
    (folder / "windows.txt").write_text(f"{head}{len(windows)}\n{lines}")


def windows(folder, batch_size=8, param="", transform="crop_size: 10", **options):
    return net_of(
        f'type: "WindowData" window_data_param {{ source: "{folder}/windows.txt" root_folder: "{folder}/"'
        f" batch_size: {batch_size} {param} }} transform_param {{ {transform} }}",
        **options,
    )


def cut(window):
    _, _, x1, y1, x2, y2 = window
    return PICTURE[y1 : y2 + 1, x1 : x2 + 1, ::-1].transpose(2, 0, 1)


def test_a_quarter_are_objects_and_background_comes_first_with_label_0(folder):
    seen = []
    for batch in batches(windows(folder, 8), 20):
        np.testing.assert_array_equal(batch["label"][:6], 0)
        seen += batch["label"][6:].tolist()
        for image, label in zip(batch["data"], batch["label"], strict=True):
            wanted = [cut(FG[int(label) - 1])] if label else [cut(window) for window in BG]
            assert any((image == want).all() for want in wanted)
    assert set(seen) == {1, 2, 3}


def test_thresholds_and_fraction(folder):
    (batch,) = batches(windows(folder, 10, "fg_fraction: 0.75 fg_threshold: 0.75 bg_threshold: 0.2"), 1)
    np.testing.assert_array_equal(batch["label"] > 0, [False] * 3 + [True] * 7)
    assert set(batch["label"][3:]) == {3}
    for image in batch["data"][:3]:
        np.testing.assert_array_equal(image, cut(BG[0]))


def test_mirrored_half_of_the_time(folder):
    net = windows(folder, 100, "fg_fraction: 1 fg_threshold: 0.75", "crop_size: 10 mirror: true", seed=1)
    images = batches(net, 1)[0]["data"]
    mirrored = [(image == cut(FG[2])[:, :, ::-1]).all() for image in images]
    straight = [(image == cut(FG[2])).all() for image in images]
    assert sum(mirrored) + sum(straight) == 100
    assert 30 < sum(mirrored) < 70


@pytest.mark.parametrize("param", ["scale: 0.5", ""])
def test_scale_is_taken_from_either_place(folder, param):
    transform = "crop_size: 10 mean_value: 8 " + ("" if param else "scale: 0.5")
    (batch,) = batches(windows(folder, 2, f"fg_fraction: 1 fg_threshold: 0.75 {param}", transform), 1)
    np.testing.assert_array_equal(batch["data"][0], (cut(FG[2]).astype(np.float32) - 8) / 2)


@pytest.mark.parametrize("cache", ["true", "false"])
def test_resumed_run_is_the_interrupted_one(folder, cache):
    param, transform = f"cache_images: {cache} context_pad: 2", "crop_size: 12 mirror: true"
    net = windows(folder, 8, param, transform, seed=1)
    batches(net, 3)
    state = json.loads(json.dumps(net.layers[0].state()))
    rest = batches(net, 6)
    resumed = windows(folder, 8, param, transform, seed=2)
    batches(resumed, 1)
    resumed.layers[0].set_state(state)
    assert equal(batches(resumed, 6), rest)


def test_window_file_is_read(folder):
    assert read_windows(folder / "windows.txt", "here/")[0] == Window("here/p.png", 1, 0.6, 2, 1, 11, 10)
    assert len(read_windows(folder / "windows.txt")) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no windows"),
        ("# 0\np.png\n3\n20\n30\n0\n", "has no windows"),
        ("p.png 3", "not understood at its beginning; found 'p.png' where '#' should be"),
        ("# 0\np.png\n1\n20\n30\n1\n1 0.9 0 0 1 1\n", "1 channels where 3 should be"),
        ("# 0\np.png\n3\n20\n30\n2\n1 0.9 0 0 1 1\n", "not enough values"),
        ("# 0\np.png\n3\n20\n30\n1\n1 0.9 5 0 1 1\n", "corners 5 0 1 1"),
        ("# 0\np.png\n3\n20\n30\n1\n1 0.9 0 0 1 1\nmore", "not understood after p.png; found 'more'"),
        ("# 0\np.png\n3\n20\n30\n1\nx 0.9 0 0 1 1\n", "invalid literal"),
    ],
)
def test_wrong_window_file_is_refused(tmp_path, text, message):
    (tmp_path / "windows.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_windows(tmp_path / "windows.txt")


@pytest.mark.parametrize(
    ("param", "transform", "kind", "message"),
    [
        ("", "", LayerError, "transform_param's crop_size must be positive"),
        ("crop_size: 10", "crop_size: 10", LayerError, "crop_size has no effect in window_data_param"),
        ("scale: 2", "crop_size: 10 scale: 2", LayerError, "scale is given twice"),
        ("", "crop_size: 10 force_gray: true", LayerError, "always reads colour"),
        ('crop_mode: "round"', "crop_size: 10", LayerError, "unknown crop_mode; expected warp or square, found round"),
        ("context_pad: 5", "crop_size: 10", LayerError, "context_pad leaves nothing of the crop"),
        ("fg_fraction: 1.5", "crop_size: 10", LayerError, "fg_fraction is out of range"),
        ("fg_threshold: 0.95", "crop_size: 10", DataError, "no window on the right side of fg_threshold"),
        ("bg_threshold: 0.05", "crop_size: 10", DataError, "no window on the right side of bg_threshold"),
        ("", "crop_size: 10 mean_value: 1 mean_value: 2", DataError, "mean_value does not fit the channels"),
    ],
)
def test_wrong_parameters_are_refused(folder, param, transform, kind, message):
    with pytest.raises(kind, match=message) as caught:
        windows(folder, 8, param, transform)
    assert "layer 'd' (WindowData)" in str(caught.value)


def test_window_beyond_its_picture_is_refused(folder):
    write(folder, [(1, 0.9, 0, 0, 30, 5)])
    with pytest.raises(DataError, match=r"beyond .*p.png; expected within 30 x 20, found \(0, 0, 30, 5\)"):
        windows(folder, 2, "fg_fraction: 1").forward()
