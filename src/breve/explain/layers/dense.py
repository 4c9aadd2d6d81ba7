"""InnerProduct and Embed: products of matrices without a window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from breve.explain.layers.base import Linear
from breve.explain.model import Derivation, Index, Terms
from breve.explain.record import Record
from breve.explain.wrt import Wrt


class InnerProductExplainer(Linear):
    """dX = dY . W, dW = dY^T . X, db = dY^T . 1, rows of X being what lies from `axis` on."""

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        layer: Any = self.layer
        param, shape = layer.param.inner_product_param, record.bottom_data[0].shape
        axis = param.axis % len(shape)
        self.rows, self.inputs = math.prod(shape[:axis]), math.prod(shape[axis:])
        self.outputs, self.transpose = param.num_output, param.transpose
        self.inner_shape = shape[axis:]

    def formula(self, wrt: Wrt) -> str:
        """The product of matrices, one element of it."""
        weight = "W[i, o]" if self.transpose else "W[o, i]"
        if not wrt.is_param:
            return f"dX[n, i] = sum over o of dY[n, o] * {weight}"
        return f"d{weight} = sum over n of dY[n, o] * X[n, i]" if wrt.number == 0 else "db[o] = sum over n of dY[n, o]"

    def index_equations(self, wrt: Wrt, index: Index) -> list[str]:
        """How an index of a feature map becomes i."""
        if wrt.is_param or len(self.inner_shape) < 2:
            return []
        inner = index[-len(self.inner_shape) :]
        sums = " + ".join(f"{at} * {math.prod(self.inner_shape[a + 1 :])}" for a, at in enumerate(inner))
        return [f"i = {sums} = {np.ravel_multi_index(inner, self.inner_shape)}"]

    def _place(self, wrt: Wrt, index: Index) -> tuple[int, int]:
        """(row, input) of an element of X; (output, input) of one of W."""
        if not wrt.is_param:
            return divmod(int(np.ravel_multi_index(index, self.record.bottom_data[0].shape)), self.inputs)
        return (index[1], index[0]) if self.transpose else (index[0], index[1])

    def _weight_positions(self, i: int) -> np.ndarray:
        o = np.arange(self.outputs)
        return i * self.outputs + o if self.transpose else o * self.inputs + i

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """All outputs of the row, or all rows of the batch."""
        tops, n = self.record.top_diff, np.arange(self.rows)
        if not wrt.is_param:
            row, i = self._place(wrt, index)
            outputs = row * self.outputs + np.arange(self.outputs)
            return Terms.gather(tops, 0, outputs, self.record.param_data[0], self._weight_positions(i), "W")
        if wrt.number:
            return Terms.gather(tops, 0, n * self.outputs + index[0], np.float64(1))
        o, i = self._place(wrt, index)
        return Terms.gather(tops, 0, n * self.outputs + o, self.record.bottom_data[0], n * self.inputs + i, "X")

    def derivations(self, wrt: Wrt, index: Index) -> dict[str, Derivation]:
        """The product of matrices; and as a convolution whose kernel is as large as its input."""
        dy = self.record.top_diff[0].astype(np.float64).reshape(self.rows, self.outputs)
        x = self.record.bottom_data[0].astype(np.float64).reshape(self.rows, self.inputs)
        if wrt.is_param and wrt.number:
            return {
                "gemm_col2im": Derivation("dY^T . 1", float(dy[:, index[0]] @ np.ones(self.rows)), "A sum over rows.")
            }
        first, i = self._place(wrt, index)
        if wrt.is_param:
            return {"gemm_col2im": Derivation("dY^T . X", float(dy[:, first] @ x[:, i]), "One element of the product.")}
        weight = self.record.param_data[0].astype(np.float64).reshape(-1)[self._weight_positions(i)]
        text = "One element of the product. Every input has a patch of its own, so col2im would add nothing up."
        return {
            "gemm_col2im": Derivation("dY . W", float(dy[first] @ weight), text),
            **self._as_convolution(dy[first], i),
        }

    def _as_convolution(self, dy: np.ndarray, i: int) -> dict[str, Derivation]:
        kernels = self.record.param_data[0].astype(np.float64)
        kernels = (kernels.T if self.transpose else kernels).reshape(self.outputs, self.inputs)
        position = self.inputs - 1 - i  # where element i of a kernel lies once it is rotated
        value = math.fsum(dy * kernels[:, ::-1][:, position])
        text = (
            "An InnerProduct is a convolution whose kernel is as large as its input, with one output: the full "
            "correlation of that single dY with the rotated kernel puts every weight back on its own input."
        )
        return {"rotated_kernel": Derivation("correlation with the rotated kernel", value, text)}


class EmbedExplainer(Linear):
    """dW[v] gathers dY of all rows that looked v up."""

    def formula(self, wrt: Wrt) -> str:
        """A sum over the rows that read the weight."""
        if wrt.is_param and wrt.number:
            return "db[o] = sum over n of dY[n, o]"
        return "dW[v, o] = sum over n with x[n] = v of dY[n, o]"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """All rows that read the weight."""
        if not wrt.is_param:
            return Terms.gather(self.record.top_diff, 0, np.zeros(0, np.intp), np.zeros(0))
        words = self.record.bottom_data[0].reshape(-1).astype(np.intp)
        rows = np.arange(words.size) if wrt.number else np.flatnonzero(words == index[0])
        outputs = self.record.top_diff[0].shape[-1]
        return Terms.gather(self.record.top_diff, 0, rows * outputs + index[-1], np.float64(1))
