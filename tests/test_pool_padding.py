"""Pools of inputs extended by their own samples: against NumPy's pad and the pool of what it gives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle_pool
from jaxconv._pool import avg_pool, max_pool, min_pool, sum_pool
from jaxconv._pool_argmax import max_pool_with_argmax
from jaxconv._pool_norm import lp_pool
from jaxconv._pool_reduce import pool
from oracle_pool import Axis

MODES = {"CIRCULAR": "wrap", "reflect": "reflect", "SYMMETRIC": "symmetric", "EDGE": "edge"}
# Window, stride and dilation of two axes of sizes 5 and 4; the last reaches round more than once.
GEOMETRIES = [((3, 2), (1, 1), (1, 1)), ((3, 3), (2, 3), (1, 2)), ((6, 4), (1, 2), (2, 3))]
SIZES = (5, 4)


def sources(mode: str, window: Any, dilation: Any) -> np.ndarray:
    """Where each sample of the extended plane comes from."""
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    pads = [((e - 1) // 2, e // 2) for e in extents]
    return np.pad(np.arange(SIZES[0] * SIZES[1]).reshape(SIZES), pads, mode=MODES[mode])


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_values_positions_and_gradients(mode: str, geometry: Any) -> None:
    window, strides, dilation = geometry
    source = sources(mode, window, dilation)
    x = np.random.default_rng(0).standard_normal((2, *SIZES, 3))
    extended = x.reshape(2, -1, 3)[:, source]
    axes = [Axis(n, k, s, d) for n, k, s, d in zip(source.shape, window, strides, dilation, strict=True)]
    options: Any = dict(window_shape=window, strides=strides, padding=mode, window_dilation=dilation)

    def gathered_back(dx: np.ndarray) -> np.ndarray:
        total = np.zeros((2, SIZES[0] * SIZES[1], 3))
        np.add.at(total, (slice(None), source.ravel()), dx.reshape(2, -1, 3))
        return total.reshape(x.shape)

    largest = oracle_pool.extreme(extended, axes, -np.inf)
    mean = oracle_pool.total(extended, axes) / np.prod(window)
    dy = np.random.default_rng(1).standard_normal(largest.shape)

    @jax.jit
    def program(x: Any, dy: Any) -> Any:
        y, pull_max = jax.vjp(lambda x: max_pool(x, **options), x)
        sums = [
            jax.vjp(lambda x: sum_pool(x, autodiff=autodiff, **options), x)[1](dy)[0]  # noqa: B023
            for autodiff in ("custom", "jax")
        ]
        average = avg_pool(x, count_include_pad=False, **options)
        return y, average, pull_max(dy)[0], sums, max_pool_with_argmax(x, **options)

    y, average, dx, sums, (values, positions) = program(x, dy)
    np.testing.assert_array_equal(y, largest)
    np.testing.assert_allclose(average, mean, rtol=1e-12, atol=1e-12)
    expected = gathered_back(oracle_pool.routed(extended, dy, axes))
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)
    expected = gathered_back(oracle_pool.total_adjoint(dy, axes))
    for dx in sums:
        np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(values, largest)
    np.testing.assert_array_equal(positions, source.ravel()[oracle_pool.positions(extended, axes)])


def test_every_pool_extends_alike() -> None:
    x = np.random.default_rng(2).standard_normal((1, *SIZES, 2))
    extended = np.pad(x, ((0, 0), (1, 1), (0, 1), (0, 0)), mode="wrap")
    for function in (min_pool, avg_pool, sum_pool, lp_pool):
        got = function(x, (3, 2), 1, "CIRCULAR")
        np.testing.assert_allclose(got, function(extended, (3, 2)), rtol=1e-12)
    got = pool(x, 1.0, jnp.multiply, (3, 2), 1, "CIRCULAR")
    np.testing.assert_allclose(got, pool(extended, 1.0, jnp.multiply, (3, 2)), rtol=1e-12)


def test_ceil_mode_counts_the_samples_of_the_extension_alone() -> None:
    x = np.arange(1.0, 7.0).reshape(6, 1)
    got = avg_pool(x, (3,), 2, "EDGE", ceil_mode=True)[:, 0]
    np.testing.assert_allclose(got, [4 / 3, 3, 5, 6], rtol=1e-12)
