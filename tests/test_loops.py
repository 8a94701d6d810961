"""Loops in the algorithms: what XLA's CPU backend makes of them, and `map_in_loop`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv import _loops
from jaxconv._loops import loop, map_in_loop
from test_shard_map import BLOCKED

IN_ONE_FUNCTION = 'xla_cpu_small_call="true"'


def program(function: Any, *shapes: tuple[int, ...]) -> str:
    """What XLA compiles, of zeros."""
    return jax.jit(function).lower(*(jnp.zeros(s, jnp.float32) for s in shapes)).compile().as_text()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators have no threads to lose")
@pytest.mark.parametrize("algorithm", BLOCKED)
def test_no_loop_becomes_a_function_of_one_thread(algorithm: str) -> None:
    x, w = BLOCKED[algorithm]
    groups = x[-1] // w[-2]

    def gradients(x: Any, w: Any) -> Any:
        y, back = jax.vjp(lambda x, w: jaxconv.conv(x, w, groups=groups, algorithm=algorithm), x, w)
        return y, back(y)

    text = program(gradients, x, w)
    assert " while(" in text
    assert IN_ONE_FUNCTION not in text


@pytest.mark.skipif(not _loops.IN_ONE_FUNCTION, reason="earlier versions leave a large loop as it is")
def test_xla_still_takes_a_large_loop_for_a_small_one() -> None:
    """Once it no longer does, `_loops` can go."""

    def total(x: Any) -> Any:
        rows = jax.lax.dynamic_slice_in_dim
        return jax.lax.fori_loop(0, 8, lambda i, y: y + rows(x, i, 1), jnp.zeros((1, 1_000_000), x.dtype))

    assert IN_ONE_FUNCTION in program(total, (8, 1_000_000))


@pytest.mark.parametrize("sorts", [False, True])
def test_values(sorts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loops, "IN_ONE_FUNCTION", sorts)
    stack = np.arange(12.0).reshape(4, 3)
    weighted = loop(4, lambda i, total: total + i * jnp.asarray(stack)[i], jnp.zeros(3))
    np.testing.assert_array_equal(weighted, sum(i * row for i, row in enumerate(stack)))
    doubled = map_in_loop(lambda pair: 2 * pair[0], (jnp.asarray(stack), None))
    np.testing.assert_array_equal(doubled, 2 * stack)
    assert map_in_loop(lambda row: row.sum(), jnp.zeros((0, 3))).shape == (0,)
