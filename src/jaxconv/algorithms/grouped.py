"""Grouped: many narrow convolutions at once, on planes of groups or as one batched product.

Planes. With few channels in each of many groups, the groups are the lanes of elementwise sums, and a grouped
convolution is C/G times O/G depthwise ones:

    y[n, m, o, g]     = sum_k sum_c x[n, m s + k d - lo, c, g] w[k, c, o, g]                      (T2, T5)
    dw[k, c, o, g]    = sum_n sum_m x[n, m s + k d - lo, c, g] g[n, m, o, g]                      (T7)

Products. Otherwise every group is a dense convolution of its own. In group-major order [G, N, *S, C/G] one
batched product multiplies the patches X of all groups by their kernels: Y = X W, dW = X^T G. (In the order
[N, *S, G, C/G] a product has to transpose its patches, T times the input.)

Error: that of a plain sum. No zero between groups is multiplied.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array, lax

from .._patches import all_taps, contract, pad_to_windows, stack_taps, tap_slice
from .._problem import ConvProblem, Pass, accumulator
from ._blocks import Blocks, forward_in_blocks, kernel_grad_in_blocks, plan_blocks
from ._lanes import add_up, materialise, row_gradients, with_padding
from ._record import Algorithm

# Groups that fill the vector units, and terms of one fused sum that still compiles to vectorised code.
MIN_PLANE_GROUPS, MAX_PLANE_TERMS = 16, 72
# Products of an input and an output channel per group that a kernel gradient on planes takes: each leaves
# partial sums of its own.
MAX_PLANE_PRODUCTS = 16
# Rows of taps that a kernel gradient on planes writes out.
MAX_PLANE_ROWS = 9
# Bytes of patches per block, of all groups together.
BLOCK_BYTES = 4 << 20


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    if problem.groups >= MIN_PLANE_GROUPS and problem.taps * problem.channels_per_group[0] <= MAX_PLANE_TERMS:
        return forward_on_planes(problem, x, w)
    return forward_by_products(problem, x, w)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    if (
        problem.groups >= MIN_PLANE_GROUPS
        and math.prod(problem.channels_per_group) <= MAX_PLANE_PRODUCTS
        and math.prod(problem.kernel_size[:-1]) <= MAX_PLANE_ROWS
    ):
        return kernel_grad_on_planes(problem, x, g)
    return kernel_grad_by_products(problem, x, g)


def to_planes(problem: ConvProblem, a: Array) -> Array:
    """`[..., G * c]` as `[..., c, G]`."""
    return jnp.swapaxes(a.reshape(*a.shape[:-1], problem.groups, -1), -1, -2)


def from_planes(a: Array) -> Array:
    """The inverse of `to_planes`."""
    return jnp.swapaxes(a, -1, -2).reshape(*a.shape[:-2], -1)


def forward_on_planes(problem: ConvProblem, x: Array, w: Array) -> Array:
    acc = accumulator(problem)
    cin, cout = problem.channels_per_group
    x, windows = with_padding(x, problem.windows)
    x = x.reshape(*x.shape[:-1], problem.groups, cin)
    w = materialise(w.astype(acc).reshape(*problem.kernel_size, cin, problem.groups, cout), 0)

    def term(tap: tuple[int, ...], channel: int) -> Array:
        x_tap = tap_slice(x, windows, tap)[..., channel : channel + 1]
        return x_tap.astype(acc) * w[(*tap, channel)]

    y = add_up(term(tap, channel) for tap in all_taps(problem.kernel_size) for channel in range(cin))
    return y.reshape(*y.shape[:-2], -1)


def kernel_grad_on_planes(problem: ConvProblem, x: Array, g: Array) -> Array:
    x = x.reshape(*x.shape[:-1], problem.groups, -1, 1)
    g = g.reshape(*g.shape[:-1], problem.groups, 1, problem.channels_per_group[1])
    dw = row_gradients(problem.windows, x, g, accumulator(problem))
    return jnp.moveaxis(dw, -3, -2).reshape(problem.kernel_shape)


def split_groups(problem: ConvProblem, a: Array) -> Array:
    """`[..., G * c]` as `[G, ..., c]`."""
    return jnp.moveaxis(a.reshape(*a.shape[:-1], problem.groups, -1), -2, 0)


def join_groups(a: Array) -> Array:
    """The inverse of `split_groups`."""
    a = jnp.moveaxis(a, 0, -2)
    return a.reshape(*a.shape[:-2], -1)


def forward_by_products(problem: ConvProblem, x: Array, w: Array) -> Array:
    x = pad_to_windows(x, problem.windows)
    kernels = split_groups(problem, w).reshape(problem.groups, -1, problem.channels_per_group[1])

    def step(part: ConvProblem, x: Array) -> Array:
        y = contract(part, group_patches(part, x), kernels, (((2,), (1,)), ((0,), (0,))))
        return join_groups(y.reshape(part.groups, *x.shape[:1], *part.output_size, -1))

    return forward_in_blocks(problem, plan(problem), x, step)


def kernel_grad_by_products(problem: ConvProblem, x: Array, g: Array) -> Array:
    x = pad_to_windows(x, problem.windows)

    def step(part: ConvProblem, x: Array, g: Array) -> Array:
        gradients = split_groups(part, g).reshape(part.groups, -1, part.channels_per_group[1])
        dw = contract(part, gradients, group_patches(part, x), (((1,), (1,)), ((0,), (0,))))
        dw = jnp.swapaxes(dw, 1, 2).reshape(part.groups, *part.kernel_size, *part.channels_per_group)
        return join_groups(dw)

    return kernel_grad_in_blocks(problem, plan(problem), x, g, step)


def group_patches(problem: ConvProblem, x: Array) -> Array:
    """Patches `[G, P, T C/G]` of the padded input, groups first."""
    groups, batch = problem.groups, x.shape[0]
    x = split_groups(problem, x)
    x = x.reshape(groups * batch, *x.shape[2:])
    return stack_taps(x, problem.windows).reshape(groups, -1, problem.taps * x.shape[-1])


def plan(problem: ConvProblem) -> Blocks:
    """Blocks whose patches take at most BLOCK_BYTES, or what x, w and y take together."""
    row_bytes = math.prod(problem.output_size[1:]) * problem.taps * problem.in_channels * 4
    return plan_blocks(problem, row_bytes, min(BLOCK_BYTES, problem.io_bytes()))


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """More groups than one."""
    del pass_
    if problem.rank == 0:
        return "grouped needs a spatial axis, got none"
    if problem.groups == 1:
        return "grouped needs more groups than one"
    return None


ALGORITHM = Algorithm("grouped", supports, forward, kernel_grad)
