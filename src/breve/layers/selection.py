"""Layers that take a part of a blob, or take it several times: Crop, Tile, BatchReindex, Filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import DataError, LayerError
from breve.layers.base import Layer


class Crop(Layer):
    """A part of the first blob, as large as the second.

    Forward: y = a part of x that begins at `offset` and has the second bottom's size, in all axes from `axis` on.
    Backward: dx = dy in that part, 0 outside; the second bottom, which only gives its shape, gets no gradient.
    Blobs: bottoms x and a reference with as many axes; top with x's sizes before `axis` and the reference's from it on.
    Fields: crop_param: `axis` (2), negative ones counted from the last; `offset`: none (0), one for all, or one for
        each axis from `axis` on.
    Errors: another number of offsets; a part that reaches beyond x.
    Source: Caffe's crop_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Find the part."""
        shape, reference = bottom[0].shape, bottom[1].shape
        axis = self.canonical_axis(self.param.crop_param.axis, len(shape))
        if len(reference) != len(shape):
            raise LayerError("both bottoms must have as many axes", expected=list(shape), found=list(reference))
        offsets = [0] * axis + self._offsets(len(shape) - axis)
        sizes = [*shape[:axis], *reference[axis:]]
        if any(offset + size > full for offset, size, full in zip(offsets, sizes, shape, strict=True)):
            raise LayerError(
                "the crop reaches beyond the bottom", expected=f"within {list(shape)}", found=f"{sizes} at {offsets}"
            )
        self.part = tuple(slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True))
        top[0].reshape(*sizes)

    def _offsets(self, num_axes: int) -> list[int]:
        offsets = list(self.param.crop_param.offset) or [0]
        if len(offsets) not in (1, num_axes):
            raise LayerError(
                "crop_param needs no offset, one, or one for each axis", expected=f"1 or {num_axes}", found=len(offsets)
            )
        return offsets * num_axes if len(offsets) == 1 else offsets

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the part."""
        top[0].data[...] = bottom[0].data[self.part]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy the part's gradient back."""
        if propagate_down[0]:
            bottom[0].diff[...] = 0
            bottom[0].diff[self.part] = top[0].diff


class Tile(Layer):
    """A blob repeated along an axis.

    Forward: y = [x, x, ...] along `axis`, `tiles` times.
    Backward: dx = the sum of dy's tiles.
    Blobs: one bottom; top `tiles` times as long along `axis`.
    Fields: tile_param: `axis` (1), negative ones counted from the last; `tiles`, required.
    Errors: `tiles` below 1.
    Source: Caffe's tile_layer.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the axis longer."""
        shape, self.tiles = list(bottom[0].shape), self.param.tile_param.tiles
        self.axis = self.canonical_axis(self.param.tile_param.axis, len(shape))
        if self.tiles < 1:
            raise LayerError("tile_param.tiles is missing or too small", expected=">= 1", found=self.tiles)
        shape[self.axis] *= self.tiles
        top[0].reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the blob as often as needed."""
        top[0].data[...] = np.concatenate([bottom[0].data] * self.tiles, axis=self.axis)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Sum the tiles' gradients."""
        if propagate_down[0]:
            np.sum(np.split(top[0].diff, self.tiles, axis=self.axis), axis=0, out=bottom[0].diff)


class BatchReindex(Layer):
    """Samples picked, repeated or put in another order.

    Forward: y[i] = x[index[i]].
    Backward: dx[n] = sum of dy[i] over all i with index[i] = n.
    Blobs: bottoms x (N, ...) and indices (M); top (M, ...).
    Fields: none.
    Errors: an index that is no sample; a gradient wrt the indices.
    Source: Caffe's batch_reindex_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """As many samples as indices."""
        if bottom[1].ndim != 1:
            raise LayerError("indices must be a vector", expected="one axis", found=bottom[1].shape)
        top[0].reshape(bottom[1].shape[0], *bottom[0].shape[1:])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the samples."""
        values, num = bottom[1].data, bottom[0].shape[0]
        wrong = np.flatnonzero(~((values > -1) & (values < num)))
        if wrong.size:
            raise DataError(
                "an index is out of range", expected=f"0 to {num - 1}", found=f"{values[wrong[0]]:g} at ({wrong[0]},)"
            )
        self.indices = values.astype(np.intp)
        top[0].data[...] = bottom[0].data[self.indices]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Add each sample's gradients."""
        if propagate_down[1]:
            raise LayerError(
                "BatchReindex gives no gradient wrt its indices", hint="set propagate_down: false for them"
            )
        if propagate_down[0]:
            bottom[0].diff[...] = 0
            np.add.at(bottom[0].diff, self.indices, top[0].diff)


class Filter(Layer):
    """The samples that a selector marks.

    Forward: y_i = the samples n of x_i with selector[n] != 0.
    Backward: dx_i[n] = dy_i at the sample's new place if it was selected, else 0.
    Blobs: bottoms x_1, x_2, ... (N, ...) and, last, the selector (N, 1, ...); as many tops as there are x_i, with the
        selected samples only. While the net is built, before there are values, all samples count as selected.
    Fields: none.
    Errors: a selector that is not one value for each sample; a gradient wrt the selector.
    Source: Caffe's filter_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, None)
    top_counts: ClassVar[tuple[int, int | None]] = (1, None)
    reshapes_always: ClassVar[bool] = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Begin with all samples."""
        if len(top) != len(bottom) - 1:
            raise LayerError(
                "Filter needs a top for each bottom but the selector", expected=len(bottom) - 1, found=len(top)
            )
        self.selected: np.ndarray | None = None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Count the selected samples."""
        selector, num = bottom[-1], bottom[0].shape[0]
        if selector.count != selector.shape[0] or any(blob.shape[0] != selector.shape[0] for blob in bottom):
            raise LayerError(
                "the selector must have one value for each sample",
                expected=[num] + [1] * (selector.ndim - 1),
                found=list(selector.shape),
            )
        first = self.selected is None
        self.selected = np.arange(num) if first else np.flatnonzero(selector.data.reshape(num))
        for source, target in zip(bottom[:-1], top, strict=True):
            target.reshape(self.selected.size, *source.shape[1:])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the selected samples."""
        for source, target in zip(bottom[:-1], top, strict=True):
            target.data[...] = source.data[self.selected]

    @property
    def unforced_bottoms(self) -> frozenset[int]:  # type: ignore[override]
        """The selector, which is the last."""
        return frozenset({len(self.param.bottom) - 1})

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy the gradients back to where the samples came from."""
        if propagate_down[-1]:
            raise LayerError("Filter gives no gradient wrt its selector", hint="set propagate_down: false for it")
        for source, target, wanted in zip(bottom[:-1], top, propagate_down[:-1], strict=True):
            if wanted:
                source.diff[...] = 0
                source.diff[self.selected] = target.diff
