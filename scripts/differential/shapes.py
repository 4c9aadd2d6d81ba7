"""Random layers that move, join, cut and pick values."""

from __future__ import annotations

import numpy as np
from drawing import Layer, Random, any_shape, distinct, either_sign, flag, normal, one_of, whole


def concat(r: Random) -> Layer:
    """Parts of different size along one axis."""
    shape = list(any_shape(r))
    axis = int(r.integers(len(shape)))
    parts = [[*shape[:axis], int(r.integers(1, 6)), *shape[axis + 1 :]] for _ in range(r.integers(1, 4))]
    fields = one_of(r, f"axis: {either_sign(r, axis, len(shape))}", f"concat_dim: {axis}")
    return Layer("Concat", f"concat_param {{ {fields} }}", [normal(r, *p) for p in parts])


def slice_(r: Random) -> Layer:
    """Even parts, or at points."""
    shape, parts = list(any_shape(r)), int(r.integers(1, 4))
    axis = int(r.integers(len(shape)))
    if r.random() < 0.5:
        shape[axis] = parts * int(r.integers(1, 4))
        points = ""
    else:
        shape[axis] = int(r.integers(parts, 9))
        points = "".join(f" slice_point: {p}" for p in sorted(r.choice(np.arange(1, shape[axis]), parts - 1, False)))
    fields = one_of(r, f"axis: {either_sign(r, axis, len(shape))}", f"slice_dim: {axis}")
    return Layer("Slice", f"slice_param {{ {fields}{points} }}", [normal(r, *shape)], tops=parts)


def split(r: Random) -> Layer:
    """One to many."""
    return Layer("Split", "", [normal(r, *any_shape(r))], tops=int(r.integers(1, 4)))


def silence(r: Random) -> Layer:
    """Some bottoms, no top, and no gradient."""
    return Layer("Silence", "", [normal(r, *any_shape(r)) for _ in range(r.integers(1, 4))], tops=0)


def flatten(r: Random) -> Layer:
    """Some of the axes."""
    shape = any_shape(r)
    axis = int(r.integers(len(shape)))
    end = int(r.integers(axis, len(shape)))
    axis, end = either_sign(r, axis, len(shape)), either_sign(r, end, len(shape))
    return Layer("Flatten", f"flatten_param {{ axis: {axis} end_axis: {end} }}", [normal(r, *shape)])


def reshape(r: Random) -> Layer:
    """The axes after some merged into one, or some of them replaced by others."""
    shape = any_shape(r)
    keep = int(r.integers(len(shape)))
    if r.random() < 0.5:
        dims = "".join(f" dim: {one_of(r, 0, d)}" for d in shape[:keep])
        return Layer("Reshape", f"reshape_param {{ shape {{{dims} dim: -1 }} }}", [normal(r, *shape)])
    axes = int(r.integers(len(shape) - keep + 1))
    dims = "dim: 1 dim: -1" if axes else "dim: 1"
    fields = f"shape {{ {dims} }} axis: {keep} num_axes: {axes}"
    return Layer("Reshape", f"reshape_param {{ {fields} }}", [normal(r, *shape)])


def tile(r: Random) -> Layer:
    """Along any axis."""
    shape = any_shape(r)
    axis = either_sign(r, int(r.integers(len(shape))), len(shape))
    return Layer("Tile", f"tile_param {{ axis: {axis} tiles: {r.integers(1, 5)} }}", [normal(r, *shape)])


def permute(r: Random) -> Layer:
    """Some axes in another order, the others after them; SSD's layer, which this Caffe has too."""
    shape = any_shape(r)
    order = r.permutation(len(shape))[: r.integers(1, len(shape) + 1)]
    fields = " ".join(f"order: {axis}" for axis in order)
    return Layer("Permute", f"permute_param {{ {fields} }}", [normal(r, *shape)])


def batch_reindex(r: Random) -> Layer:
    """Rows picked, some twice."""
    shape = any_shape(r)
    return Layer("BatchReindex", "", [normal(r, *shape), whole(r, shape[0], r.integers(1, 8))])


def filter_(r: Random) -> Layer:
    """The samples that a selector picks out of several blobs."""
    n, count = int(r.integers(1, 7)), int(r.integers(1, 4))
    bottoms = [normal(r, n, *any_shape(r, 3)) for _ in range(count)]
    return Layer("Filter", "", [*bottoms, whole(r, 2, n)], tops=count)


def argmax(r: Random) -> Layer:
    """Over all values of a sample, or along an axis."""
    shape = (int(r.integers(1, 4)), int(r.integers(2, 6)), int(r.integers(2, 4)), int(r.integers(2, 4)))
    axis = one_of(r, "", f"axis: {either_sign(r, int(r.integers(1, 4)), 4)}")
    fields = f"top_k: {r.integers(1, 3)} out_max_val: {flag(r)} {axis}"
    return Layer("ArgMax", f"argmax_param {{ {fields} }}", [distinct(r, *shape)], backward=False)


GENERATORS = [
    concat, slice_, split, silence, flatten, reshape, tile, permute, batch_reindex, filter_, argmax,
]  # fmt: skip
