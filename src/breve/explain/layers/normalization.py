"""LRN, BatchNorm, Scale, Bias, PReLU: what scales a value depends on others, and so does its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.explain.layers.base import Explainer, Kinks
from breve.explain.model import Index, Terms
from breve.explain.record import Record
from breve.explain.wrt import Wrt


class LRNExplainer(Explainer):
    """y_i = x_i s_i^-beta, s_i = k + alpha / n * (sum of squares around i): each neighbour's y shrinks as x_e grows."""

    batchwise = True

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        p = self.layer.param.lrn_param
        self.across = p.norm_region == p.ACROSS_CHANNELS
        self.reach, self.beta = (p.local_size - 1) // 2, float(np.float32(p.beta))
        self.k = float(np.float32(p.k)) if self.across else 1.0
        count = p.local_size if self.across else p.local_size**2
        self.alpha = float(np.float32(p.alpha)) / count

    def formula(self, wrt: Wrt) -> str:
        """The own term and the neighbours'."""
        around = "channels" if self.across else "pixels"
        return (
            f"dx[e] = dy[e] s[e]^-beta - sum over {around} i around e of "
            "dy[i] * 2 alpha/n beta x[i] x[e] s[i]^(-beta-1), s[i] = k + alpha/n * (sum of the squares around i)"
        )

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """One for each neighbour, the element itself among them."""
        x = self.record.bottom_data[0][index[0]].astype(np.float64)
        around = self._around(index[1:], x.shape)
        positions, factors = [], []
        for place in np.ndindex(*(s.stop - s.start for s in around)):
            at = tuple(s.start + p for s, p in zip(around, place, strict=True))
            scale = self.k + self.alpha * float((x[self._around(at, x.shape)] ** 2).sum())
            own = scale**-self.beta if at == index[1:] else 0.0
            positions.append(index[0] * x.size + int(np.ravel_multi_index(at, x.shape)))
            factors.append(own - 2 * self.alpha * self.beta * x[at] * x[index[1:]] * scale ** (-self.beta - 1))
        return Terms.gather(self.record.top_diff, 0, positions, np.array(factors))

    def _around(self, at: Index, shape: Index) -> tuple[slice, ...]:
        """The neighbourhood of a place (c, h, w)."""
        reach = (self.reach, 0, 0) if self.across else (0, self.reach, self.reach)
        return tuple(slice(max(0, a - r), min(d, a + r + 1)) for a, r, d in zip(at, reach, shape, strict=True))


class BatchNormExplainer(Explainer):
    """dx through three paths: the value itself, the mean it moves, the variance it moves."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        p = self.layer.param.batch_norm_param
        self.eps = float(np.float32(p.eps))
        self.fixed = p.use_global_stats if p.HasField("use_global_stats") else self.layer.phase == "TEST"
        self.bvlc = len(record.param_data) == 3 and record.param_data[2].size == 1

    def formula(self, wrt: Wrt) -> str:
        """One path with given statistics, three with the batch's own."""
        if not self.bvlc:
            return self.formula_text
        if self.fixed:
            return "dx[e] = dy[e] / sigma: the statistics are given, nothing else moves"
        return "dx[e] = sum over i in the channel of dy[i] / sigma * ([i = e] - 1/m - xhat[i] xhat[e] / m)"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """One for every element of the channel."""
        if not self.bvlc or wrt.is_param:
            return self.jacobian_row(wrt, index)
        shape = self.record.bottom_data[0].shape
        position = int(np.ravel_multi_index(index, shape))
        if self.fixed:
            return Terms.gather(self.record.top_diff, 0, position, 1 / self._given_sigma(index[1]))
        positions, xhat, sigma = self._channel(index[1])
        own = positions == position
        factor = (own - 1 / own.size - xhat * xhat[own] / own.size) / sigma
        return Terms.gather(self.record.top_diff, 0, positions, factor)

    def learns(self, param: int) -> bool:
        """The first three are statistics; NVIDIA's dialect has two coefficients after them."""
        return param > 2

    def _channel(self, c: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Positions of a channel's elements, their normalised values, and its deviation."""
        shape = self.record.bottom_data[0].shape
        positions = np.arange(math.prod(shape)).reshape(shape)[:, c].reshape(-1)
        x = self.record.bottom_data[0][:, c].astype(np.float64).reshape(-1)
        sigma = math.sqrt(float(x.var()) + self.eps)
        return positions, (x - x.mean()) / sigma, sigma

    def _given_sigma(self, c: int) -> float:
        _, variance, factor = (p.astype(np.float64).reshape(-1) for p in self.record.param_data)
        return math.sqrt((variance[c] / factor[0] if factor[0] else 0.0) + self.eps)

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """The three paths as numbers."""
        if self.fixed or not self.bvlc or wrt.is_param:
            return []
        positions, xhat, sigma = self._channel(index[1])
        dy = self.record.top_diff[0].astype(np.float64).reshape(-1)[positions]
        own = positions == int(np.ravel_multi_index(index, self.record.bottom_data[0].shape))
        m, at = len(dy), float(xhat[own][0])
        paths = [
            ("through the value itself: dy / sigma", float(dy[own][0]) / sigma),
            ("through the mean: -(sum of dy) / (m sigma)", -float(dy.sum()) / (m * sigma)),
            ("through the variance: -xhat (sum of dy xhat) / (m sigma)", -at * float(dy @ xhat) / (m * sigma)),
        ]
        return [f"{name} = {value:.9g}" for name, value in paths]


class BroadcastExplainer(Explainer):
    """Scale and Bias: one number for many elements, a parameter or a second bottom."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.is_scale = record.type == "Scale"
        p: Any = self.layer.param.scale_param if self.is_scale else self.layer.param.bias_param
        self.shape = record.bottom_data[0].shape
        self.second = len(record.bottom_data) > 1
        shared = record.bottom_data[1].shape if self.second else record.param_data[0].shape
        self.axis = 0 if self.second and not shared else p.axis % len(self.shape)
        self.shared = shared

    def _is_bias(self, wrt: Wrt) -> bool:
        return not self.is_scale or (wrt.is_param and wrt.number == (0 if self.second else 1))

    def formula(self, wrt: Wrt) -> str:
        """A product, or a sum over the elements that share the number."""
        if not wrt.is_param and wrt.number == 0:
            return "dx[e] = dy[e] * gamma[c]" if self.is_scale else "dx[e] = dy[e]"
        sum_over = "sum over all e that share it of dy[e]"
        return f"dbeta[c] = {sum_over}" if self._is_bias(wrt) else f"dgamma[c] = {sum_over} * x[e]"

    def _sharers(self, index: Index) -> np.ndarray:
        """Positions of the elements that share the number at `index`."""
        positions = np.arange(math.prod(self.shape)).reshape(self.shape)
        place = (slice(None),) * self.axis + tuple(index)
        return positions[place].reshape(-1)

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one, or one for each element that shares the number."""
        tops, x = self.record.top_diff, self.record.bottom_data[0]
        if wrt.is_param or wrt.number:
            positions = self._sharers(index)
            if self._is_bias(wrt):
                return Terms.gather(tops, 0, positions, np.float64(1))
            return Terms.gather(tops, 0, positions, x, positions, "X")
        position = int(np.ravel_multi_index(index, self.shape))
        if not self.is_scale:
            return Terms.gather(tops, 0, position, np.float64(1))
        gamma = self.record.bottom_data[1] if self.second else self.record.param_data[0]
        place = index[self.axis : self.axis + len(self.shared)]
        at = int(np.ravel_multi_index(place, self.shared)) if place else 0
        return Terms.gather(tops, 0, position, gamma, at, "gamma")


class PReLUExplainer(Explainer):
    """A ReLU with learned slopes: dx = dy times 1 or the slope, the slope gathers dy x over the negative elements."""

    has_rule = True

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.shape = record.bottom_data[0].shape
        self.shared = record.param_data[0].size == 1

    def formula(self, wrt: Wrt) -> str:
        """A gate, or a sum over what went through it."""
        if wrt.is_param:
            return "da[c] = sum over e of channel c with x[e] <= 0 of dy[e] * x[e]"
        return "dx[e] = dy[e] * (1 if x[e] > 0 else a[c])"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one, or one for each negative element."""
        x, slopes = self.record.bottom_data[0], self.record.param_data[0].reshape(-1)
        if not wrt.is_param:
            slope = 1.0 if x[index] > 0 else float(slopes[0 if self.shared else index[1]])
            return Terms.gather(self.record.top_diff, 0, int(np.ravel_multi_index(index, self.shape)), slope)
        grid = np.arange(x.size).reshape(self.shape)
        positions = (grid if self.shared else grid[:, index[0]]).reshape(-1)
        positions = positions[np.ascontiguousarray(x).reshape(-1)[positions] <= 0]
        return Terms.gather(self.record.top_diff, 0, positions, x, positions, "X")

    def kinks(self, bottom: int, inputs: Sequence[np.ndarray], radius: float) -> Kinks | None:
        """Values near zero."""
        return Kinks(np.abs(inputs[0]) <= radius, "kink at PReLU input")
