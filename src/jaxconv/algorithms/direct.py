"""Direct: one contraction over channels per tap, of the samples that it meets.

Tap k meets the samples i = m s + k d - lo that lie in x, none of the padding, and their outputs m:

    y[m, o]     = sum_k z_k[m, o],   z_k[m, o] = sum_c x[m s + k d - lo, c] w[k, c, o]     (T2, T5)
    dw[k, c, o] = sum_n sum_m x[n, m s + k d - lo, c] g[n, m, o]                           (T7)

Multiplying first leaves the taps to an elementwise sum, which XLA vectorises, where patches would be copied
(kn2row; Vasudevan, Anderson and Gregg 2017, arXiv:1704.04428).

Cost: one multiply-add per sample and tap that meet. Error: that of a plain sum.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jax import Array, lax

from .._contract import correlate_channels, multiply_channels, unmultiply_channels
from .._loops import in_threads, map_in_loop
from .._patches import (
    Tap,
    all_taps,
    cut,
    dynamic_tap_slice,
    flip_and_swap,
    forward_by_phases,
    pad_to_windows,
    restore,
    sum_tree,
    zeros,
)
from .._problem import ConvProblem, Pass, accumulator
from ._blocks import Blocks, block_limit, forward_in_blocks, kernel_grad_in_blocks, plan_images
from ._record import Algorithm
from ._stages import apart

TapProduct: TypeAlias = Callable[[ConvProblem, Tap, Array, Array], Array]

# Beyond this many taps a loop replaces the unrolled sum: compile time grows with every unrolled tap.
MAX_UNROLLED_TAPS = 64

# What the taps of one block read and their products; 8 MB lie in the last-level cache.
BLOCK_BYTES = 8 << 20


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    if problem.rank == 0:
        return multiply_channels(problem, x, w)
    if problem.taps > MAX_UNROLLED_TAPS:
        return _forward_loop(problem, pad_to_windows(x, problem.windows), w)
    return sum_in_blocks(problem, x, w, multiply)


def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    """The adjoint's forward pass; without strides it reads w where it lies, which may be larger than x."""
    adjoint = problem.input_adjoint()
    if problem.rank == 0 or not adjoint.is_dense or problem.taps > MAX_UNROLLED_TAPS:
        return forward_by_phases(adjoint, g, flip_and_swap(w, problem.groups), forward)
    return sum_in_blocks(adjoint, g, w, unmultiply)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    if problem.rank == 0:
        return correlate_channels(problem, x, g)
    if problem.taps > MAX_UNROLLED_TAPS:
        return _kernel_grad_loop(problem, pad_to_windows(x, problem.windows), g)
    limit = block_bytes(problem)
    return kernel_grad_in_blocks(problem, plan(problem), x, g, functools.partial(tap_gradients, limit))


def plan(problem: ConvProblem) -> Blocks:
    """Blocks of images whose taps lay out `block_bytes`, or one image each if that is more."""
    return plan_images(problem, image_bytes(problem), block_bytes(problem))


def image_bytes(problem: ConvProblem) -> int:
    """What all taps read of one image, and their products."""
    pairs = math.prod(sum(len(w.outputs_at(k)) for k in range(w.size)) for w in problem.windows)
    return pairs * (problem.in_channels + problem.out_channels) * 4


def block_bytes(problem: ConvProblem) -> int:
    return block_limit(BLOCK_BYTES, 5 * problem.sized().io_bytes() // 2)


def stages(problem: ConvProblem, limit: int) -> list[list[Tap]]:
    """The taps of a block that meet a sample, as many at a time as lay out `limit` bytes, or one by one."""
    taps = [tap for tap in all_taps(problem.kernel_size) if all(outputs_at(problem, tap))]
    cin, _ = problem.channels_per_group
    laid_out = problem.batch * image_bytes(problem) + len(taps) * cin * problem.out_channels * 4
    count = max(1, len(taps) * limit // max(1, laid_out))
    return [taps[i : i + count] for i in range(0, len(taps), count)]


def sum_in_blocks(problem: ConvProblem, x: Array, w: Array, product: TapProduct) -> Array:
    """y, the sum of all z_k."""
    limit = block_bytes(problem)

    def step(part: ConvProblem, x: Array) -> Array:
        y = None
        for taps in stages(part, limit):
            y = apart(functools.partial(add_products, part, taps, product))(x, w, y)
        return zeros((x.shape[0], *part.output_shape[1:]), accumulator(part), x) if y is None else y

    return forward_in_blocks(problem, plan(problem), x, step)


def add_products(
    problem: ConvProblem, taps: Sequence[Tap], product: TapProduct, x: Array, w: Array, y: Array | None
) -> Array:
    """y and the z_k of some taps, each where its outputs lie, one fused sum."""
    terms = [] if y is None else [y]
    for tap in taps:
        z = product(problem, tap, cut(x, 1, inputs_at(problem, tap)), w)
        terms.append(restore(z, 1, outputs_at(problem, tap), problem.output_size))
    return sum_tree(terms)


def multiply(problem: ConvProblem, tap: Tap, x: Array, w: Array) -> Array:
    """What a tap of w adds: `[N, *M, C] -> [N, *M, O]`."""
    return multiply_channels(problem, x, w[tap])


def unmultiply(adjoint: ConvProblem, tap: Tap, g: Array, w: Array) -> Array:
    """What a tap of the flipped and swapped w adds in the adjoint problem (T8)."""
    mirrored = tuple(size - 1 - k for size, k in zip(adjoint.kernel_size, tap, strict=True))
    return unmultiply_channels(adjoint, g, w[mirrored])


def tap_gradients(limit: int, problem: ConvProblem, x: Array, g: Array) -> Array:
    """dw of a block of unpadded images, in stages; taps that meet no sample have none."""
    none = jnp.zeros(problem.kernel_shape[-2:], accumulator(problem))
    dw = dict.fromkeys(all_taps(problem.kernel_size), none)
    for taps in stages(problem, limit):
        dw |= zip(taps, apart(functools.partial(correlate_taps, problem, taps))(x, g), strict=True)
    return jnp.stack(list(dw.values())).reshape(problem.kernel_shape)


def correlate_taps(problem: ConvProblem, taps: Sequence[Tap], x: Array, g: Array) -> list[Array]:
    """`[C/G, O]` of some taps."""
    ranges = [(inputs_at(problem, tap), outputs_at(problem, tap)) for tap in taps]
    return [correlate_channels(problem, cut(x, 1, met), cut(g, 1, outputs)) for met, outputs in ranges]


def inputs_at(problem: ConvProblem, tap: Tap) -> list[range]:
    """The samples that a tap falls on."""
    return [w.inputs_at(k) for w, k in zip(problem.windows, tap, strict=True)]


def outputs_at(problem: ConvProblem, tap: Tap) -> list[range]:
    """The outputs that these samples meet."""
    return [w.outputs_at(k) for w, k in zip(problem.windows, tap, strict=True)]


def _forward_loop(problem: ConvProblem, x: Array, w: Array) -> Array:
    flat = w.reshape(problem.taps, *problem.kernel_shape[-2:])

    def add_tap(y: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
        index, w_tap = tap
        x_tap = dynamic_tap_slice(x, problem.windows, list(in_threads(index)))
        return y + multiply_channels(problem, x_tap, w_tap), None

    y = zeros((x.shape[0], *problem.output_shape[1:]), accumulator(problem), x)
    return lax.scan(add_tap, y, (_tap_indices(problem), flat))[0]


def _kernel_grad_loop(problem: ConvProblem, x: Array, g: Array) -> Array:
    def tap_grad(index: Array) -> Array:
        return correlate_channels(problem, dynamic_tap_slice(x, problem.windows, list(index)), g)

    return map_in_loop(tap_grad, _tap_indices(problem)).reshape(problem.kernel_shape)


def _tap_indices(problem: ConvProblem) -> Array:
    """`[T, rank]`, row-major."""
    return jnp.stack(jnp.unravel_index(jnp.arange(problem.taps), problem.kernel_size), 1)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Every problem."""
    del problem, pass_
    return None


ALGORITHM = Algorithm("direct", supports, forward, kernel_grad, input_grad)
