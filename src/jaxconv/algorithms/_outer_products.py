"""Sums of outer products: a position's samples times rows of the kernel, one product per tap and channel.

x `[N, *S, C]` and w `[*K, C/G, G L]` give y `[N, *M, G L]`. On the lanes (r, o) of the output every term is
elementwise, with x broadcast along o, so that a few terms are one vectorised loop that reads x where it lies.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TypeAlias, cast

import jax.numpy as jnp
from jax import Array, lax

from .._loops import loop
from .._patches import Tap, all_taps, tap_slice, zeros
from .._problem import ConvProblem, Pass, accumulator
from .._window import Window
from ._blocks import (
    Blocks,
    array_bytes,
    block_limit,
    forward_in_blocks,
    is_large,
    kernel_grad_in_blocks,
    large_blocks,
    one_block,
    plan_blocks,
)
from ._lane_plan import MAX_COLUMN_TERMS, Lanes, is_unrolled
from ._lane_sums import add_in_chains, cached_terms, pad_axis, scale
from ._lanes import tap_gradients
from ._stages import apart

Term: TypeAlias = tuple[Tap, int]

# Terms of one fused sum. With fewer, y is read and written more often; with 24 and more, thin layers took 1.1
# to 1.5 times as long (2026-11-26, AMD EPYC Zen 4, as what follows). Those that the cache holds (`add_terms`)
# took 0.4 to 0.9 of the time of all of them on 512 and 1,024 lanes (2026-11-29).
FUSED_TERMS = 16
# Dense sums of so many terms are not padded: XLA vectorises them along positions where lanes are odd. They
# took 0.4 to 1.2 times the time of padded ones, mostly 0.7, in 120 shapes of 1 to 3 channels and 2 to 60
# lanes. One fused sum takes all the terms of so many lanes; 16 and 24 lanes took 1.1 to 1.25 times as long.
FEW_TERMS, FEW_LANES = 32, 15
# Terms that are all written out; each takes about 4 ms to compile.
MAX_TERMS = 400
# Terms of one turn of a loop, where there are more: depthwise layers of 225 to 961 taps took 0.62 to 0.95 of
# the time of turns of one fused sum, dense ones of 484 to 648 terms 0.8 to 1.03, and all up to 0.3 s longer
# to compile (18 layers, 2026-11-30, AMD EPYC Zen 4, AVX-512).
LOOP_TERMS = 100
# Rows of taps of a dense kernel gradient that are written out, and their terms; more are a loop over rows,
# copies of a thin x. Three rows took 0.45 to 0.86 of the time of such a loop and 0.9 to 1.8 times its compile
# time, five and seven rows 0.7 to 0.98 and 1.3 to 2.4 times (13 shapes of 1 to 16 channels, 2026-11-29, AMD
# EPYC Zen 4).
MAX_DENSE_ROWS, MAX_DENSE_TERMS = 3, 192
# Other lanes are padded to whole vectors: 6 and 30 took 1.4 and 1.6 times the time of 8 and 32. Fewer than
# the second are left to be vectorised along another axis.
VECTOR_LANES, LEAST_LANES = 8, 4
# Lanes that are padded, and the sums of a kernel gradient that are left to be added up, stay in cache block
# by block: whole images of 112 x 112 took 2 to 5 times as long.
BLOCK_BYTES = 3 << 20
# Times that an x is larger than y, from which a large one is read block by block: 0.39 of the time (30 random
# layers, 0.2 to 1.2), of an x of 11 to 13 MB 0.82 (19); with a larger y mostly 1.2 times as long (80, 0.4 to
# 2.9; 2026-11-30, AMD EPYC Zen 4, AVX-512).
LARGER = 2


def sum_outer_products(problem: ConvProblem, x: Array, w: Array) -> Array:
    """The forward pass."""
    acc = accumulator(problem)
    cout = problem.out_channels
    x, w = x.astype(acc), w.astype(acc)
    few = problem.groups == 1 and problem.taps * problem.in_channels <= FEW_TERMS
    lanes = cout if few or problem.groups > 1 else padded_lanes(cout)
    if lanes == cout:
        fused = FEW_TERMS if few and lanes <= FEW_LANES else FUSED_TERMS
        blocks = read_blocks(problem, fused)
        return forward_in_blocks(problem, blocks, x, lambda part, x: sum_terms(part, x, w, fused))
    w = pad_axis(w, w.ndim - 1, 0, lanes - cout)
    blocks = cached_blocks(problem, lanes)
    return forward_in_blocks(problem, blocks, x, lambda part, x: sum_terms(part, x, w)[..., :cout])


def read_blocks(problem: ConvProblem, fused: int) -> Blocks:
    """Blocks of a large x that stays in cache from one sum to the next, or one block of all.

    One thread copies a block of y to its place: where y is not far smaller than x nothing is won.
    """
    x_bytes, y_bytes = array_bytes(problem)
    terms = problem.taps * problem.channels_per_group[0]
    if terms <= fused or x_bytes < LARGER * y_bytes or not is_large(problem):
        return one_block(problem)
    return large_blocks(problem)


def padded_lanes(size: int) -> int:
    """The lanes that `size` output channels take."""
    return size if size < LEAST_LANES else -(-size // VECTOR_LANES) * VECTOR_LANES


def cached_blocks(problem: ConvProblem, values: int) -> Blocks:
    """Blocks that lay out `values` for each output position twice, two sums or parts and whole.

    These stay in cache, or take what x, w and y do 2.5 times.
    """
    row_bytes = math.prod(problem.output_size[1:]) * values * 8
    return plan_blocks(problem, row_bytes, block_limit(BLOCK_BYTES, 5 * problem.sized().io_bytes() // 2))


def sum_terms(problem: ConvProblem, x: Array, w: Array, fused: int = FUSED_TERMS) -> Array:
    """y from the padded x, `fused` terms at a time, all written out or some taps of an axis in a loop."""
    if problem.taps * problem.channels_per_group[0] > MAX_TERMS:
        return sum_in_loop(problem, x, w, fused)
    return add_terms(problem, all_terms(problem), fused, x, w)


def all_terms(problem: ConvProblem) -> list[Term]:
    """Every tap and channel of a group."""
    channels = range(problem.channels_per_group[0])
    return [(tap, channel) for tap in all_taps(problem.kernel_size) for channel in channels]


def add_terms(
    problem: ConvProblem, terms: list[Term], fused: int, x: Array, w: Array, y: Array | None = None
) -> Array:
    """y and the sum of `terms`, in equal parts that are summed apart, and that the L1 cache holds."""
    fused = min(fused, cached_terms(w.shape[-1] * w.dtype.itemsize))
    size = -(-len(terms) // -(-len(terms) // fused))
    for start in range(0, len(terms), size):
        y = apart(functools.partial(add_part, problem, terms[start : start + size]))(x, w, y)
    return cast(Array, y)


def add_part(problem: ConvProblem, terms: list[Term], x: Array, w: Array, y: Array | None) -> Array:
    """y and the sum of `terms`, one fused loop."""
    x = x.reshape(*x.shape[:-1], problem.groups, -1)
    w = w.reshape(*w.shape[:-1], problem.groups, -1)
    total = add_in_chains(
        [scale(tap_slice(x[..., c : c + 1], problem.windows, tap), w[*tap, c]) for tap, c in terms]
    )
    total = total.reshape(*total.shape[:-2], -1)
    return total if y is None else y + total


def sum_in_loop(problem: ConvProblem, x: Array, w: Array, fused: int) -> Array:
    """The same in a loop along the axis of most taps, over a few of them at a time."""
    axis = max(range(problem.rank), key=lambda i: problem.kernel_size[i])
    window = problem.windows[axis]
    across = problem.taps // window.size * problem.channels_per_group[0]
    count = taps_at_once(window.size, max(1, LOOP_TERMS // across))
    rest = window.size % count
    length = (window.out_size - 1) * window.stride + (count - 1) * window.dilation + 1
    windows = list(problem.windows)
    windows[axis] = dataclasses.replace(window, in_size=length, size=count, lo=0, hi=0)
    part = problem.with_windows(windows)

    def cut(k: Array, x: Array, w: Array) -> tuple[Array, Array]:
        x = lax.dynamic_slice_in_dim(x, k * window.dilation, length, axis + 1)
        return x, lax.dynamic_slice_in_dim(w, k, count, axis)

    def add_taps(i: Array, y: Array) -> Array:
        x_cut, w_cut = apart(cut)(rest + i * count, x, w)
        return add_terms(part, all_terms(part), fused, x_cut, w_cut, y)

    first = [(tap, channel) for tap, channel in all_terms(problem) if tap[axis] < rest]
    if first:
        y = add_terms(problem, first, fused, x, w)
    else:
        y = zeros((x.shape[0], *problem.output_size, w.shape[-1]), x.dtype, x)
    return loop(window.size // count, add_taps, y)


def taps_at_once(size: int, most: int) -> int:
    """As many taps up to `most` as leave few of `size` over, which are written out."""
    return max(range(1, min(size, most) + 1), key=lambda count: (count - size % count, count))


def correlate_outer_products(problem: ConvProblem, x: Array, g: Array) -> Array:
    """The kernel gradient, whose lanes are the products (r, c, o) of the channels in a group."""
    acc = accumulator(problem)
    x, g = x.astype(acc), g.astype(acc)
    step = functools.partial(lane_gradients, unrolled=is_written_out(problem))
    return kernel_grad_in_blocks(problem, gradient_blocks(problem), x, g, step)


def gradient_blocks(problem: ConvProblem) -> Blocks:
    """Blocks of a kernel gradient: of large groups, and of dense sums that are left to be added up.

    Large groups took 0.3 to 1.3 times as long as in one block (48 layers, 2026-11-30, AMD EPYC Zen 4,
    AVX-512).
    """
    if problem.groups > 1 and is_large(problem):
        return large_blocks(problem)
    if is_written_out(problem):
        return one_block(problem, padded=False)
    cin, _ = problem.channels_per_group
    return cached_blocks(problem, problem.kernel_size[-1] * cin * problem.out_channels // MAX_COLUMN_TERMS)


def lane_gradients(problem: ConvProblem, x: Array, g: Array, unrolled: bool) -> Array:
    """The kernel gradient, rows of taps written out or in a loop."""
    dw = tap_gradients(problem.windows, product_lanes(problem), x, g, unrolled)
    return jnp.moveaxis(dw, -3, -2).reshape(problem.kernel_shape)


def is_written_out(problem: ConvProblem) -> bool:
    """Whether all rows of taps of a kernel gradient are written out: of groups, and few of a dense one."""
    rows, columns = problem.taps // problem.kernel_size[-1], problem.output_size[-1]
    few = rows <= MAX_DENSE_ROWS and rows * columns <= MAX_DENSE_TERMS
    return is_unrolled(problem.windows) and (problem.groups > 1 or few)


def product_lanes(problem: ConvProblem) -> Lanes:
    """The lanes of x and g whose products are those of all channels in a group."""
    cin, cout = problem.channels_per_group
    return (problem.groups, cin, 1), (problem.groups, 1, cout)


def count_terms(problem: ConvProblem, pass_: Pass) -> int:
    """Taps and channels that an output, or a sample of an input gradient, sums over.

    A stride leaves an input sample one residue class of the taps, as a dilated input leaves an output.
    """
    cin, cout = problem.channels_per_group
    return math.prod(taps_of_axes(problem, pass_)) * (cout if pass_ is Pass.INPUT_GRAD else cin)


def count_row_terms(problem: ConvProblem, pass_: Pass) -> int:
    """Those of one tap on the axis that has most."""
    return count_terms(problem, pass_) // max(taps_of_axes(problem, pass_))


def taps_of_axes(problem: ConvProblem, pass_: Pass) -> list[int]:
    steps = problem.strides if pass_ is Pass.INPUT_GRAD else problem.input_dilation
    return [taps_met(window, step) for window, step in zip(problem.windows, steps, strict=True)]


def taps_met(window: Window, step: int) -> int:
    """The most taps k with k d = r modulo `step`."""
    return -(-window.size // (step // math.gcd(step, window.dilation)))
