"""Lp pooling, pooling by any associative function, and fractional max pooling."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import oracle_pool
from jaxconv._pool import max_pool
from jaxconv._pool_fractional import fractional_max_pool
from jaxconv._pool_norm import lp_pool
from jaxconv._pool_reduce import pool
from pool_cases import CASES, PoolCase

SOME = [CASES[i] for i in (0, 2, 5, 9, 14, 16, 17, 20)]


@pytest.mark.parametrize("p", [1, np.int64(2), 3, np.float32(0.5), 1.7, math.inf])
@pytest.mark.parametrize("case", SOME[1::3], ids=str)
def test_lp_norms(case: PoolCase, p: float) -> None:
    x = case.normal()
    if math.isinf(p):
        expected = oracle_pool.extreme(np.abs(x), case.axes, 0.0)
    else:
        expected = oracle_pool.power_sum(x, case.axes, p)
    np.testing.assert_allclose(lp_pool(x, p=p, **case.options), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3, 1.7])
@pytest.mark.parametrize("autodiff", ["custom", "jax"])
def test_lp_gradients(p: float, autodiff: str) -> None:
    """dy/dx = sign(x) |x|^(p-1) y^(1-p), by hand."""
    case = CASES[2]
    x = case.normal()
    y, pull_back = jax.vjp(lambda x: lp_pool(x, p=p, autodiff=autodiff, **case.options), jnp.asarray(x))
    dy = np.random.default_rng(1).standard_normal(y.shape)
    norm = oracle_pool.power_sum(x, case.axes, p)
    share = oracle_pool.total_adjoint(dy * norm ** (1 - p), case.axes)
    expected = np.sign(x) * np.abs(x) ** (p - 1) * share
    np.testing.assert_allclose(pull_back(jnp.asarray(dy))[0], expected, rtol=1e-10, atol=1e-12)
    if autodiff == "custom":
        function = lambda x: lp_pool(x, p=p, **case.options)  # noqa: E731
        check_grads(function, (jnp.abs(jnp.asarray(x)) + 0.5,), 2, ["rev"], eps=1e-4)


def test_lp_of_zeros_has_no_gradient_but_a_value() -> None:
    for p in (1, 2, 3, 1.5):
        y, pull_back = jax.vjp(lambda x: lp_pool(x, (2,), p=p), jnp.zeros((4, 1)))  # noqa: B023
        np.testing.assert_array_equal(y, 0)
        np.testing.assert_array_equal(pull_back(jnp.ones_like(y))[0], 0)


def test_lp_of_nan_and_narrow_floats() -> None:
    x = np.array([[3.0], [4.0], [np.nan], [1.0]])
    np.testing.assert_array_equal(np.isnan(lp_pool(x, (2,))[:, 0]), [False, True, True])
    half = lp_pool(np.full((2, 1), 300, np.float16), (2,))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, 300 * 2**0.5, rtol=1e-3)


def last(f: Any, g: Any) -> Any:
    """The later of the two that is not 0: associative, not commutative, identity 0."""
    return jnp.where(g == 0, f, g) if isinstance(g, jax.Array) else np.where(g == 0, f, g)


def times(a: Any, b: Any) -> Any:
    return a * b


@pytest.mark.parametrize("case", CASES[::2], ids=str)
def test_reductions_follow_row_major_order(case: PoolCase) -> None:
    x = case.ties()
    expected = oracle_pool.folded(x, case.axes, last, 0)
    np.testing.assert_array_equal(pool(x, 0, last, **case.options), expected)


@pytest.mark.parametrize("case", SOME[::2], ids=str)
def test_products_and_their_gradients(case: PoolCase) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.5, case.shape)
    y, pull_back = jax.vjp(lambda x: pool(x, 1.0, times, **case.options), jnp.asarray(x))
    expected = oracle_pool.folded(x, case.axes, times, 1.0)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    # d(product)/dx_i is the product without x_i.
    share = oracle_pool.total_adjoint(dy * expected, case.axes) / x
    np.testing.assert_allclose(pull_back(jnp.asarray(dy))[0], share, rtol=1e-10, atol=1e-12)


def test_reductions_take_a_traced_init_and_differentiate_twice() -> None:
    x = jnp.asarray(np.random.default_rng(2).uniform(0.5, 1.5, (5, 1)))
    function = jax.jit(lambda x, init: pool(x, init, jnp.multiply, (2,), padding="FULL"))
    np.testing.assert_allclose(function(x, 1.0)[1:-1, 0], x[1:, 0] * x[:-1, 0])
    check_grads(lambda x: pool(x, 1.0, times, (2, 2)), (x.reshape(1, 5, 1),), 2, ["rev", "fwd"])


def starts_of(u: np.ndarray, sizes: Any, window: Any, outputs: Any) -> list[list[int]]:
    axes = zip(sizes, window, outputs, u, strict=True)
    return [oracle_pool.fractional_starts(n, k, o, v) for n, k, o, v in axes]


@pytest.mark.parametrize(
    ("sizes", "window", "outputs"),
    [
        ((9, 11), (2, 3), (5, 7)), ((12,), (2,), (7,)), ((6, 7, 8), (2, 2, 3), (3, 1, 6)),
        ((5, 5), (5, 1), (1, 5)),
    ],
)  # fmt: skip
def test_fractional_max_pool(sizes: Any, window: Any, outputs: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (2, *sizes, 3)).astype(np.float64)
    u = rng.random((2, 3, len(sizes)))
    y, pull_back = jax.vjp(lambda x: fractional_max_pool(x, window, outputs, samples=u), jnp.asarray(x))
    dy = rng.standard_normal(y.shape)
    expected, routed = np.zeros(y.shape), np.zeros(x.shape)
    for n, c in np.ndindex(2, 3):
        starts = starts_of(u[n, c], sizes, window, outputs)
        for m in np.ndindex(*outputs):
            first = [axis[i] for axis, i in zip(starts, m, strict=True)]
            block = x[n, ..., c][tuple(slice(i, i + k) for i, k in zip(first, window, strict=True))]
            expected[n, *m, c] = block.max()
            inside = np.unravel_index(block.argmax(), block.shape)
            winner = tuple(i + j for i, j in zip(first, inside, strict=True))
            routed[n, *winner, c] += dy[n, *m, c]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(pull_back(jnp.asarray(dy))[0], routed, rtol=1e-12, atol=1e-12)


def test_fractional_keys_and_batches() -> None:
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3, 9, 9, 4)))
    one = fractional_max_pool(x, (2, 2), (6, 6), jax.random.key(0))
    same = fractional_max_pool(x, (2, 2), (6, 6), jax.random.key(0))
    other = fractional_max_pool(x, (2, 2), (6, 6), jax.random.key(1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (2, 3, 6, 6, 4)
    assert (one != other).any()
    assert (max_pool(x, (9, 9)) == one.max((2, 3), keepdims=True)).all()


X = np.zeros((2, 6, 1))
REFUSED = [
    (lp_pool, ValueError, dict(inputs=X, window_shape=(2,), p=0), "`p` must be above 0, got 0"),
    (lp_pool, TypeError, dict(inputs=X, window_shape=(2,), p="2"), "`p` must be a Python number, got '2'"),
    (lp_pool, ValueError, dict(inputs=X, window_shape=(2,), p=math.inf, signed=True),
     "`p` must be finite with `signed`, got inf; use max_pool"),
    (lp_pool, TypeError, dict(inputs=X, window_shape=(2,), signed=1),
     "`signed` must be True or False, got 1"),
    (lp_pool, TypeError, dict(inputs=X.astype(int), window_shape=(2,)),
     "`inputs` must be floats, got int64"),
    (pool, TypeError, dict(inputs=X, init=0, reduce_fn=1, window_shape=(2,)),
     "`reduce_fn` must be a function of two scalars, got 1"),
    (pool, ValueError, dict(inputs=X, init=X, reduce_fn=last, window_shape=(2,)),
     "`init` must be a scalar, got shape (2, 6, 1)"),
    (pool, ValueError, dict(inputs=X, init=0, reduce_fn=last, window_shape=(0,)),
     "`window_shape` must be at least 1"),
    (fractional_max_pool, ValueError, dict(inputs=X, window_shape=(2,), output_shape=(3,)),
     "`key` or `samples` must be given, and not both"),
    (fractional_max_pool, ValueError, dict(inputs=X, window_shape=(2,), output_shape=(6,), samples=X),
     "`output_shape` must leave room for the windows"),
    (fractional_max_pool, ValueError, dict(inputs=X, window_shape=(2,), output_shape=(3, 3), samples=X),
     "`output_shape` must have as many entries as `window_shape`, 1, got (3, 3)"),
    (fractional_max_pool, ValueError, dict(inputs=X[0, 0], window_shape=(2,), output_shape=(3,), samples=X),
     "`inputs` must have 1 spatial axes"),
    (fractional_max_pool, ValueError, dict(inputs=X, window_shape=(2,), output_shape=(3,), samples=X),
     "`samples` must have one entry for every example, channel and spatial axis, shape (2, 1, 1), "
     "got (2, 6, 1)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "kind", "call", "message"), REFUSED, ids=lambda v: getattr(v, "__name__", str(v)[:30])
)
def test_refusals(function: Any, kind: type[Exception], call: Any, message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        function(**call)
    assert f"\n  in {function.__name__}(inputs=" in str(caught.value)
