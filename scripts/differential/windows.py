"""Random layers that slide a window over an image."""

from __future__ import annotations

from collections.abc import Sequence

from drawing import Layer, Random, distinct, flag, image, normal, one_of


def repeated(name: str, values: Sequence[int]) -> str:
    """A repeated field."""
    return " ".join(f"{name}: {value}" for value in values)


def window(r: Random, size: Sequence[int]) -> str:
    """Kernel, stride, pad and dilation for each spatial axis, that leave something of an image."""
    axes = len(size)
    while True:
        k, s, p = r.integers(1, 6, axes), r.integers(1, 4, axes), r.integers(0, 4, axes)
        d = r.integers(1, 3, axes)
        if all(size[i] + 2 * p[i] >= d[i] * (k[i] - 1) + 1 for i in range(axes)):
            break
    if axes == 2 and r.random() < 0.5:
        fields = f"kernel_h: {k[0]} kernel_w: {k[1]} stride_h: {s[0]} stride_w: {s[1]} pad_h: {p[0]} pad_w: {p[1]}"
    else:
        fields = " ".join(repeated(name, v) for name, v in (("kernel_size", k), ("stride", s), ("pad", p)))
    return f"{fields} {repeated('dilation', d)}"


def convolution(r: Random) -> Layer:
    """Any window, any group, one or two bottoms."""
    group = int(one_of(r, 1, 1, 2, 3))
    n, _, h, w = image(r)
    channels, outputs = group * int(r.integers(1, 12)), group * int(r.integers(1, 12))
    fields = f"num_output: {outputs} group: {group} bias_term: {flag(r)} {window(r, (h, w))}"
    bottoms = [normal(r, n, channels, h, w) for _ in range(one_of(r, 1, 1, 2))]
    return Layer("Convolution", f"convolution_param {{ {fields} }}", bottoms, tops=len(bottoms))


def depthwise(r: Random) -> Layer:
    """A filter or two for each channel."""
    n, channels, h, w = image(r)
    fields = f"num_output: {channels * r.integers(1, 3)} group: {channels} bias_term: {flag(r)} {window(r, (h, w))}"
    return Layer("Convolution", f"convolution_param {{ {fields} }}", [normal(r, n, channels, h, w)])


def convolution_nd(r: Random) -> Layer:
    """One or three spatial axes, from any axis on."""
    spatial = [int(d) for d in r.integers(1, 7, one_of(r, 1, 3))]
    before = [int(d) for d in r.integers(1, 4, r.integers(1, 3))]
    shape = (*before, int(r.integers(1, 5)), *spatial)
    fields = f"axis: {len(before)} num_output: {r.integers(1, 6)} bias_term: {flag(r)} {window(r, spatial)}"
    return Layer("Convolution", f"convolution_param {{ {fields} }}", [normal(r, *shape)])


def deconvolution(r: Random) -> Layer:
    """As convolution, with room for its pad."""
    group = int(one_of(r, 1, 1, 2))
    n, _, h, w = image(r, size=7)
    k, d = int(r.integers(1, 6)), int(one_of(r, 1, 1, 2))
    fields = f"num_output: {group * r.integers(1, 9)} group: {group} kernel_size: {k} stride: {r.integers(1, 4)}"
    fields += f" pad: {r.integers(0, (d * (k - 1)) // 2 + 1)} dilation: {d} bias_term: {flag(r)}"
    return Layer("Deconvolution", f"convolution_param {{ {fields} }}", [normal(r, n, group * r.integers(1, 9), h, w)])


def im2col(r: Random) -> Layer:
    """Any window on two or three spatial axes."""
    shape = (*image(r, channels=6), *[int(r.integers(1, 6))] * int(one_of(r, 0, 0, 1)))
    return Layer("Im2col", f"convolution_param {{ {window(r, shape[2:])} }}", [normal(r, *shape)])


def pooling(r: Random) -> Layer:
    """Maximum and average, clipped and padded; Caffe wants the pad smaller than the kernel."""
    shape = image(r)
    method = one_of(r, "MAX", "AVE")
    tops = int(one_of(r, 1, 1, 2)) if method == "MAX" else 1
    if r.random() < 0.1:
        fields = f"pool: {method} global_pooling: true"
        return Layer("Pooling", f"pooling_param {{ {fields} }}", [distinct(r, *shape)], tops=tops)
    while True:
        k, s = r.integers(1, 5, 2), r.integers(1, 4, 2)
        p = [int(r.integers(0, kernel)) for kernel in k]
        if all(shape[2 + i] + 2 * p[i] >= k[i] and not_beside(shape[2 + i], k[i], s[i], p[i]) for i in range(2)):
            break
    fields = f"kernel_h: {k[0]} kernel_w: {k[1]} stride_h: {s[0]} stride_w: {s[1]} pad_h: {p[0]} pad_w: {p[1]}"
    return Layer("Pooling", f"pooling_param {{ pool: {method} {fields} }}", [distinct(r, *shape)], tops=tops)


def not_beside(size: int, kernel: int, stride: int, pad: int) -> bool:
    """Whether the last window reaches the image: of one wholly outside Caffe takes the maximum of nothing."""
    out = -(-(size + 2 * pad - kernel) // stride) + 1
    out -= pad > 0 and (out - 1) * stride >= size + pad
    return (out - 1) * stride - pad < size


def spp(r: Random) -> Layer:
    """A pyramid that the image is large enough for."""
    height = int(r.integers(1, 4))
    size = 2 ** (height - 1) + r.integers(0, 8, 2)
    values = distinct(r, int(r.integers(1, 4)), int(r.integers(1, 6)), int(size[0]), int(size[1]))
    return Layer("SPP", f"spp_param {{ pyramid_height: {height} pool: {one_of(r, 'MAX', 'AVE')} }}", [values])


def lrn(r: Random) -> Layer:
    """Both regions."""
    region = one_of(r, "ACROSS_CHANNELS", "WITHIN_CHANNEL")
    fields = f"local_size: {one_of(r, 1, 3, 5, 7)} alpha: {r.uniform(0.1, 2):.3f} beta: {r.uniform(0.1, 1):.3f}"
    fields += f" norm_region: {region}" + (f" k: {r.uniform(1, 3):.3f}" if region[0] == "A" else "")
    return Layer("LRN", f"lrn_param {{ {fields} }}", [normal(r, *image(r))])


def crop(r: Random) -> Layer:
    """To a smaller blob, by an offset for each axis or one for all."""
    shape = image(r, size=8)
    axis = int(r.integers(0, 4))
    like = [d if i < axis else int(r.integers(1, d + 1)) for i, d in enumerate(shape)]
    room = [d - s for d, s in zip(shape[axis:], like[axis:], strict=True)]
    offsets = one_of(r, [r.integers(0, d + 1) for d in room], [r.integers(0, min(room) + 1)], [])
    fields = f"axis: {axis - 4 * r.integers(2)} {repeated('offset', offsets)}"
    return Layer("Crop", f"crop_param {{ {fields} }}", [normal(r, *shape), normal(r, *like)])


GENERATORS = [
    convolution, convolution, convolution, depthwise, convolution_nd, deconvolution, im2col, pooling, pooling, spp, lrn,
    crop,
]  # fmt: skip
