"""Winograd's transforms of arrays: tiles and taps to planes, planes to tiles and taps, axis after axis."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._stages import separately
from ._winograd_axis import AxisTransform, Matrix, View, transposed

# The planes of all products: lists over parts of the last axis, of lists over the first axis, of arrays.
Planes: TypeAlias = list[list[Array]]
Stage: TypeAlias = Callable[..., Array]

# XLA's CPU backend multiplies a batch of small matrices in one thread, but hands separate dots to several
# threads where more than eight of them are ready (xla/backends/cpu/runtime/thunk_executor.cc).
MIN_DOTS = 10


def combine(matrix: Matrix, pieces: Sequence[Array], axis: int) -> Array:
    """sum_k matrix[:, k] pieces[k], the rows of the matrix along a new axis.

    One fusion computes all rows, reading coefficients from a table: no row is copied into place.
    """
    shape = [1] * (pieces[0].ndim + 1)
    shape[axis] = len(matrix)
    columns = [
        jnp.asarray(np.reshape(column, shape), pieces[0].dtype) for column in np.array(matrix, float).T
    ]
    terms = [c * jnp.expand_dims(piece, axis) for c, piece in zip(columns, pieces, strict=True)]
    return functools.reduce(lax.add, terms)


def to_planes(stage: Stage, matrices: Sequence[Matrix], x: Array) -> Planes:
    """Transform one axis after another by `stage(axis, matrix, x, offset)`, the last one in parts."""
    last = len(matrices) - 1
    for axis in range(last):
        x = separately(functools.partial(stage, axis, matrices[axis], offset=0), x)
    rows = pieces_along(x, 0) if last else [x]
    offset = min(last, 1)
    return [[stage(last, part, row, offset) for row in rows] for part in parts(matrices[last], len(rows))]


def parts(matrix: Matrix, rows: int) -> list[Matrix]:
    """The rows of the matrix in as many parts as make enough dots with `rows` dots each."""
    count = min(len(matrix), -(-MIN_DOTS // rows))
    bounds = [len(matrix) * k // count for k in range(count + 1)]
    return [matrix[lo:hi] for lo, hi in itertools.pairwise(bounds)]


def pieces_along(x: Array, axis: int) -> list[Array]:
    return [lax.index_in_dim(x, k, axis, keepdims=False) for k in range(x.shape[axis])]


def tiles_to_planes(views: Sequence[View], x: Array) -> Planes:
    """V or H: `[n, (T', step)..., C]` to planes `[P..., n, T..., C]`."""

    def stage(axis: int, matrix: Matrix, x: Array, offset: int) -> Array:
        at, step = 1 + 2 * axis - offset, views[axis].step
        tiles = x.shape[at] - views[axis].overhang
        pieces = []
        for k in range(len(matrix[0])):
            piece = lax.slice_in_dim(x, k // step, k // step + tiles, axis=at)
            pieces.append(lax.index_in_dim(piece, k % step, at + 1, keepdims=False))
        return combine(matrix, pieces, axis - offset)

    return to_planes(stage, [view.matrix for view in views], x)


def taps_to_planes(axes: Sequence[AxisTransform], w: Array) -> Planes:
    """U: `[*K, C, O]` to planes `[P..., C, O]`."""

    def stage(axis: int, matrix: Matrix, w: Array, offset: int) -> Array:
        return combine(matrix, pieces_along(w, axis - offset), axis - offset)

    return to_planes(stage, [a.g for a in axes], w)


def from_planes(
    stage: Callable[[int, list[Array]], Array], rank: int, places: Sequence[int], planes: Planes
) -> Array:
    """Sum up the products of one axis after another by `stage(axis, pieces)`.

    `places[axis]` is the position of the next axis' products once those of `axis` are summed up.
    """
    pieces = []
    for rows in planes:
        for axis in range(rank - 1):
            rows = pieces_along(separately(functools.partial(stage, axis), rows), places[axis])
        pieces += rows if rank > 1 else pieces_along(rows[0], 0)
    return stage(rank - 1, pieces)


def planes_to_tiles(axes: Sequence[AxisTransform], planes: Planes) -> Array:
    """Y: planes `[P..., n, T..., O]` to `[n, (T, step)..., O]`."""

    def stage(axis: int, pieces: list[Array]) -> Array:
        return combine(axes[axis].a, pieces, len(axes) + axis + 1)

    return from_planes(stage, len(axes), [0] * len(axes), planes)


def planes_to_taps(axes: Sequence[AxisTransform], planes: Planes) -> Array:
    """dw: planes `[P..., C, O]` to `[*K, C, O]`."""

    def stage(axis: int, pieces: list[Array]) -> Array:
        return combine(transposed(axes[axis].g), pieces, axis)

    return from_planes(stage, len(axes), range(1, len(axes) + 1), planes)
