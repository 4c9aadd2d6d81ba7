"""DetectionOutput: from SSD's predictions to a list of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError, UnsupportedError
from breve.layers import boxes
from breve.layers.base import Layer


class DetectionOutput(Layer):
    """Decodes box predictions, keeps confident ones, and suppresses those that overlap better ones.

    Forward: boxes = decode(location, prior); for each class but the background those with confidence above
        `confidence_threshold` go through non-maximum suppression; of all that remain in an image the `keep_top_k` most
        confident are kept. They come image by image, class by class, the most confident first.
    Backward: none; asking for it is an error.
    Blobs: bottoms locations (N, 4 P) or, without `share_location`, (N, 4 P num_classes); confidences (N, P
        num_classes); priors (1, 2, 4 P). Top (1, 1, objects, 7), each (image, class, confidence, xmin, ymin, xmax,
        ymax); without objects (1, 1, N, 7), where all but the image is -1.
    Fields: detection_output_param: `num_classes`, required; `share_location` (true), `background_label_id` (0; -1:
        none), `nms_param { nms_threshold (0.3) top_k (-1: all) eta (1) }`, `code_type` (CORNER),
        `variance_encoded_in_target` (false), `keep_top_k` (-1: all), `confidence_threshold` (none).
    Errors: sizes that do not fit `num_classes` and the priors; `visualize` and `save_output_param.output_directory`,
        which this layer does not honour.
    Source: the SSD fork's detection_output_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (3, 3)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({0, 1, 2})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the fields."""
        param = self.param.detection_output_param
        if param.num_classes < 1:
            raise LayerError("detection_output_param.num_classes is missing", expected=">= 1")
        if param.visualize or param.save_output_param.output_directory:
            raise UnsupportedError(
                "DetectionOutput writes and shows no pictures", hint="remove visualize and save_output_param"
            )
        if not 0 < param.nms_param.eta <= 1:
            raise LayerError("nms_param.eta is out of range", expected="0 < eta <= 1", found=param.nms_param.eta)
        self.code = code_name(param.code_type)
        self.top_k = param.nms_param.top_k if param.nms_param.HasField("top_k") else -1

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the sizes; the number of objects is known after forward."""
        param = self.param.detection_output_param
        self.num_priors = prior_count(bottom[2])
        loc_classes = 1 if param.share_location else param.num_classes
        check_predictions(bottom, self.num_priors, loc_classes, param.num_classes)
        top[0].reshape(1, 1, 1, 7)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Decode, suppress, list."""
        param = self.param.detection_output_param
        num = bottom[0].shape[0]
        priors, variances = bottom[2].data.reshape(2, self.num_priors, 4)
        variances = np.ones_like(priors) if param.variance_encoded_in_target else variances
        locations = bottom[0].data.reshape(num, self.num_priors, -1 if num else 1, 4)
        decoded = boxes.decode(locations, priors[:, None], variances[:, None], self.code)
        confidences = bottom[1].data.reshape(num, self.num_priors, param.num_classes)
        rows = [row for n in range(num) for row in self._objects(n, decoded[n], confidences[n])]
        rows = rows or [[n, *[-1] * 6] for n in range(num)]
        top[0].reshape(1, 1, len(rows), 7)
        top[0].data[...] = np.array(rows, self.dtype).reshape(top[0].shape)

    def _objects(self, n: int, decoded: np.ndarray, confidences: np.ndarray) -> list[list[float]]:
        """The rows of one image. `decoded` is (P, classes or 1, 4), `confidences` (P, classes)."""
        param = self.param.detection_output_param
        found: list[tuple[int, int]] = []
        for label in range(param.num_classes):
            if label != param.background_label_id:
                box = decoded[:, 0 if param.share_location else label]
                found += [(label, i) for i in self._kept(box, confidences[:, label])]
        if -1 < param.keep_top_k < len(found):
            order = np.argsort([-confidences[i, label] for label, i in found], kind="stable")[: param.keep_top_k]
            found = [found[k] for k in sorted(order)]
        return [
            [n, label, confidences[i, label], *decoded[i, 0 if param.share_location else label]] for label, i in found
        ]

    def _kept(self, box: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """Which boxes of one class remain, the most confident first."""
        param = self.param.detection_output_param
        confident = np.arange(len(confidence))
        if param.HasField("confidence_threshold"):
            confident = np.flatnonzero(confidence > self.dtype.type(param.confidence_threshold))
        nms = param.nms_param
        return confident[
            boxes.suppress(box[confident], confidence[confident], nms.nms_threshold, top_k=self.top_k, eta=nms.eta)
        ]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """A list of objects has no gradient. Raises LayerError when one is asked for."""
        if any(propagate_down):
            raise LayerError("DetectionOutput gives no gradient", hint="set propagate_down: false")


def code_name(code_type: int) -> str:
    """The name of a PriorBoxParameter.CodeType."""
    return {1: "CORNER", 2: "CENTER_SIZE", 3: "CORNER_SIZE"}[code_type]


def prior_count(blob: Blob) -> int:
    """The number P of boxes in a blob (1, 2, 4 P). Raises LayerError."""
    if blob.ndim < 3 or blob.shape[:2] != (1, 2) or blob.count % 8:
        raise LayerError("priors must be corners and variances of boxes", expected="(1, 2, 4 P)", found=blob.shape)
    return blob.count // 8


def check_predictions(bottom: Sequence[Blob], num_priors: int, loc_classes: int, num_classes: int) -> None:
    """Raise LayerError unless locations and confidences are those of the same images and priors."""
    num = bottom[0].shape[0] if bottom[0].shape else 0
    for what, blob, size in (
        ("locations", bottom[0], 4 * num_priors * loc_classes),
        ("confidences", bottom[1], num_priors * num_classes),
    ):
        if not blob.shape or blob.shape[0] != num or blob.count != num * size:
            raise LayerError(f"{what} do not match {num_priors} priors", expected=(num, size), found=blob.shape)
