"""Outer: a sum of outer products, where an output sums over few taps and channels.

Tap k and input channel c of group r add one sample per position times one row of the kernel:

    y[n, m, r, o]  = sum_k sum_c x[n, m s + k d - lo, r, c] w[k, c, r, o]                  (T2, T5)
    dw[k, c, r, o] = sum_n sum_m x[n, m s + k d - lo, r, c] g[n, m, r, o]                  (T7)

Each term is elementwise on the lanes (r, o), with x broadcast along o. A compiler turns a sum of such terms
into one vectorised loop that reads x where it lies (`_outer_products.py`); products of matrices this narrow
spend longer on laying out their patches than on multiplying. Cost: one multiply-add per pair that meets.
Error: that of a plain sum.
"""

from __future__ import annotations

from .._problem import ConvProblem, Pass
from ._outer_products import (
    MAX_TERMS,
    correlate_outer_products,
    count_row_terms,
    count_terms,
    sum_outer_products,
)
from ._record import Algorithm

# Terms of a row of taps, at most.
MAX_ROW_TERMS = 450


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Few taps and channels to sum over, or rows of few."""
    if problem.rank == 0:
        return "outer needs a spatial axis, got none"
    terms = count_row_terms(problem, pass_)
    if pass_ is Pass.KERNEL_GRAD or terms <= MAX_ROW_TERMS or count_terms(problem, pass_) <= MAX_TERMS:
        return None
    return f"outer writes out every channel and tap of a row, at most {MAX_ROW_TERMS}, got {terms}"


ALGORITHM = Algorithm("outer", supports, sum_outer_products, correlate_outer_products)
