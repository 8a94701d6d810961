"""Grouped: many narrow convolutions at once, elementwise or as one batched product.

Lanes. With few channels per group the sum over them is short enough to be written out like the sum over taps,
and all groups lie side by side in one sum of outer products (`_outer_products.py`).

Products. Otherwise every group is a dense convolution of its own. In group-major order [G, N, *S, C/G] one
batched product multiplies the patches X of all groups by their kernels: Y = X W, dW^T = G^T X. In the order
[N, *S, G, C/G] a product would have to transpose its patches, which are larger than x by the number of taps.
Where y has fewer channels than x, its patches take their place in a kernel gradient (`_products.py`).

Cost: one multiply-add per pair that meets; no zero between groups is multiplied. Error: that of a plain sum.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from .._contract import contract
from .._dtypes import is_highest
from .._patches import flip_and_swap, kernel_grad_by_phases
from .._problem import ConvProblem, Pass
from ._bands import make_bands, patch_matrix
from ._blocks import Blocks, block_limit, forward_in_blocks, kernel_grad_in_blocks, plan_blocks
from ._lane_plan import is_unrolled
from ._outer_products import correlate_outer_products, count_terms, sum_outer_products
from ._products import lays_out_output
from ._record import Algorithm

# Terms T C/G of a forward pass on lanes, as raced on GPUs. CPUs take more of them there, by `outer`.
MAX_LANE_TERMS = 72
# Products (C/G) (O/G) per group of a kernel gradient on lanes: they are as many partial sums.
MAX_LANE_PRODUCTS = 256
# Bytes of patches per block, of all groups together.
BLOCK_BYTES = 4 << 20


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    if count_terms(problem, Pass.FORWARD) <= MAX_LANE_TERMS:
        return sum_outer_products(problem, x, w)
    return forward_by_products(problem, x, w)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    if is_on_lanes(problem):
        return correlate_outer_products(problem, x, g)
    if is_highest(problem.precision) or not lays_out_output(problem):
        return kernel_grad_by_products(problem, x, g)
    dw = kernel_grad_by_phases(problem.input_adjoint(), g, x, kernel_grad_by_products)
    return flip_and_swap(dw, problem.groups)


def is_on_lanes(problem: ConvProblem) -> bool:
    """Whether a kernel gradient is a sum of outer products."""
    return math.prod(problem.channels_per_group) <= MAX_LANE_PRODUCTS and is_unrolled(problem.windows)


def forward_by_products(problem: ConvProblem, x: Array, w: Array) -> Array:
    kernels = split_groups(problem, w).reshape(problem.groups, -1, problem.channels_per_group[1])

    def step(part: ConvProblem, x: Array) -> Array:
        y = contract(part, group_patches(part, x), kernels, (((2,), (1,)), ((0,), (0,))))
        return join_groups(y.reshape(part.groups, x.shape[0], *part.output_size, -1))

    return forward_in_blocks(problem, plan(problem), x, step)


def kernel_grad_by_products(problem: ConvProblem, x: Array, g: Array) -> Array:

    def step(part: ConvProblem, x: Array, g: Array) -> Array:
        columns = split_groups(part, g).reshape(part.groups, -1, part.channels_per_group[1])
        dw = contract(part, columns, group_patches(part, x), (((1,), (1,)), ((0,), (0,))))
        dw = jnp.swapaxes(dw, 1, 2).reshape(part.groups, *part.kernel_size, *part.channels_per_group)
        return join_groups(dw)

    return kernel_grad_in_blocks(problem, plan(problem), x, g, step)


def plan(problem: ConvProblem) -> Blocks:
    """Blocks whose patches take at most BLOCK_BYTES, or what x, w and y take together."""
    row_bytes = math.prod(problem.output_size[1:]) * problem.taps * problem.in_channels * 4
    return plan_blocks(problem, row_bytes, block_limit(BLOCK_BYTES, problem.sized().io_bytes()))


def group_patches(problem: ConvProblem, x: Array) -> Array:
    """Patches `[G, P, T C/G]` of the padded input."""
    x = split_groups(problem, x)
    images = x.reshape(-1, *x.shape[2:])
    patches = patch_matrix(problem, make_bands(problem, 1), images)
    return patches.reshape(problem.groups, -1, problem.taps * x.shape[-1])


def split_groups(problem: ConvProblem, a: Array) -> Array:
    """`[..., G c]` as `[G, ..., c]`."""
    return jnp.moveaxis(a.reshape(*a.shape[:-1], problem.groups, -1), -2, 0)


def join_groups(a: Array) -> Array:
    """`[G, ..., c]` as `[..., G c]`."""
    a = jnp.moveaxis(a, 0, -2)
    return a.reshape(*a.shape[:-2], -1)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """More groups than one."""
    del pass_
    if problem.rank == 0:
        return "grouped needs a spatial axis, got none"
    if problem.groups == 1:
        return "grouped needs more groups than one"
    return None


ALGORITHM = Algorithm("grouped", supports, forward, kernel_grad)
