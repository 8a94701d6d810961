"""The three passes as products of patches and matrix, block by block, for any width of the bands.

With X the patches of all outputs and B the kernel as a banded matrix (`_bands.py`):

    Y = X B,    dB = X^T G,    dX = G B^T                                                  (T5, T7, T8)

dB summed along its band is dw, and dX added where segments overlap is dx; neither flips nor dilates anything.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from .._patches import contract, flip_and_swap, pad_or_crop, pad_to_windows
from .._problem import ConvProblem
from ._bands import (
    Bands,
    band_matrix,
    from_output_rows,
    make_bands,
    output_rows,
    overlap_add,
    patch_matrix,
    sum_bands,
)
from ._blocks import (
    Blocks,
    block_limit,
    block_problem,
    forward_in_blocks,
    input_grad_in_blocks,
    kernel_grad_in_blocks,
    plan_blocks,
)

# Patches of one block: a few megabytes lie in the second- and third-level caches.
BLOCK_BYTES = 4 << 20

# Outputs per input channel from which on copied patches are cheaper than added products.
GATHER_RATIO = 2


def forward(problem: ConvProblem, x: Array, w: Array, outputs: int) -> Array:
    """y, with bands of `outputs` neighbours."""
    if is_scattered(problem):
        # With a stride of 1 this is an input gradient of the adjoint problem.
        return input_grad(problem.input_adjoint(), x, flip_and_swap(w, problem.groups), outputs)
    x = pad_to_windows(x, problem.windows)
    blocks, bands = plan(problem, outputs)
    matrix = band_matrix(bands, w)

    def step(part: ConvProblem, x: Array) -> Array:
        return from_output_rows(bands, multiply_patches(part, patch_matrix(part, bands, x), matrix))

    return forward_in_blocks(problem, blocks, x, step)


def kernel_grad(problem: ConvProblem, x: Array, g: Array, outputs: int) -> Array:
    """dw, with bands of `outputs` neighbours."""
    x = pad_to_windows(x, problem.windows)
    blocks, bands = plan(problem, outputs)

    def step(part: ConvProblem, x: Array, g: Array) -> Array:
        matrix = correlate_patches(part, patch_matrix(part, bands, x), output_rows(bands, g))
        return sum_bands(part, bands, matrix)

    return kernel_grad_in_blocks(problem, blocks, x, g, step)


def input_grad(problem: ConvProblem, g: Array, w: Array, outputs: int) -> Array:
    """dx, with bands of `outputs` neighbours."""
    blocks, bands = plan(problem, outputs)
    matrix = band_matrix(bands, w)

    def step(part: ConvProblem, g: Array) -> Array:
        return overlap_add(part, bands, unmultiply_patches(part, output_rows(bands, g), matrix))

    return crop_to_input(problem, input_grad_in_blocks(problem, blocks, g, step))


def is_scattered(problem: ConvProblem) -> bool:
    """Whether to add up T O products of each input rather than copy T C samples for each output.

    An elementwise sum is vectorised and threaded, a copy of patches is neither.
    """
    cin, cout = problem.channels_per_group
    return all(w.is_unit for w in problem.windows) and cout <= GATHER_RATIO * cin


def plan(problem: ConvProblem, outputs: int) -> tuple[Blocks, Bands]:
    """Blocks whose patches take at most BLOCK_BYTES, or what x, w and y take 2.5 times, and their bands."""
    bands = make_bands(problem, outputs)
    depth = problem.taps // bands.window.size * bands.segment * problem.in_channels
    row_bytes = math.prod(problem.output_size[1:]) * depth * 4 // bands.outputs
    blocks = plan_blocks(problem, row_bytes, block_limit(BLOCK_BYTES, 5 * problem.sized().io_bytes() // 2))
    # With one spatial axis the rows of a block are the axis of its bands.
    return blocks, make_bands(block_problem(problem, blocks), bands.outputs)


def crop_to_input(problem: ConvProblem, dx: Array) -> Array:
    """The gradient of the input proper: its padding cut off, zeros where no output read."""
    exact = [w.exact() for w in problem.windows]
    return pad_or_crop(dx, [(-w.lo, -w.hi) for w in exact])


def multiply_patches(problem: ConvProblem, patches: Array, w: Array) -> Array:
    """`[P, T C] [T C, O] -> [P, O]`; per group `[P, T, G, C/G] [T, C/G, G, O/G] -> [G, P, O/G]`."""
    *space, width = patches.shape
    cin, cout = problem.channels_per_group
    points = math.prod(space)
    if problem.groups == 1:
        p, w = patches.reshape(points, width), w.reshape(width, -1)
        return contract(problem, p, w, (((1,), (0,)), ((), ()))).reshape(*space, -1)
    p = patches.reshape(points, -1, problem.groups, cin)
    w = w.reshape(-1, cin, problem.groups, cout)
    y = contract(problem, p, w, (((1, 3), (0, 1)), ((2,), (2,))))
    return jnp.swapaxes(y, 0, 1).reshape(*space, -1)


def correlate_patches(problem: ConvProblem, patches: Array, g: Array) -> Array:
    """`[P, T C] [P, O] -> [T C, O]`; per group `[P, T, G, C/G] [P, G, O/G] -> [G, T, C/G, O/G]`."""
    points = math.prod(patches.shape[:-1])
    cin, cout = problem.channels_per_group
    if problem.groups == 1:
        # Of the two transposes that a sum over rows can take, that of the narrower matrix is cheaper.
        p, g = patches.reshape(points, -1), g.reshape(points, -1)
        if g.shape[1] < p.shape[1]:
            return contract(problem, g, p, (((0,), (0,)), ((), ()))).T
        return contract(problem, p, g, (((0,), (0,)), ((), ())))
    p = patches.reshape(points, -1, problem.groups, cin)
    g = g.reshape(points, problem.groups, cout)
    dw = contract(problem, p, g, (((0,), (0,)), ((2,), (1,))))
    return jnp.moveaxis(dw, 0, 2).reshape(-1, problem.out_channels)


def unmultiply_patches(problem: ConvProblem, g: Array, w: Array) -> Array:
    """`[P, O] [T C, O] -> [P, T C]`; per group `[P, G, O/G] [T, C/G, G, O/G] -> [G, P, T, C/G]`."""
    *space, width = g.shape
    cin, cout = problem.channels_per_group
    points = math.prod(space)
    if problem.groups == 1:
        g, w = g.reshape(points, width), w.reshape(-1, width)
        return contract(problem, g, w, (((1,), (1,)), ((), ()))).reshape(*space, -1)
    g = g.reshape(points, problem.groups, cout)
    w = w.reshape(-1, cin, problem.groups, cout)
    p = contract(problem, g, w, (((2,), (3,)), ((1,), (2,))))
    return jnp.moveaxis(p, 0, 2).reshape(*space, -1)
