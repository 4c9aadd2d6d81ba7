"""RNN and LSTM, unrolled over time.

Caffe builds an inner net of one copy of every operation a time step; here the same sums run over arrays, because each
step is two matrix products and a pointwise unit. Parameters, their order and the carried state are Caffe's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels.gemm import gemm
from breve.layers.base import Layer
from breve.layers.elementwise import sigmoid


class Recurrent(Layer):
    """What both have in common: x_t and the state before it give pre-activations a_t, a unit gives the state after it.

    a_t = W_x x_t + b [+ W_s s] + W_h (cont_t h_(t-1)). A subclass says how many rows a_t has (`gates`), how many arrays
    its state has (`states`, the first of them h), and the unit with its gradient.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 5)
    top_counts: ClassVar[tuple[int, int | None]] = (1, 3)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})
    gates: ClassVar[int]
    states: ClassVar[int]

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the fields and the number of bottoms and tops; make the parameters."""
        param = self.param.recurrent_param
        self.hidden = param.num_output
        self.exposed = self.states if param.expose_hidden else 0
        if self.hidden < 1:
            raise LayerError("num_output is missing or zero", expected="at least 1")
        self.has_static = len(bottom) == 3 + self.exposed
        if len(bottom) not in (2 + self.exposed, 3 + self.exposed):
            raise LayerError(
                "wrong number of bottoms", expected=f"{2 + self.exposed} or {3 + self.exposed}", found=len(bottom)
            )
        if len(top) != 1 + self.exposed:
            raise LayerError("wrong number of tops", expected=1 + self.exposed, found=len(top))
        rows = self.gates * self.hidden
        self.add_parameter((rows, math.prod(bottom[0].shape[2:])), param.weight_filler)
        self.add_parameter((rows,), param.bias_filler)
        if self.has_static:
            self.add_parameter((rows, math.prod(bottom[2].shape[1:])), param.weight_filler)
        self.add_parameter((rows, self.hidden), param.weight_filler)
        self.weight_h = len(self.blobs) - 1
        self.carried: list[np.ndarray] = []

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One output a time step and stream; a state of zeros where there is none of this size to carry on from."""
        if bottom[0].ndim < 2:
            raise LayerError("x needs two axes at least", expected="(time, streams, ...)", found=bottom[0].shape)
        self.steps, self.streams = bottom[0].shape[:2]
        self._check_shape(bottom[1], (self.steps, self.streams), "the sequence markers")
        if self.has_static and bottom[2].shape[:1] != (self.streams,):
            raise LayerError(
                "the static input is of another number of streams", expected=self.streams, found=bottom[2].shape
            )
        state_shape = (1, self.streams, self.hidden)
        for blob in bottom[len(bottom) - self.exposed :]:
            self._check_shape(blob, state_shape, "an initial state")
        top[0].reshape(self.steps, self.streams, self.hidden)
        for blob in top[1:]:
            blob.reshape(*state_shape)
        if not self.carried or self.carried[0].shape != state_shape[1:]:
            self.carried = [np.zeros(state_shape[1:], self.dtype) for _ in range(self.states)]

    def _check_shape(self, blob: Blob, expected: tuple[int, ...], what: str) -> None:
        if blob.shape != expected:
            raise LayerError(f"{what} have another shape", expected=expected, found=blob.shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Run through time, keeping every state for the way back."""
        self.x = np.ascontiguousarray(bottom[0].data).reshape(self.steps * self.streams, self.blobs[0].shape[1])
        self.cont = bottom[1].data[:, :, None]
        pre = np.empty((self.steps, self.streams, self.gates * self.hidden), self.dtype)
        gemm(self.x, self.blobs[0].data, pre.reshape(len(self.x), pre.shape[2]), trans_b=True)
        pre += self.blobs[1].data
        if self.has_static:
            pre += self._static(bottom) @ self.blobs[2].data.T
        first = [b.data[0] for b in bottom[len(bottom) - self.exposed :]] if self.exposed else self.carried
        self.history = [np.empty((self.steps + 1, self.streams, self.hidden), self.dtype) for _ in range(self.states)]
        for history, value in zip(self.history, first, strict=True):
            history[0] = value
        for t in range(self.steps):
            pre[t] += (self.cont[t] * self.history[0][t]) @ self.blobs[self.weight_h].data.T
            self._unit(t, pre[t])
        self.carried = [history[-1].copy() for history in self.history]
        self._output(top[0].data)
        for blob, value in zip(top[1:], self.carried, strict=False):
            blob.data[0] = value

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Run back through time; gradients of all pre-activations give those of parameters and inputs."""
        if propagate_down[1]:
            raise LayerError(
                "there is no gradient with respect to the sequence markers", hint="set propagate_down: false"
            )
        pre_diff = np.empty((self.steps, self.streams, self.gates * self.hidden), self.dtype)
        state_diffs = [np.zeros((self.streams, self.hidden), self.dtype) for _ in range(self.states)]
        for t, output_diff in reversed(list(enumerate(self._output_diff(top[0].diff)))):
            state_diffs[0] += output_diff
            state_diffs = self._unit_backward(t, state_diffs, pre_diff[t])
            state_diffs[0] = self.cont[t] * (pre_diff[t] @ self.blobs[self.weight_h].data)
        rows = pre_diff.reshape(len(self.x), self.gates * self.hidden)
        before = (self.cont * self.history[0][:-1]).reshape(len(self.x), self.hidden)
        gemm(rows, self.x, self.blobs[0].diff, trans_a=True, beta=1.0)
        self.blobs[1].diff[...] += rows.sum(axis=0)
        gemm(rows, before, self.blobs[self.weight_h].diff, trans_a=True, beta=1.0)
        if propagate_down[0]:
            bottom[0].diff[...] = (rows @ self.blobs[0].data).reshape(bottom[0].shape)
        if self.has_static:
            self._backward_static(pre_diff.sum(axis=0), propagate_down[2], bottom)
        for i in range(len(bottom) - self.exposed, len(bottom)):
            if propagate_down[i]:
                bottom[i].diff[...] = 0

    def _static(self, bottom: Sequence[Blob]) -> np.ndarray:
        return bottom[2].data.reshape(self.streams, self.blobs[2].shape[1])

    def _backward_static(self, rows: np.ndarray, wanted: bool, bottom: Sequence[Blob]) -> None:
        self.blobs[2].diff[...] += rows.T @ self._static(bottom)
        if wanted:
            bottom[2].diff[...] = (rows @ self.blobs[2].data).reshape(bottom[2].shape)

    def state(self) -> dict[str, Any]:
        """The carried state beside the base's."""
        return {**super().state(), "carried": [array.tolist() for array in self.carried]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Carry on from a snapshot's state."""
        super().set_state(state)
        self.carried = [np.array(values, self.dtype) for values in state["carried"]]

    def _unit(self, t: int, pre: np.ndarray) -> None:
        """Write `self.history[i][t + 1]` from pre-activations and `self.history[i][t]`."""
        raise NotImplementedError

    def _unit_backward(self, t: int, state_diffs: list[np.ndarray], pre_diff: np.ndarray) -> list[np.ndarray]:
        """Write `pre_diff`; the gradients of the state before, but for what flows through `pre_diff`."""
        raise NotImplementedError

    def _output(self, top_data: np.ndarray) -> None:
        top_data[...] = self.history[0][1:]

    def _output_diff(self, top_diff: np.ndarray) -> np.ndarray:
        return top_diff


class LSTM(Recurrent):
    """Long short-term memory over a sequence, cut where a new one begins.

    Forward: (i, f, o, g) = W_x x_t + b [+ W_s s] + W_h (cont_t h_(t-1)); c_t = cont_t sigmoid(f) c_(t-1) + sigmoid(i)
        tanh(g); h_t = sigmoid(o) tanh(c_t); y_t = h_t. The state before the first step is the last one of the pass
        before, or the bottoms h_0 and c_0 with `expose_hidden`.
    Backward: through time to the first step of the batch, not further: no gradient flows out of exposed states, nor
        into initial ones (their diff is zero), as in Caffe. Parameter gradients sum over steps and streams.
    Blobs: bottoms x (T, N, ...), cont (T, N) with 0 where a sequence begins and 1 inside it, optionally a static input
        s (N, ...), and with `expose_hidden` h_0 and c_0 (1, N, num_output); tops y (T, N, num_output), and with
        `expose_hidden` h_T and c_T (1, N, num_output).
    Params: `W_x` (4 num_output, prod of x's last axes); `b` (4 num_output); `W_s` (4 num_output, prod of s's last axes)
        with a static input; `W_h` (4 num_output, num_output). Rows are the gates i, f, o, g.
    Fields: recurrent_param: `num_output` (required), `weight_filler` (constant 0), `bias_filler` (constant 0),
        `expose_hidden` (false); `debug_info` is ignored.
    Errors: num_output missing; shapes of cont, s or the initial state that do not fit x; propagating down to cont.
    Source: Hochreiter and Schmidhuber 1997; Caffe's recurrent_layer, lstm_layer and lstm_unit_layer.
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Run through time, keeping the gates."""
        self.kept = np.empty((4, *bottom[0].shape[:2], self.hidden), self.dtype)
        super().forward(bottom, top)

    def _unit(self, t: int, pre: np.ndarray) -> None:
        i, f, o, g = self.kept[:, t]
        for gate, values in zip((i, f, o), np.split(pre, 4, axis=1), strict=False):
            sigmoid(values, gate)
        f *= self.cont[t]
        np.tanh(pre[:, 3 * self.hidden :], out=g)
        self.history[1][t + 1] = f * self.history[1][t] + i * g
        self.history[0][t + 1] = o * np.tanh(self.history[1][t + 1])

    def _unit_backward(self, t: int, state_diffs: list[np.ndarray], pre_diff: np.ndarray) -> list[np.ndarray]:
        i, f, o, g = self.kept[:, t]
        h_diff, tanh_c = state_diffs[0], np.tanh(self.history[1][t + 1])
        c_diff = state_diffs[1] + h_diff * o * (1 - tanh_c**2)
        i_diff, f_diff, o_diff, g_diff = np.split(pre_diff, 4, axis=1)
        i_diff[...] = c_diff * g * i * (1 - i)
        f_diff[...] = c_diff * self.history[1][t] * f * (1 - f)
        o_diff[...] = h_diff * tanh_c * o * (1 - o)
        g_diff[...] = c_diff * i * (1 - g**2)
        return [h_diff, c_diff * f]


class RNN(Recurrent):
    """A plain recurrent network over a sequence, cut where a new one begins.

    Forward: h_t = tanh(W_x x_t + b [+ W_s s] + W_h (cont_t h_(t-1))); y_t = tanh(W_o h_t + b_o). The state before the
        first step is the last one of the forward pass before, or the bottom h_0 with `expose_hidden`.
    Backward: through time to the first step of the batch, not further: no gradient flows out of exposed states, nor
        into initial ones (their diff is zero), as in Caffe. Parameter gradients sum over steps and streams.
    Blobs: bottoms x (T, N, ...), cont (T, N) with 0 where a sequence begins and 1 inside it, optionally a static input
        s (N, ...), and with `expose_hidden` h_0 (1, N, num_output); tops y (T, N, num_output), and with `expose_hidden`
        h_T (1, N, num_output).
    Params: `W_x` (num_output, prod of x's last axes); `b` (num_output); `W_s` (num_output, prod of s's last axes) with
        a static input; `W_h` and `W_o` (num_output, num_output); `b_o` (num_output).
    Fields: recurrent_param: `num_output` (required), `weight_filler` (constant 0), `bias_filler` (constant 0),
        `expose_hidden` (false); `debug_info` is ignored.
    Errors: num_output missing; shapes of cont, s or the initial state that do not fit x; propagating down to cont.
    Source: Elman 1990; Caffe's recurrent_layer and rnn_layer.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The output's weight and bias come last."""
        super().setup(bottom, top)
        self.add_parameter((self.hidden, self.hidden), self.param.recurrent_param.weight_filler)
        self.add_parameter((self.hidden,), self.param.recurrent_param.bias_filler)

    def _unit(self, t: int, pre: np.ndarray) -> None:
        np.tanh(pre, out=self.history[0][t + 1])

    def _unit_backward(self, t: int, state_diffs: list[np.ndarray], pre_diff: np.ndarray) -> list[np.ndarray]:
        np.multiply(state_diffs[0], 1 - self.history[0][t + 1] ** 2, out=pre_diff)
        return state_diffs

    def _output(self, top_data: np.ndarray) -> None:
        np.tanh(self.history[0][1:] @ self.blobs[-2].data.T + self.blobs[-1].data, out=top_data)
        self.y = top_data

    def _output_diff(self, top_diff: np.ndarray) -> np.ndarray:
        rows = (top_diff * (1 - self.y**2)).reshape(-1, self.hidden)
        self.blobs[-2].diff[...] += rows.T @ self.history[0][1:].reshape(-1, self.hidden)
        self.blobs[-1].diff[...] += rows.sum(axis=0)
        return (rows @ self.blobs[-2].data).reshape(top_diff.shape)
