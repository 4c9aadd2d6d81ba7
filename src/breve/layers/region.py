"""YOLO version 2: the predictions of its last layer, and the loss it is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import DataError, LayerError, UnsupportedError
from breve.layers import boxes
from breve.layers.base import Layer
from breve.layers.elementwise import sigmoid
from breve.layers.loss import LossLayer


def softmax(x: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=0))
    return e / e.sum(axis=-1, keepdims=True)


class RegionLayer(Layer):
    """What both have in common: bottom (N, A (5 + K), H, W) holds, for each anchor, x, y, w, h, object, K classes."""

    num_anchors: int
    num_classes: int

    def anchor_view(self, array: np.ndarray) -> np.ndarray:
        """An array of the bottom's shape as a view (N, H, W, A, 5 + K)."""
        n, _, h, w = array.shape
        return array.reshape(n, self.num_anchors, 5 + self.num_classes, h, w).transpose(0, 3, 4, 1, 2)

    def check(self, bottom: Sequence[Blob], coords: int) -> None:
        """Raise LayerError or UnsupportedError unless the fields and the first bottom's shape fit."""
        channels = self.num_anchors * (5 + self.num_classes)
        if bottom[0].ndim != 4 or bottom[0].shape[1] != channels:
            raise LayerError("channels must be anchors (5 + classes)", expected=channels, found=bottom[0].shape)
        if coords != 4:
            raise UnsupportedError("boxes of YOLO have four coordinates", expected=4, found=coords)


class Region(RegionLayer):
    """Scores of YOLO's last convolution as positions in a cell and probabilities.

    Forward: for each anchor x, y, object: y = 1 / (1 + exp(-x)); w, h: unchanged; classes: softmax with `softmax`, else
        the sigmoid too.
    Backward: the derivative, from the output.
    Blobs: bottom and top (N, boxes_of_each_grid (5 + classes), H, W), for each anchor x, y, w, h, object, classes.
    Fields: region_param: `boxes_of_each_grid` (5), `classes` (20), `coords` (4), `softmax` (false); `anchors` are for
        whoever decodes the output.
    Errors: channels that do not fit.
    Source: darknet's region layer; Redmon and Farhadi, "YOLO9000", 2016.
    """

    in_place: ClassVar[bool] = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top takes the bottom's shape."""
        param = self.param.region_param
        self.num_anchors, self.num_classes = param.boxes_of_each_grid, param.classes
        self.check(bottom, param.coords)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Squash each kind of score."""
        x, y = self.anchor_view(bottom[0].data), self.anchor_view(top[0].data)
        y[..., :2], y[..., 2:4], y[..., 4] = sigmoid(x[..., :2]), x[..., 2:4], sigmoid(x[..., 4])
        y[..., 5:] = softmax(x[..., 5:]) if self.param.region_param.softmax else sigmoid(x[..., 5:])

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale by each slope."""
        if not propagate_down[0]:
            return
        y, top_diff = self.anchor_view(top[0].data), self.anchor_view(top[0].diff)
        slope = y * (1 - y)
        slope[..., 2:4] = 1
        diff = top_diff * slope
        if self.param.region_param.softmax:
            prob, prob_diff = y[..., 5:], top_diff[..., 5:]
            diff[..., 5:] = prob * (prob_diff - (prob * prob_diff).sum(axis=-1, keepdims=True))
        self.anchor_view(bottom[0].diff)[...] = diff


class RegionLoss(RegionLayer, LossLayer):
    """What YOLO version 2 is trained with: squared errors of boxes and objectness, logarithmic loss of classes.

    Forward: with p the output of Region and box = ((i + p_x) / W, (j + p_y) / H, bias_w exp(w) / W, bias_h exp(h) / H),
        loss = (noobject_scale sum p_object^2 / 2 over boxes that overlap no object by more than `thresh` and are
        responsible for none + sum over objects of [object_scale (1 - p_object)^2 / 2 (with `rescore` the box's overlap
        in place of 1) + coord_scale ((t - (p_x, p_y, w, h))^2) / 2 - class_scale log p_class] of the responsible box)
        / N. Responsible is, in the cell of the object's center, the anchor whose shape (with `bias_match`; else whose
        predicted shape) overlaps the object's most; t are the values that would make the box the object's.
    Backward: the derivative, with targets and overlaps held fixed.
    Blobs: bottoms scores (N, num (5 + num_class), H, W), and objects: (1, 1, G, 8) as SSD's, (image, label, instance,
        xmin, ymin, xmax, ymax, difficult) with image -1 for none and labels from 1; or (N, T, 5) or (N, 5 T), (label,
        center x, center y, width, height) with labels from 0 and width 0 for none. Top the scalar loss.
    Fields: region_loss_param: `num` (5), `num_class` (20), `coords` (4), `biases`, width and height of each anchor in
        cells, `bias_match` (1), `rescore` (1), `thresh` (0.2), `object_scale` (1), `noobject_scale` (0.5),
        `class_scale` (1), `coord_scale` (5); `side` is that of the bottom; `jitter`, `random` and `absolute` concern
        data, not this layer.
    Errors: channels or biases that do not fit; objects of no class or outside the image; `softmax_tree`, `class_map`,
        `softmax` 0; a gradient wrt objects.
    Source: darknet's region layer of 2016, whose `delta` is this derivative, and the forks that took it over. They
        print the sum of its squares as the loss; here the loss is what it is the derivative of.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the anchors."""
        param = self.param.region_loss_param
        if len(param.biases) != 2 * param.num or any(b <= 0 for b in param.biases):
            raise LayerError(
                "biases must be width and height of each anchor", expected=2 * param.num, found=len(param.biases)
            )
        if not param.softmax:
            raise UnsupportedError("RegionLoss without softmax")
        if param.softmax_tree or param.class_map:
            raise UnsupportedError("region_loss_param.softmax_tree and class_map, of YOLO9000")
        self.num_anchors, self.num_classes = param.num, param.num_class
        self.biases = np.array(param.biases).reshape(-1, 2)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the sizes."""
        self.check(bottom, self.param.region_loss_param.coords)
        top[0].reshape()

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum the losses; their gradient is kept for backward."""
        scores = self.anchor_view(bottom[0].data).astype(np.float64)
        prob = scores.copy()
        prob[..., [0, 1, 4]] = sigmoid(scores[..., [0, 1, 4]])
        prob[..., 5:] = softmax(scores[..., 5:])
        self.diff = np.zeros_like(prob)
        loss = sum(
            self._image(prob[n], objects, self.diff[n]) for n, objects in enumerate(self._objects(bottom[1], len(prob)))
        )
        self.diff[..., [0, 1, 4]] *= prob[..., [0, 1, 4]] * (1 - prob[..., [0, 1, 4]])
        top[0].data[...] = loss / max(1, len(prob))

    def _objects(self, blob: Blob, num: int) -> list[np.ndarray]:
        """Rows (label, center x, center y, width, height) for each image. Raises LayerError, DataError."""
        if blob.shape[:2] == (1, 1) and blob.shape[-1] == 8:
            rows = blob.data.reshape(-1, 8)
            rows = rows[rows[:, 0] != -1]
            found = np.concatenate([rows[:, 1:2] - 1, boxes.centers(rows[:, 3:7])], axis=1)
            objects = [found[rows[:, 0] == n] for n in range(num)]
        elif blob.count % max(1, 5 * num) == 0:
            found = blob.data.reshape(num, blob.count // max(1, 5 * num), 5)
            objects = [rows[rows[:, 3] != 0] for rows in found]
        else:
            raise LayerError("objects must be rows", expected=f"(1, 1, G, 8) or ({num}, T, 5)", found=blob.shape)
        for row in (row for rows in objects for row in rows):
            self._check_object(row)
        return [rows.astype(np.float64) for rows in objects]

    def _check_object(self, row: np.ndarray) -> None:
        if not 0 <= row[0] < self.num_classes:
            raise DataError("an object is of no class", expected=f"0 to {self.num_classes - 1}", found=f"{row[0]:g}")
        if not ((row[1:3] >= 0).all() and (row[1:3] < 1).all() and (row[3:] > 0).all()):
            raise DataError("an object's center is outside the image, or its box has no area", found=row[1:].tolist())

    def _image(self, prob: np.ndarray, objects: np.ndarray, diff: np.ndarray) -> float:
        """The loss of one image.

        `diff` (H, W, A, 5 + K) gets its derivative wrt `prob` for x, y and object, wrt the scores for w, h and classes.
        """
        param = self.param.region_loss_param
        predicted = self._boxes(prob)
        overlaps = boxes.overlap(boxes.corners(predicted)[..., None, :], boxes.corners(objects[:, 1:]))
        scale = np.where(overlaps.max(axis=-1, initial=0) > param.thresh, 0, param.noobject_scale)
        target = np.zeros(prob.shape[:3])
        loss = 0.0
        responsible = {self._responsible(row[1:], predicted): k for k, row in enumerate(objects)}  # the last one wins
        for cell, k in responsible.items():
            loss += self._box_loss(objects[k, 1:], cell, prob, diff)
            loss += self._class_loss(int(objects[k, 0]), cell, prob, diff)
            scale[cell], target[cell] = param.object_scale, overlaps[cell][k] if param.rescore else 1
        error = prob[..., 4] - target
        diff[..., 4] = scale * error
        return loss + float((scale * error**2).sum() / 2)

    def _boxes(self, prob: np.ndarray) -> np.ndarray:
        """(H, W, A, 4) predicted centers and sizes, as parts of the image."""
        height, width = prob.shape[:2]
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        center = prob[..., :2] + np.stack([x, y], axis=-1)[:, :, None]
        with np.errstate(over="ignore"):  # untrained predictions may be huge
            extent = np.exp(prob[..., 2:4]) * self.biases
        return np.concatenate([center, extent], axis=-1) / (width, height, width, height)

    def _responsible(self, box: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int]:
        """Row, column and anchor of the box that must predict this object."""
        height, width = predicted.shape[:2]
        j, i = int(box[1] * height), int(box[0] * width)
        shapes = self.biases / (width, height) if self.param.region_loss_param.bias_match else predicted[j, i, :, 2:]
        half = np.concatenate([-shapes, shapes], axis=-1) / 2
        overlaps = boxes.overlap(np.concatenate([-box[2:], box[2:]]) / 2, half)
        return j, i, int(overlaps.argmax())

    def _box_loss(self, box: np.ndarray, cell: tuple[int, int, int], prob: np.ndarray, diff: np.ndarray) -> float:
        height, width = prob.shape[:2]
        j, i, anchor = cell
        size = box * (width, height, width, height)
        target = np.concatenate([size[:2] - (i, j), np.log(size[2:] / self.biases[anchor])])
        error = prob[cell][:4] - target
        diff[cell][:4] = self.param.region_loss_param.coord_scale * error
        return float(self.param.region_loss_param.coord_scale * (error**2).sum() / 2)

    def _class_loss(self, label: int, cell: tuple[int, int, int], prob: np.ndarray, diff: np.ndarray) -> float:
        scale, classes = self.param.region_loss_param.class_scale, prob[cell][5:]
        diff[cell][5:] = scale * (classes - (np.arange(len(classes)) == label))
        return float(-scale * np.log(max(classes[label], np.finfo(np.float32).tiny)))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale the kept gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            weight: Any = top[0].diff[()] / max(1, len(self.diff))
            self.anchor_view(bottom[0].diff)[...] = self.diff * weight
