"""Adaptive and global pools against PyTorch's bins in NumPy loops, with both gradients."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle_pool
from jaxconv._pool_adaptive import (
    adaptive_avg_pool,
    adaptive_max_pool,
    axis_bins,
    global_avg_pool,
    global_max_pool,
)

# (input sizes, output sizes): dividing, sharing a factor, coprime, growing, the same.
SHAPES = [
    ((8, 6), (4, 3)),
    ((10, 12), (4, 9)),
    ((7, 5), (3, 4)),
    ((3, 4), (5, 7)),
    ((6, 5), (6, 5)),
    ((9,), (6,)),
    ((5, 4, 6), (2, 3, 6)),
]
SIZES = pytest.mark.parametrize("sizes", SHAPES, ids=str)


def normal(sizes: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, *sizes, 3))


@pytest.mark.parametrize(("size", "outputs"), [(n, o) for n in range(1, 13) for o in range(1, 15)])
def test_classes_of_bins_are_pytorchs_bins(size: int, outputs: int) -> None:
    classes = axis_bins(size, outputs)
    found = {}
    for r, window in enumerate(classes):
        for t in range(window.out_size):
            start = t * window.stride - window.lo
            found[t * len(classes) + r] = range(start, start + window.size)
    assert [found[i] for i in range(outputs)] == oracle_pool.bins(size, outputs)


@SIZES
def test_values(sizes: Any) -> None:
    x = normal(sizes[0])
    mean = oracle_pool.adaptive(x, sizes[1], np.mean)
    np.testing.assert_allclose(adaptive_avg_pool(x, sizes[1]), mean, rtol=1e-12, atol=1e-12)
    largest = oracle_pool.adaptive(x, sizes[1], np.max)
    np.testing.assert_array_equal(adaptive_max_pool(x, sizes[1]), largest)


@SIZES
def test_gradients(sizes: Any) -> None:
    x, dy = normal(sizes[0]), normal(sizes[1], 1)

    def pulled(pool: Any, x: Any, dy: Any) -> jax.Array:
        return jax.vjp(lambda x: pool(x, sizes[1]), x)[1](dy)[0]

    dx = pulled(adaptive_avg_pool, jnp.asarray(x), jnp.asarray(dy))
    expected = oracle_pool.adaptive_mean_adjoint(dy, sizes[0])
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-12)
    again = jax.vjp(lambda dy: pulled(adaptive_avg_pool, jnp.asarray(x), dy), jnp.asarray(dy))[1](
        jnp.asarray(x)
    )[0]
    mean = oracle_pool.adaptive(x, sizes[1], np.mean)
    np.testing.assert_allclose(again, mean, rtol=1e-12, atol=1e-12)

    largest = oracle_pool.adaptive(x, sizes[1], np.max)
    dx = np.asarray(pulled(adaptive_max_pool, jnp.asarray(x), jnp.asarray(dy)))
    routed = np.zeros(x.shape)
    table = [oracle_pool.bins(n, o) for n, o in zip(*sizes, strict=True)]
    for n, *m, c in np.ndindex(*dy.shape):
        index = np.ix_(*(axis[i] for axis, i in zip(table, m, strict=True)))
        routed[n, ..., c][index] += dy[n, *m, c] * (x[n, ..., c][index] == largest[n, *m, c])
    np.testing.assert_allclose(dx, routed, rtol=1e-12, atol=1e-12)


def test_jax_differentiates_in_either_mode() -> None:
    x, t = jnp.asarray(normal((7, 5))), jnp.asarray(normal((7, 5), 2))
    for pool in (adaptive_avg_pool, adaptive_max_pool):
        forward = jax.jvp(lambda x: (pool(x, (3, 4), autodiff="jax") ** 2).sum(), (x,), (t,))[1]  # noqa: B023
        reverse = (jax.grad(lambda x: (pool(x, (3, 4)) ** 2).sum())(x) * t).sum()  # noqa: B023
        np.testing.assert_allclose(forward, reverse, rtol=1e-12)


def test_ties_go_to_the_first_in_row_major_order() -> None:
    dx = jax.grad(lambda x: adaptive_max_pool(x, (2, 2)).sum())(jnp.zeros((3, 3, 1)))
    expected = np.zeros((3, 3, 1))
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        expected[i, j] = 1
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("sizes", [(7, 7), (40,), (3, 4, 5), (1, 1), (33, 2)], ids=str)
def test_global_pools(sizes: tuple[int, ...]) -> None:
    x = normal(sizes)
    axes = tuple(range(1, x.ndim - 1))
    np.testing.assert_allclose(global_avg_pool(x), x.mean(axes), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(global_max_pool(x), x.max(axes))
    kept = global_max_pool(x, keepdims=True)
    np.testing.assert_array_equal(kept, x.max(axes, keepdims=True))
    assert global_avg_pool(x, keepdims=True).shape == kept.shape

    dy = np.random.default_rng(1).standard_normal((2, 3))
    spread = dy.reshape(2, *(1,) * len(sizes), 3)
    dx = jax.vjp(global_avg_pool, jnp.asarray(x))[1](jnp.asarray(dy))[0]
    expected = np.broadcast_to(spread / np.prod(sizes), x.shape)
    np.testing.assert_allclose(dx, expected, rtol=1e-12)
    dx = jax.vjp(global_max_pool, jnp.asarray(x))[1](jnp.asarray(dy))[0]
    np.testing.assert_array_equal(dx, np.where(x == x.max(axes, keepdims=True), spread, 0))


def test_dtypes() -> None:
    x = np.random.default_rng(2).integers(-99, 99, (2, 7, 5, 3)).astype(np.int16)
    assert adaptive_max_pool(x, (3, 2)).dtype == global_max_pool(x).dtype == np.int16
    np.testing.assert_array_equal(adaptive_max_pool(x, (3, 2)), oracle_pool.adaptive(x, (3, 2), np.max))
    wide = x.astype(np.float64)
    np.testing.assert_allclose(global_avg_pool(x), wide.mean((1, 2)), rtol=1e-6)
    narrow = np.random.default_rng(3).standard_normal((2, 41, 37, 3)).astype("bfloat16")
    mean = adaptive_avg_pool(narrow, (3, 2))
    assert mean.dtype == narrow.dtype
    exact = oracle_pool.adaptive(narrow.astype(np.float64), (3, 2), np.mean)
    np.testing.assert_allclose(np.asarray(mean, np.float64), exact, rtol=0.5001 * 2.0**-7, atol=1e-6)


def test_any_number_of_batch_axes() -> None:
    x = np.random.default_rng(4).standard_normal((2, 3, 7, 5, 2))
    whole = adaptive_avg_pool(x, (2, 3))
    assert whole.shape == (2, 3, 2, 3, 2)
    np.testing.assert_array_equal(adaptive_avg_pool(x[1, 2], (2, 3)), whole[1, 2])


REFUSED = [
    (adaptive_avg_pool, TypeError, (np.zeros((2, 5, 1)), 3),
     "`output_shape` must be a sequence with one size per spatial axis, got 3"),
    (adaptive_max_pool, ValueError, (np.zeros((2, 5, 1)), ()),
     "`output_shape` must have at least one entry"),
    (adaptive_max_pool, ValueError, (np.zeros((2, 5, 1)), (0,)),
     "`output_shape` must be at least 1 on every axis, got (0,)"),
    (adaptive_avg_pool, ValueError, (np.zeros((5, 1)), (2, 2)),
     "`inputs` must have 2 spatial axes, as many as `output_shape`, and a channel axis last, got "
     "shape (5, 1)"),
    (adaptive_avg_pool, ValueError, (np.zeros((2, 0, 1)), (2,)),
     "`inputs` must have at least one sample on every spatial axis, got spatial sizes (0,)"),
    (global_max_pool, ValueError, (np.zeros((2, 0, 1)),), "`inputs` must have at least one sample"),
    (global_avg_pool, ValueError, (np.zeros((5, 1)),),
     "`inputs` must have a batch, a spatial and a channel axis at least, got shape (5, 1)"),
    (global_max_pool, TypeError, (np.zeros((2, 5, 1), complex),),
     "`inputs` must be booleans or integers or floats, got complex128"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pool", "kind", "arguments", "message"), REFUSED, ids=lambda v: getattr(v, "__name__", str(v)[:30])
)
def test_refusals(pool: Any, kind: type[Exception], arguments: Any, message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        pool(*arguments)
    assert f"\n  in {pool.__name__}(inputs=" in str(caught.value)
