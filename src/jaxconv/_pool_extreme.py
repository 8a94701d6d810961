"""Max and min pooling: every output keeps the number of the tap that won, and its gradient goes there (T11).

    y[n, m, c] = max_k x[n, m s + k d - lo, c]        k*[n, m, c] = the first tap that attains it
    dx[n, i, c] = sum over (m, k) with m s + k d - lo = i and k*[n, m, c] = k of dy[n, m, c]

Routing dy by fixed winners is linear; its transpose collects each output's winning tap. The two are each
other's derivative, which closes the rule under every order of reverse mode.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._pool_geometry import Stage, diagonals, first_real_taps, live_taps, stages
from ._pool_linear import accumulator
from ._pool_taps import fence, spread, stored, tap
from ._window import Window


@dataclasses.dataclass(frozen=True, slots=True)
class ExtremePool:
    """The maximum over `windows`, or the minimum."""

    windows: tuple[Window, ...]
    minimum: bool = False

    def apply(self, x: Array, hand_derived: bool) -> Array:
        """x `[N, *S, C]` pooled."""
        dtype = x.dtype
        x = widened(x, self.minimum)
        for stage in self.stages():
            x, _ = extreme(stage, self.minimum, x, hand_derived)
        return x.astype(dtype)

    def stages(self) -> Iterator[Stage]:
        """The passes that make up the pooling, in order."""
        for chains in stages(self.windows, overlapping=True):
            yield from itertools.chain(*chains)


def widened(x: Array, minimum: bool) -> Array:
    """bfloat16 and float16 as float32, so that gradients are added there and rounded once.

    Floats without an infinity stay: float32's, as padding, could not be cast back.
    """
    if worst(x.dtype, minimum) in (math.inf, -math.inf):
        return x.astype(accumulator(x.dtype))
    return x


def extreme(stage: Stage, minimum: bool, x: Array, hand_derived: bool) -> tuple[Array, Array]:
    """The extreme tap of every output and its number."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return values(stage, minimum, x), winners_of(stage, minimum, x)
    if hand_derived:
        return _extreme(stage, minimum, x)
    # A selection of fixed taps: JAX differentiates it in either mode.
    winners = winners_of(stage, minimum, lax.stop_gradient(x))
    return collect(stage, winners, x, worst(x.dtype, minimum)), winners


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _extreme(stage: Stage, minimum: bool, x: Array) -> tuple[Array, Array]:
    return values(stage, minimum, x), winners_of(stage, minimum, x)


def _extreme_fwd(stage: Stage, minimum: bool, x: Array) -> tuple[tuple[Array, Array], Array]:
    y, winners = _extreme(stage, minimum, x)
    return (y, winners), winners


def _extreme_bwd(stage: Stage, minimum: bool, winners: Array, cotangents: tuple[Array, Any]) -> tuple[Array]:
    del minimum
    dy, _ = cotangents
    return (_routed(stage, True, winners, dy),)


_extreme.defvjp(_extreme_fwd, _extreme_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _routed(stage: Stage, to_samples: bool, winners: Array, a: Array) -> Array:
    return route(stage, winners, a) if to_samples else collect(stage, winners, a, 0)


def _routed_fwd(stage: Stage, to_samples: bool, winners: Array, a: Array) -> tuple[Array, Array]:
    return _routed(stage, to_samples, winners, a), winners


def _routed_bwd(stage: Stage, to_samples: bool, winners: Array, c: Array) -> tuple[None, Array]:
    return None, _routed(stage, not to_samples, winners, c)


_routed.defvjp(_routed_fwd, _routed_bwd)


def values(stage: Stage, minimum: bool, x: Array) -> Array:
    """The extreme tap of every output."""
    fill = worst(x.dtype, minimum)
    taps = [tap(x, stage, index, fill) for _, index in live_taps(stage)]
    if not taps:
        return jnp.full(_output_shape(stage, x), fill, x.dtype)
    return fence(functools.reduce(lax.min if minimum else lax.max, taps))


def winners_of(stage: Stage, minimum: bool, x: Array) -> Array:
    """The number of the tap that wins, uint8 `[N, *M, C]`: of equal taps the first, of NaNs too."""
    # The barrier, and that taps enter by `_reversed`, keep them single: the loop that makes the values would
    # share them otherwise, and here a comparison and a selection would.
    x = lax.optimization_barrier(x)
    best, winners = None, jnp.zeros(_output_shape(stage, x), jnp.int32)
    for number, index in live_taps(stage):
        candidate = _reversed(tap(x, stage, index, worst(x.dtype, minimum)))
        numbers = jnp.full_like(winners, number)
        if best is None:
            best, winners = candidate, numbers
            continue
        stays = (best >= candidate) if minimum else (best <= candidate)
        if jnp.issubdtype(x.dtype, jnp.floating):
            stays |= jnp.isnan(best)
        best = lax.select(stays, best, candidate)
        winners = lax.select(stays, winners, numbers)
    return fence(_on_samples(stage, winners).astype(jnp.uint8))


def _reversed(x: Array) -> Array:
    """x in an order that is turned round: negative numbers, complemented integers and booleans."""
    return lax.neg(x) if jnp.issubdtype(x.dtype, jnp.floating) else lax.bitwise_not(x)


def _on_samples(stage: Stage, winners: Array) -> Array:
    """Winners moved from padding to the first sample: padding ties only where all is the lowest value."""
    firsts = [first_real_taps(w) for w in stage]
    if not any(k for axis in firsts for k in axis):
        return winners
    total = jnp.zeros((1,) * winners.ndim, jnp.int32)
    for axis, (first, window) in enumerate(zip(firsts, stage, strict=True), start=1):
        column = jnp.asarray(first, jnp.int32)
        others = [a for a in range(winners.ndim) if a != axis]
        total = total * jnp.int32(window.size) + lax.expand_dims(column, others)
    return jnp.maximum(winners, total)


def route(stage: Stage, winners: Array, dy: Array) -> Array:
    """dy `[N, *M, C]` sent to each output's winner: `[N, *S, C]`."""

    def term(taps: Any, winners: Array, dy: Array) -> Array:
        return jnp.where(winners.astype(jnp.int32) == taps, dy, jnp.zeros((), dy.dtype))

    if all(len(diagonals(w)) == 1 for w in stage):
        winners = stored(winners)
    return fence(spread(stage, (winners, dy), term))


def collect(stage: Stage, winners: Array, a: Array, fill: Any) -> Array:
    """Of a `[N, *S, C]` each output's winning tap: `[N, *M, C]`."""
    y = jnp.full(winners.shape, fill, a.dtype)
    for number, index in live_taps(stage):
        won = winners == jnp.uint8(number)
        y = lax.select(won, tap(a, stage, index, fill), y)
    return fence(y)


def worst(dtype: Any, minimum: bool) -> Any:
    """The identity of the maximum (or minimum): what padding holds."""
    dtype = jnp.dtype(dtype)
    if dtype == jnp.bool_:
        return minimum
    if jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        return info.max if minimum else info.min
    bound = jnp.finfo(dtype)
    infinite = math.inf if minimum else -math.inf
    # Some 8-bit floats have no infinity; there the extreme finite number is the identity.
    if np.isinf(np.asarray(infinite).astype(dtype)):
        return infinite
    return float(bound.max if minimum else bound.min)


def _output_shape(stage: Stage, x: Array) -> tuple[int, ...]:
    return (x.shape[0], *(w.out_size for w in stage), x.shape[-1])
