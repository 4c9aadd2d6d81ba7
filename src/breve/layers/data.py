"""Layers that read batches ahead: what they have in common, and Data, which reads a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.data.reader import Loader, Reader
from breve.data.records import DatabaseLoader
from breve.data.transform import DataTransformer
from breve.errors import LayerError
from breve.layers.inputs import SourceLayer

PREFETCH = 4


class ReadingLayer(SourceLayer):
    """A layer whose tops are the arrays of batches that a thread loads ahead. A subclass makes the loader.

    Its state is that of the batch in its tops: a run resumed from it goes on with the next batch, however far ahead the
    thread was.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    reader: Reader

    def make_loader(self) -> Loader:
        """The loader of the batches. Raises LayerError, DataError."""
        raise NotImplementedError

    def prefetch(self) -> int:
        """How many batches to load ahead."""
        return PREFETCH

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Open the source and shape the tops as its first record says."""
        loader = self.make_loader()
        self.reader = Reader(loader, self.prefetch())
        for blob, shape in zip(top, loader.shapes(), strict=False):
            blob.reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the next batch."""
        batch = self.reader.take()
        for blob, array in zip(top, batch.arrays, strict=False):
            blob.reshape(*array.shape)
            np.copyto(blob.data, array)
        self.reader.give_back(batch)

    def state(self) -> dict[str, Any]:
        """Where the next batch begins."""
        return self.reader.state

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the batch that would have followed."""
        self.reader.set_state(state)

    def close(self) -> None:
        """End the thread and close the source."""
        self.reader.close()


def positive(name: str, value: int) -> int:
    """`value`, or a LayerError where it is not positive."""
    if value <= 0:
        raise LayerError(f"{name} must be positive", found=value)
    return value


def refuse_old_transform(param: Any) -> None:
    """Refuse transforms in a place where Caffe stopped looking at them. Raises LayerError."""
    for name in ("scale", "mean_file", "crop_size", "mirror"):
        if param.HasField(name):
            raise LayerError(f"{name} has no effect here", hint="move it to transform_param")


class Data(ReadingLayer):
    """Images and labels from a database of Datums, in the order of its keys, round and round.

    Forward: data = the next `batch_size` images, transformed; label = their labels, if there is a second top.
    Backward: none.
    Blobs: no bottom; data (N, C, h, w) and, optionally, label (N).
    Fields: data_param: `source`, `batch_size`, `backend` (LEVELDB unless said), `rand_skip` (skip a random number of
        records, less than it, at first), `prefetch` (batches to load ahead), `force_encoded_color`. transform_param:
        `crop_size`, `mean_file`, `mean_value`, `scale`, `mirror`, `force_color`, `force_gray`: see `DataTransformer`.
    Errors: a source that is missing, empty, damaged or of the other backend; images that differ in size in a batch, or
        that a transform does not fit.
    Source: Caffe's data_layer and data_transformer. There `rand_skip` and `force_encoded_color` have no effect.
    """

    def make_loader(self) -> Loader:
        """The loader of the database."""
        param = self.param.data_param
        refuse_old_transform(param)
        if not param.source:
            raise LayerError("data_param has no source", hint='say `source: "the database\'s folder"`')
        transformer = DataTransformer(self.param.transform_param, self.phase)
        if param.force_encoded_color:
            transformer.channels = 3
        backend = type(param).DB.Name(param.backend)
        batch_size = positive("batch_size", param.batch_size)
        return DatabaseLoader(param.source, backend, batch_size, transformer, self.rng, self.dtype, param.rand_skip)

    def prefetch(self) -> int:
        """As data_param says."""
        return positive("prefetch", self.param.data_param.prefetch)
