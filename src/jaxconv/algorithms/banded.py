"""Banded: GEMM with several neighbouring outputs in each row, the kernel a banded (Toeplitz) matrix.

    Y = X B,    dB = X^T G,    dX = G B^T                                    (T5, T7, T8; `_bands.py`)

Few channels make thin patches, costly to copy and narrow to multiply. A row for t neighbouring outputs copies
what they share once and fills the columns of the product, for e / Ke times the multiplications.
Cost: e / Ke = ((t - 1) s + Ke) / Ke multiply-adds per pair that meets. Error: that of a plain sum.
Groups run one after another (`_groups.py`).
A NaN or an infinity meets the zeros of the band, so it may spread to the t outputs of its row.
"""

from __future__ import annotations

from jax import Array

from .._dtypes import is_highest
from .._problem import ConvProblem, Pass
from . import _products
from ._bands import make_bands
from ._groups import group_by_group
from ._record import Algorithm

# What choosing t weighs, in multiply-adds: copying one sample, starting one run of samples, and the narrowest
# product that keeps the vector units full.
COPY_COST, RUN_COST, FULL_COLUMNS = 40, 400, 64
MAX_OUTPUTS = 64


def choose_outputs(problem: ConvProblem) -> int:
    """The t that costs least per output, at least 2."""
    window = problem.windows[-1]
    others = problem.taps // window.size

    def cost(outputs: int) -> float:
        bands = make_bands(problem, outputs)
        depth = others * bands.segment * problem.in_channels
        columns = max(outputs * problem.out_channels, FULL_COLUMNS)
        waste = bands.count * bands.outputs / window.out_size
        return (depth * columns + COPY_COST * depth + RUN_COST * others) / outputs * waste

    return min(range(2, max(2, min(window.out_size, MAX_OUTPUTS)) + 1), key=cost)


@group_by_group
def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    return _products.forward(problem, x, w, choose_outputs)


@group_by_group
def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    return _products.kernel_grad(problem, x, g, choose_outputs)


@group_by_group
def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    return _products.input_grad(problem, g, w, choose_outputs)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """A last axis with a kernel to slide along it."""
    del pass_
    if problem.rank == 0:
        return "banded needs a spatial axis, got none"
    if any(w.dilation > 1 for w in problem.windows[-1:]):
        return f"banded needs a kernel undilated on the last axis, got {problem.kernel_dilation}"
    if any(w.stride > 1 and w.base_dilation > 1 for w in problem.windows):
        return "banded needs a stride or a dilated input, got both on one axis"
    if is_highest(problem.precision):
        return "banded may spread a NaN to neighbouring outputs, which precision=HIGHEST rules out"
    return None


ALGORITHM = Algorithm("banded", supports, forward, kernel_grad, input_grad)
