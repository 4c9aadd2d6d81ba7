"""What a layer is: `setup`, `reshape`, `forward`, `backward`, as in Caffe.

A layer is stateless maths plus its parameters. It knows nothing of its neighbours, of files, or of the plan; it reads
and writes the blobs it is handed. Its conventions:

- bottom diffs are overwritten, parameter diffs are accumulated;
- `propagate_down[i]` says whether anybody wants `bottom[i].diff`; `self.param_propagate_down[i]` likewise for
  `self.blobs[i]`;
- a layer that works in place reads from `bottom[i]` only what it has not yet written to `top[i]`;
- `Blob.data` and `Blob.diff` are in Caffe's axis order whatever the memory order; use `data_nhwc` for speed.

The docstring of a layer class is its page in the catalogue `docs/layers.md`, which is generated from it. Its form:

    One where the input exceeds a threshold, else zero.

    Forward: y = 1 if x > threshold else 0.
    Backward: none; asking for it is an error.
    Blobs: bottom x; top y of the same shape.
    Params: `weight` (num_output, channels); `bias` (num_output).
    Fields: threshold_param: `threshold` (0).
    Errors: what a user can get wrong, in words.
    Source: Caffe's threshold_layer.

The first line says what it is. `Forward`, `Backward`, `Fields` and `Source` are always there, each at the start of a
line and continued on indented ones; `Blobs` where they are not plainly "one bottom, one top, same shape"; `Params`
where it has any; `Errors` where it raises any. A field stands with its default in parentheses; `Fields: none.` without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError


class Layer:
    """Base of all layers. A subclass is spelled as its prototxt `type`."""

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, 1)
    """How many bottoms it takes: (least, most), most None for no limit."""
    top_counts: ClassVar[tuple[int, int | None]] = (1, 1)
    """How many tops it gives: (least, most), most None for no limit."""
    equal_counts: ClassVar[bool] = False
    """As many tops as bottoms (a layer that treats each bottom alike)."""
    is_loss: ClassVar[bool] = False
    """Its first top has loss weight 1 unless the prototxt says otherwise."""
    auto_top_blobs: ClassVar[bool] = False
    """Tops that the prototxt leaves out are made anonymously (losses)."""
    in_place: ClassVar[bool] = False
    """Top may be the bottom blob itself."""
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset()
    """Bottoms that force_backward does not reach: labels, and those of layers that have no gradient to give."""
    reshapes_always: ClassVar[bool] = False
    """`reshape` runs before every forward, not only when a bottom's shape has changed (layers of the user's own)."""
    draws: bool = False
    """`forward` draws from `rng`."""
    fork_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that a fork added to Caffe's own messages and that this layer honours, by dotted names."""

    def __init__(
        self, param: Any, phase: str = "TEST", dtype: Any = np.float32, rng: np.random.Generator | None = None
    ) -> None:
        """`param` is a LayerParameter; `phase` "TRAIN" or "TEST"; `rng` feeds fillers and random layers."""
        self.param = param
        self.phase = phase
        self.dtype = np.dtype(dtype)
        self.rng = rng if rng is not None else np.random.default_rng()
        self.blobs: list[Blob] = []
        self.param_propagate_down: list[bool] = []

    @property
    def name(self) -> str:
        """The layer's name in the prototxt."""
        return self.param.name

    @property
    def type(self) -> str:
        """The layer's type in the prototxt."""
        return self.param.type

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check parameters and make `self.blobs`, once. Raises LayerError."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes for the bottoms' shapes; before every forward that may have changed them."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write `top[i].data` from `bottom[i].data`."""
        raise NotImplementedError

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Overwrite `bottom[i].diff` where wanted and add to `self.blobs[i].diff`, from `top[i].diff`."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps beside parameters, so that a resumed run is the interrupted one: plain values."""
        return {"rng": self.rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """Let go of threads and files. Layers that hold some override this."""

    def add_parameter(self, shape: Sequence[int], filler: Any) -> Blob:
        """Append a parameter of `shape` to `self.blobs`, filled by a FillerParameter."""
        from breve.layers.fillers import fill

        blob = Blob(shape, self.dtype, channels_last=False)
        fill(blob.data, filler, self.rng)
        self.blobs.append(blob)
        self.param_propagate_down.append(True)
        return blob

    def canonical_axis(self, axis: int, ndim: int) -> int:
        """`axis` counted from the front, negative ones from the back. Raises LayerError when there is no such axis."""
        if not -ndim <= axis < ndim:
            raise LayerError("axis out of range", expected=f"-{ndim} to {ndim - 1}", found=axis)
        return axis % ndim
