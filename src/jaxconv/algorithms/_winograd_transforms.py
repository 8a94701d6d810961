"""Winograd's transforms of arrays: tiles and taps to planes, planes to tiles and taps, axis after axis.

XLA compiles each distinct kernel by itself, in about 10 ms, and equal ones once. So every stage is one kernel
on many operands: products of the first axis are arrays of their own, those of the last come in parts of equal
size, and coefficients are operands too (`tables`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._stages import apart, separately
from ._winograd_axis import AxisTransform, Matrix, View, transposed

# The planes of all products: lists over parts of the last axis, of lists over the first axis, of arrays.
Planes: TypeAlias = list[list[Array]]

# XLA's CPU backend multiplies a batch of small matrices in one thread, but hands separate dots to several
# threads where more than eight of them are ready (xla/backends/cpu/runtime/thunk_executor.cc).
MIN_DOTS = 10


def coefficients(matrix: Matrix) -> np.ndarray:
    """The fractions `[P, K]` as numbers."""
    return np.array(matrix, float)


def tables(matrices: Sequence[Matrix], dtype: jnp.dtype) -> list[Array]:
    """Matrices as arrays `[P, K]`, which the barrier keeps XLA from writing into its kernels as numbers."""
    return lax.optimization_barrier([jnp.asarray(coefficients(matrix), dtype) for matrix in matrices])


@functools.partial(jax.jit, static_argnums=2)
def combine(table: Array, pieces: Sequence[Array], axis: int) -> Array:
    """sum_k table[:, k] pieces[k], the rows of the table along a new axis; one fusion computes all rows."""
    shape = list(pieces[0].shape)
    shape.insert(axis, table.shape[0])
    others = [a for a in range(len(shape)) if a != axis]
    columns = pieces_along(table, 1)
    terms = [
        lax.mul(lax.broadcast_in_dim(piece, shape, others), lax.broadcast_in_dim(column, shape, [axis]))
        for column, piece in zip(columns, pieces, strict=True)
    ]
    return functools.reduce(lax.add, terms)


def parts(matrix: Any, rows: int) -> list[Any]:
    """The rows of the matrix in as many parts as make enough dots with `rows` dots each."""
    count = min(len(matrix), -(-MIN_DOTS // rows)) if rows > 1 else len(matrix)
    bounds = [len(matrix) * k // count for k in range(count + 1)]
    return [matrix[lo:hi] for lo, hi in itertools.pairwise(bounds)]


def pieces_along(x: Array, axis: int) -> list[Array]:
    return [lax.index_in_dim(x, k, axis, keepdims=False) for k in range(x.shape[axis])]


def used_columns(matrix: Matrix) -> tuple[Matrix, int]:
    """The columns of the matrix without zeros at its sides, and which is first."""
    used = [k for k, column in enumerate(transposed(matrix)) if any(column)]
    return tuple(row[used[0] : used[-1] + 1] for row in matrix), used[0]


@functools.partial(apart, static_argnums=(2, 3, 4, 5))
def combine_samples(table: Array, x: Array, first: int, at: int, overhang: int, to: int) -> Array:
    """A tile's samples from `first` on combined: axes (T', step) from `at` on become T, rows go to axis `to`.

    Within a call of its own XLA orders the operands of the kernel alike.
    """
    step, tiles = x.shape[at + 1], x.shape[at] - overhang
    pieces = []
    for k in range(first, first + table.shape[1]):
        piece = lax.slice_in_dim(x, k // step, k // step + tiles, axis=at)
        pieces.append(lax.index_in_dim(piece, k % step, at + 1, keepdims=False))
    return combine(table, pieces, to)


def tile_positions(views: Sequence[View]) -> list[int]:
    """Where the tiles T of every axis are in `[n, (T, D)..., C]`."""
    return [1 + sum(v.tile_axes for v in views[:axis]) for axis in range(len(views))]


def tiles_to_planes(views: Sequence[View], x: Array) -> Planes:
    """V or H: `[n, (T', step, D)..., C]` to planes `[P..., n, (T, D)..., C]`.

    One axis after another: the first row by row, those between as a whole, the last in parts.
    """

    def transform(axis: int, table: Array, x: Array, first: int = 0) -> Array:
        to = max(0, axis - 1)
        return combine_samples(table, x, first, at[axis] + to, views[axis].overhang, to)

    at = tile_positions(views)
    *others, last = [view.matrix for view in views]
    rows = [x]
    for axis, matrix in enumerate(others):
        if axis == 0:
            # Each row of the matrix gives an array; the length 1 that it leaves behind goes at once.
            cut = tables([(row,) for row in matrix], x.dtype)
            rows = [lax.squeeze(transform(axis, row, x), (0,)) for row in cut]
        else:
            (table,) = tables([matrix], x.dtype)
            rows = [transform(axis, table, row) for row in rows]
    used = [used_columns(part) for part in parts(last, len(rows))]
    cut = tables([part for part, _ in used], x.dtype)
    firsts = [first for _, first in used]
    return [
        [transform(len(others), part, row, first) for row in rows]
        for part, first in zip(cut, firsts, strict=True)
    ]


def taps_to_planes(axes: Sequence[AxisTransform], w: Array, flipped: bool) -> Planes:
    """U: `[*K, C, O]` to planes `[P..., C, O]`, with `flipped` those of rot180(w).

    Taps do not overlap like the samples of tiles, so that all axes together are one small matrix, and every
    array of planes is a product with some of its rows, which needs no kernel compiled.
    """
    first, *others = [coefficients(axis.g) for axis in axes]
    rows = [first[i : i + 1] for i in range(len(first))] if others else [np.ones((1, 1))]
    *between, last = others or [first]
    flat_w = w.reshape(-1, math.prod(w.shape[-2:]))

    def planes(row: np.ndarray, part: np.ndarray) -> Array:
        matrix = functools.reduce(np.kron, [row, *between, part])
        table = lax.optimization_barrier(jnp.asarray(matrix[:, ::-1] if flipped else matrix, w.dtype))
        sizes = [len(m) for m in between]
        return multiply_exactly(table, flat_w).reshape(*sizes, len(part), *w.shape[-2:])

    return [[planes(row, part) for row in rows] for part in parts(last, len(rows))]


def multiply_exactly(a: Array, b: Array) -> Array:
    return lax.dot(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=b.dtype)


def from_planes(
    stage: Callable[[int, list[Array]], Array], rank: int, places: Sequence[int], planes: Planes
) -> Array:
    """Sum up the products of one axis after another by `stage(axis, pieces)`.

    `places[axis]` is the position of the next axis' products once those of `axis` are summed up. A stage
    takes an array apart by itself: slices between two stages would be copies.
    """

    def add_up(axis: int, products: Any) -> Array:
        return stage(axis, products if axis == 0 else pieces_along(products, places[axis - 1]))

    pieces = []
    for rows in planes:
        products: Any = rows
        for axis in range(rank - 1):
            products = separately(functools.partial(add_up, axis), products)
        pieces += pieces_along(products, places[rank - 2]) if rank > 1 else pieces_along(rows[0], 0)
    return stage(rank - 1, pieces)


def planes_to_tiles(axes: Sequence[AxisTransform], planes: Planes, shape: Sequence[int]) -> Array:
    """Y: planes `[P, n T D, O]`, `shape` being (n, (T, D)...), to `[n, (T, step, D)..., O]`.

    The first stage unfolds them: between two stages XLA would copy those of one image from one order of axes
    to another, which are the same bytes.
    """
    cut = tables([axis.a for axis in axes], planes[0][0].dtype)
    at = tile_positions([axis.output_view for axis in axes])
    between = [axis.products for axis in axes[1:-1]]

    def unfold(piece: Array) -> Array:
        part = (piece.shape[0] // math.prod(between),) if len(axes) > 1 else ()
        return piece.reshape(*between, *part, *shape, piece.shape[-1])

    def stage(axis: int, pieces: list[Array]) -> Array:
        pieces = list(map(unfold, pieces)) if axis == 0 else pieces
        return combine(cut[axis], pieces, len(axes) + at[axis])

    return from_planes(stage, len(axes), [0] * len(axes), planes)


def planes_to_taps(axes: Sequence[AxisTransform], planes: Planes) -> Array:
    """dw: planes `[P..., C, O]` to `[*K, C, O]`."""
    cut = tables([transposed(axis.g) for axis in axes], planes[0][0].dtype)

    def stage(axis: int, pieces: list[Array]) -> Array:
        return combine(cut[axis], pieces, axis)

    return from_planes(stage, len(axes), range(1, len(axes) + 1), planes)
