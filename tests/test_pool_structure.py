"""What the pools' jaxprs may hold, and how the pools behave under JAX's transformations."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import core

from jaxconv._pool import avg_pool, max_pool, min_pool, sum_pool
from oracle_pool import Axis
from pool_cases import CASES, PoolCase

POOLS = pytest.mark.parametrize("pool", [max_pool, min_pool, avg_pool, sum_pool], ids=lambda p: p.__name__)
WINDOWED = (
    "reduce_window", "select_and", "conv_general", "scatter", "gather", "sort", "reduce_", "arg",
    "cum", "while", "scan",
)  # fmt: skip


def equations(jaxpr: core.Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for item in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(item, core.ClosedJaxpr):
                    yield from equations(item.jaxpr)
                elif isinstance(item, core.Jaxpr):
                    yield from equations(item)


def program(function: Callable[..., Any], *arrays: Any) -> list[Any]:
    return list(equations(jax.make_jaxpr(function)(*arrays).jaxpr))


def orders(pool: Any, case: PoolCase) -> list[Callable[[Any], Any]]:
    """The pool, its gradient and the gradient of that."""

    def energy(x: Any) -> jax.Array:
        return (pool(x, **case.options) ** 2).sum()

    return [
        lambda x: pool(x, **case.options),
        jax.grad(energy),
        jax.grad(lambda x: (jax.grad(energy)(x) ** 2).sum()),
    ]


@POOLS
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[7], CASES[17], CASES[20]], ids=str)
def test_slices_pads_and_elementwise_work_alone(pool: Any, case: PoolCase) -> None:
    for order, function in enumerate(orders(pool, case)):
        found = program(function, case.normal())
        names = {str(e.primitive) for e in found}
        assert "slice" in names
        # The energies above add up their squares; the pools themselves reduce nothing.
        allowed = {"reduce_sum"} if order else set()
        assert not {n for n in names - allowed if n.startswith(WINDOWED)}
        pads = [e.params["padding_config"] for e in found if str(e.primitive) == "pad"]
        assert all(lo >= 0 and hi >= 0 and inner == 0 for config in pads for lo, hi, inner in config)


def test_the_walk_sees_into_jit_and_custom_rules() -> None:
    def pooled(x: Any) -> jax.Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 1), (1, 2, 1), "VALID")

    found = program(jax.grad(lambda x: jax.jit(pooled)(x).sum()), np.zeros((1, 4, 1)))
    assert any(str(e.primitive).startswith("select_and") for e in found)


def test_the_winners_are_stored_as_bytes() -> None:
    for case in (CASES[2], CASES[17], CASES[20]):
        x = jnp.asarray(case.normal())
        _, pull_back = jax.vjp(lambda x: max_pool(x, **case.options), x)  # noqa: B023
        stored = [a for a in jax.tree.leaves(pull_back) if hasattr(a, "dtype")]
        assert {str(a.dtype) for a in stored if a.size > 1} == {"uint8"}


def test_the_linear_pools_store_nothing() -> None:
    for pool in (avg_pool, sum_pool):
        _, pull_back = jax.vjp(lambda x: pool(x, (2, 2)), jnp.ones((1, 4, 4, 1)))  # noqa: B023
        assert not [a for a in jax.tree.leaves(pull_back) if getattr(a, "size", 0) > 1]


@POOLS
def test_the_taps_do_not_grow_with_the_area_of_the_window(pool: Any) -> None:
    x = jnp.zeros((1, 64, 64, 1))
    axis = Axis(64, 31)
    for function in orders(pool, PoolCase("huge", (axis, axis))):
        assert len(program(function, x)) < 100 * 31


@POOLS
def test_an_eager_call_is_one_compiled_call(pool: Any) -> None:
    (equation,) = jax.make_jaxpr(lambda x: pool(x, (3, 3), 2, "SAME"))(jnp.ones((2, 8, 8, 3))).jaxpr.eqns
    assert str(equation.primitive) in ("jit", "pjit")


@POOLS
@pytest.mark.parametrize("axis", [0, 2, 3])
def test_vmap_over_any_axis(pool: Any, axis: int) -> None:
    x = np.random.default_rng(axis).standard_normal((2, 6, 7, 3))
    stacked = np.stack([x, x[::-1], -x], axis)
    options = {"window_shape": (3, 2), "strides": (2, 1), "padding": "SAME"}
    gradient = jax.grad(lambda x: (pool(x, **options) ** 2).sum())
    for function in (lambda x: pool(x, **options), gradient):
        mapped = jax.vmap(function, in_axes=axis, out_axes=axis)(jnp.asarray(stacked))
        for n in range(3):
            one = function(jnp.asarray(np.take(stacked, n, axis)))
            np.testing.assert_allclose(np.take(np.asarray(mapped), n, axis), one, rtol=1e-12)


@POOLS
def test_jit_checkpoint_and_scan(pool: Any) -> None:
    x = jnp.asarray(np.random.default_rng(1).standard_normal((3, 2, 8, 8, 2)))
    options = {"window_shape": (3, 3), "strides": 2, "padding": "SAME"}

    def energy(x: Any) -> jax.Array:
        return (pool(x, **options) ** 2).sum()

    expected = jnp.stack([jax.grad(energy)(one) for one in x])
    checkpointed = jax.jit(jax.vmap(jax.grad(jax.checkpoint(energy))))(x)
    np.testing.assert_allclose(checkpointed, expected, rtol=1e-12)
    _, scanned = lax.scan(lambda carry, one: (carry, jax.grad(energy)(one)), None, x)
    np.testing.assert_allclose(scanned, expected, rtol=1e-12)
    through = jax.grad(lambda x: lax.scan(lambda c, one: (c + energy(one), None), jnp.zeros(()), x)[0])(x)
    np.testing.assert_allclose(through, expected, rtol=1e-12)


def test_the_batch_may_be_symbolic() -> None:
    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, 8, 8, 2), jnp.float32)
    for pool in (max_pool, avg_pool):
        for window in ((3, 3), (2, 2)):
            pooled = lambda x, p=pool, w=window: p(x, w, 2, "SAME")  # noqa: E731
            gradient = jax.grad(lambda x, f=pooled: (f(x) ** 2).sum())
            x = np.random.default_rng(2).standard_normal((3, 8, 8, 2)).astype(np.float32)
            for function in (pooled, gradient):
                exported = jax.export.export(jax.jit(function))(spec)
                np.testing.assert_allclose(exported.call(x), function(jnp.asarray(x)), 1e-6, 1e-7)


def test_numpy_and_weak_types_come_out_as_jax_arrays() -> None:
    out = max_pool(np.ones((4, 1), np.float32), (2,))
    assert isinstance(out, jax.Array)
    assert out.dtype == jnp.float32
