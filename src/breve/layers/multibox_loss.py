"""MultiBoxLoss: what SSD is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers import boxes, matching
from breve.layers.detection_output import check_predictions, code_name, prior_count
from breve.layers.loss import LossLayer, normalizer
from breve.layers.regression_losses import smooth_l1


class MultiBoxLoss(LossLayer):
    """Location loss of the priors that stand for objects, plus confidence loss of them and of the hardest others.

    Forward: loss = (loc_weight sum_matched d(location - encode(object, prior)) + sum_chosen c(confidence, label)) /
        normalizer. Each object is matched to the prior that overlaps it most, and (PER_PREDICTION) each other prior to
        the object it overlaps by `overlap_threshold` at least. d: SMOOTH_L1 or half the square (L2); c: logarithmic
        loss of the SOFTMAX, or cross entropy of sigmoids (LOGISTIC). Chosen are all matched priors and (MAX_NEGATIVE)
        the `neg_pos_ratio` times as many others with the highest confidence loss among those that overlap every object
        by less than `neg_overlap`; or (HARD_EXAMPLE) the `sample_size` with the highest loss; or (NONE) all.
    Backward: the derivative, for this matching and choice, times loss_weight.
    Blobs: bottoms locations (N, 4 P) or, without `share_location`, (N, 4 P num_classes); confidences (N, P
        num_classes); priors (1, 2, 4 P); objects (1, 1, G, 8), each (image, label, instance, xmin, ymin, xmax, ymax,
        difficult), image -1 for none. Top the scalar loss.
    Fields: multibox_loss_param: `num_classes`, required; `loc_loss_type` (SMOOTH_L1), `conf_loss_type` (SOFTMAX),
        `loc_weight` (1), `share_location` (true), `match_type` (PER_PREDICTION), `overlap_threshold` (0.5),
        `use_prior_for_matching` (true; false: the decoded predictions), `background_label_id` (0), `use_difficult_gt`
        (true), `mining_type` (MAX_NEGATIVE) and its older form `do_neg_mining`, `neg_pos_ratio` (3), `neg_overlap`
        (0.5), `sample_size` (64), `nms_param` (none: no suppression before mining), `use_prior_for_nms` (false),
        `code_type` (CORNER), `encode_variance_in_target` (false), `map_object_to_agnostic` (false),
        `ignore_cross_boundary_bbox` (false), `bp_inside` (false: coordinates of matched boxes outside the image count
        too). loss_param: `normalization` (VALID: matched priors; BATCH_SIZE; FULL: priors of all images; NONE),
        `normalize`. Where the layer's `propagate_down` is false, that part of the loss is left out.
    Errors: sizes that do not fit; mining without `share_location`; objects without an area, or of no class.
    Source: the SSD fork's multibox_loss_layer; Liu et al., "SSD: single shot multibox detector", 2016. There
        `encode_variance_in_target` scales the loss but not its gradient; here it scales both.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (4, 4)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({2, 3})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the fields."""
        param: Any = self.param.multibox_loss_param
        self.mining = type(param).MiningType.Name(param.mining_type)
        self.code = code_name(param.code_type)
        if param.num_classes < 1:
            raise LayerError("multibox_loss_param.num_classes is missing", expected=">= 1")
        if self.mining != "NONE" and not param.share_location:
            raise LayerError("mining needs shared locations", expected="share_location: true, or mining_type: NONE")
        if param.HasField("do_neg_mining") and param.do_neg_mining != (self.mining != "NONE"):
            raise LayerError("do_neg_mining contradicts mining_type", hint="remove do_neg_mining, the older of the two")
        if param.conf_loss_type == param.SOFTMAX and param.background_label_id >= param.num_classes:
            raise LayerError(
                "background_label_id is no class",
                expected=f"0 to {param.num_classes - 1}",
                found=param.background_label_id,
            )
        agnostic = 2 if param.background_label_id >= 0 else 1
        if param.map_object_to_agnostic and param.num_classes != agnostic:
            raise LayerError(
                "map_object_to_agnostic leaves object and background", expected=agnostic, found=param.num_classes
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the sizes."""
        param = self.param.multibox_loss_param
        self.num_priors = prior_count(bottom[2])
        self.loc_classes = 1 if param.share_location else param.num_classes
        check_predictions(bottom, self.num_priors, self.loc_classes, param.num_classes)
        if bottom[3].count % 8:
            raise LayerError("objects must be rows of eight numbers", expected="(1, 1, G, 8)", found=bottom[3].shape)
        top[0].reshape()

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Match, choose, sum both losses; their gradients are kept for backward."""
        param, num = self.param.multibox_loss_param, bottom[0].shape[0]
        locations = bottom[0].data.reshape(num, self.num_priors, self.loc_classes, 4)
        confidences = bottom[1].data.reshape(num, self.num_priors, param.num_classes)
        self.priors, self.variances = bottom[2].data.reshape(2, self.num_priors, 4)
        truths = matching.read_truth(
            bottom[3].data.reshape(-1, 8), num, param.num_classes, param.background_label_id, param.use_difficult_gt
        )
        self.loc_diff, self.conf_diff = np.zeros_like(locations), np.zeros_like(confidences)
        losses, num_matched = np.zeros(2), 0
        for n, truth in enumerate(truths):
            *image_losses, matched = self._image(n, truth, locations[n], confidences[n])
            losses += image_losses
            num_matched += matched
        self.normalizer = normalizer(
            self.param.loss_param, "VALID", batch=num, full=num * self.num_priors, valid=num_matched
        )
        self.loc_diff *= param.loc_weight
        top[0].data[...] = losses @ [self._part(0) * param.loc_weight, self._part(1)] / self.normalizer

    def _part(self, bottom: int) -> bool:
        """Whether the loss of this bottom counts, by the layer's `propagate_down`."""
        return self.param.propagate_down[bottom] if self.param.propagate_down else True

    def _image(
        self, n: int, truth: matching.Truth, location: np.ndarray, confidence: np.ndarray
    ) -> tuple[float, float, int]:
        """Location loss, confidence loss and number of matched priors of one image, their gradients written."""
        matches, best = self._matches(truth, location)
        labels = self._labels(matches, truth)
        conf_losses, conf_diffs = self._confidence_losses(confidence, labels, matches)
        matches, chosen = self._mine(matches, best, truth, location, conf_losses)
        self.conf_diff[n][chosen] = conf_diffs[chosen]
        where, which = np.nonzero(matches >= 0)
        loc_losses, loc_diffs = self._location_losses(truth.boxes[matches[where, which]], location, where, which)
        self.loc_diff[n, where, which] = loc_diffs
        return float(loc_losses.sum()), float(conf_losses[chosen].sum()), len(where)

    def _matches(self, truth: matching.Truth, location: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(P, loc_classes) matched objects, and (P) the overlap with the best one."""
        param = self.param.multibox_loss_param
        threshold = param.overlap_threshold if param.match_type == param.PER_PREDICTION else None
        matches = np.full((self.num_priors, self.loc_classes), matching.UNMATCHED)
        best = np.zeros(self.num_priors)
        for c in range(self.loc_classes):
            if not param.share_location and c == param.background_label_id:
                continue
            mine = np.arange(len(truth.labels)) if param.share_location else np.flatnonzero(truth.labels == c)
            if param.use_prior_for_matching:
                found, best = matching.match(truth.boxes, self.priors, threshold, param.ignore_cross_boundary_bbox)
                matches[:, c] = np.where((found < 0) | np.isin(found, mine), found, matching.UNMATCHED)
            else:
                found, best = matching.match(
                    truth.boxes[mine], self._decoded(location[:, c]), threshold, param.ignore_cross_boundary_bbox
                )
                matches[:, c] = np.where(found >= 0, mine[found] if len(mine) else found, found)
        return matches, best

    def _decoded(self, location: np.ndarray) -> np.ndarray:
        return boxes.decode(location, self.priors, self._code_variances(), self.code)

    def _code_variances(self) -> np.ndarray:
        """Variances within the code: ones where targets carry them."""
        in_target = self.param.multibox_loss_param.encode_variance_in_target
        return np.ones_like(self.variances) if in_target else self.variances

    def _labels(self, matches: np.ndarray, truth: matching.Truth) -> np.ndarray:
        """(P) the label of each prior: of the object it stands for, else the background."""
        param = self.param.multibox_loss_param
        matched = matches.max(axis=1)
        objects = (
            truth.labels
            if not param.map_object_to_agnostic
            else np.full_like(truth.labels, param.background_label_id + 1)
        )
        labels = np.full(self.num_priors, param.background_label_id)
        labels[matched >= 0] = objects[matched[matched >= 0]]
        return labels

    def _confidence_losses(
        self, confidence: np.ndarray, labels: np.ndarray, matches: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(P) losses and (P, num_classes) gradients of each prior."""
        param = self.param.multibox_loss_param
        target = (np.arange(param.num_classes) == labels[:, None]).astype(confidence.dtype)
        if param.conf_loss_type == param.SOFTMAX:
            prob = np.exp(confidence - confidence.max(axis=1, keepdims=True))
            prob /= prob.sum(axis=1, keepdims=True)
            label_prob = np.maximum((prob * target).sum(axis=1), np.finfo(np.float32).tiny)
            return -np.log(label_prob), prob - target
        if self.mining == "NONE":
            target *= (matches.max(axis=1) >= 0)[:, None]
        decay = np.exp(-np.abs(confidence))
        losses = np.maximum(confidence, 0) - confidence * target + np.log1p(decay)
        return losses.sum(axis=1), np.where(confidence >= 0, 1, decay) / (1 + decay) - target

    def _location_losses(
        self, truth: np.ndarray, location: np.ndarray, where: np.ndarray, which: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Losses and gradients of the matched priors `where` with location class `which`."""
        param = self.param.multibox_loss_param
        priors = self.priors[where]
        target = boxes.encode(truth, priors, self._code_variances()[where], self.code)
        scale = 1 / self.variances[where] if param.encode_variance_in_target else np.ones_like(priors)
        difference = (location[where, which] - target) * scale
        if param.bp_inside:
            matched = priors if param.use_prior_for_matching else self._decoded(location[:, 0])[where]
            difference = difference * ((matched >= 0) & (matched <= 1))
        if param.loc_loss_type == param.L2:
            return (difference**2 / 2).sum(axis=1), difference * scale
        losses, slope = smooth_l1(difference)
        return losses.sum(axis=1), slope * scale

    def _mine(
        self,
        matches: np.ndarray,
        best: np.ndarray,
        truth: matching.Truth,
        location: np.ndarray,
        conf_losses: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The matches that remain, and the priors whose confidence counts."""
        param = self.param.multibox_loss_param
        if self.mining == "NONE":
            return matches, np.arange(self.num_priors)
        if not len(truth.labels):
            return matches, np.empty(0, np.intp)
        matched, losses = matches[:, 0], conf_losses
        if self.mining == "MAX_NEGATIVE":
            eligible = np.flatnonzero((matched == matching.UNMATCHED) & (best < param.neg_overlap))
            count = int(np.float32((matched >= 0).sum()) * np.float32(param.neg_pos_ratio))
        else:
            where = np.flatnonzero(matched >= 0)
            losses = conf_losses.copy()
            losses[where] += self._location_losses(truth.boxes[matched[where]], location, where, np.zeros_like(where))[
                0
            ]
            eligible, count = np.arange(self.num_priors), param.sample_size
        chosen = matching.hardest(self._suppressed(eligible, losses, location), losses, min(count, len(eligible)))
        negatives = chosen[matched[chosen] == matching.UNMATCHED]
        if self.mining == "HARD_EXAMPLE":
            given_up = (matched >= 0) & ~np.isin(np.arange(self.num_priors), chosen)
            matches = np.where(given_up[:, None], matching.UNMATCHED, matches)
        return matches, np.concatenate([np.flatnonzero(matches[:, 0] >= 0), negatives])

    def _suppressed(self, eligible: np.ndarray, losses: np.ndarray, location: np.ndarray) -> np.ndarray:
        """The eligible priors that remain after non-maximum suppression by loss, where `nms_param` asks for it."""
        param = self.param.multibox_loss_param
        if not param.HasField("nms_param") or param.nms_param.nms_threshold <= 0:
            return eligible
        candidates = (self.priors if param.use_prior_for_nms else self._decoded(location[:, 0]))[eligible]
        large = boxes.sizes(candidates) >= 1e-5
        eligible, candidates = eligible[large], candidates[large]
        top_k = param.nms_param.top_k if param.nms_param.HasField("top_k") else -1
        return eligible[boxes.suppress(candidates, losses[eligible], param.nms_param.nms_threshold, top_k=top_k)]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Scale the kept gradients."""
        for label in (2, 3):
            self.refuse_label_gradient(propagate_down, label=label)
        weight = self.dtype.type(top[0].diff[()] / self.normalizer)
        for i, diff in enumerate((self.loc_diff, self.conf_diff)):
            if propagate_down[i]:
                bottom[i].diff[...] = (diff * weight * self._part(i)).reshape(bottom[i].shape)
