"""Sum and average pooling: a linear map and its adjoint, each the derivative of the other (T11).

    y[n, m, c] = sum_k x[n, m s + k d - lo, c] / count[m]
    dx[n, i, c] = sum of dy[n, m, c] / count[m] over (m, k) with m s + k d - lo = i

The counts are integers known before any array is seen.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._pool_geometry import Shape, Stage, live_taps, stages
from ._pool_taps import fence, spread, tap
from ._window import Window


@dataclasses.dataclass(frozen=True, slots=True)
class LinearPool:
    """Sum over `windows` divided by `divisor`: an integer, or the outer product of integers per axis."""

    windows: tuple[Window, ...]
    divisor: int | tuple[Shape, ...] = 1

    def apply(self, x: Array, hand_derived: bool) -> Array:
        """x `[N, *S, C]` pooled."""
        if hand_derived and jnp.issubdtype(x.dtype, jnp.inexact):
            return linear_pool(self, False, x)
        return run_linear(self, False, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def linear_pool(pool: LinearPool, adjoint: bool, x: Array) -> Array:
    """The pooling or, where `adjoint`, its transpose, with the hand-derived reverse rule."""
    return run_linear(pool, adjoint, x)


def _linear_fwd(pool: LinearPool, adjoint: bool, x: Array) -> tuple[Array, None]:
    return linear_pool(pool, adjoint, x), None


def _linear_bwd(pool: LinearPool, adjoint: bool, _: None, dy: Array) -> tuple[Array]:
    return (linear_pool(pool, not adjoint, dy),)


linear_pool.defvjp(_linear_fwd, _linear_bwd)


def run_linear(pool: LinearPool, adjoint: bool, x: Array) -> Array:
    """The pooling or its transpose; sums are kept in the accumulator's dtype and rounded once."""
    y = x.astype(accumulator(x.dtype))
    uniform = isinstance(pool.divisor, int)
    if adjoint and not uniform:
        y = _divide(y, pool.divisor)
    steps = stages(pool.windows, overlapping=False)
    for number, chains in enumerate(reversed(steps) if adjoint else steps):
        y = fence(y) if number else y
        y = functools.reduce(lax.add, [_run_chain(chain, adjoint, y) for chain in chains])
    if uniform or not adjoint:
        y = _divide(y, pool.divisor)
    return fence(y.astype(x.dtype))


def _run_chain(chain: Sequence[Stage], adjoint: bool, x: Array) -> Array:
    for number, stage in enumerate(reversed(chain) if adjoint else chain):
        x = fence(x) if number else x
        x = spread(stage, (x,), _even_share) if adjoint else _sum_taps(stage, x)
    return x


def _sum_taps(stage: Stage, x: Array) -> Array:
    taps = [tap(x, stage, index, 0) for _, index in live_taps(stage)]
    if not taps:
        return jnp.zeros((x.shape[0], *(w.out_size for w in stage), x.shape[-1]), x.dtype)
    return functools.reduce(lax.add, taps)


def _even_share(taps: Any, dy: Array) -> Array:
    shape = jnp.broadcast_shapes(taps.shape, dy.shape)
    shares = jnp.broadcast_to(dy, shape)
    if (taps >= 0).all():
        return shares
    return jnp.where(taps >= 0, shares, jnp.zeros((), dy.dtype))


def _divide(y: Array, divisor: int | tuple[Shape, ...]) -> Array:
    if isinstance(divisor, int):
        return y if divisor == 1 else y / jnp.asarray(divisor, y.dtype)
    total = jnp.ones((1,) * y.ndim, y.dtype)
    for axis, counts in enumerate(divisor, start=1):
        # A window with nothing to count has sum 0; its average is 0, as in PyTorch's kernels.
        column = jnp.asarray([max(1, n) for n in counts], y.dtype)
        total = total * lax.expand_dims(column, [a for a in range(y.ndim) if a != axis])
    return y / total


def accumulator(dtype: Any) -> jnp.dtype:
    """float32 for narrower floats; else the dtype itself, so that integer sums wrap as lax's do."""
    if jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4:
        return jnp.dtype("float32")
    return jnp.dtype(dtype)


def divisor_of(per_axis: Sequence[Shape]) -> int | tuple[Shape, ...]:
    """Counts per axis as one integer where every window counts alike."""
    if any(len(set(axis)) > 1 or 0 in axis for axis in per_axis):
        return tuple(per_axis)
    return math.prod(axis[0] for axis in per_axis if axis)
