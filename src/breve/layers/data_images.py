"""ImageData: pictures from a list of files."""

from __future__ import annotations

from breve.data.imagelist import ImageListLoader
from breve.data.reader import Loader
from breve.data.transform import DataTransformer
from breve.errors import LayerError
from breve.layers.data import ReadingLayer, positive, refuse_old_transform


class ImageData(ReadingLayer):
    """Pictures and labels from a text file of lines `name label`, round and round.

    Forward: data = the next `batch_size` pictures, resized and transformed; label = their labels.
    Backward: none.
    Blobs: no bottom; data (N, C, h, w) and label (N).
    Fields: image_data_param: `source`, the list; `root_folder`, put before every name as it is; `batch_size`;
        `new_height` and `new_width`, to resize to; `is_color`, 3 channels or 1; `shuffle`, anew in every epoch;
        `rand_skip`. transform_param: see Data.
    Errors: a list or picture that is missing or damaged; one of new_height and new_width alone; pictures that differ in
        size in a batch of more than one.
    Source: Caffe's image_data_layer; pictures are resized to the last bit as OpenCV does.
    """

    def make_loader(self) -> Loader:
        """The loader of the list."""
        param = self.param.image_data_param
        refuse_old_transform(param)
        if not param.source:
            raise LayerError("image_data_param has no source", hint='say `source: "a text file of lines: name label"`')
        if bool(param.new_height) != bool(param.new_width):
            raise LayerError("new_height and new_width go together", found=f"{param.new_height} and {param.new_width}")
        return ImageListLoader(
            param.source,
            positive("batch_size", param.batch_size),
            DataTransformer(self.param.transform_param, self.phase),
            self.rng,
            self.dtype,
            root=param.root_folder,
            channels=3 if param.is_color else 1,
            size=(param.new_height, param.new_width) if param.new_height else None,
            shuffle=param.shuffle,
            rand_skip=param.rand_skip,
        )
