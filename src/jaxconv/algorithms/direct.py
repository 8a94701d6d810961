"""Direct: one contraction over channels per tap, the textbook sum.

    y[n, m, o]  = sum_k sum_c x[n, m s + k d - lo, c] w[k, c, o]           (T2, T5)
    dw[k, c, o] = sum_n sum_m x[n, m s + k d - lo, c] g[n, m, o]           (T7)

Cost: one multiply-add per pair that meets, no workspace beyond the padded input. Error: that of a plain sum.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from .._patches import (
    all_taps,
    correlate_channels,
    dynamic_tap_slice,
    multiply_channels,
    pad_to_windows,
    tap_slice,
)
from .._problem import ConvProblem, Pass, accumulator
from ._record import Algorithm

# Beyond this many taps a loop replaces the unrolled sum: compile time grows with every unrolled tap.
MAX_UNROLLED_TAPS = 64


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    x = pad_to_windows(x, problem.windows)
    if problem.taps > MAX_UNROLLED_TAPS:
        return _forward_loop(problem, x, w)
    taps = all_taps(problem.kernel_size)
    return sum_tree([multiply_channels(problem, tap_slice(x, problem.windows, t), w[t]) for t in taps])


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    x = pad_to_windows(x, problem.windows)
    if problem.taps > MAX_UNROLLED_TAPS:
        return _kernel_grad_loop(problem, x, g)
    taps = all_taps(problem.kernel_size)
    dw = [correlate_channels(problem, tap_slice(x, problem.windows, t), g) for t in taps]
    return jnp.stack(dw).reshape(problem.kernel_shape)


def _forward_loop(problem: ConvProblem, x: Array, w: Array) -> Array:
    flat = w.reshape(problem.taps, *problem.kernel_shape[-2:])
    indices = jnp.stack(jnp.unravel_index(jnp.arange(problem.taps), problem.kernel_size), 1)

    def add_tap(y: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
        index, w_tap = tap
        x_tap = dynamic_tap_slice(x, problem.windows, list(index))
        return y + multiply_channels(problem, x_tap, w_tap), None

    y = jnp.zeros((x.shape[0], *problem.output_shape[1:]), accumulator(problem))
    return lax.scan(add_tap, y, (indices, flat))[0]


def _kernel_grad_loop(problem: ConvProblem, x: Array, g: Array) -> Array:
    indices = jnp.stack(jnp.unravel_index(jnp.arange(problem.taps), problem.kernel_size), 1)

    def tap_grad(index: Array) -> Array:
        return correlate_channels(problem, dynamic_tap_slice(x, problem.windows, list(index)), g)

    return lax.map(tap_grad, indices).reshape(problem.kernel_shape)


def sum_tree(terms: list[Array]) -> Array:
    """Pairwise sum: its rounding error grows with log2 of the number of terms."""
    while len(terms) > 1:
        odd = terms[len(terms) // 2 * 2 :]
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    return terms[0]


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Every problem."""
    del problem, pass_
    return None


ALGORITHM = Algorithm("direct", supports, forward, kernel_grad)
