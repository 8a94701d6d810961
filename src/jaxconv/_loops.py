"""Loops whose steps use every thread of a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

# Of a small loop XLA's CPU backend makes one function, which one thread runs, unless the loop holds what such
# a function may not. 0.12 takes every loop for small: sums of taps over blocks of images took 1.3 to 1.6
# times as long (2026-11-28, jaxlib 0.12.0.1, AMD EPYC Zen 4, two threads).
IN_ONE_FUNCTION = jax.__version_info__ >= (0, 12)


def loop(count: Any, step: Callable[[Array, Any], Any], start: Any) -> Any:
    """`lax.fori_loop` from 0 to `count`."""
    return lax.fori_loop(0, count, lambda i, carry: step(in_threads(i), carry), start)


def map_in_loop(function: Callable[[Any], Any], stacks: Any) -> Any:
    """`lax.map`."""
    count = jax.tree.leaves(stacks)[0].shape[0]
    if not (IN_ONE_FUNCTION and count):
        return lax.map(function, stacks)

    def step(i: Array) -> Any:
        i = in_threads(i)
        return function(jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), stacks))

    return lax.map(step, jnp.arange(count))


def in_threads(i: Array) -> Array:
    """i, integers that tell what a step of a loop reads, from a sort, which such a function may not hold."""
    if not IN_ONE_FUNCTION or jax.default_backend() != "cpu":
        return i
    return lax.sort(jnp.stack([i, i]), dimension=0)[0]
