"""Fused sums on lanes: one vectorised loop along the last axis of its operands."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._cpu_cache import first_level_times
from .._patches import Tap, all_taps

# Partial sums of one fused sum that do not wait for one another.
CHAINS = 4
# Bytes of a measured CPU's L1 cache, and of one line in each of its sets.
CACHE_BYTES, SET_BYTES = 32 << 10, 4 << 10


def cached_terms(lane_bytes: int) -> int:
    """Terms of a sum whose two factors, lanes of so many bytes each, may lie in the L1 cache side by side.

    Where the bytes are a multiple of a large power of two, all of them lie in a few of its sets. Other
    platforms hide such loads behind more threads.
    """
    shared = math.gcd(lane_bytes, SET_BYTES) if jax.default_backend() == "cpu" else 1
    return int(CACHE_BYTES * first_level_times()) // 2 // shared


def scale(x: Array, w: Array) -> Array:
    """x `[..., *L]` times w `[*L]`, which may broadcast against each other."""
    shape = jnp.broadcast_shapes(x.shape, w.shape)
    if x.shape != shape:
        x = lax.broadcast_in_dim(x, shape, range(x.ndim))
    return lax.mul(x, lax.broadcast_in_dim(w, shape, range(x.ndim - w.ndim, x.ndim)))


def add_up(terms: Iterable[Array]) -> Array:
    return functools.reduce(lax.add, terms)


def add_in_chains(terms: Sequence[Array]) -> Array:
    """The sum of terms as partial sums that do not wait for one another."""
    return add_up([add_up(terms[i::CHAINS]) for i in range(min(CHAINS, len(terms)))])


def by_tap(w: Array, rank: int) -> dict[Tap, Array]:
    """The lanes `[*L]` of every tap of w `[*K, *L]`, read once however many sums they join."""
    flat = w.reshape(-1, *w.shape[rank:])
    taps = all_taps(w.shape[:rank])
    return {tap: lax.index_in_dim(flat, i, 0, keepdims=False) for i, tap in enumerate(taps)}


def pad_axis(x: Array, axis: int, lo: int, hi: int) -> Array:
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (lo, hi, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)
