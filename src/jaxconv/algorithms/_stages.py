"""Stages of a pass: apart, side by side, or added up in a loop."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import get_abstract_mesh, use_abstract_mesh

from .._loops import loop
from .._patches import zeros


def apart(function: Callable[..., Any], static_argnums: tuple[int, ...] = ()) -> Callable[..., Any]:
    """`function`, its result written to memory before anything reads it; traced once for equal arguments.

    XLA's CPU backend would fuse two stages and compute the first anew for every element of the second. It
    drops optimization barriers before it fuses, but no fusion crosses a call that must not be inlined.
    """

    @functools.partial(jax.jit, static_argnums=static_argnums)
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        with set_xla_metadata(inlineable=None):  # what the function calls is its own
            return function(*args)

    @functools.wraps(function)
    def apart_on_cpu(*args: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*args)
        # Where JAX traces a rule of `custom_vjp` no mesh is an empty mesh, and elsewhere None: with two names
        # for the same context a stage would be traced twice.
        mesh = use_abstract_mesh(get_abstract_mesh())
        with mesh, set_xla_metadata(inlineable="false"):
            return call(*args)

    return apart_on_cpu


def separately(stage: Callable[[Any], Any], x: Any) -> Any:
    """`stage(x)`, a stage used once, `apart` from the others."""
    return apart(stage)(x)


def side_by_side(stage: Callable[[Any], Any], x: Any) -> Any:
    """`stage(x)`, whose dots do not wait for the memory of one another's operands.

    In the branch of a conditional XLA keeps the operands until the branch ends, so that nothing orders the
    dots, and its CPU backend hands them to several threads.
    """
    if jax.default_backend() != "cpu":
        return stage(x)
    out = jax.eval_shape(stage, x)
    true = lax.optimization_barrier(jnp.bool_(True))
    return lax.cond(true, stage, lambda x: zeros_like(out, jax.tree.leaves(x)[0]), x)


def add_in_loop(count: Any, term: Callable[[Any], Any], alike: Array) -> Any:
    """The sum of `term(i)`, arrays or trees of them."""
    if count == 1:
        return term(0)
    term = jax.jit(term)  # traced once
    start = zeros_like(jax.eval_shape(term, jnp.int32(0)), alike)
    return loop(count, lambda i, total: jax.tree.map(operator.add, total, term(i)), start)


def zeros_like(shapes: Any, alike: Array) -> Any:
    return jax.tree.map(lambda a: zeros(a.shape, a.dtype, alike), shapes)
