"""Direct: one contraction over channels per tap, and the products added where they belong.

    z_k[i, o]   = sum_c x[i, c] w[k, c, o]                       every input meets tap k, no copy of x
    y[m, o]     = sum_k z_k[m s + k d - lo, o]                   shifted slices, one fused sum     (T2, T5)
    dw[k, c, o] = sum_n sum_m x[n, m s + k d - lo, c] g[n, m, o]                                   (T7)

Multiplying before shifting leaves the taps to an elementwise sum, which XLA vectorises, where patches would
be copied (kn2row; Vasudevan, Anderson and Gregg 2017, arXiv:1704.04428). With a stride, tap k meets only the
inputs of its own residue class, so the classes are multiplied apart.

Cost: one multiply-add per input and tap, a few more than one per pair that meets. Error: that of a plain sum.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array, lax

from .._contract import correlate_channels, multiply_channels
from .._loops import in_threads, map_in_loop
from .._patches import (
    Tap,
    all_taps,
    dynamic_tap_slice,
    pad_to_windows,
    residues,
    sum_tree,
    tap_slice,
    zeros,
)
from .._problem import ConvProblem, Pass, accumulator
from ._blocks import block_limit, forward_in_blocks, kernel_grad_in_blocks, plan_blocks
from ._record import Algorithm

# Beyond this many taps a loop replaces the unrolled sum: compile time grows with every unrolled tap.
MAX_UNROLLED_TAPS = 64

# Products of one block. They are written once and read once; 8 MB lie in the last-level cache.
BLOCK_BYTES = 8 << 20


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    if problem.taps > MAX_UNROLLED_TAPS:
        return _forward_loop(problem, pad_to_windows(x, problem.windows), w)
    if problem.rank == 0:
        return multiply_channels(problem, x, w)
    columns = math.prod(w.in_size + w.lo + w.hi for w in problem.windows[1:])
    row_bytes = columns * problem.taps * problem.out_channels * 4
    blocks = plan_blocks(problem, row_bytes, block_limit(BLOCK_BYTES, problem.sized().io_bytes()))
    return forward_in_blocks(problem, blocks, x, lambda part, block: _shifted_sum(part, block, w))


def _shifted_sum(problem: ConvProblem, x: Array, w: Array) -> Array:
    """sum_k z_k shifted by k, over unpadded windows."""
    terms = []
    for tap in all_taps(problem.kernel_size):
        starts, offsets = _residue(problem, tap)
        inputs = residues(x, 1, starts, problem.strides)
        terms.append(_crop(multiply_channels(problem, inputs, w[tap]), offsets, problem.output_size))
    return sum_tree(terms)


def _residue(problem: ConvProblem, tap: Tap) -> tuple[list[int], list[int]]:
    """The residue class of the inputs that a tap meets, and where in it the first output reads."""
    pairs = [divmod(k * w.dilation, w.stride) for k, w in zip(tap, problem.windows, strict=True)]
    return [start for _, start in pairs], [offset for offset, _ in pairs]


def _crop(z: Array, offsets: list[int], sizes: tuple[int, ...]) -> Array:
    stops = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    return lax.slice(z, [0, *offsets, 0], [z.shape[0], *stops, z.shape[-1]])


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    if problem.taps > MAX_UNROLLED_TAPS:
        return _kernel_grad_loop(problem, pad_to_windows(x, problem.windows), g)
    if problem.rank == 0:
        return correlate_channels(problem, x, g)
    row_bytes = math.prod(problem.output_size[1:]) * problem.taps * problem.in_channels * 4
    blocks = plan_blocks(problem, row_bytes, block_limit(BLOCK_BYTES, problem.sized().io_bytes()))
    return kernel_grad_in_blocks(problem, blocks, x, g, _tap_products)


def _tap_products(problem: ConvProblem, x: Array, g: Array) -> Array:
    taps = all_taps(problem.kernel_size)
    dw = [correlate_channels(problem, tap_slice(x, problem.windows, t), g) for t in taps]
    return jnp.stack(dw).reshape(problem.kernel_shape)


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


ALGORITHM = Algorithm("direct", supports, forward, kernel_grad)
