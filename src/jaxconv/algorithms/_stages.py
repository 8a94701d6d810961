"""Stages of a pass that the compiler must keep apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._patches import zeros


def separately(stage: Callable[[Any], Any], x: Any) -> Any:
    """`stage(x)`, written to memory before anything reads it, its operands kept until it ends.

    XLA's CPU backend would fuse two stages and compute the first anew for every element of the second. It
    drops optimization barriers before it fuses, but no fusion leaves the branch of a conditional. Dots in a
    branch run side by side: none waits for the memory of another one's operand.
    """
    if jax.default_backend() != "cpu":
        return stage(x)
    out = jax.eval_shape(stage, x)
    true = lax.optimization_barrier(jnp.bool_(True))
    return lax.cond(true, stage, lambda x: zeros_like(out, jax.tree.leaves(x)[0]), x)


def zeros_like(shapes: Any, alike: Array) -> Any:
    return jax.tree.map(lambda a: zeros(a.shape, a.dtype, alike), shapes)
