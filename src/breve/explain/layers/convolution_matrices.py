"""The two derivations of a convolution's gradient that work on whole matrices: correlation, and columns.

They share nothing with the sum of terms: both compute whole planes from dilated and padded arrays, or from `im2col` and
`col2im`, and then look the element up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from breve.explain.model import Derivation, Index, Matrix, unravel
from breve.explain.wrt import Wrt
from breve.functional import col2im, im2col

if TYPE_CHECKING:
    from breve.explain.layers.convolution import ConvolutionExplainer

MOST_CELLS = 32  # rows and columns of a matrix that is shown
MOST_BLOCKS = 5  # groups of a weight matrix that is shown in blocks


def by_correlation(e: ConvolutionExplainer, wrt: Wrt, index: Index) -> Derivation:
    """As one more convolution: with the rotated kernel, with the kernel as it stands, or with dY as the kernel."""
    if wrt.is_param:
        return _sum_of_ones(e, index) if wrt.number else _diff_as_kernel(e, index)
    return _rotated(e, wrt, index) if e.bottom_is_image else _as_it_stands(e, wrt, index)


def _kernels(e: ConvolutionExplainer, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """The outputs of a channel's group, and their kernels for that channel: input and output channels exchanged."""
    k, row = e._outputs_of(channel)
    weight = np.asarray(e.record.param_data[0], np.float64).reshape(-1, *e.window.kernel)
    return k, weight[row]


def _rotated(e: ConvolutionExplainer, wrt: Wrt, index: Index) -> Derivation:
    image, c, pixel = e.place(index)
    k, kernels = _kernels(e, c)
    dilated = spread(e.top_maps(wrt.number)[image, k].astype(np.float64), [a.stride for a in e.axes])
    kernels = spread(kernels, [a.dilation for a in e.axes])
    rotated = np.flip(kernels, tuple(range(1, kernels.ndim)))
    patch = window(dilated, [p + a.pad - a.extent + 1 for p, a in zip(pixel, e.axes, strict=True)], rotated.shape[1:])
    products = patch * rotated
    shown = int(np.abs(products).reshape(len(k), -1).sum(1).argmax())
    text = (
        f"{_spaced(e)}, correlated with the kernel rotated by 180 degrees, input and output channels exchanged: the "
        "full correlation, cut to the input's size. Shown is the output channel that adds most."
    )
    matrices = _pair(f"dY[{image}, {k[shown]}] under the kernel", patch[shown], "rotated kernel", rotated[shown])
    return Derivation("correlation with the rotated kernel", math.fsum(products.ravel()), text, matrices)


def _spaced(e: ConvolutionExplainer) -> str:
    """What is done to dY before the rotated kernel is laid on it, in words."""
    zeros = " and ".join(dict.fromkeys(str(a.stride - 1) for a in e.axes))
    zeros += " zero" if zeros == "1" else " zeros"
    between = f"{zeros} between its elements (stride - 1) and " if any(a.stride > 1 for a in e.axes) else ""
    holes = " (the kernel with its holes)" if any(a.dilation > 1 for a in e.axes) else ""
    return f"dY with {between}a border of zeros{holes}"


def _as_it_stands(e: ConvolutionExplainer, wrt: Wrt, index: Index) -> Derivation:
    image, c, position = e.place(index)
    k, kernels = _kernels(e, c)
    kernels = spread(kernels, [a.dilation for a in e.axes])
    starts = [y * a.stride - a.pad for y, a in zip(position, e.axes, strict=True)]
    patch = window(e.top_maps(wrt.number)[image, k].astype(np.float64), starts, kernels.shape[1:])
    products = patch * kernels
    shown = int(np.abs(products).reshape(len(k), -1).sum(1).argmax())
    text = (
        "A deconvolution's forward pass is a convolution's backward pass, so its own backward pass is that "
        "convolution: dY correlated with the kernel as it stands, not rotated, at the layer's stride."
    )
    matrices = _pair(f"dY[{image}, {k[shown]}] under the kernel", patch[shown], "kernel as it stands", kernels[shown])
    return Derivation("correlation with the kernel as it stands", math.fsum(products.ravel()), text, matrices)


def _diff_as_kernel(e: ConvolutionExplainer, index: Index) -> Derivation:
    c, k = e.channels_of(index)
    taps, total, shown = index[2:], [], None
    for number, image in itertools.product(range(len(e.record.top_diff)), range(e.batch)):
        x, dy = e.bottom_maps(number)[image, c], e.top_maps(number)[image, k]
        picture, kernel = (x, dy) if e.bottom_is_image else (dy, x)
        spaced = spread(kernel.astype(np.float64)[None], [a.stride for a in e.axes])[0]
        starts = [r * a.dilation - a.pad for r, a in zip(taps, e.axes, strict=True)]
        patch = window(picture.astype(np.float64)[None], starts, spaced.shape)[0]
        total.append(math.fsum((patch * spaced).ravel()))
        shown = shown or (patch, spaced)
    side, other = ("X", "dY") if e.bottom_is_image else ("dY", "X")
    text = (
        f"{side} correlated with {other} as the kernel, its elements stride apart: the tap (r, s) is where the kernel "
        "is put. Nothing is rotated; the images add up."
    )
    matrices = (
        [] if shown is None else _pair(f"{side} from tap {taps} on", shown[0], f"{other} as the kernel", shown[1])
    )
    return Derivation(f"correlation of {side} with {other}", math.fsum(total), text, matrices)


def _sum_of_ones(e: ConvolutionExplainer, index: Index) -> Derivation:
    total = math.fsum(float(e.top_maps(j)[:, index[0]].astype(np.float64).sum()) for j in range(len(e.record.top_diff)))
    text = "The bias is a 1x1 kernel on an image of ones: every output hands its diff to it."
    return Derivation("correlation with ones", total, text)


def by_columns(e: ConvolutionExplainer, wrt: Wrt, index: Index) -> Derivation:
    """As a product of matrices, with im2col before or col2im after it."""
    if wrt.is_param:
        return _product_with_ones(e, index) if wrt.number else _product_with_columns(e, index)
    return _scattered(e, wrt, index) if e.bottom_is_image else _gathered(e, wrt, index)


def _window_sizes(e: ConvolutionExplainer) -> dict[str, tuple[int, ...]]:
    w = e.window
    return {"kernel": w.kernel, "stride": w.stride, "pad": w.pad, "dilation": w.dilation}


def _scattered(e: ConvolutionExplainer, wrt: Wrt, index: Index) -> Derivation:
    image, c, pixel = e.place(index)
    k, kernels = _kernels(e, c)
    dy = e.top_maps(wrt.number)[image, k].astype(np.float64).reshape(len(k), -1)
    columns = kernels.reshape(len(k), -1).T @ dy
    plane = col2im(columns, e.bottom_space, **_window_sizes(e))[0]
    collide = _entries_that_reach(e, pixel)
    collisions = {0: "none stands for this element", 1: "the marked one alone stands for this element"}.get(
        len(collide), f"the {len(collide)} marked ones collide in this element"
    )
    text = (
        f"W^T . dY gives the column matrix; shown are the rows of channel {c}, one for each tap, and those of its "
        f"{columns.shape[1]} columns (one for each output) that matter. col2im adds every entry to the pixel it stands "
        f"for: {collisions}."
    )
    shown = [_columns_shown("W^T . dY", columns, collide, e.window.kernel, e.top_space)] if collide else []
    matrices = [*shown, *_group_blocks(e, c)]
    return Derivation("W^T . dY, then col2im", float(plane[pixel]), text, matrices)


def _group_blocks(e: ConvolutionExplainer, channel: int) -> list[Matrix]:
    """The whole weight matrix in blocks, one for each group: how many weights join which channels to which outputs."""
    if e.group < 2:
        return []
    fan_in, fan_out = e.channels // e.group, e.num_output // e.group
    own, shown = channel // fan_in, min(e.group, MOST_BLOCKS)
    first = max(0, min(e.group - shown, own - shown // 2))
    groups = range(first, first + shown)
    values = np.eye(shown) * fan_in * fan_out * math.prod(e.window.kernel)
    title = f"weights by group ({own} of {e.group}): how many join which"
    rows, columns = [_span("k", g, fan_out) for g in groups], [_span("c", g, fan_in) for g in groups]
    return [Matrix(title, values, rows, columns, [(own - first, own - first)])]


def _span(name: str, block: int, size: int) -> str:
    return f"{name} {block}" if size == 1 else f"{name} {block * size}-{(block + 1) * size - 1}"


def _entries_that_reach(e: ConvolutionExplainer, pixel: Index) -> list[tuple[int, int]]:
    """The entries of the column matrix that im2col copies from a pixel, found by sending the pixel through it."""
    probe = np.zeros((1, *e.bottom_space))
    probe.reshape(-1)[np.ravel_multi_index(pixel, e.bottom_space) if pixel else 0] = 1
    return [(int(r), int(p)) for r, p in np.argwhere(im2col(probe, **_window_sizes(e)))]


def _gathered(e: ConvolutionExplainer, wrt: Wrt, index: Index) -> Derivation:
    image, c, position = e.place(index)
    k, kernels = _kernels(e, c)
    columns = im2col(e.top_maps(wrt.number)[image, k].astype(np.float64), **_window_sizes(e))
    at = int(np.ravel_multi_index(position, e.bottom_space))
    row = kernels.reshape(-1)
    text = "W . im2col(dY): the row of W that belongs to this channel times the column of this position."
    labels = [f"k={k[i]} r={t}" for i in range(len(k)) for t in np.ndindex(*e.window.kernel)][:MOST_CELLS]
    both = np.stack([row, columns[:, at]], 1)[:MOST_CELLS]
    matrix = Matrix("the row of W beside the column of im2col(dY)", both, labels, ["W", "im2col(dY)"])
    return Derivation("W . im2col(dY)", float(row @ columns[:, at]), text, [matrix])


def _product_with_columns(e: ConvolutionExplainer, index: Index) -> Derivation:
    c, k = e.channels_of(index)
    tap = int(np.ravel_multi_index(index[2:], e.window.kernel))
    total, shown = [], None
    for number, image in itertools.product(range(len(e.record.top_diff)), range(e.batch)):
        x, dy = e.bottom_maps(number)[image, c], e.top_maps(number)[image, k]
        picture, other = (x, dy) if e.bottom_is_image else (dy, x)
        column_row = im2col(picture.astype(np.float64)[None], **_window_sizes(e))[tap]
        total.append(float(column_row @ other.astype(np.float64).reshape(-1)))
        shown = column_row if shown is None else shown
    name = "dY . im2col(X)^T" if e.bottom_is_image else "X . im2col(dY)^T"
    space = e.top_space if e.bottom_is_image else e.bottom_space
    text = (
        f"{name}: the row of the left matrix for this channel times the row (channel, tap) of the column matrix; "
        f"the products of {e.batch} images add up."
    )
    row = np.zeros((1, 0)) if shown is None else shown[None, :MOST_CELLS]
    labels = [_label(unravel(p, space)) for p in range(row.shape[1])]
    matrix = Matrix("the row of the column matrix, first image", row, [f"tap {index[2:]}"], labels)
    return Derivation(name, math.fsum(total), text, [matrix, *_group_blocks(e, c)])


def _product_with_ones(e: ConvolutionExplainer, index: Index) -> Derivation:
    products = (
        e.top_maps(j)[n, index[0]].astype(np.float64).reshape(1, -1)
        for j in range(len(e.record.top_diff))
        for n in range(e.batch)
    )
    total = math.fsum(float((row @ np.ones((row.size, 1)))[0, 0]) for row in products)
    return Derivation("dY . 1", total, "dY as a matrix times a column of ones, image by image.")


def spread(arrays: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Arrays (count, *space) with step - 1 zeros between neighbours along each axis.

    >>> spread(np.array([[1, 2, 3]]), [2])
    array([[1, 0, 2, 0, 3]])
    """
    space = [(size - 1) * step + 1 for size, step in zip(arrays.shape[1:], steps, strict=True)]
    wide = np.zeros((arrays.shape[0], *space), arrays.dtype)
    apart = (slice(None), *(slice(None, None, step) for step in steps))
    wide[apart] = arrays
    return wide


def window(arrays: np.ndarray, starts: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """The part of arrays (count, *space) of these sizes from `starts` on, zero where it lies outside.

    >>> window(np.array([[1, 2, 3]]), [-1], [3])
    array([[0, 1, 2]])
    """
    part = np.zeros((arrays.shape[0], *sizes), arrays.dtype)
    source, target = [slice(None)], [slice(None)]
    for start, size, limit in zip(starts, sizes, arrays.shape[1:], strict=True):
        low, high = max(0, start), max(max(0, start), min(start + size, limit))
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    part[tuple(target)] = arrays[tuple(source)]
    return part


def _pair(left_title: str, left: np.ndarray, right_title: str, right: np.ndarray) -> list[Matrix]:
    return [_plane(left_title, left), _plane(right_title, right)]


def _plane(title: str, values: np.ndarray) -> Matrix:
    flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)
    flat = flat[:MOST_CELLS, :MOST_CELLS]
    return Matrix(title, flat, [str(r) for r in range(flat.shape[0])], [str(c) for c in range(flat.shape[1])])


def _columns_shown(
    title: str, columns: np.ndarray, marked: list[tuple[int, int]], kernel: Index, space: Index
) -> Matrix:
    """The columns that hold marked entries, and all rows of the channel."""
    chosen = sorted({p for _, p in marked})[:MOST_CELLS]
    rows = list(range(min(len(columns), MOST_CELLS)))
    cells = [(r, chosen.index(p)) for r, p in marked if p in chosen and r in rows]
    values = columns[np.ix_(rows, chosen)] if chosen else np.zeros((len(rows), 0))
    row_labels = [f"tap {_label(unravel(r, kernel))}" for r in rows]
    return Matrix(title, values, row_labels, [f"out {_label(unravel(p, space))}" for p in chosen], cells)


def _label(index: Index) -> str:
    return ",".join(map(str, index))
