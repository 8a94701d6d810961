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

import dataclasses

from jax import Array, lax

from .._problem import ConvProblem, Pass
from ._outer_products import (
    LEAST_LANES,
    MAX_TERMS,
    VECTOR_LANES,
    correlate_outer_products,
    count_row_terms,
    count_terms,
    sum_outer_products,
)
from ._record import Algorithm

# Terms of a row of taps, at most.
MAX_ROW_TERMS = 450
# Groups, at most, that are summed one by one. Side by side, 2 groups of 24 to 48 lanes took 2 to 6 times as
# long, 3 or 4 groups up to 2 times; lanes that are a power of two were as fast (2026-11-26, AMD EPYC Zen 4),
# but for 3 groups of 2 or 4, which took 2 to 4 times as long (2026-11-27, Zen 3). On lines 3 or 4 groups of
# whole halves of vectors took 0.71 of the time side by side (61 random layers, 0.36 to 1.24), 0.5 of the
# compile time, one of a 31 MB result a fifth; images 1.0 (59), other lanes 1.4 (54; 2026-12-01, Intel Xeon,
# AVX-512).
MAX_SEPARATE_GROUPS = 4


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    """y, few groups apart, many side by side."""
    cin, cout = problem.channels_per_group
    if not take_turns(problem):
        return sum_outer_products(problem, x, w)
    part = dataclasses.replace(problem, in_channels=cin, out_channels=cout, groups=1)
    groups = [
        sum_outer_products(part, x[..., r * cin : (r + 1) * cin], w[..., r * cout : (r + 1) * cout])
        for r in range(problem.groups)
    ]
    return lax.concatenate(groups, x.ndim - 1)


def take_turns(problem: ConvProblem) -> bool:
    """Whether groups are summed one by one."""
    if not 1 < problem.groups <= MAX_SEPARATE_GROUPS or fills_vectors(problem):
        return False
    _, lanes = problem.channels_per_group
    return problem.rank > 1 or lanes < VECTOR_LANES or cross_vectors(problem)


def cross_vectors(problem: ConvProblem) -> bool:
    """Whether groups side by side share vectors in a way that makes their sums slow."""
    _, lanes = problem.channels_per_group
    return fill_no_vector(lanes) or (problem.groups == 2 and not fills_vectors(problem))


def fill_no_vector(lanes: int) -> bool:
    """Whether the lanes of a group are neither part of a vector nor halves of vectors."""
    return lanes % LEAST_LANES > 0 and not is_power_of_two(lanes)


def fills_vectors(problem: ConvProblem) -> bool:
    """Whether the lanes of a group are part of a vector or whole ones, and those of all groups together."""
    lanes = problem.out_channels
    _, each = problem.channels_per_group
    return is_power_of_two(each) and (is_power_of_two(lanes) or lanes % VECTOR_LANES == 0)


def is_power_of_two(size: int) -> bool:
    return size & (size - 1) == 0


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Few taps and channels to sum over, or rows of few."""
    if problem.rank == 0:
        return "outer needs a spatial axis, got none"
    terms = count_row_terms(problem, pass_)
    if pass_ is Pass.KERNEL_GRAD or terms <= MAX_ROW_TERMS or count_terms(problem, pass_) <= MAX_TERMS:
        return None
    return f"outer writes out every channel and tap of a row, at most {MAX_ROW_TERMS}, got {terms}"


ALGORITHM = Algorithm("outer", supports, forward, correlate_outer_products, phases_in_blocks=lambda _: True)
