"""The table of algorithms: to add one is to add a row."""

from __future__ import annotations

from breve.kernels.convolution.algorithm import Algorithm
from breve.kernels.convolution.depthwise import Depthwise
from breve.kernels.convolution.direct import Direct
from breve.kernels.convolution.im2col import Im2col
from breve.kernels.convolution.pointwise import Pointwise
from breve.kernels.convolution.strassen import Strassen
from breve.kernels.convolution.winograd import Winograd, WinogradF2, WinogradF5

ALGORITHMS: dict[str, type[Algorithm]] = {
    algorithm.name: algorithm
    for algorithm in (Im2col, Direct, Winograd, WinogradF5, WinogradF2, Depthwise, Pointwise, Strassen)
}
