"""Which blocks of a net's arrays the page holds: whole ones while they fit, else cells around those that matter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from breve.explain.layers.base import Explainer
from breve.explain.layers.convolution import ConvolutionExplainer
from breve.explain.model import Explanation, Index
from breve.explain.page.arrays import block_around, share_out, whole
from breve.explain.unfold import Pass
from breve.explain.wrt import Wrt

MOST_IMAGES = 4
Block = tuple[slice, ...]


class Blocks:
    """Cuts arrays so that all together have about `cells` cells, the chosen layer's cut least.

    `images` are the images of the batch that the page holds, the chosen one among them.
    """

    def __init__(self, run: Pass, found: Explanation, cells: int) -> None:
        self.run, self.found, self.cells = run, found, cells
        self.chosen = run.number(found.layer)
        self.batch = batch_size(run)
        self._centres = {link.layer: link.index for link in found.chain if link.layer}
        self.images = self._choose_images(cells)
        self.quota = share_out([self._size(a) for a in self._arrays()], cells)
        self.generous = max(self.quota, cells // 4)

    def _choose_images(self, cells: int) -> slice:
        features = sum(a.size for a in self._arrays() if self.is_batch(a.shape))
        count = min(self.batch, MOST_IMAGES, max(1, (cells // 2) // max(1, features // max(1, self.batch))))
        first = self.found.index[0] if self.found.wrt.startswith("data") and self.found.index else 0
        start = min(first, self.batch - count) if first < self.batch else 0
        return slice(start, start + count)

    def is_batch(self, shape: Index) -> bool:
        """Whether an array's first axis counts images."""
        return bool(shape) and shape[0] == self.batch

    @property
    def others(self) -> list[int]:
        """The images that the page does not hold."""
        return [n for n in range(self.batch) if not self.images.start <= n < self.images.stop]

    def _arrays(self) -> list[np.ndarray]:
        """All arrays that could be shown, each once."""
        found: dict[Any, np.ndarray] = {}
        for r in self.run.records.values():
            groups = (r.bottom_data, r.bottom_diff, r.top_data, r.top_diff, r.param_data, r.param_diff)
            for array in itertools.chain(*groups):
                found.setdefault((array.__array_interface__["data"][0], array.shape), array)
        return list(found.values())

    def _size(self, array: np.ndarray) -> int:
        kept = self.images.stop - self.images.start
        return array.size // self.batch * kept if self.is_batch(array.shape) else array.size

    def _limit(self, number: int) -> int:
        return self.generous if number == self.chosen else self.quota

    def _lead(self, shape: Index) -> slice:
        return self.images if self.is_batch(shape) else slice(0, shape[0])

    def _centre(self, number: int, shape: Index) -> Index:
        """The cell around which an array of a layer is cut: where the way to the loss passes, or the middle."""
        known = self._centres.get(self.run.layer_names[number], ())
        if len(known) == len(shape):
            return tuple(min(k, d - 1) for k, d in zip(known, shape, strict=True))
        return (self.images.start, *(d // 2 for d in shape[1:]))

    def of_features(self, number: int, array: np.ndarray) -> list[Block]:
        """Blocks of a bottom or top: all channels before all pixels."""
        shape = array.shape
        if not shape:
            return [()]
        lead = self._lead(shape)
        limit = self._limit(number) // max(1, lead.stop - lead.start)
        inner = block_around(shape[1:], self._centre(number, shape)[1:], max(1, limit), [range(1, len(shape)), (0,)])
        blocks = [(lead, *inner)]
        if number == self.chosen and self.found.wrt == "weights" and array.ndim == 4:
            blocks += self._whole_planes(array, lead)
        return blocks

    def _whole_planes(self, array: np.ndarray, lead: slice) -> Iterator[Block]:
        """The planes that a weight of the chosen layer meets, with all of their pixels."""
        e = self.run.explainer(self.chosen)
        if isinstance(e, ConvolutionExplainer):
            c, k = e.channels_of(self.found.index)
            for x in {x for x, total in ((c, e.channels), (k, e.num_output)) if total == array.shape[1]}:
                yield (lead, slice(x, x + 1), *whole(array.shape[2:]))

    @cached_property
    def holds_all_weights(self) -> bool:
        """Whether the parameters' data (not their diffs) are few enough to be held whole, for every way to the loss."""
        return sum(p.size for r in self.run.records.values() for p in r.param_data) <= self.cells

    def of_weights(self, number: int, array: np.ndarray, wrt: Wrt) -> list[Block]:
        """Blocks of a parameter's data."""
        return [whole(array.shape)] if self.holds_all_weights else self.of_parameter(number, array, wrt)

    def of_parameter(self, number: int, array: np.ndarray, wrt: Wrt) -> list[Block]:
        """A block of a parameter: all outputs before all inputs."""
        shape = array.shape
        if not shape:
            return [()]
        centre = tuple(d // 2 for d in shape)
        if number == self.chosen and self.found.wrt == wrt.name:
            centre = self.found.index
        elif number == self.chosen and len(shape) == 4 and self.found.wrt == "data":
            centre = (centre[0], self.found.index[1] % shape[1], *centre[2:])
        return [block_around(shape, centre, self._limit(number), [(1,), (0,), range(2, len(shape))])]

    def of_rows(self, number: int, e: Explainer, wrt: Wrt, most: int) -> list[int]:
        """Flat positions of the cells whose terms are listed beforehand, those nearest to the centre first."""
        shape = e.values(wrt).shape
        if not shape:
            return [0]
        chosen = number == self.chosen and wrt.name == self.found.wrt
        centre = self.found.index if chosen else self._centre(number, shape)
        lead = self._lead(shape) if not wrt.is_param else slice(0, shape[0])
        limit = most // max(1, lead.stop - lead.start)
        inner = block_around(shape[1:], centre[1:], max(1, limit), [range(1, len(shape)), (0,)])
        cells = itertools.product(*(range(s.start, s.stop) for s in (lead, *inner)))
        nearest = sorted(cells, key=lambda at: [abs(a - c) for a, c in zip(at, centre, strict=True)])
        return [int(np.ravel_multi_index(at, shape)) for at in nearest]


def batch_size(run: Pass) -> int:
    """The length of the first axis of what the net reads first."""
    shapes = [r.bottom_data[0].shape for r in run.records.values() if r.bottom_data and r.bottom_data[0].ndim > 1]
    return shapes[0][0] if shapes else 1
