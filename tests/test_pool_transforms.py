"""The pools beyond max, min, average and sum under JAX's transformations, and what their jaxprs hold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
from test_pool_structure import program


def positions(x: Any, **options: Any) -> jax.Array:
    values, where = jaxconv.max_pool_with_argmax(x, (2, 3), 2, "SAME", **options)
    return values * (1 + where.astype(x.dtype))


def round_trip(x: Any, **options: Any) -> jax.Array:
    return jaxconv.max_unpool(*jaxconv.max_pool_with_argmax(x, (2, 2), 2, **options), (6, 7), **options)


def norm(x: Any, **options: Any) -> jax.Array:
    return jaxconv.lp_pool(x, (3, 2), (1, 2), "SAME", p=3, **options)


def extended(x: Any, **options: Any) -> jax.Array:
    return jaxconv.max_pool(x, (3, 2), (1, 2), "CIRCULAR", **options)


def adaptive_average(x: Any, **options: Any) -> jax.Array:
    return jaxconv.adaptive_avg_pool(x, (4, 3), **options)


def adaptive_maximum(x: Any, **options: Any) -> jax.Array:
    return jaxconv.adaptive_max_pool(x, (4, 3), **options)


def global_average(x: Any, **options: Any) -> jax.Array:
    return jaxconv.global_avg_pool(x, **options)


def global_maximum(x: Any, **options: Any) -> jax.Array:
    return jaxconv.global_max_pool(x, **options)


def product(x: Any, **options: Any) -> jax.Array:
    return jaxconv.pool(x, 1.0, jnp.multiply, (2, 3), (2, 1), "SAME", **options)


def gaps(x: Any, **options: Any) -> jax.Array:
    pads = ((0, 0), (2, 1), (0, 1), (0, 0))
    window, base = (1, 3, 2, 1), (1, 2, 1, 1)
    return jaxconv.reduce_window(x, -jnp.inf, lax.max, window, None, pads, base, **options)


POOLS = (
    positions, round_trip, norm, extended, adaptive_average, adaptive_maximum, global_average, global_maximum,
    product, gaps,
)  # fmt: skip
EACH = pytest.mark.parametrize("pool", POOLS, ids=lambda f: f.__name__)
SHAPE = (2, 6, 7, 3)


def data(*leading: int, dtype: Any = np.float64) -> jax.Array:
    x = np.random.default_rng(0).standard_normal((*leading, *SHAPE)).astype(dtype)
    return jnp.asarray(np.abs(x) + 0.1)


def slope(pool: Any, **options: Any) -> Any:
    return jax.grad(lambda x: (pool(x, **options) ** 2).sum())


@EACH
def test_vmap_over_any_axis(pool: Any) -> None:
    x = data(3)
    for function in (pool, slope(pool)):
        single = jax.jit(function)
        expected = np.stack([single(one) for one in x])
        for axis in (1, 4):
            got = jax.jit(jax.vmap(function, in_axes=axis))(jnp.moveaxis(x, 0, axis))
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@EACH
def test_checkpoint_in_a_scan(pool: Any) -> None:
    x = data(3)

    def energy(x: Any) -> jax.Array:
        step = jax.checkpoint(lambda one: (pool(one) ** 2).sum())
        return lax.scan(lambda total, one: (total + step(one), None), jnp.zeros(()), x)[0]

    single = jax.jit(slope(pool))
    expected = np.stack([single(one) for one in x])
    np.testing.assert_allclose(jax.jit(jax.grad(energy))(x), expected, rtol=1e-12, atol=1e-14)


@EACH
def test_the_batch_may_be_symbolic(pool: Any) -> None:
    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, *SHAPE[1:]), jnp.float32)
    x = data(dtype=np.float32)
    sized = jax.jit(slope(pool))
    exported = jax.export.export(sized)(spec)
    np.testing.assert_allclose(jax.jit(exported.call)(x), sized(x), rtol=1e-5, atol=1e-6)


@EACH
def test_jax_differentiates_in_either_mode(pool: Any) -> None:
    x, t = data(), jnp.asarray(np.random.default_rng(1).standard_normal(SHAPE))
    by_jax, by_rules = slope(pool, autodiff="jax"), slope(pool)
    forward = jax.jit(lambda x: jax.jvp(by_jax, (x,), (t,))[1])(x)
    reverse = jax.jit(jax.grad(lambda x: (by_rules(x) * t).sum()))(x)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10, atol=1e-12)


@EACH
def test_an_eager_call_is_few_compiled_calls_without_laxs_windows(pool: Any) -> None:
    x = data()
    names = {str(e.primitive) for f in (pool, slope(pool)) for e in program(f, x)}
    assert not {n for n in names if n.startswith(("reduce_window", "select_and", "conv_general"))}


def test_narrow_floats_keep_their_dtype() -> None:
    for pool in POOLS:
        for dtype in ("bfloat16", "float16", "float32"):
            x = data().astype(dtype)
            shapes = [jax.eval_shape(function, x) for function in (pool, slope(pool))]
            assert [shape.dtype for shape in shapes] == [dtype] * 2
