"""`autodiff="jax"`: JAX differentiates through the lax primitives, forward mode included."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
import oracle
from cases import HAND_WRITTEN, Case, forward, random_array, subset, supported
from tolerance import assert_close

TINY = Case("tiny_ad", (1, 5, 2), (3, 2, 2), ((2, -1),), 2, 2)


@pytest.mark.parametrize("case", subset("everything", "depthwise", "wide"), ids=str)
@pytest.mark.parametrize("algorithm", HAND_WRITTEN)
def test_jvp_and_vjp(algorithm: str, case: Case) -> None:
    x, w, dy = (jnp.asarray(a) for a in case.data())
    rng = np.random.default_rng(4)
    u, v = (jnp.asarray(random_array(rng, a.shape, a.dtype)) for a in (x, w))

    @jax.jit
    def both_modes(x: Any, w: Any, u: Any, v: Any, dy: Any) -> Any:
        def conv(x: Any, w: Any) -> jax.Array:
            return forward(case, x, w, autodiff="jax", algorithm=algorithm)

        return jax.jvp(conv, (x, w), (u, v))[1], *jax.vjp(conv, x, w)[1](dy)

    tangent, dx, dw = supported(algorithm, lambda: both_modes(x, w, u, v, dy))
    geometry = case.geometry
    wanted_tangent = oracle.forward(u, w, geometry) + oracle.forward(x, v, geometry)
    for got, wanted, side in (
        (tangent, wanted_tangent, "y"),
        (dx, oracle.input_gradient(dy, w, geometry), "dx"),
        (dw, oracle.kernel_gradient(x, dy, geometry), "dw"),
    ):
        assert_close(got, wanted, reduction=4 * geometry.reduction(side), algorithm=algorithm)


def test_jacfwd_is_jacrev() -> None:
    x, w, _ = (jnp.asarray(a) for a in TINY.data("float64"))

    def conv(w: jax.Array) -> jax.Array:
        return forward(TINY, x, w, autodiff="jax")

    forward_mode, reverse_mode = jax.jacfwd(conv)(w), jax.jacrev(conv)(w)
    np.testing.assert_allclose(forward_mode, reverse_mode, atol=1e-12)
    basis = np.zeros(w.shape)
    basis[1, 0, 1] = 1
    np.testing.assert_allclose(
        forward_mode[..., 1, 0, 1], oracle.forward(x, basis, TINY.geometry), atol=1e-12
    )


def test_hessian_agrees_with_that_of_the_custom_rules() -> None:
    x, w, _ = (jnp.asarray(a) for a in TINY.data("float64"))

    def loss(w: jax.Array, autodiff: str) -> jax.Array:
        return jnp.sin(forward(TINY, x, w, autodiff=autodiff)).sum()

    got = jax.hessian(loss)(w, "jax")
    wanted = jax.jacrev(jax.jacrev(loss))(w, "custom")
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


def test_linearize_and_linear_transpose() -> None:
    x, w, dy = (jnp.asarray(a) for a in TINY.data("float64"))

    def conv(x: jax.Array) -> jax.Array:
        return forward(TINY, x, w, autodiff="jax")

    y, linear = jax.linearize(conv, x)
    np.testing.assert_allclose(linear(x), y, atol=1e-12)
    (dx,) = jax.linear_transpose(conv, x)(dy)
    np.testing.assert_allclose(dx, oracle.input_gradient(dy, w, TINY.geometry), atol=1e-12)


def test_named_passes_and_conv_transpose_take_it_too() -> None:
    x, w, dy = (jnp.asarray(a) for a in TINY.data("float64"))
    options = {**TINY.options, "autodiff": "jax"}
    _, dx = jax.jvp(lambda dy: jaxconv.conv_input_gradient(dy, w, x.shape, **options), (dy,), (dy,))
    np.testing.assert_allclose(dx, oracle.input_gradient(dy, w, TINY.geometry), atol=1e-12)
    _, dw = jax.jvp(lambda x: jaxconv.conv_kernel_gradient(x, dy, w.shape, **options), (x,), (x,))
    np.testing.assert_allclose(dw, oracle.kernel_gradient(x, dy, TINY.geometry), atol=1e-12)
    _, y = jax.jvp(lambda x: jaxconv.conv_transpose(x, w, (2,), "SAME", autodiff="jax"), (x,), (x,))
    np.testing.assert_allclose(y, oracle.conv_transpose(x, w, (2,), "SAME", (1,)), atol=1e-12)


def test_custom_rules_say_no_to_forward_mode() -> None:
    x, w, _ = TINY.data()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: forward(TINY, x, w), (jnp.asarray(x),), (jnp.asarray(x),))
