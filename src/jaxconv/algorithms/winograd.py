"""Winograd: minimal filtering F(m x m, r x r), tile by tile (Lavin & Gray 2015, arXiv:1509.09308).

The trilinear form of a tile splits into P = m + r - 1 products per axis (`_winograd_axis`). Each pass is
three transforms around, in two dimensions, P^2 matrix products over channels instead of m^2 r^2:

    V = B x B^T     U = G w G^T     H = A^T g A     planes [tiles, C], [C, O], [tiles, O], one per product
    y  = A (V . U) A^T                              summed over C (T5)
    dw = G^T (V . H) G                              summed over tiles: the transposed algorithm (T7)

F(4 x 4, 3 x 3) has 2.25 products per output, the direct sum 9. Strides and input dilation are phases inside a
tile, kernel dilation interleaves undilated problems. Blocks of tiles, or of channels where these are more,
pass through the cache one after another (`_winograd_plan`).

Root mean square error against a plain sum: 1.2 times for F(2 x 2), 3 times for F(4 x 4), 4 for F(4 x 4 x 4).
A NaN or an infinity reaches every output of each tile that reads it.
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

from .._dtypes import is_highest
from .._patches import contract, pad_or_crop
from .._problem import ConvProblem, Pass, accumulator
from ._record import Algorithm
from ._winograd_axis import MAX_PRODUCTS, AxisTransform, Matrix, View, transposed
from ._winograd_plan import Plan, make_plan, phase_taps

# The planes of all products: lists over parts of the last axis, of lists over the first axis, of arrays.
Planes: TypeAlias = list[list[Array]]
Stage: TypeAlias = Callable[..., Array]

# XLA's CPU backend multiplies a batch of small matrices in one thread, but hands separate dots to several
# threads where more than eight of them are ready (xla/backends/cpu/runtime/thunk_executor.cc).
MIN_DOTS = 10


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    plan, dtype = make_plan(problem, Pass.FORWARD), accumulator(problem)
    read = block_reader(plan, plan.input_views, x, problem.in_channels, dtype)

    def read_kernel(i: Array) -> Array:
        first = i % plan.grid[2] * plan.channels
        return lax.dynamic_slice_in_dim(w, first, plan.channels, w.ndim - 1).astype(dtype)

    v = once(lambda i: tiles_to_planes(plan.input_views, read(i)), plan.grid[2] > 1)
    u = once(lambda i: taps_to_planes(plan.axes, read_kernel(i)), plan.grid[2] == 1)
    row = plan.axes[0].out_step * plan.axes[0].dilation

    def put_block(i: Array, y: Array) -> Array:
        tiles = planes_to_tiles(plan.axes, multiply_planes(problem, v(i), u(i)))
        block = join_tiles([a.dilation for a in plan.axes], tiles).astype(y.dtype)
        block = lax.slice(block, [0] * y.ndim, list(map(min, block.shape, y.shape)))
        return lax.dynamic_update_slice(y, block, plan.place(i, row, problem.rank))

    height, *others = problem.output_size
    computed = height if plan.grid[1] == 1 else plan.grid[1] * plan.rows * row
    y = jnp.zeros((problem.batch, computed, *others, problem.out_channels), problem.y_dtype)
    return lax.slice_in_dim(lax.fori_loop(0, plan.blocks, put_block, y), 0, height, axis=1)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    plan, dtype = make_plan(problem, Pass.KERNEL_GRAD), accumulator(problem)
    read_x = block_reader(plan, plan.input_views, x, plan.channels, dtype)
    read_g = block_reader(plan, plan.output_views, g, problem.out_channels, dtype)
    h = once(lambda i: tiles_to_planes(plan.output_views, read_g(i)), plan.grid[2] > 1)

    def products(i: Array) -> Planes:
        return correlate_planes(problem, tiles_to_planes(plan.input_views, read_x(i)), h(i))

    def put_block(i: Array, dw: Array) -> Array:
        taps = planes_to_taps(plan.axes, products(i))
        return lax.dynamic_update_slice_in_dim(dw, taps, i * plan.channels, dw.ndim - 2)

    def add_block(i: Array, du: Planes) -> Planes:
        return jax.tree.map(jnp.add, du, products(i))

    if plan.grid[2] > 1:
        return lax.fori_loop(0, plan.blocks, put_block, jnp.zeros(problem.kernel_shape, dtype))
    du = zeros_like(jax.eval_shape(products, jnp.int32(0)))
    return planes_to_taps(plan.axes, lax.fori_loop(0, plan.blocks, add_block, du))


def once(function: Callable[[Array], Planes], invariant: bool) -> Callable[[Array], Planes]:
    """`function` of a block's index, evaluated before the loop if it gives the same for every block."""
    if not invariant:
        return function
    value = function(jnp.int32(0))
    return lambda i: value


def block_reader(
    plan: Plan, views: Sequence[View], x: Array, channels: int, dtype: jnp.dtype
) -> Callable[[Array], Array]:
    """A function that gives block i of `x`, padding in place, in tiles: `[n, (T, step)..., channels]`."""
    first, rows = views[0], x.shape[1]
    row = first.step * first.dilation
    pads = [covering(v, a.tiles, n) for v, a, n in zip(views, plan.axes, x.shape[1:-1], strict=True)]
    if plan.grid[1] > 1:
        x = pad_or_crop(x, [covering(first, plan.grid[1] * plan.rows, rows)])
        rows, pads[0] = (plan.rows + first.overhang) * row, (0, 0)
    sizes = (plan.images, rows, *x.shape[2:-1], channels)

    def read(i: Array) -> Array:
        block = lax.dynamic_slice(x, plan.place(i, row, len(views)), sizes) if plan.blocks > 1 else x
        return split_tiles(views, pad_or_crop(block, pads).astype(dtype))

    return read


def covering(view: View, tiles: int, size: int) -> tuple[int, int]:
    """Padding that makes an axis of `size` samples what `tiles` tiles read."""
    return -view.first, (tiles + view.overhang) * view.step * view.dilation - size + view.first


def split_tiles(views: Sequence[View], x: Array) -> Array:
    """`[n, *S, C]` to `[n D, (T, step)..., C]`: the D residue classes of dilated axes join the batch."""
    shape = [x.shape[0]]
    for view, size in zip(views, x.shape[1:-1], strict=True):
        shape += [size // (view.step * view.dilation), view.step, view.dilation]
    residues = range(3, len(shape), 3)
    others = [axis for axis in range(1, len(shape) + 1) if axis not in residues]
    x = x.reshape(*shape, x.shape[-1]).transpose(0, *residues, *others)
    return x.reshape(-1, *x.shape[1 + len(views) :])


def join_tiles(dilations: Sequence[int], y: Array) -> Array:
    """`[n D, (T, step)..., O]` to `[n, *S, O]`, the inverse of `split_tiles`."""
    rank = len(dilations)
    y = y.reshape(-1, *dilations, *y.shape[1:])
    triples = [(1 + rank + 2 * axis, 2 + rank + 2 * axis, 1 + axis) for axis in range(rank)]
    y = y.transpose(0, *itertools.chain(*triples), y.ndim - 1)
    sizes = [math.prod(y.shape[1 + 3 * axis : 4 + 3 * axis]) for axis in range(rank)]
    return y.reshape(y.shape[0], *sizes, y.shape[-1])


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


def separately(stage: Callable[[Any], Any], x: Any) -> Any:
    """`stage(x)`, written to memory before anything reads it, its operands kept until it ends.

    XLA's CPU backend would fuse two stages and compute the first anew for every element of the second. It
    drops optimization barriers before it fuses, but no fusion leaves the branch of a conditional. Dots in a
    branch run side by side: none waits for the memory of another one's operand.
    """
    if jax.default_backend() != "cpu":
        return stage(x)
    out = jax.eval_shape(stage, x)
    true = lax.optimization_barrier(jnp.bool_(True))
    return lax.cond(true, stage, lambda _: zeros_like(out), x)


def zeros_like(shapes: Any) -> Any:
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


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


def multiply_planes(problem: ConvProblem, v: Planes, u: Planes) -> Planes:
    """V . U summed over C: `[P..., n, T..., C] [P..., C, O] -> [P..., n, T..., O]`."""

    def multiply(v: Array, u: Array) -> Array:
        flat_u = u.reshape(-1, *u.shape[-2:])
        flat_v = v.reshape(flat_u.shape[0], -1, v.shape[-1])
        y = contract(problem, flat_v, flat_u, (((2,), (1,)), ((0,), (0,))))
        return y.reshape(*v.shape[:-1], u.shape[-1])

    return separately(lambda operands: jax.tree.map(multiply, *operands), (v, u))


def correlate_planes(problem: ConvProblem, v: Planes, h: Planes) -> Planes:
    """V . H summed over tiles: `[P..., n, T..., C] [P..., n, T..., O] -> [P..., C, O]`."""
    leading = max(1, problem.rank - 1)

    def correlate(v: Array, h: Array) -> Array:
        products = v.shape[:leading]
        flat_v, flat_h = (a.reshape(math.prod(products), -1, a.shape[-1]) for a in (v, h))
        du = contract(problem, flat_v, flat_h, (((1,), (1,)), ((0,), (0,))))
        return du.reshape(*products, v.shape[-1], h.shape[-1])

    return separately(lambda operands: jax.tree.map(correlate, *operands), (v, h))


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """One group of floating-point or complex channels, two to five taps in the phases of some axis."""
    del pass_
    if problem.groups != 1:
        return "it has no grouped form"
    if not isinstance(problem.batch, int):
        return "it needs a batch size known at trace time"
    if jnp.issubdtype(accumulator(problem), jnp.integer):
        return "its transforms have fractions, which integers cannot hold"
    if is_highest(problem.precision):
        return "its error exceeds that of a plain sum, against precision=HIGHEST"
    if any(sum(v > 1 for v in (w.stride, w.dilation, w.base_dilation)) > 1 for w in problem.windows):
        return "it takes only one of stride, input dilation and kernel dilation on an axis"
    taps = max(map(phase_taps, problem.windows), default=1)
    if taps < 2:
        return "no axis has two taps in one phase"
    if taps > MAX_PRODUCTS - 1:
        return f"it has no transform for {taps} taps, at most {MAX_PRODUCTS - 1}"
    return None


ALGORITHM = Algorithm("winograd", supports, forward, kernel_grad, takes_dilated_input=True)
