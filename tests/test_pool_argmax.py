"""Max pooling with positions, and unpooling: values, ties, NaN, both gradients and the round trip."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle_pool
from jaxconv._pool import max_pool
from jaxconv._pool_argmax import max_pool_with_argmax, max_unpool
from pool_cases import CASES, PoolCase

BOTH_WAYS = pytest.mark.parametrize("autodiff", ["custom", "jax"])


@pytest.mark.parametrize("case", CASES[1::2], ids=str)
def test_positions_of_the_winners(case: PoolCase) -> None:
    for x in (case.ties(), np.full(case.shape, -np.inf)):
        values, positions = max_pool_with_argmax(x, **case.options)
        assert positions.dtype == jnp.int32
        np.testing.assert_array_equal(values, oracle_pool.extreme(x, case.axes, -np.inf))
        np.testing.assert_array_equal(positions, oracle_pool.positions(x, case.axes))


def test_positions_of_nan_and_infinities() -> None:
    case = CASES[3]
    rng = np.random.default_rng(3)
    x = rng.choice([np.nan, np.inf, -np.inf, 0.0], case.shape, p=[0.1, 0.1, 0.4, 0.4])
    _, positions = max_pool_with_argmax(x, **case.options)
    np.testing.assert_array_equal(positions, oracle_pool.positions(x, case.axes))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "bfloat16"])
def test_positions_of_other_dtypes(dtype: str) -> None:
    case = CASES[2]
    x = case.ties(levels=2 if dtype == "bool" else 4).astype(dtype)
    if dtype == "int8":
        x[x == 0] = np.iinfo(np.int8).min
    values, positions = max_pool_with_argmax(x, **case.options)
    assert values.dtype == dtype
    np.testing.assert_array_equal(positions, oracle_pool.positions(x, case.axes))
    np.testing.assert_array_equal(values, max_pool(x, **case.options))


@BOTH_WAYS
@pytest.mark.parametrize("case", [CASES[2], CASES[17]], ids=str)
def test_gradients_of_values(case: PoolCase, autodiff: str) -> None:
    x = case.ties()

    def pooled(x: Any) -> jax.Array:
        return max_pool_with_argmax(x, autodiff=autodiff, **case.options)[0]

    y, pull_back = jax.vjp(pooled, jnp.asarray(x))
    dy = np.random.default_rng(1).standard_normal(y.shape)
    expected = oracle_pool.routed(x, dy, case.axes)
    np.testing.assert_allclose(pull_back(jnp.asarray(dy))[0], expected, rtol=1e-12, atol=1e-12)
    second = jax.grad(lambda x: (jax.grad(lambda x: (pooled(x) ** 2).sum())(x) ** 2).sum())(jnp.asarray(x))
    once = oracle_pool.routed(x, 2 * oracle_pool.collected(x, x, case.axes), case.axes)
    twice = oracle_pool.routed(x, 4 * oracle_pool.collected(x, once, case.axes), case.axes)
    np.testing.assert_allclose(second, twice, rtol=1e-12, atol=1e-12)


def test_unpooling_puts_values_back() -> None:
    for case in (CASES[0], CASES[2], CASES[14], CASES[16]):
        x = case.normal()
        sizes = tuple(a.size for a in case.axes)
        values, positions = max_pool_with_argmax(x, **case.options)
        back = max_unpool(values, positions, sizes)
        expected = oracle_pool.unpooled(np.asarray(values), np.asarray(positions), sizes)
        np.testing.assert_array_equal(back, expected)
        kept = np.asarray(back) != 0
        np.testing.assert_array_equal(np.asarray(back)[kept], x[kept])
        assert 0 < kept.sum() < x.size


def test_unpooling_any_batch_and_dropped_positions() -> None:
    values = np.arange(1.0, 13.0).reshape(2, 3, 2, 1)
    positions = np.array([0, 4, -1, 5, 2, 1, 99, 0, 3, 1, 4, -7]).reshape(values.shape)
    back = max_unpool(values, positions, (5,))
    expected = oracle_pool.unpooled(values.reshape(6, 2, 1), positions.reshape(6, 2, 1), (5,))
    np.testing.assert_array_equal(back, expected.reshape(2, 3, 5, 1))
    np.testing.assert_array_equal(max_unpool(values[1, 2], positions[1, 2], (5,)), expected[5])
    np.testing.assert_array_equal(
        max_unpool(values.astype(np.int8), positions.astype(np.int8), (5,))[0, 0], expected[0]
    )


@BOTH_WAYS
def test_unpooling_gradients_read_at_the_positions(autodiff: str) -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((2, 3, 2, 2))
    positions = np.stack([rng.permutation(20)[:6] for _ in range(4)]).reshape(2, 2, 3, 2)
    positions = positions.transpose(0, 2, 3, 1)
    positions[0, 0, 0, 0] = -1
    dy = rng.standard_normal((2, 4, 5, 2))

    def back(values: Any) -> jax.Array:
        return max_unpool(values, positions, (4, 5), autodiff=autodiff)

    def pulled(dy: Any) -> jax.Array:
        return jax.vjp(back, jnp.asarray(values))[1](dy)[0]

    read = np.zeros(values.shape)
    for n, h, w, c in np.ndindex(*values.shape):
        if positions[n, h, w, c] >= 0:
            read[n, h, w, c] = dy[n].reshape(20, 2)[positions[n, h, w, c], c]
    np.testing.assert_array_equal(pulled(jnp.asarray(dy)), read)
    again = jax.vjp(pulled, jnp.asarray(dy))[1](jnp.asarray(values))[0]
    np.testing.assert_array_equal(again, oracle_pool.unpooled(values, positions, (4, 5)))


def test_vmap() -> None:
    x = np.random.default_rng(5).standard_normal((3, 2, 6, 6, 2))

    def round_trip(x: Any) -> jax.Array:
        values, positions = max_pool_with_argmax(x, (2, 2), 2)
        return max_unpool(values, positions, (6, 6))

    mapped = jax.vmap(round_trip)(jnp.asarray(x))
    np.testing.assert_array_equal(mapped, jnp.stack([round_trip(one) for one in x]))


REFUSED = [
    (TypeError, {"output_shape": 6},
     "`output_shape` must be a sequence with one size per spatial axis, got 6"),
    (ValueError, {"output_shape": ()}, "`output_shape` must have at least one entry, got ()"),
    (TypeError, {"indices": np.zeros((1, 2, 1))}, "`indices` must be integers, got float64"),
    (ValueError, {"indices": np.zeros((1, 3, 1), int)},
     "`indices` must have the shape of `values`, (1, 2, 1), got (1, 3, 1)"),
    (TypeError, {"values": [1.0]}, "`values` must be an array, got list"),
    (ValueError, {"autodiff": "no"}, '`autodiff` must be "custom"'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_refusals(kind: type[Exception], change: dict[str, Any], message: str) -> None:
    call = {"values": np.zeros((1, 2, 1)), "indices": np.zeros((1, 2, 1), int), "output_shape": (6,)} | change
    with pytest.raises(kind, match=re.escape(message)) as caught:
        max_unpool(**call)
    assert "\n  in max_unpool(" in str(caught.value)


def test_pooling_refusals_say_which_function() -> None:
    with pytest.raises(ValueError, match=re.escape("in max_pool_with_argmax(inputs=float64[4, 1], ")):
        max_pool_with_argmax(np.zeros((4, 1)), (2,), 0)
