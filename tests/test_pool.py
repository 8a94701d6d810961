"""Values of the pools against NumPy loops in float64, lax's reduce_window as a second witness."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from jax import lax

import oracle_pool
from jaxconv._pool import avg_pool, max_pool, min_pool, sum_pool
from pool_cases import CASES, PoolCase, random_cases


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("pool", [max_pool, min_pool], ids=["max", "min"])
def test_extremes_are_those_of_the_window(pool: Any, case: PoolCase) -> None:
    minimum = pool is min_pool
    fill = np.inf if minimum else -np.inf
    for x in (case.normal(), case.ties()):
        expected = oracle_pool.extreme(x, case.axes, fill, minimum)
        np.testing.assert_array_equal(pool(x, **case.options), expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_those_of_the_window(case: PoolCase) -> None:
    x = case.normal()
    expected = oracle_pool.total(x, case.axes)
    np.testing.assert_allclose(sum_pool(x, **case.options), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("include_pad", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_averages_divide_by_what_is_counted(case: PoolCase, include_pad: bool) -> None:
    x = case.normal()
    counts = oracle_pool.counts(case.axes, include_pad)
    expected = oracle_pool.total(x, case.axes) / counts
    got = avg_pool(x, count_include_pad=include_pad, **case.options)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=25)
@given(case=random_cases())
def test_random_geometry(case: PoolCase) -> None:
    x = case.ties(levels=5)
    expected = oracle_pool.extreme(x, case.axes, -np.inf)
    np.testing.assert_array_equal(max_pool(x, **case.options), expected)
    total = oracle_pool.total(x, case.axes)
    for include_pad in (True, False):
        mean = avg_pool(x, count_include_pad=include_pad, **case.options)
        counts = oracle_pool.counts(case.axes, include_pad)
        np.testing.assert_allclose(mean, total / counts, rtol=1e-12, atol=1e-12)


def lax_pool(x: Any, init: Any, reducer: Any, case: PoolCase) -> jax.Array:
    one = lambda values: (1, *values, 1)  # noqa: E731
    options = case.options
    return lax.reduce_window(
        x, init, reducer, one(options["window_shape"]), one(options["strides"]),
        ((0, 0), *options["padding"], (0, 0)), window_dilation=one(options["window_dilation"]),
    )  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if not c.axes[0].ceil][::3], ids=str)
def test_lax_agrees(case: PoolCase) -> None:
    x = jnp.asarray(case.normal())
    np.testing.assert_array_equal(max_pool(x, **case.options), lax_pool(x, -jnp.inf, lax.max, case))
    np.testing.assert_allclose(
        sum_pool(x, **case.options), lax_pool(x, 0.0, lax.add, case), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", ["VALID", "same", "Same_Lower"])
def test_padding_names_are_laxs(name: str) -> None:
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 7, 9, 2)))
    window, strides = (3, 4), (2, 3)
    pads = lax.padtype_to_pads((7, 9), window, strides, name.upper())
    expected = max_pool(x, window, strides, pads)
    np.testing.assert_array_equal(max_pool(x, window, strides, name), expected)
    assert avg_pool(x, window, strides, name).shape == expected.shape


def test_full_and_causal_padding() -> None:
    x = np.arange(1.0, 5.0).reshape(4, 1)
    np.testing.assert_array_equal(sum_pool(x, (3,), padding="FULL")[:, 0], [1, 3, 6, 9, 7, 4])
    np.testing.assert_array_equal(sum_pool(x, (3,), padding="CAUSAL")[:, 0], [1, 3, 6, 9])


def test_defaults_are_flaxs() -> None:
    x = np.arange(5.0).reshape(1, 5, 1)
    np.testing.assert_array_equal(max_pool(x, (2,))[0, :, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(avg_pool(x, (2,), None, "SAME")[0, :, 0], [0.5, 1.5, 2.5, 3.5, 2])
    positional = avg_pool(x, (2,), (1,), "SAME", False)
    np.testing.assert_array_equal(positional[0, :, 0], [0.5, 1.5, 2.5, 3.5, 4])


def test_any_number_of_batch_axes() -> None:
    x = np.random.default_rng(2).standard_normal((2, 3, 4, 5, 6, 2))
    whole = max_pool(x, (2, 3), (2, 1))
    assert whole.shape == (2, 3, 4, 2, 4, 2)
    for pool in (max_pool, avg_pool):
        whole = pool(x, (2, 3), (2, 1))
        np.testing.assert_array_equal(pool(x[1, 2], (2, 3), (2, 1)), whole[1, 2])
        np.testing.assert_array_equal(pool(x[1, 2, 3], (2, 3), (2, 1)), whole[1, 2, 3])


def test_divisor_override_replaces_the_count() -> None:
    x = np.random.default_rng(3).standard_normal((1, 5, 5, 1))
    expected = np.asarray(sum_pool(x, (3, 3), padding="SAME")) / -7
    got = avg_pool(x, (3, 3), padding="SAME", divisor_override=-7, count_include_pad=False)
    np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "int32", "uint32", "int64"])
def test_integers_and_booleans(dtype: str) -> None:
    low, high = (0, 2) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    rng = np.random.default_rng(4)
    x = rng.integers(low, high, (2, 5, 6, 3), dtype=np.int64).astype(dtype)
    x[0, :3] = low
    largest = max_pool(x, (2, 3), (1, 2), "SAME")
    smallest = min_pool(x, (2, 3), (1, 2), "SAME")
    pads = lax.padtype_to_pads((5, 6), (2, 3), (1, 2), "SAME")
    axes = tuple(
        oracle_pool.Axis(n, k, s, 1, lo, hi)
        for n, k, s, (lo, hi) in zip((5, 6), (2, 3), (1, 2), pads, strict=True)
    )
    assert largest.dtype == smallest.dtype == dtype
    np.testing.assert_array_equal(largest, oracle_pool.extreme(x, axes, low))
    np.testing.assert_array_equal(smallest, oracle_pool.extreme(x, axes, high, minimum=True))


def test_padding_holds_the_identity_of_the_dtype() -> None:
    beside = [(2, 0)]
    for dtype in ("int8", "uint8", "int32", "uint64"):
        x = np.array([[3], [5]], dtype)
        info = np.iinfo(dtype)
        assert int(max_pool(x, (2,), padding=beside)[0, 0]) == info.min
        assert int(min_pool(x, (2,), padding=beside)[0, 0]) == info.max
    assert not max_pool(np.ones((2, 1), bool), (2,), padding=beside)[0, 0]
    assert min_pool(np.zeros((2, 1), bool), (2,), padding=beside)[0, 0]
    eighths = np.ones((2, 1), ml_dtypes.float8_e4m3fn)
    assert float(max_pool(eighths, (2,), padding=beside)[0, 0]) == -448.0


def test_integer_sums_wrap_and_integer_means_are_floats() -> None:
    x = np.full((4, 1), 100, np.int8)
    np.testing.assert_array_equal(sum_pool(x, (2,))[:, 0], np.full(3, -56, np.int8))
    mean = avg_pool(np.array([[1], [2], [2]], np.int32), (2,))
    assert mean.dtype == jnp.mean(jnp.ones(2, jnp.int32)).dtype
    np.testing.assert_array_equal(mean[:, 0], [1.5, 2])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats_are_summed_in_float32_and_rounded_once(dtype: str) -> None:
    x = np.random.default_rng(5).standard_normal((2, 12, 12, 4)).astype(dtype)
    wide = x.astype(np.float64)
    for window, strides in (((3, 3), 2), ((7, 7), 1)):
        axes = tuple(oracle_pool.Axis(12, k, strides) for k in window)
        for pool, divisor in ((sum_pool, 1), (avg_pool, np.prod(window))):
            exact = oracle_pool.total(wide, axes) / divisor
            got = pool(x, window, strides)
            assert got.dtype == dtype
            # Half a unit in the last place of the result, and float32's own error.
            bound = 0.5001 * float(jnp.finfo(dtype).eps)
            np.testing.assert_allclose(np.asarray(got, np.float64), exact, rtol=bound, atol=1e-5)


def test_complex_sums() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((1, 6, 2)) + 1j * rng.standard_normal((1, 6, 2))
    got = avg_pool(x, (3,), padding="SAME", count_include_pad=np.bool_(False))
    axes = (oracle_pool.Axis(6, 3, 1, 1, 1, 1),)
    expected = oracle_pool.total(x, axes) / oracle_pool.counts(axes, False)
    np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_a_nan_reaches_exactly_the_windows_that_cover_it() -> None:
    case = CASES[2]
    x = case.normal()
    x[1, 3, 4, 0] = np.nan
    covered = oracle_pool.extreme(np.isnan(x), case.axes, False)
    assert 0 < covered.sum() < covered.size
    for pool in (max_pool, min_pool, sum_pool, avg_pool):
        np.testing.assert_array_equal(np.isnan(pool(x, **case.options)), covered)


def test_infinities_stay() -> None:
    x = np.array([1.0, np.inf, -np.inf, -np.inf, -np.inf, 2.0]).reshape(6, 1)
    np.testing.assert_array_equal(max_pool(x, (2,))[:, 0], [np.inf, np.inf, -np.inf, -np.inf, 2])
    np.testing.assert_array_equal(min_pool(x, (2,))[:, 0], [1, -np.inf, -np.inf, -np.inf, -np.inf])


def test_a_window_on_padding_alone() -> None:
    x = np.ones((2, 1))
    pads = [(3, 0)]
    assert max_pool(x, (2,), padding=pads)[0, 0] == -np.inf
    assert avg_pool(x, (2,), padding=pads)[0, 0] == 0
    assert avg_pool(x, (2,), None, pads, False)[0, 0] == 0
