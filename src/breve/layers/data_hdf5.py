"""HDF5Data and HDF5Output: numbers of any shape from and to HDF5 files."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import ClassVar

from breve.blob import Blob
from breve.data.hdf5 import Hdf5Loader
from breve.data.hdf5_writer import Hdf5Writer
from breve.data.reader import Loader
from breve.errors import LayerError
from breve.layers.base import Layer
from breve.layers.data import ReadingLayer, positive
from breve.layers.inputs import refuse_transform


class HDF5Data(ReadingLayer):
    """Rows of datasets in HDF5 files, each top named after its dataset, round and round.

    Forward: top[i] = the next `batch_size` rows of the dataset of its name.
    Backward: none.
    Blobs: no bottom; any number of tops (N, ...), of one to any number of axes.
    Fields: hdf5_data_param: `source`, a text file that names HDF5 files, one a line; `batch_size`; `shuffle`, the order
        of the files and of the rows in each, anew in every epoch.
    Errors: a transform_param, which this layer does not honour; a file that is missing, damaged or lacks a dataset;
        rows of another shape than the first file's.
    Source: Caffe's hdf5_data_layer. Files larger than memory are read by parts.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, None)

    def make_loader(self) -> Loader:
        """The loader of the rows."""
        refuse_transform(self.param)
        param = self.param.hdf5_data_param
        if not param.source:
            raise LayerError("hdf5_data_param has no source", hint='say `source: "a text file that names HDF5 files"`')
        batch_size = positive("batch_size", param.batch_size)
        return Hdf5Loader(param.source, list(self.param.top), batch_size, param.shuffle, self.rng, self.dtype)


class HDF5Output(Layer):
    """Writes two blobs to an HDF5 file, as the datasets `data` and `label`.

    Forward: appends the rows of bottom[0] to `data` and those of bottom[1] to `label`. The file gets its name when the
        net is closed or deleted, or the program ends.
    Backward: none.
    Blobs: two bottoms of as many rows; no top.
    Fields: hdf5_output_param: `file_name`.
    Errors: no file name; blobs of different numbers of rows, or of another shape than before.
    Source: Caffe's hdf5_output_layer, which fails at the second forward.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)
    top_counts: ClassVar[tuple[int, int | None]] = (0, 0)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the file's name. It is made at the first forward."""
        self.file_name: str = self.param.hdf5_output_param.file_name
        if not self.file_name:
            raise LayerError("hdf5_output_param has no file_name")
        self._writer: Hdf5Writer | None = None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that the blobs have as many rows."""
        rows = [blob.shape[:1] for blob in bottom]
        if rows[0] != rows[1] or not rows[0]:
            raise LayerError("data and label have different numbers of rows", found=f"{rows[0]} and {rows[1]}")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Append the rows."""
        if self._writer is None:
            self._writer = Hdf5Writer(self.file_name)
            self._finish = weakref.finalize(self, self._writer.close)
        self._writer.append({"data": bottom[0].data, "label": bottom[1].data})

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Nothing flows back from a file: the bottoms' diffs are zero."""
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff[...] = 0

    def close(self) -> None:
        """Give the file its name."""
        if self._writer is not None:
            self._finish()
            self._writer = None
