"""Small networks trained by two libraries, and what the tests of these share."""

from collections.abc import Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "bfloat16": 2e-2}


def array(*shape: int, dtype: str = "float64", seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def trained(apply: Any, parameters: Any, x: jax.Array, steps: int = 10) -> Any:
    """The parameters after some steps of Adam towards a fixed image of x's network."""
    optimizer = optax.adam(1e-2)

    def loss(parameters: Any) -> jax.Array:
        y = apply(parameters, x)
        return jnp.mean((jnp.tanh(y) - jnp.cos(jnp.arange(y.size).reshape(y.shape)).astype(y.dtype)) ** 2)

    def step(carry: Any, _: None) -> Any:
        parameters, state = carry
        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), value

    start = (parameters, optimizer.init(parameters))
    (after, _), losses = jax.jit(lambda start: jax.lax.scan(step, start, None, steps))(start)
    assert losses[-1] < losses[0]
    return after


def assert_same(got: Any, wanted: Any, dtype: str) -> None:
    tolerance = TOLERANCE[dtype]
    leaves = [jax.tree.leaves(tree) for tree in (got, wanted)]
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(*leaves, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(
            np.asarray(a, "float64"), np.asarray(b, "float64"), rtol=tolerance, atol=tolerance
        )


def mostly_slow(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Parameters of which the quick suite runs some: each network compiles twice."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


def train_nnx(first: Any, x: jax.Array) -> Any:
    from flax import nnx

    graph, state = nnx.split(first)
    return trained(lambda state, x: nnx.merge(graph, state)(x), state, x)
