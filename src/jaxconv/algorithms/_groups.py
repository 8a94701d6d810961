"""Groups one after another, for algorithms that know dense convolutions alone.

Each operand of each pass, and its result, has the groups side by side on its last axis: x and dx their C/G
channels, w `[*K, C/G, O]` and dw, y and g their O/G. A loop cuts a group out of both operands and puts its
result where it belongs; unrolled it would compile once for each group.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._loops import loop
from .._patches import zeros
from .._problem import ConvProblem
from ._record import PassFunction


def group_by_group(function: PassFunction) -> PassFunction:
    """`function`, which computes a pass of a dense problem, for problems of any number of groups."""

    @functools.wraps(function)
    def grouped(problem: ConvProblem, a: Array, b: Array) -> Array:
        if problem.groups == 1:
            return function(problem, a, b)
        one = problem.one_group()

        def take(operand: Array, i: Array) -> Array:
            width = operand.shape[-1] // problem.groups
            return lax.dynamic_slice_in_dim(operand, i * width, width, operand.ndim - 1)

        @jax.jit  # traced once
        def compute(i: Array) -> Array:
            return function(one, take(a, i), take(b, i))

        def put(i: Array, result: Array) -> Array:
            part = compute(i)
            return lax.dynamic_update_slice_in_dim(result, part, i * part.shape[-1], result.ndim - 1)

        part = jax.eval_shape(compute, jnp.int32(0))
        result = zeros((*part.shape[:-1], part.shape[-1] * problem.groups), part.dtype, a)
        return loop(problem.groups, put, result)

    return grouped
