"""GEMM: patches times matrix, built and multiplied block by block so that patches stay in cache.

With the taps of every output side by side (im2col; Chellapilla et al. 2006),
P[m, (k, c)] = x[m s + k d - lo, c]:

    y = P w,    dw = P^T g                                                   (T5, T7)

Whole-batch patches would cost T times the input in memory traffic; a block of images, or of rows of one
image, costs a few hundred kilobytes that never leave the cache. Error: that of a plain sum.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from .._patches import contract, pad_to_windows, stack_taps
from .._problem import ConvProblem, Pass, accumulator
from ._record import Algorithm

# Bytes of patches per block. Larger blocks amortise the dot's start, smaller ones stay in the L2 cache.
BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A grid over batch and output rows: `images` whole examples, or `rows` of the first axis of one."""

    images: int
    rows: int
    grid: tuple[int, int]

    @property
    def count(self) -> int:
        return self.grid[0] * self.grid[1]


def plan_blocks(problem: ConvProblem) -> Blocks:
    """The fewest equal blocks whose patches fit in BLOCK_BYTES."""
    rows = problem.output_size[0]
    itemsize = jnp.dtype(problem.x_dtype).itemsize
    row_bytes = math.prod(problem.output_size[1:]) * problem.taps * problem.in_channels * itemsize
    if not isinstance(problem.batch, int):
        return Blocks(1, rows, (problem.batch, 1))
    if row_bytes * rows <= BLOCK_BYTES:
        count = -(-problem.batch * row_bytes * rows // BLOCK_BYTES)
        images = -(-problem.batch // count)
        return Blocks(images, rows, (-(-problem.batch // images), 1))
    count = -(-row_bytes * rows // BLOCK_BYTES)
    block_rows = -(-rows // min(count, rows))
    return Blocks(1, block_rows, (problem.batch, -(-rows // block_rows)))


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    x = pad_to_windows(x, problem.windows)
    if problem.taps == 1:
        return multiply_patches(problem, stack_taps(x, problem.windows), w)
    blocks = plan_blocks(problem)

    def add_block(i: Array, y: Array) -> Array:
        patches, start = block_patches(problem, blocks, x, i)
        y_block = multiply_patches(problem, patches, w).astype(y.dtype)
        return lax.dynamic_update_slice(y, y_block, start)

    y = jnp.zeros((x.shape[0], *problem.output_shape[1:]), problem.y_dtype)
    return loop(blocks.count, add_block, y)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    x = pad_to_windows(x, problem.windows)
    if problem.taps == 1:
        return correlate_patches(problem, stack_taps(x, problem.windows), g)
    blocks = plan_blocks(problem)

    def add_block(i: Array, dw: Array) -> Array:
        patches, start = block_patches(problem, blocks, x, i)
        g_block = lax.dynamic_slice(g, start, (*patches.shape[:-1], g.shape[-1]))
        return dw + correlate_patches(problem, patches, mask_overlap(blocks, g_block, i, start, g.shape))

    return loop(blocks.count, add_block, jnp.zeros(problem.kernel_shape, accumulator(problem)))


def loop(count: Any, body: Callable[[Array, Array], Array], init: Array) -> Array:
    """`lax.fori_loop`, unless there is but one turn."""
    if isinstance(count, int) and count == 1:
        return body(jnp.int32(0), init)
    return lax.fori_loop(0, count, body, init)


def block_patches(
    problem: ConvProblem, blocks: Blocks, x: Array, i: Array
) -> tuple[Array, tuple[Array, ...]]:
    """Patches `[images, rows, *M, T * C]` of block i of the padded input, and where they start in the output.

    The last blocks start early enough to stay inside, so that every block has one shape.
    """
    first, *others = problem.windows
    image = jnp.minimum(i // blocks.grid[1] * blocks.images, x.shape[0] - blocks.images)
    row = jnp.minimum(i % blocks.grid[1] * blocks.rows, first.out_size - blocks.rows)
    reach = (blocks.rows - 1) * first.stride + first.extent
    zeros = (jnp.zeros_like(i),) * problem.rank
    x_block = lax.dynamic_slice(x, (image, row * first.stride, *zeros), (blocks.images, reach, *x.shape[2:]))
    window = dataclasses.replace(first, in_size=reach, lo=0, hi=0)
    return stack_taps(x_block, (window, *others)), (image, row, *zeros)


def mask_overlap(
    blocks: Blocks, g: Array, i: Array, start: tuple[Array, ...], whole: tuple[int, ...]
) -> Array:
    """Zero what an earlier block has already summed: the last block on an axis may reach back."""
    firsts = (i // blocks.grid[1] * blocks.images, i % blocks.grid[1] * blocks.rows)
    for axis, size in enumerate((blocks.images, blocks.rows)):
        if whole[axis] % size:
            index = start[axis] + lax.broadcasted_iota(i.dtype, g.shape, axis)
            g = jnp.where(index >= firsts[axis], g, jnp.zeros_like(g))
    return g


def multiply_patches(problem: ConvProblem, patches: Array, w: Array) -> Array:
    """`[P, T C] [T C, O] -> [P, O]`; per group `[P, T, G, C/G] [T, C/G, G, O/G] -> [G, P, O/G]`."""
    *space, width = patches.shape
    cin, cout = problem.channels_per_group
    if problem.groups == 1:
        w = w.reshape(width, cout)
        return contract(problem, patches, w, (((len(space),), (0,)), ((), ())))
    p = patches.reshape(math.prod(space), problem.taps, problem.groups, cin)
    w = w.reshape(problem.taps, cin, problem.groups, cout)
    y = contract(problem, p, w, (((1, 3), (0, 1)), ((2,), (2,))))
    return jnp.swapaxes(y, 0, 1).reshape(*space, -1)


def correlate_patches(problem: ConvProblem, patches: Array, g: Array) -> Array:
    """`[P, T C] [P, O] -> [*K, C, O]`; per group `[P, T, G, C/G] [P, G, O/G] -> [G, T, C/G, O/G]`."""
    points = math.prod(patches.shape[:-1])
    cin, cout = problem.channels_per_group
    if problem.groups == 1:
        p, g = patches.reshape(points, -1), g.reshape(points, -1)
        return contract(problem, p, g, (((0,), (0,)), ((), ()))).reshape(problem.kernel_shape)
    p = patches.reshape(points, problem.taps, problem.groups, cin)
    g = g.reshape(points, problem.groups, cout)
    dw = contract(problem, p, g, (((0,), (0,)), ((2,), (1,))))
    return jnp.moveaxis(dw, 0, 2).reshape(problem.kernel_shape)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Every problem."""
    del problem, pass_
    return None


ALGORITHM = Algorithm("gemm", supports, forward, kernel_grad)
