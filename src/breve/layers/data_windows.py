"""WindowData: windows of pictures, for training detectors as R-CNN does."""

from __future__ import annotations

from collections.abc import Sequence

from breve.blob import Blob
from breve.data.reader import Loader
from breve.data.transform import DataTransformer
from breve.data.windows import WindowLoader
from breve.errors import LayerError
from breve.layers.data import ReadingLayer, positive


class WindowData(ReadingLayer):
    """Random windows of pictures, warped to squares, some of objects and some of background.

    Forward: data = `batch_size` windows, first those of background, mean subtracted and scaled; label = their classes,
        0 for background.
    Backward: none.
    Blobs: no bottom; data (N, 3, crop_size, crop_size) and label (N).
    Fields: window_data_param: `source`, a window file; `root_folder`; `batch_size`; `fg_fraction`, `fg_threshold`,
        `bg_threshold`, which windows are objects, which background, and how many of each; `context_pad`; `crop_mode`,
        "warp" or "square"; `cache_images`; `scale`. transform_param: `crop_size` (required), `mirror`, `mean_file`,
        `mean_value`, `scale`.
    Errors: a window file or picture that is missing, damaged or contradictory; no windows of a kind that is wanted.
    Source: Caffe's window_data_layer. There transform_param's scale has no effect; here it has, and two scales are an
        error.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the parameters, read the window file and shape the tops."""
        param, transform = self.param.window_data_param, self.param.transform_param
        for name in ("mean_file", "crop_size", "mirror"):
            if param.HasField(name):
                raise LayerError(f"{name} has no effect in window_data_param", hint="move it to transform_param")
        if transform.force_color or transform.force_gray:
            raise LayerError("WindowData always reads colour", hint="remove force_color and force_gray")
        if param.HasField("scale") and transform.HasField("scale"):
            raise LayerError("scale is given twice, in window_data_param and in transform_param", hint="keep one")
        if not param.source:
            raise LayerError("window_data_param has no source", hint='say `source: "a window file"`')
        if param.crop_mode not in ("warp", "square"):
            raise LayerError("unknown crop_mode", expected="warp or square", found=param.crop_mode)
        crop_size = positive("transform_param's crop_size", transform.crop_size)
        if 2 * param.context_pad >= crop_size:
            raise LayerError(
                "context_pad leaves nothing of the crop", expected=f"less than {crop_size / 2}", found=param.context_pad
            )
        if not 0 <= param.fg_fraction <= 1:
            raise LayerError("fg_fraction is out of range", expected="0 to 1", found=param.fg_fraction)
        positive("batch_size", param.batch_size)
        super().setup(bottom, top)

    def make_loader(self) -> Loader:
        """The loader of the window file."""
        param = self.param.window_data_param
        transformer = DataTransformer(self.param.transform_param, self.phase)
        transformer.scale *= param.scale
        return WindowLoader(param, transformer, self.rng, self.dtype)
