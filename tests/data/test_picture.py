"""Pictures as arrays: channels, orientation, depth, resizing. Compared with OpenCV's in `recorded/`."""

import io

import numpy as np
import pytest
from PIL import Image

from breve.data.picture import decode_picture, encode_picture, read_picture, resize
from breve.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
BGR = RGB[..., ::-1].transpose(2, 0, 1)


def saved(pixels, kind="PNG", mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_colour_is_blue_green_red_and_writable(kind):
    for channels in (3, None):
        picture = decode_picture(saved(RGB, kind), channels)
        np.testing.assert_array_equal(picture, BGR)
        picture[...] = 0


@pytest.mark.parametrize(
    ("content", "natively"),
    [
        (saved(RGB), 3),
        (saved(RGB, mode="L"), 1),
        (saved(RGB, mode="1"), 1),
        (saved(RGB, mode="P"), 3),
        (saved(RGB, mode="RGBA"), 4),
        (saved(RGB, mode="LA"), 4),
        (saved(RGB, mode="P", transparency=3), 4),
        (saved(RGB, "JPEG"), 3),
        (saved(RGB, "JPEG", mode="L"), 1),
        (saved(RGB, "JPEG", mode="CMYK"), 3),
    ],
)
def test_channels(content, natively):
    assert decode_picture(content, None).shape == (natively, 5, 7)
    assert decode_picture(content, 3).shape == (3, 5, 7)
    assert decode_picture(content, 1).shape == (1, 5, 7)
    assert decode_picture(content, 1).dtype == np.uint8


def test_grey_is_opencvs_weighted_sum():
    want = (RGB.astype(int) @ [4899, 9617, 1868] + 8192) // 16384
    np.testing.assert_array_equal(decode_picture(saved(RGB), 1)[0], want)


def test_16_bits_are_cut_to_the_upper_8_where_asked_and_refused_elsewhere():
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7)).astype(np.uint16)
    np.testing.assert_array_equal(decode_picture(saved(deep), 1)[0], deep >> 8)
    np.testing.assert_array_equal(decode_picture(saved(deep), 3)[2], deep >> 8)
    with pytest.raises(DataError, match="more than 8 bits a channel; set force_color or force_gray"):
        decode_picture(saved(deep), None)


def test_orientation_is_followed_where_channels_are_asked_for():
    exif = Image.Exif()
    exif[0x112] = 6
    content = saved(RGB, "JPEG", exif=exif, quality=100, subsampling=0)
    assert decode_picture(content, 3).shape == (3, 7, 5)
    assert decode_picture(content, 1).shape == (1, 7, 5)
    np.testing.assert_array_equal(decode_picture(content, 3), np.rot90(decode_picture(content, None), -1, (1, 2)))


@pytest.mark.parametrize(
    "content", [b"", b"hello", saved(RGB)[:-30], saved(RGB, "JPEG")[:200], b"\xff\xd8\xff" + bytes(99)]
)
def test_damaged_picture_is_refused(tmp_path, content):
    (tmp_path / "p.png").write_bytes(content)
    with pytest.raises(DataError, match=r"p.png: a picture cannot be decoded"):
        read_picture(tmp_path / "p.png")


@pytest.mark.parametrize(("kind", "tolerance"), [("png", 0), ("bmp", 0), ("jpg", 40)])
def test_what_is_encoded_is_decoded(kind, tolerance):
    smooth = np.add.outer(np.arange(16) * 8, np.arange(16) * 7).astype(np.uint8)
    for picture in (np.stack([smooth, smooth, smooth]), smooth[None]):
        got = decode_picture(encode_picture(picture, kind), None)
        assert np.abs(got.astype(int) - picture).max() <= tolerance
    with pytest.raises(DataError, match="cannot be encoded as 'docx'"):
        encode_picture(smooth[None], "docx")


def bilinear(image, height, width):
    """Of real numbers, pixel by pixel, centres at halves, edges repeated."""
    rows = (np.arange(height) + 0.5) * image.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * image.shape[1] / width - 0.5
    result = np.zeros((height, width))
    for i, y in enumerate(np.clip(rows, 0, image.shape[0] - 1)):
        for j, x in enumerate(np.clip(columns, 0, image.shape[1] - 1)):
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, image.shape[0] - 1), min(x0 + 1, image.shape[1] - 1)
            upper = image[y0, x0] * (1 - x + x0) + image[y0, x1] * (x - x0)
            lower = image[y1, x0] * (1 - x + x0) + image[y1, x1] * (x - x0)
            result[i, j] = upper * (1 - y + y0) + lower * (y - y0)
    return result


@pytest.mark.parametrize("size", [(5, 7), (3, 7), (9, 4), (20, 30), (1, 1), (5, 1), (10, 14), (4, 3)])
def test_resize_is_bilinear(size):
    got = resize(BGR, *size)
    assert got.shape == (3, *size)
    for plane, result in zip(BGR.astype(float), got, strict=True):
        np.testing.assert_allclose(result, bilinear(plane, *size), atol=1.01)


def test_halving_averages_four_pixels():
    image = np.random.default_rng(1).integers(0, 256, (2, 6, 8)).astype(np.uint8)
    want = np.floor(image.reshape(2, 3, 2, 4, 2).mean((2, 4)) + 0.5)
    np.testing.assert_array_equal(resize(image, 3, 4), want)
