"""ROIPooling and PSROIPooling: regions of interest pooled into a fixed number of bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import DataError, LayerError
from breve.kernels import regions
from breve.layers.base import Layer
from breve.layers.views import channels_last, image_shape, overwritten_channels_last


class RegionPooling(Layer):
    """What both share: regions (image, x1, y1, x2, y2) as the second bottom, and where their bins begin and end."""

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})

    def check_bottoms(self, bottom: Sequence[Blob]) -> int:
        """How many regions there are. Raises LayerError when a bottom has a wrong shape."""
        image_shape(bottom[0], "pooling of regions")
        shape = bottom[1].shape
        if not shape or bottom[1].count != 5 * shape[0]:
            raise LayerError("a region is five numbers: image, x1, y1, x2, y2", expected="(R, 5)", found=shape)
        return shape[0]

    def read_regions(self, bottom: Sequence[Blob]) -> tuple[np.ndarray, np.ndarray]:
        """The image of each region, and its (R, 4) corners. Raises DataError when one is out of range."""
        values = bottom[1].data.reshape(-1, 5)
        images, batch = values[:, 0], bottom[0].shape[0]
        wrong = ~((images > -1) & (images < batch) & np.isfinite(values).all(axis=1))
        if wrong.any():
            r = int(wrong.argmax())
            raise DataError(
                "a region is out of range",
                expected=f"an image from 0 to {batch - 1} and finite corners",
                found=f"{values[r].tolist()} as region {r}",
            )
        return images.astype(np.intp), values[:, 1:]


class ROIPooling(RegionPooling):
    """The maximum in each of pooled_h x pooled_w bins of each region of interest.

    Forward: a region (image, x1, y1, x2, y2) becomes the pixels from round(x1 spatial_scale) to round(x2
        spatial_scale), both included and one at least, likewise in y. With size the number of its rows, bin i has the
        rows from floor(i size / pooled_h) to ceil((i + 1) size / pooled_h) - 1 of the region, as far as they are inside
        the image; likewise columns. y[r,c,i,j] = the maximum of x over the bin, 0 where it is empty.
    Backward: dy goes to the first pixel, in order of rows, that has the maximum; the regions get no gradient.
    Blobs: bottoms x (N, C, H, W) and regions (R, 5); top (R, C, pooled_h, pooled_w).
    Fields: roi_pooling_param: `pooled_h` and `pooled_w` (required), `spatial_scale` (1).
    Errors: no `pooled_h` or `pooled_w`; a region of other than five numbers; an image that there is not.
    Source: the Fast R-CNN fork's roi_pooling_layer; R. Girshick, Fast R-CNN, 2015.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the bins."""
        param = self.param.roi_pooling_param
        self.bins = param.pooled_h, param.pooled_w
        if 0 in self.bins:
            raise LayerError("pooled_h or pooled_w is missing or zero", expected="at least 1", found=self.bins)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One small image a region."""
        top[0].reshape(self.check_bottoms(bottom), bottom[0].shape[1], *self.bins)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Pool, and remember where each maximum was."""
        self.images, corners = self.read_regions(bottom)
        pixels = rounded(corners * self.dtype.type(self.param.roi_pooling_param.spatial_scale))
        columns, rows = (
            self._bins(pixels[:, axis], pixels[:, axis + 2], bins, size)
            for axis, bins, size in zip((0, 1), self.bins[::-1], bottom[0].shape[:1:-1], strict=True)
        )
        with overwritten_channels_last(top[0].data) as top_data:
            self.mask = np.empty(top_data.shape, np.int32)
            regions.maximum(channels_last(bottom[0].data), self.images, rows, columns, top_data, self.mask)

    def _bins(self, start: np.ndarray, end: np.ndarray, bins: int, size: int) -> np.ndarray:
        """First and last-plus-one pixel of each bin along one axis, (R, bins, 2)."""
        bin_size = np.maximum(end - start + 1, 1) / self.dtype.type(bins)
        return inside(bin_edges(np.zeros_like(start), bin_size, bins) + start[:, None, None], size)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Give each bin's gradient to its maximum."""
        check_no_region_gradient(propagate_down)
        if propagate_down[0]:
            with overwritten_channels_last(bottom[0].diff) as bottom_diff:
                regions.maximum_backward(channels_last(top[0].diff), self.images, self.mask, bottom_diff)


class PSROIPooling(RegionPooling):
    """Position-sensitive pooling: each bin of a region averages channels of its own.

    Forward: a region (image, x1, y1, x2, y2) covers round(x1) spatial_scale to (round(x2) + 1) spatial_scale, at least
        0.1, likewise in y. Of k = `group_size` equal bins along an axis, bin i begins at floor and ends before ceil of
        its bounds, cut to the image. y[r,d,i,j] = the mean of channel (d k + i) k + j over the pixels of bin (i, j), 0
        where it is empty.
    Backward: dy divided by the number of its pixels goes to each pixel of the bin; the regions get no gradient.
    Blobs: bottoms x (N, output_dim k^2, H, W) and regions (R, 5); top (R, output_dim, k, k).
    Fields: psroi_pooling_param: `spatial_scale`, `output_dim` and `group_size` (all required).
    Errors: a field that is missing; channels other than output_dim k^2; a region of other than five numbers; an image
        that there is not.
    Source: the R-FCN fork's psroi_pooling_layer; J. Dai et al., R-FCN, 2016.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the parameters."""
        param = self.param.psroi_pooling_param
        self.outputs, self.bins, self.scale = param.output_dim, param.group_size, self.dtype.type(param.spatial_scale)
        if self.outputs < 1 or self.bins < 1 or not self.scale > 0:
            raise LayerError(
                "spatial_scale, output_dim or group_size is missing",
                expected="all above 0",
                found=(param.spatial_scale, self.outputs, self.bins),
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One small image a region."""
        count = self.check_bottoms(bottom)
        if bottom[0].shape[1] != self.outputs * self.bins**2:
            raise LayerError(
                "channels are not output_dim * group_size^2",
                expected=self.outputs * self.bins**2,
                found=bottom[0].shape[1],
            )
        top[0].reshape(count, self.outputs, self.bins, self.bins)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Average."""
        self.images, corners = self.read_regions(bottom)
        pixels = rounded(corners)
        self.columns, self.rows = (
            self._bins(pixels[:, axis], pixels[:, axis + 2], size)
            for axis, size in zip((0, 1), bottom[0].shape[:1:-1], strict=True)
        )
        with overwritten_channels_last(top[0].data) as top_data:
            bottom_data = channels_last(bottom[0].data)
            regions.position_average(bottom_data, self.images, self.rows, self.columns, top_data)

    def _bins(self, first: np.ndarray, last: np.ndarray, size: int) -> np.ndarray:
        """First and last-plus-one pixel of each bin along one axis, (R, bins, 2)."""
        start, end = first * self.scale, (last + 1) * self.scale
        bin_size = np.maximum(end - start, self.dtype.type(0.1)) / self.dtype.type(self.bins)
        return inside(bin_edges(start, bin_size, self.bins), size)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Spread each bin's gradient over its pixels."""
        check_no_region_gradient(propagate_down)
        if propagate_down[0]:
            with overwritten_channels_last(bottom[0].diff) as bottom_diff:
                top_diff = channels_last(top[0].diff)
                regions.position_average_backward(top_diff, self.images, self.rows, self.columns, bottom_diff)


def rounded(values: np.ndarray) -> np.ndarray:
    """To the nearest whole number, halves away from zero as C does, in the same dtype."""
    return np.trunc(values + np.copysign(values.dtype.type(0.5), values))


def bin_edges(start: np.ndarray, bin_size: np.ndarray, bins: int) -> np.ndarray:
    """floor(start + i bin_size) and ceil(start + (i + 1) bin_size) for each region and bin i, (R, bins, 2)."""
    numbers = np.arange(bins + 1, dtype=start.dtype)
    bounds = numbers * bin_size[:, None] + start[:, None]
    return np.stack([np.floor(bounds[:, :-1]), np.ceil(bounds[:, 1:])], axis=-1)


def inside(edges: np.ndarray, size: int) -> np.ndarray:
    """Edges cut to 0 ... size, as indices."""
    return np.clip(edges, 0, size).astype(np.intp)


def check_no_region_gradient(propagate_down: Sequence[bool]) -> None:
    """Raise LayerError when a gradient of the regions is asked for."""
    if propagate_down[1]:
        raise LayerError("pooling gives no gradient wrt its regions", hint="set propagate_down: false for them")
