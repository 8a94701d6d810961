"""Reverse-mode gradients of every order: wiring, bilinearity, jax.grad of lax as second witness.

Finite differences are exact here: a convolution is linear in each operand, so a step of 1.0 has
no truncation error.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
import oracle
from cases import ALGORITHM_NAMES, Case, forward, random_array, subset, supported
from tolerance import assert_close

by_algorithm = pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
FEW = subset("wide", "everything", "depthwise_strided", "batch_grouped")
by_case = pytest.mark.parametrize("case", FEW, ids=str)


@by_case
@by_algorithm
def test_vjp_is_both_oracle_gradients(algorithm: str, case: Case) -> None:
    x, w, dy = (jnp.asarray(a) for a in case.data())

    @jax.jit
    def all_three(x: Any, w: Any, dy: Any) -> tuple[jax.Array, ...]:
        y, pullback = jax.vjp(lambda x, w: forward(case, x, w, algorithm=algorithm), x, w)
        return y, *pullback(dy)

    y, dx, dw = supported(algorithm, lambda: all_three(x, w, dy))
    geometry = case.geometry
    for got, wanted, side in (
        (y, oracle.forward(x, w, geometry), "y"),
        (dx, oracle.input_gradient(dy, w, geometry), "dx"),
        (dw, oracle.kernel_gradient(x, dy, geometry), "dw"),
    ):
        assert_close(got, wanted, reduction=geometry.reduction(side), algorithm=algorithm)


@by_case
def test_one_trilinear_form_and_finite_differences(case: Case) -> None:
    x, w, dy = (jnp.asarray(a) for a in case.data("float64"))
    conv = jax.jit(lambda x, w: forward(case, x, w))
    y, pullback = jax.vjp(conv, x, w)
    dx, dw = pullback(dy)
    value = np.vdot(dy, y)
    np.testing.assert_allclose([np.vdot(x, dx), np.vdot(w, dw)], value)
    rng = np.random.default_rng(0)
    u, v = random_array(rng, x.shape, x.dtype), random_array(rng, w.shape, w.dtype)
    np.testing.assert_allclose(np.vdot(dx, u), np.vdot(dy, conv(x + u, w) - y), rtol=1e-9)
    np.testing.assert_allclose(np.vdot(dw, v), np.vdot(dy, conv(x, w + v) - y), rtol=1e-9)


def nested_gradients(conv: Callable[..., jax.Array], order: int) -> Callable[..., Any]:
    """The gradient of the gradient of ..., each level made scalar with a fixed nonlinear sum."""

    def scalar(x: jax.Array, w: jax.Array) -> jax.Array:
        y = conv(x, w)
        return (y * y * jnp.cos(y)).sum()

    f: Callable[..., jax.Array] = scalar
    for _ in range(order - 1):

        def f(x: jax.Array, w: jax.Array, inner: Callable[..., jax.Array] = f) -> jax.Array:
            dx, dw = jax.grad(inner, (0, 1))(x, w)
            return (dx * jnp.sin(dx)).sum() + (dw * jnp.sin(dw)).sum()

    return jax.jit(jax.grad(f, (0, 1)))


STRIDED = Case("tiny_strided", (1, 6, 2), (3, 2, 2), 1, 2)
GROUPED = Case("tiny_grouped", (1, 4, 5, 2), (2, 2, 1, 2), "SAME", 1, 1, (1, 2), groups=2)
DILATED = Case("tiny_dilated", (1, 4, 2), (3, 2, 2), ((2, -1),), 2, 3)
BATCHED = Case("tiny_batch_grouped", (2, 5, 1), (2, 1, 2), batch_groups=2)


@pytest.mark.parametrize(
    ("order", "case"),
    [(2, STRIDED), (2, GROUPED), (2, DILATED), (2, BATCHED), (3, STRIDED), (3, GROUPED)],
    ids=str,
)
def test_every_order_agrees_with_jax_on_lax(order: int, case: Case) -> None:
    x, w, _ = case.data("float64")

    def lax_conv(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, w, **case.lax_options)

    ours = nested_gradients(lambda x, w: forward(case, x, w), order)(x, w)
    theirs = nested_gradients(lax_conv, order)(x, w)
    for got, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-8 * float(abs(wanted).max()))


@by_algorithm
def test_second_order_of_each_algorithm(algorithm: str) -> None:
    """The derivative of a gradient pass is the other two passes, by the same algorithm."""
    (case,) = subset("depthwise") if algorithm == "depthwise" else subset("wide")
    x, w, dy = (jnp.asarray(a) for a in case.data())
    rng = np.random.default_rng(3)
    u, v = (jnp.asarray(random_array(rng, a.shape, a.dtype)) for a in (x, w))

    def gradients(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(lambda x, w: forward(case, x, w, algorithm=algorithm), x, w)[1](dy)

    ddx, ddw, ddy = supported(algorithm, lambda: jax.vjp(jax.jit(gradients), x, w, dy)[1]((u, v)))
    geometry = case.geometry
    wanted_dy = oracle.forward(u, w, geometry) + oracle.forward(x, v, geometry)
    for got, wanted, side in (
        (ddx, oracle.input_gradient(dy, v, geometry), "dx"),
        (ddw, oracle.kernel_gradient(u, dy, geometry), "dw"),
        (ddy, wanted_dy, "y"),
    ):
        assert_close(got, wanted, reduction=geometry.reduction(side), algorithm=algorithm)


def test_a_network_of_two_layers_with_and_without_jit() -> None:
    """Layers of one geometry share compiled code; the first needs no gradient for its input."""
    rng = np.random.default_rng(5)
    x, v, w = (jnp.asarray(rng.standard_normal(s)) for s in ((1, 6, 2), (3, 2, 2), (3, 2, 2)))

    def loss(v: jax.Array, w: jax.Array, layer: Callable[..., jax.Array]) -> jax.Array:
        return (layer(jnp.tanh(layer(x, v)), w) ** 2).sum()

    def lax_layer(x: jax.Array, w: jax.Array) -> jax.Array:
        numbers = ("NWC", "WIO", "NWC")
        return lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=numbers)

    wanted = jax.grad(loss, (0, 1))(v, w, lax_layer)
    eager = jax.grad(loss, (0, 1))(v, w, jaxconv.conv)
    jitted = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)(v, w, jaxconv.conv)
    for got in (eager, jitted):
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_named_gradients_are_differentiable_functions_themselves() -> None:
    (case,) = subset("same_lower_strided")
    x, w, dy = (jnp.asarray(a) for a in case.data("float64"))
    geometry, options = case.geometry, case.options

    def input_gradient(dy: jax.Array, w: jax.Array) -> jax.Array:
        return jaxconv.conv_input_gradient(dy, w, x.shape, **options)

    def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jaxconv.conv_kernel_gradient(x, dy, w.shape, **options)

    ddy, dw = jax.vjp(input_gradient, dy, w)[1](x)
    np.testing.assert_allclose(ddy, oracle.forward(x, w, geometry), atol=1e-12)
    np.testing.assert_allclose(dw, oracle.kernel_gradient(x, dy, geometry), atol=1e-12)
    dx, ddy = jax.vjp(kernel_gradient, x, dy)[1](w)
    np.testing.assert_allclose(dx, oracle.input_gradient(dy, w, geometry), atol=1e-12)
    np.testing.assert_allclose(ddy, oracle.forward(x, w, geometry), atol=1e-12)


def test_each_pass_follows_its_own_entry_of_the_dict() -> None:
    """Only the forward pass may contain XLA's convolution when only it was asked to."""
    (case,) = subset("line")
    x, w, dy = case.data()
    for key in ("forward", "input_grad", "kernel_grad"):

        def gradients(x: Any, w: Any, dy: Any, key: str = key) -> Any:
            y, pullback = jax.vjp(lambda x, w: forward(case, x, w, algorithm={key: "xla"}), x, w)
            return y, *pullback(dy)

        ours = jax.make_jaxpr(gradients)(x, w, dy)
        assert str(ours).count("conv_general_dilated[") == 1, key


def test_unused_gradient_of_a_constant_operand() -> None:
    """A gradient for one operand alone is that of both, whatever the other pass would cost."""
    (case,) = subset("strided")
    x, w, dy = (jnp.asarray(a) for a in case.data("float64"))
    dw = jax.grad(lambda w: jnp.vdot(forward(case, x, w), dy))(w)
    dx = jax.grad(lambda x: jnp.vdot(forward(case, x, w), dy))(x)
    np.testing.assert_allclose(dw, oracle.kernel_gradient(x, dy, case.geometry), atol=1e-12)
    np.testing.assert_allclose(dx, oracle.input_gradient(dy, w, case.geometry), atol=1e-12)


def test_complex_gradients_do_not_conjugate() -> None:
    """JAX's convention: the pullback is the plain transpose."""
    (case,) = subset("grouped_strided")
    x, w, dy = (jnp.asarray(a) for a in case.data("complex128"))
    dx, dw = jax.vjp(lambda x, w: forward(case, x, w), x, w)[1](dy)
    np.testing.assert_allclose(dx, oracle.input_gradient(dy, w, case.geometry), atol=1e-12)
    np.testing.assert_allclose(dw, oracle.kernel_gradient(x, dy, case.geometry), atol=1e-12)
