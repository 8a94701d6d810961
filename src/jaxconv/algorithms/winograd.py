"""Winograd: minimal filtering F(m x m, r x r), tile by tile (Lavin & Gray 2015, arXiv:1509.09308).

The trilinear form of a tile splits into P = m + r - 1 products per axis (`_winograd_axis`). Each pass is
three transforms around, in two dimensions, P^2 matrix products over channels instead of m^2 r^2:

    V = B x B^T     U = G w G^T     H = A^T g A     planes [tiles, C], [C, O], [tiles, O], one per product
    y  = A (V . U) A^T                              summed over C (T5)
    dw = G^T (V . H) G                              summed over tiles: the transposed algorithm (T7)

F(4 x 4, 3 x 3) has 2.25 products per output, the direct sum 9. Strides and input dilation are phases inside a
tile, kernel dilation interleaves undilated problems, and seven taps are four and three, added up: 13.4
products per output for 7 x 7. Groups run one after another (`_groups.py`), and so do the blocks of tiles, or
of channels where these are more, that pass through the cache (`_winograd_plan`).

Root mean square error against a plain sum: 1.2 times for F(2 x 2), 3 times for F(4 x 4), 4 for F(4 x 4 x 4).
A NaN or an infinity reaches every output of each tile that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._contract import contract
from .._dtypes import is_highest
from .._loops import loop
from .._patches import pad_or_crop, slice_padded, zeros
from .._problem import ConvProblem, Pass, accumulator
from ._groups import group_by_group
from ._record import Algorithm
from ._stages import add_in_loop, side_by_side
from ._winograd_axis import View
from ._winograd_plan import Plan, make_plan, phase_taps, tile_products
from ._winograd_transforms import (
    Planes,
    planes_to_taps,
    planes_to_tiles,
    taps_to_planes,
    tiles_to_planes,
)

# Taps of an axis and products of a tile, at most: each product is an array or a part of one to compile.
MAX_TAPS, MAX_TILE_PRODUCTS = 32, 600


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    return correlate(problem, x, w, adjoint=False)


def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    return correlate(problem.input_adjoint(), g, w, adjoint=True)


def correlate(problem: ConvProblem, x: Array, w: Array, adjoint: bool) -> Array:
    """The forward pass; with `adjoint`, w is `[*K, O, C]` and read flipped and exchanged (T8)."""
    plan, dtype = make_plan(problem, Pass.FORWARD), accumulator(problem)
    (height, *others), window = problem.output_size, problem.windows[0]
    row = plan.axes[0].out_step * plan.axes[0].dilation
    # The last block of rows ends where y does, with all phases of a dilated input: one that reached further
    # would leave y to be cut out of more.
    computed = height if plan.grid[1] == 1 else -(-height // window.base_dilation) * window.base_dilation
    last = max(0, computed - plan.rows * row)
    last_read = last // window.base_dilation * window.stride
    read = block_reader(plan, plan.input_views, x, problem.in_channels, dtype, last_read)

    def read_kernel(i: Array) -> Array:
        first = i % plan.grid[2] * plan.channels
        block = lax.dynamic_slice_in_dim(w, first, plan.channels, w.ndim - (2 if adjoint else 1))
        return block.astype(dtype)

    v = once(lambda i: tiles_to_planes(plan.input_views, read(i)), plan.grid[2] > 1)
    u = once(lambda i: taps_to_planes(plan.axes, read_kernel(i), adjoint), plan.grid[2] == 1)

    def put_block(i: Array, y: Array) -> Array:
        x_planes = v(i)
        products = multiply_planes(problem, x_planes, u(i), adjoint)
        shape = x_planes[0][0].shape[max(1, problem.rank - 1) : -1]
        tiles = planes_to_tiles(plan.axes, products, shape)
        block = join_tiles(plan.output_views, tiles).astype(y.dtype)
        block = lax.slice(block, [0] * y.ndim, list(map(min, block.shape, y.shape)))
        return lax.dynamic_update_slice(y, block, plan.place(i, row, problem.rank, last))

    y = zeros((problem.batch, computed, *others, problem.out_channels), problem.y_dtype, x)
    return lax.slice_in_dim(loop(plan.blocks, put_block, y), 0, height, axis=1)


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

    if plan.grid[2] > 1:
        return loop(plan.blocks, put_block, zeros(problem.kernel_shape, dtype, x))
    return planes_to_taps(plan.axes, add_in_loop(plan.blocks, products, x))


def once(function: Callable[[Array], Planes], invariant: bool) -> Callable[[Array], Planes]:
    """`function` of a block's index, evaluated before the loop if it gives the same for every block."""
    planes = function(jnp.int32(0)) if invariant else []
    return (lambda i: planes) if invariant else function


def block_reader(
    plan: Plan,
    views: Sequence[View],
    x: Array,
    channels: int,
    dtype: jnp.dtype,
    last: int | None = None,
) -> Callable[[Array], Array]:
    """A function that gives block i of `x`, padding in place, in tiles: `[n, (T, step, D)..., channels]`.

    No block starts behind row `last`.
    """
    first, rows = views[0], x.shape[1]
    row = first.step * first.dilation
    pads = [covering(v, a.tiles, n) for v, a, n in zip(views, plan.axes, x.shape[1:-1], strict=True)]
    edges = covering(first, plan.grid[1] * plan.rows, rows)
    if plan.grid[1] > 1:
        rows, pads[0] = (plan.rows + first.overhang) * row, (0, 0)
    sizes = (plan.images, rows, *x.shape[2:-1], channels)

    def read(i: Array) -> Array:
        block, starts = x, plan.place(i, row, len(views), last)
        if plan.grid[1] > 1:
            block = slice_padded(x, starts, sizes, edges)
        elif plan.blocks > 1:
            block = lax.dynamic_slice(x, starts, sizes)
        return split_tiles(views, pad_or_crop(block, pads).astype(dtype))

    return read


def covering(view: View, tiles: int, size: int) -> tuple[int, int]:
    """Padding that makes an axis of `size` samples what `tiles` tiles read."""
    return -view.first, (tiles + view.overhang) * view.step * view.dilation - size + view.first


def split_tiles(views: Sequence[View], x: Array) -> Array:
    """`[n, *S, C]` as `[n, (T, step, D)..., C]`: the D residue classes of a dilated axis lie side by side."""
    shape = [x.shape[0]]
    for view, size in zip(views, x.shape[1:-1], strict=True):
        shape += [size // (view.step * view.dilation), view.step, view.dilation][: view.tile_axes + 1]
    return x.reshape(*shape, x.shape[-1])


def join_tiles(views: Sequence[View], y: Array) -> Array:
    """`[n, (T, step, D)..., O]` as `[n, *S, O]`, the inverse of `split_tiles`."""
    sizes, start = [], 1
    for view in views:
        stop = start + view.tile_axes + 1
        sizes.append(math.prod(y.shape[start:stop]))
        start = stop
    return y.reshape(y.shape[0], *sizes, y.shape[-1])


def multiply_planes(problem: ConvProblem, v: Planes, u: Planes, adjoint: bool) -> Planes:
    """V . U summed over C: `[P..., n, (T, D)..., C] [P..., C, O] -> [P, n T D, O]`, flat.

    With `adjoint` U is `[P..., O, C]`.
    """

    def multiply(v: Array, u: Array) -> Array:
        flat_u = u.reshape(-1, *u.shape[-2:])
        flat_v = v.reshape(flat_u.shape[0], -1, v.shape[-1])
        return contract(problem, flat_v, flat_u, (((2,), (2 if adjoint else 1,)), ((0,), (0,))))

    return side_by_side(lambda operands: jax.tree.map(multiply, *operands), (v, u))


def correlate_planes(problem: ConvProblem, v: Planes, h: Planes) -> Planes:
    """V . H summed over tiles: `[P..., n, (T, D)..., C] [P..., n, (T, D)..., O] -> [P..., C, O]`."""
    leading = max(1, problem.rank - 1)

    def correlate(v: Array, h: Array) -> Array:
        products = v.shape[:leading]
        flat_v, flat_h = (a.reshape(math.prod(products), -1, a.shape[-1]) for a in (v, h))
        du = contract(problem, flat_v, flat_h, (((1,), (1,)), ((0,), (0,))))
        return du.reshape(*products, v.shape[-1], h.shape[-1])

    return side_by_side(lambda operands: jax.tree.map(correlate, *operands), (v, h))


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Floating-point or complex channels, two to 32 taps in the phases of some axis."""
    del pass_
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
    if taps > MAX_TAPS:
        return f"it has no transform for {taps} taps, at most {MAX_TAPS}"
    products = tile_products(problem)
    if products > MAX_TILE_PRODUCTS:
        return f"its tiles would have {products} products, at most {MAX_TILE_PRODUCTS}"
    return None


ALGORITHM = Algorithm(
    "winograd",
    supports,
    group_by_group(forward),
    group_by_group(kernel_grad),
    group_by_group(input_grad),
    takes_dilated_input=True,
)
