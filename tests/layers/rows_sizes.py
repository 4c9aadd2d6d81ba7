"""Regions of interest, and layers that enlarge images."""

import numpy as np

from layers.cases import Case, distinct, fixed

REGIONS = fixed([[0, 0, 0, 4, 3], [1, 1.5, 2.5, 5.5, 4.4], [0, 3, 3, 3, 3], [1, -4, 2, 20, 30], [1, 40, 40, 50, 50]])


def mask(rng: np.random.Generator) -> np.ndarray:
    """For (2, 3, 2, 3) pixels of 4 x 6, one pixel in each window of 2 x 2."""
    inside = rng.integers(0, 2, (2, 2, 3, 2, 3))
    rows = 2 * np.arange(2)[:, None] + inside[0]
    columns = 2 * np.arange(3) + inside[1]
    return (6 * rows + columns).astype(np.float64)


def unpooling(name: str, fields: str, bottoms, **more) -> Case:
    return Case(name, f'type: "Unpooling" unpooling_param {{ {fields} }}', bottoms, gradient=[0], **more)


def upsample(name: str, fields: str, bottoms, **more) -> Case:
    return Case(name, f'type: "Upsample" upsample_param {{ {fields} }}', bottoms, gradient=[0], **more)


def interp(name: str, shape: tuple[int, ...], fields: str, *more_bottoms: tuple[int, ...]) -> Case:
    return Case(name, f'type: "Interp" interp_param {{ {fields} }}', [shape, *more_bottoms], gradient=[0])


def resize(name: str, shape: tuple[int, ...], fields: str) -> Case:
    return Case(name, f'type: "Resize" resize_param {{ {fields} }}', [shape])


CASES: list[Case] = [
    Case(
        "roi_pooling",
        'type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.75 }',
        [distinct(2, 18, 6, 7), REGIONS],
        gradient=[0],
    ),
    Case(
        "psroi_pooling",
        'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 0.75 output_dim: 3 group_size: 2 }',
        [(2, 12, 6, 7), REGIONS],
        gradient=[0],
    ),
    Case(
        "roi_pooling_regions",
        'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 }',
        [distinct(2, 3, 6, 7), REGIONS],
        gradient=[0],
        batch_axis=(None, 0),
    ),
    Case(
        "psroi_pooling_regions",
        'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }',
        [(2, 8, 6, 7), REGIONS],
        gradient=[0],
        batch_axis=(None, 0),
    ),
    unpooling("unpooling", "kernel_size: 2 stride: 2", [(2, 3, 3, 2)]),
    unpooling("unpooling_mask", "kernel_size: 2 stride: 2 unpool_h: 4 unpool_w: 6", [(2, 3, 2, 3), mask]),
    unpooling("unpooling_ave", "unpool: AVE kernel_size: 3 stride: 2 unpool_size: 6", [(2, 3, 3, 3)]),
    unpooling("unpooling_tile", "unpool: TILE kernel_h: 2 kernel_w: 3 unpool_h: 3 unpool_w: 6", [(2, 3, 3, 4)]),
    upsample("upsample_mask", "scale: 2", [(2, 3, 2, 3), mask]),
    upsample("upsample_mask_size", "upsample_h: 5 upsample_w: 6", [(2, 3, 2, 3), mask]),
    upsample("upsample_repeat", "scale_h: 2 scale_w: 3", [(2, 3, 2, 3)]),
    interp("interp_zoom", (2, 3, 3, 4), "zoom_factor: 3"),
    interp("interp_shrink_zoom", (1, 2, 7, 9), "shrink_factor: 2 zoom_factor: 3"),
    interp("interp_size", (2, 2, 5, 4), "height: 3 width: 7 pad_beg: -1 pad_end: -1"),
    interp("interp_one", (1, 2, 5, 4), "height: 1 width: 1"),
    interp("interp_like", (2, 2, 3, 3), "", (2, 1, 5, 6)),
    resize("resize", (2, 3, 4, 5), "height: 7 width: 3"),
    resize("resize_scale", (2, 3, 4, 5), "is_pyramid_test: true out_height_scale: 1.5 out_width_scale: 0.5"),
]
