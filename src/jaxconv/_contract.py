"""Products of matrices in a problem's accumulator dtype and precision: what algorithms multiply with."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._problem import ConvProblem, accumulator

# Rows for each column of the wider factor, and columns of it, from which a sum over rows runs in parts. Of
# 220 products of 4 to 2,000 columns 117 are such; two parts took 0.86 of their time (geometric mean; 0.4 to
# 0.6 in eleven, above 1.1 in five), and 0.87 of that of ten with jax 0.12 (2026-11-28, AMD EPYC Zen 4).
PART_ROWS = 4
PART_COLUMNS = 128
MAX_PARTS = 4


def contract(
    problem: ConvProblem,
    a: Array,
    b: Array,
    dimension_numbers: tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]],
) -> Array:
    """`lax.dot_general` in the problem's accumulator dtype and precision."""
    acc = accumulator(problem)
    return lax.dot_general(
        as_operand(a, acc),
        as_operand(b, acc),
        dimension_numbers,
        precision=problem.precision,
        preferred_element_type=acc,
    )


def as_operand(a: Array, acc: jnp.dtype) -> Array:
    """`a` as a dot operand: as it is where the platform multiplies that dtype well, else widened.

    The CPU backend has fast dots for bfloat16 and int8 with wide sums, but not for float16 (jax pull 7462)
    nor for 8-bit floats; and an operand of another kind than the sum has to be of the sum's kind first.
    """
    if a.dtype == acc:
        return a
    kept = ("bfloat16", "int8") if jax.default_backend() == "cpu" else ("bfloat16", "float16", "int8")
    narrow = a.dtype.name in kept and jnp.issubdtype(acc, jnp.integer) == (a.dtype.name == "int8")
    return a if narrow and acc.itemsize == 4 else a.astype(acc)


def multiply_channels(problem: ConvProblem, x: Array, w: Array) -> Array:
    """x `[N, *M, C]` times w `[C/G, O]`, group by group: `[N, *M, O]` in the accumulator dtype."""
    if problem.groups == 1:
        return contract(problem, x, w, (((x.ndim - 1,), (0,)), ((), ())))
    groups = problem.groups
    x = x.reshape(*x.shape[:-1], groups, -1)
    w = w.reshape(w.shape[0], groups, -1)
    y = contract(problem, x, w, (((x.ndim - 1,), (0,)), ((x.ndim - 2,), (1,))))
    return jnp.moveaxis(y, 0, -2).reshape(*x.shape[:-2], -1)


def unmultiply_channels(problem: ConvProblem, g: Array, w: Array) -> Array:
    """g `[N, *M, O]` times the transpose of w `[C/G, O]`, group by group: `[N, *M, C]`."""
    if problem.groups == 1:
        return contract(problem, g, w, (((g.ndim - 1,), (1,)), ((), ())))
    groups = problem.groups
    g = g.reshape(*g.shape[:-1], groups, -1)
    w = w.reshape(w.shape[0], groups, -1)
    dx = contract(problem, g, w, (((g.ndim - 1,), (2,)), ((g.ndim - 2,), (1,))))
    return jnp.moveaxis(dx, 0, -2).reshape(*g.shape[:-2], -1)


def correlate_channels(problem: ConvProblem, x: Array, g: Array) -> Array:
    """Sum over batch and space of x `[N, *M, C]` times g `[N, *M, O]`, group by group: `[C/G, O]`."""
    groups = problem.groups
    points = math.prod(x.shape[:-1])
    if groups == 1:
        return correlate_rows(problem, x.reshape(points, -1), g.reshape(points, -1))
    x, g = x.reshape(points, groups, -1), g.reshape(points, groups, -1)
    dw = contract(problem, x, g, (((0,), (0,)), ((1,), (1,))))
    return jnp.swapaxes(dw, 0, 1).reshape(dw.shape[1], -1)


def correlate_rows(problem: ConvProblem, a: Array, b: Array) -> Array:
    """a^T b, summed over rows: `[P, A] [P, B] -> [A, B]`.

    A dot transposes its first operand, which costs less the narrower that is: b^T a of 4 rows took a third of
    the time of a^T b with 4 columns (2026-11-27, AMD EPYC Zen 3). The barrier keeps XLA, which would move the
    transpose of a product to its operands, from making one of the other.
    """
    if b.shape[1] < a.shape[1]:
        return lax.optimization_barrier(correlate_rows(problem, b, a)).T
    parts = row_parts(a.shape[0], b.shape[1])
    if parts == 1:
        return contract(problem, a, b, (((0,), (0,)), ((), ())))
    a, b = (v.reshape(parts, -1, v.shape[1]) for v in (a, b))
    sums = contract(problem, a, b, (((1,), (1,)), ((0,), (0,))))
    return functools.reduce(jnp.add, sums)  # one loop, where a reduction took as long as the product


def row_parts(rows: int, columns: int) -> int:
    """Into how many parts to cut a sum over `rows`, the wider factor having `columns`.

    XLA's CPU backend shares the result of one product among its threads, of which some wait where sums are
    long and the result small. The products of a batch it computes side by side. Rows of a symbolic batch,
    whose number is unknown, stay together.
    """
    if not isinstance(rows, int) or jax.default_backend() != "cpu":
        return 1
    if columns < PART_COLUMNS or rows < PART_ROWS * columns:
        return 1
    return next((n for n in range(2, MAX_PARTS + 1) if rows % n == 0), 1)
