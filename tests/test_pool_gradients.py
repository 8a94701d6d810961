"""Gradients of the pools at first and second order, by scatter loops, identities and finite differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax
from jax.test_util import check_grads

import oracle_pool
from jaxconv._pool import avg_pool, max_pool, min_pool, sum_pool
from pool_cases import CASES, PoolCase, random_cases

BOTH_WAYS = pytest.mark.parametrize("autodiff", ["custom", "jax"])
# JAX's own derivatives run the same forward passes, so that a few geometries tell enough.
FOR_JAX = ("dilated_strided", "cropping", "volume")
CASES_BOTH_WAYS = pytest.mark.parametrize(
    ("case", "autodiff"),
    [
        pytest.param(case, autodiff, id=f"{case}-{autodiff}")
        for case in CASES
        for autodiff in ("custom", "jax")
        if autodiff == "custom" or case.name in FOR_JAX
    ],
)


def cotangent(case: PoolCase, seed: int = 9) -> np.ndarray:
    shape = (case.batch, *oracle_pool.out_sizes(case.axes), case.channels)
    return np.random.default_rng(seed).standard_normal(shape)


def pull_back(pool: Any, x: Any, dy: Any, **options: Any) -> jax.Array:
    """The gradient in x, compiled as one program."""
    return jax.jit(lambda x, dy: jax.vjp(lambda x: pool(x, **options), x)[1](dy)[0])(x, jnp.asarray(dy))


@CASES_BOTH_WAYS
def test_extreme_gradients_go_to_the_winners(case: PoolCase, autodiff: str) -> None:
    """The second derivative in dy is the transpose: it collects what lies at the winners."""
    dy, a = cotangent(case), case.normal(5)
    pools = [(max_pool, case.ties()), (min_pool, case.normal())]
    # The minimum differs by the order alone: a few geometries tell enough.
    for pool, x in pools[: 2 if case.name in FOR_JAX else 1]:
        minimum = pool is min_pool

        @jax.jit
        def both(dy: Any, a: Any, x: Any = x, pool: Any = pool) -> Any:
            routed, back = jax.vjp(lambda dy: pull_back(pool, x, dy, autodiff=autodiff, **case.options), dy)
            return routed, back(a)[0]

        routed, collected = both(dy, a)
        expected = oracle_pool.routed(x, dy, case.axes, minimum)
        np.testing.assert_allclose(routed, expected, rtol=1e-12, atol=1e-12)
        expected = oracle_pool.collected(x, a, case.axes, minimum)
        np.testing.assert_array_equal(collected, expected)


@settings(max_examples=15)
@given(case=random_cases())
def test_random_geometry(case: PoolCase) -> None:
    x, dy = case.ties(), cotangent(case)

    @jax.jit
    def both(x: Any, dy: Any) -> Any:
        mean = pull_back(avg_pool, x, dy, count_include_pad=False, **case.options)
        return pull_back(max_pool, x, dy, **case.options), mean

    largest, mean = both(x, dy)
    np.testing.assert_allclose(largest, oracle_pool.routed(x, dy, case.axes), rtol=1e-12, atol=1e-12)
    expected = oracle_pool.total_adjoint(dy / oracle_pool.counts(case.axes, False), case.axes)
    np.testing.assert_allclose(mean, expected, rtol=1e-12, atol=1e-12)


@CASES_BOTH_WAYS
def test_linear_gradients_are_the_transpose(case: PoolCase, autodiff: str) -> None:
    x, dy = case.normal(), cotangent(case)
    expected = oracle_pool.total_adjoint(dy, case.axes)
    dx = pull_back(sum_pool, x, dy, autodiff=autodiff, **case.options)
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose((dx * x).sum(), (oracle_pool.total(x, case.axes) * dy).sum())


@pytest.mark.parametrize("case", CASES[1::4], ids=str)
def test_the_transpose_of_the_transpose_is_the_pool(case: PoolCase) -> None:
    x, dy = case.normal(), cotangent(case)
    for pool, include_pad in ((avg_pool, True), (avg_pool, False)):
        options = {"count_include_pad": include_pad, **case.options}
        back = lambda dy, x: jax.vjp(lambda dy: pull_back(pool, x, dy, **options), dy)[1](x)[0]  # noqa: B023,E731
        again = jax.jit(back)(dy, x)
        expected = oracle_pool.total(x, case.axes) / oracle_pool.counts(case.axes, include_pad)
        np.testing.assert_allclose(again, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [max_pool, min_pool, avg_pool, sum_pool], ids=lambda p: p.__name__)
@pytest.mark.parametrize("case", [CASES[2], CASES[5]], ids=str)
def test_finite_differences_at_two_orders(pool: Any, case: PoolCase) -> None:
    # A permutation keeps values far enough apart for differences not to change a winner.
    size = int(np.prod(case.shape))
    x = np.random.default_rng(0).permutation(size).reshape(case.shape) / size
    square = jax.jit(lambda x: pool(x, **case.options) ** 2)
    check_grads(square, (jnp.asarray(x),), 2, ["rev"], eps=1e-5)


@pytest.mark.parametrize("pool", [max_pool, min_pool, avg_pool, sum_pool], ids=lambda p: p.__name__)
def test_jax_differentiates_in_either_mode(pool: Any) -> None:
    """Forward over reverse through the lax primitives gives what reverse over reverse by the rules gives."""
    case = PoolCase("small", CASES[2].axes, 1, 1)
    x, t = jnp.asarray(case.ties()), jnp.asarray(case.normal(1))

    def energy(x: Any, **options: Any) -> jax.Array:
        return (pool(x, **options, **case.options) ** 3).sum()

    gradient = jax.jit(jax.grad(energy))
    _, slope = jax.jvp(lambda x: energy(x, autodiff="jax"), (x,), (t,))
    np.testing.assert_allclose(slope, (gradient(x) * t).sum(), rtol=1e-9)
    hessian = jax.jit(jax.hessian(lambda x: energy(x, autodiff="jax")))(x)
    by_rules = jax.jit(jax.jacrev(jax.grad(energy)))(x)
    np.testing.assert_allclose(hessian, by_rules, rtol=1e-9, atol=1e-9)


def test_third_order() -> None:
    """With fixed winners a pool is linear: sum(pool(x)^4) has third derivative 24 sum(pool(x) pool(a)^3)."""
    case = CASES[3]
    x, a = case.ties() + 1, case.normal(3)

    def along(f: Any) -> Any:
        return lambda x: (jax.grad(f)(x) * a).sum()

    for pool, collect in (
        (max_pool, lambda v: oracle_pool.collected(x, v, case.axes)),
        (sum_pool, lambda v: oracle_pool.total(v, case.axes)),
    ):
        energy = lambda x, p=pool: (p(x, **case.options) ** 4).sum()  # noqa: E731
        third = jax.jit(along(along(along(energy))))(jnp.asarray(x))
        y, direction = collect(x), collect(a)
        np.testing.assert_allclose(third, (24 * y * direction**3).sum(), rtol=1e-10)


@BOTH_WAYS
def test_ties_go_to_the_first_in_row_major_order(autodiff: str) -> None:
    for window in ((2, 3), (9, 7)):
        x = jnp.zeros((9, 7, 1))
        dx = jax.grad(lambda x: max_pool(x, window, window, autodiff=autodiff).sum())(x)  # noqa: B023
        expected = np.zeros((9, 7, 1))
        expected[: 9 // window[0] * window[0] : window[0], : 7 // window[1] * window[1] : window[1]] = 1
        np.testing.assert_array_equal(dx, expected)


@BOTH_WAYS
@pytest.mark.parametrize("case", [c for c in CASES if max(a.lo for a in c.axes) > 0][::2], ids=str)
def test_padding_never_takes_a_gradient_from_a_sample(case: PoolCase, autodiff: str) -> None:
    """All samples are the value of the padding: each window's gradient is that of its first sample."""
    dy = cotangent(case)
    x = np.full(case.shape, -np.inf)
    expected = oracle_pool.routed(x, dy, case.axes)
    dx = pull_back(max_pool, x, dy, autodiff=autodiff, **case.options)
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)


@BOTH_WAYS
def test_the_first_nan_takes_the_gradient(autodiff: str) -> None:
    case = CASES[3]
    rng = np.random.default_rng(8)
    x = case.normal()
    x[rng.random(case.shape) < 0.3] = np.nan
    x[rng.random(case.shape) < 0.2] = np.inf
    x[rng.random(case.shape) < 0.2] = -np.inf
    dy = cotangent(case)
    for pool in (max_pool, min_pool):
        dx = pull_back(pool, x, dy, autodiff=autodiff, **case.options)
        expected = oracle_pool.routed(x, dy, case.axes, pool is min_pool)
        np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [max_pool, min_pool, avg_pool, sum_pool], ids=lambda p: p.__name__)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_gradients_are_added_in_float32(pool: Any, dtype: str) -> None:
    x = np.random.default_rng(1).standard_normal((1, 12, 12, 2)).astype(dtype)
    dy = np.random.default_rng(2).standard_normal((1, 10, 10, 2)).astype(dtype)
    axes = (oracle_pool.Axis(12, 3), oracle_pool.Axis(12, 3))
    wide, share = dy.astype(np.float64), 9 if pool is avg_pool else 1
    if pool in (max_pool, min_pool):
        exact = oracle_pool.routed(x.astype(np.float64), wide, axes, pool is min_pool)
    else:
        exact = oracle_pool.total_adjoint(wide / share, axes)
    dx = pull_back(pool, jnp.asarray(x), dy, window_shape=(3, 3))
    assert dx.dtype == dtype
    bound = 0.5001 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(dx, np.float64), exact, rtol=bound, atol=1e-5)


def test_complex_gradients_are_plain_transposes() -> None:
    rng = np.random.default_rng(6)
    z = lambda n: rng.standard_normal((1, n, 2)) + 1j * rng.standard_normal((1, n, 2))  # noqa: E731
    x, dy = z(6), z(4)
    dx = pull_back(avg_pool, jnp.asarray(x), dy, window_shape=(3,))
    expected = oracle_pool.total_adjoint(dy, (oracle_pool.Axis(6, 3),)) / 3
    np.testing.assert_allclose(dx, expected, rtol=1e-13)


def test_lax_agrees_without_ties() -> None:
    x, dy = jnp.asarray(CASES[2].normal()), cotangent(CASES[2])

    def laxs(x: Any) -> jax.Array:
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)

    expected = jax.vjp(laxs, x)[1](jnp.asarray(dy))[0]
    dx = pull_back(max_pool, x, dy, **CASES[2].options)
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)
