"""Layers without bottoms that give values from outside: Input, DummyData, Parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.base import Layer
from breve.layers.fillers import fill
from breve.proto import FillerParameter


class SourceLayer(Layer):
    """A layer without bottoms, hence without a backward pass."""

    bottom_counts: ClassVar[tuple[int, int | None]] = (0, 0)
    top_counts: ClassVar[tuple[int, int | None]] = (1, None)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shapes are given once, in setup; whoever reshapes the top afterwards is obeyed."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """There is nothing below."""


def refuse_transform(param: Any) -> None:
    """Refuse transform_param in a layer that does not honour it. Raises LayerError."""
    if param.transform_param.ListFields():
        raise LayerError(
            f"{param.type} does not transform its data", hint="remove transform_param, and transform the data first"
        )


def shape_for(index: int, shapes: Sequence[Any], what: str) -> list[int]:
    """The shape of top `index` among one shape for all or one for each. Raises LayerError."""
    dims = list(shapes[index if len(shapes) > 1 else 0].dim)
    if any(d < 0 for d in dims):
        raise LayerError(f"{what} has a negative dim", found=dims)
    return dims


class Input(SourceLayer):
    """Tops that the user, or a script, writes values into.

    Forward: nothing; the values are what was written.
    Backward: none.
    Blobs: no bottom; any number of tops.
    Fields: input_param: `shape`, one for all tops or one for each (none: the tops are shaped by the user).
    Errors: another number of shapes; a transform_param, which written values do not go through.
    Source: Caffe's input_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops."""
        refuse_transform(self.param)
        shapes = self.param.input_param.shape
        if len(shapes) not in (0, 1, len(top)):
            raise LayerError(
                "input_param needs one shape, or one for each top", expected=f"1 or {len(top)}", found=len(shapes)
            )
        for i, blob in enumerate(top):
            if shapes:
                blob.reshape(*shape_for(i, shapes, "input_param.shape"))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Leave the values alone."""


class DummyData(SourceLayer):
    """Tops filled by fillers: constants once, random ones anew at every forward.

    Forward: y ~ data_filler.
    Backward: none.
    Blobs: no bottom; any number of tops.
    Fields: dummy_data_param: `data_filler`, none (zeros), one, or one for each top; `shape`, one or one for each top;
        `num`, `channels`, `height`, `width`, the old way to say a shape.
    Errors: another number of fillers or shapes; shapes said both ways; a transform_param.
    Source: Caffe's dummy_data_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops and fill the constant ones."""
        refuse_transform(self.param)
        param = self.param.dummy_data_param
        fillers = list(param.data_filler) or [FillerParameter(type="constant")]
        if len(fillers) not in (1, len(top)):
            raise LayerError("dummy_data_param needs no data_filler, one, or one for each top", found=len(fillers))
        self.fillers = fillers * len(top) if len(fillers) == 1 else fillers
        for i, (blob, filler) in enumerate(zip(top, self.fillers, strict=True)):
            blob.reshape(*self._shape(i, len(top)))
            fill(blob.data, filler, self.rng)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Draw the random ones again."""
        for blob, filler in zip(top, self.fillers, strict=True):
            if filler.type != "constant":
                fill(blob.data, filler, self.rng)

    def _shape(self, index: int, num_tops: int) -> list[int]:
        param = self.param.dummy_data_param
        legacy = [param.num, param.channels, param.height, param.width]
        if param.shape and any(legacy):
            raise LayerError(
                "dummy_data_param gives both shape and num, channels, height, width", expected="one of them"
            )
        for sizes in [param.shape] if param.shape else legacy:
            if len(sizes) not in (1, num_tops):
                raise LayerError("dummy_data_param needs one shape, or one for each top", found=len(sizes))
        if param.shape:
            return shape_for(index, param.shape, "dummy_data_param.shape")
        return [sizes[index if len(sizes) > 1 else 0] for sizes in legacy]


class Parameter(SourceLayer):
    """A learnable blob as a top.

    Forward: y = w.
    Backward: dw += dy.
    Blobs: no bottom; top of the given shape.
    Params: one, of the given shape, zero at first.
    Fields: parameter_param: `shape`.
    Source: Caffe's parameter_layer. There the top shares the parameter's memory; here it is copied, as orders may
        differ.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, 1)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the parameter and give its shape to the top."""
        self.add_parameter(shape_for(0, [self.param.parameter_param.shape], "parameter_param.shape"), FillerParameter())
        top[0].reshape(*self.blobs[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the parameter."""
        top[0].data[...] = self.blobs[0].data

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Add to the parameter's gradient."""
        if self.param_propagate_down[0]:
            self.blobs[0].diff[...] += top[0].diff
