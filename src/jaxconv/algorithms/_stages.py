"""Stages of a pass that the compiler must keep apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def separately(stage: Callable[[Any], Any], x: Any) -> Any:
    """`stage(x)`, written to memory before anything reads it.

    XLA's CPU backend would fuse two stages and compute the first anew for every element of the second. It
    drops optimization barriers before it fuses, but no fusion crosses a call that must not be inlined.
    """
    if jax.default_backend() != "cpu":
        return stage(x)

    @jax.jit
    def call(x: Any) -> Any:
        with set_xla_metadata(inlineable=None):  # what the stage calls is its own
            return stage(x)

    with set_xla_metadata(inlineable="false"):
        return call(x)


def side_by_side(stage: Callable[[Any], Any], x: Any) -> Any:
    """`stage(x)`, whose dots do not wait for the memory of one another's operands.

    In the branch of a conditional XLA keeps the operands until the branch ends, so that nothing orders the
    dots, and its CPU backend hands them to several threads.
    """
    if jax.default_backend() != "cpu":
        return stage(x)
    out = jax.eval_shape(stage, x)
    true = lax.optimization_barrier(jnp.bool_(True))
    return lax.cond(true, stage, lambda _: zeros_like(out), x)


def zeros_like(shapes: Any) -> Any:
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
