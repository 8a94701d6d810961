"""Sums of outer products: a position's samples times rows of the kernel, one product per tap and channel.

x `[N, *S, C]` and w `[*K, C/G, G L]` give y `[N, *M, G L]`. On the lanes (r, o) of the output every term is
elementwise, with x broadcast along o, so that a few terms are one vectorised loop that reads x where it lies.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from .._patches import Tap, all_taps, pad_to_windows, tap_slice
from .._problem import ConvProblem, Pass, accumulator
from .._window import Window
from ._blocks import Blocks, block_limit, forward_in_blocks, kernel_grad_in_blocks, plan_blocks
from ._lanes import MAX_TERMS, add_in_chains, is_unrolled, pad_axis, scale, tap_gradients
from ._stages import apart

# Terms of one fused sum. With fewer, y is read and written more often; with 24 and more, thin layers took 1.1
# to 1.5 times as long (2026-11-26, AMD EPYC Zen 4, as what follows).
FUSED_TERMS = 16
# Lanes are padded to whole vectors: 6 and 30 took 1.4 and 1.6 times the time of 8 and 32. Fewer than the
# second are left to be vectorised along another axis.
VECTOR_LANES, LEAST_LANES = 8, 4
# Lanes that are padded, and the sums of a kernel gradient that are left to be added up, stay in cache block
# by block: whole images of 112 x 112 took 2 to 5 times as long.
BLOCK_BYTES = 3 << 19


def sum_outer_products(problem: ConvProblem, x: Array, w: Array) -> Array:
    """The forward pass."""
    acc = accumulator(problem)
    cout = problem.out_channels
    x, w = pad_to_windows(x.astype(acc), problem.windows), w.astype(acc)
    lanes = padded_lanes(cout) if problem.groups == 1 else cout
    if lanes == cout:
        return sum_terms(problem, x, w)
    w = pad_axis(w, w.ndim - 1, 0, lanes - cout)
    blocks = cached_blocks(problem, lanes)
    return forward_in_blocks(problem, blocks, x, lambda part, x: sum_terms(part, x, w)[..., :cout])


def padded_lanes(size: int) -> int:
    return size if size < LEAST_LANES else -(-size // VECTOR_LANES) * VECTOR_LANES


def cached_blocks(problem: ConvProblem, values: int) -> Blocks:
    """Blocks that lay out `values` for each output position: what stays in cache, or x, w and y 2.5 times."""
    row_bytes = math.prod(problem.output_size[1:]) * values * 4
    return plan_blocks(problem, row_bytes, block_limit(BLOCK_BYTES, 5 * problem.sized().io_bytes() // 2))


def sum_terms(problem: ConvProblem, x: Array, w: Array, fused: int = FUSED_TERMS) -> Array:
    """y from the padded x, `fused` terms at a time."""
    channels = range(problem.channels_per_group[0])
    terms = [(tap, channel) for tap in all_taps(problem.kernel_size) for channel in channels]
    size = -(-len(terms) // -(-len(terms) // fused))
    y = apart(functools.partial(first_terms, problem, terms[:size]))(x, w)
    for start in range(size, len(terms), size):
        y = apart(functools.partial(more_terms, problem, terms[start : start + size]))(x, w, y)
    return y


def first_terms(problem: ConvProblem, terms: Sequence[tuple[Tap, int]], x: Array, w: Array) -> Array:
    """The sum of some terms."""
    x = x.reshape(*x.shape[:-1], problem.groups, -1)
    w = w.reshape(*w.shape[:-1], problem.groups, -1)
    y = add_in_chains(
        [scale(tap_slice(x[..., c : c + 1], problem.windows, tap), w[*tap, c]) for tap, c in terms]
    )
    return y.reshape(*y.shape[:-2], -1)


def more_terms(problem: ConvProblem, terms: Sequence[tuple[Tap, int]], x: Array, w: Array, y: Array) -> Array:
    return y + first_terms(problem, terms, x, w)


def correlate_outer_products(problem: ConvProblem, x: Array, g: Array) -> Array:
    """The kernel gradient, whose lanes are the products (r, c, o) of the channels in a group."""
    acc = accumulator(problem)
    cin, cout = problem.channels_per_group
    x, g = x.astype(acc), g.astype(acc)
    if problem.groups > 1 and is_unrolled(problem.windows):
        return lane_gradients(problem, x, g, unrolled=True)
    # Copies of a thin x, one for each row of taps, cost less than to compile every row.
    x = pad_to_windows(x, problem.windows)
    blocks = cached_blocks(problem, problem.kernel_size[-1] * cin * problem.groups * cout // MAX_TERMS)
    return kernel_grad_in_blocks(problem, blocks, x, g, functools.partial(lane_gradients, unrolled=False))


def lane_gradients(problem: ConvProblem, x: Array, g: Array, unrolled: bool) -> Array:
    x = x.reshape(*x.shape[:-1], problem.groups, -1, 1)
    g = g.reshape(*g.shape[:-1], problem.groups, 1, problem.channels_per_group[1])
    dw = tap_gradients(problem.windows, x, g, unrolled)
    return jnp.moveaxis(dw, -3, -2).reshape(problem.kernel_shape)


def count_terms(problem: ConvProblem, pass_: Pass) -> int:
    """Taps and channels that an output, or a sample of an input gradient, sums over.

    A stride leaves an input sample one residue class of the taps, as a dilated input leaves an output.
    """
    cin, cout = problem.channels_per_group
    if pass_ is Pass.INPUT_GRAD:
        return cout * math.prod(taps_met(w, w.stride) for w in problem.windows)
    return cin * math.prod(taps_met(w, w.base_dilation) for w in problem.windows)


def taps_met(window: Window, step: int) -> int:
    """The most taps k with k d = r modulo `step`."""
    return -(-window.size // (step // math.gcd(step, window.dilation)))
