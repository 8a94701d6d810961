"""Every public operation and its derivatives: what they are made of, in either mode, which are computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from test_structure import XLA_WINDOWS, primitives
from test_transform_table import TABLE, arrays, table

BY_JAX = table(autodiff="jax")
EACH = pytest.mark.parametrize("name", TABLE)
# What slides a window or a running reduction for its caller.
FORBIDDEN = (*XLA_WINDOWS, "select_and_gather", "cum")
SEVERAL = [name for name, (_, shapes) in TABLE.items() if len(shapes) > 1]


def slopes(operation: Callable[..., Any]) -> Callable[..., Any]:
    """All gradients of an energy that is no polynomial of degree 2."""

    def energy(*operands: Any) -> jax.Array:
        return jnp.sin(operation(*operands)).sum()

    return lambda *operands: jax.grad(energy, tuple(range(len(operands))))(*operands)


def second_slopes(operation: Callable[..., Any]) -> Callable[..., Any]:
    def energy(*operands: Any) -> jax.Array:
        return sum((g**2).sum() for g in slopes(operation)(*operands))

    return lambda *operands: jax.grad(energy, tuple(range(len(operands))))(*operands)


@EACH
def test_no_convolution_or_window_of_xlas(name: str) -> None:
    """Values, two orders of gradients and a batch of them, by the rules by hand and by JAX's own."""
    operands = arrays(name)
    for operation in (TABLE[name][0], BY_JAX[name][0]):
        for function in (operation, slopes(operation), second_slopes(operation)):
            found = primitives(function, *operands)
            assert found
            assert not {p for p in found if p.startswith(FORBIDDEN)}
    assert not {
        p for p in primitives(jax.vmap(slopes(operation)), *arrays(name, 3)) if p.startswith(FORBIDDEN)
    }


@pytest.mark.slow
@EACH
def test_forward_mode_is_the_transpose_of_the_rules_by_hand(name: str) -> None:
    """jvp, linearize and jacfwd of autodiff="jax" beside the reverse mode by hand: <J v, u> = <v, J' u>."""
    operation, operands = BY_JAX[name][0], arrays(name)
    rng = np.random.default_rng(5)
    vs = [jnp.asarray(rng.standard_normal(x.shape)) for x in operands]
    y, tangent = jax.jit(lambda xs, vs: jax.jvp(operation, xs, vs))(tuple(operands), tuple(vs))
    u = jnp.asarray(rng.standard_normal(y.shape))
    by_hand = jax.jit(lambda *xs: jax.vjp(TABLE[name][0], *xs)[1](u))(*operands)
    wanted = sum(float((g * v).sum()) for g, v in zip(by_hand, vs, strict=True))
    np.testing.assert_allclose(float((tangent * u).sum()), wanted, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(jax.linearize(operation, *operands)[1](*vs), tangent, rtol=1e-9, atol=1e-10)
    jacobian = jax.jit(jax.jacfwd(operation))(*operands)
    pulled = jnp.tensordot(u, jacobian, axes=u.ndim)
    np.testing.assert_allclose(pulled, by_hand[0], rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@EACH
def test_forward_over_reverse_is_reverse_over_reverse(name: str) -> None:
    """A product with the Hessian by JAX's modes, against the second order of the rules by hand."""
    operands = tuple(arrays(name))
    vs = tuple(jnp.asarray(np.random.default_rng(6).standard_normal(x.shape)) for x in operands)
    _, got = jax.jit(lambda xs, vs: jax.jvp(slopes(BY_JAX[name][0]), xs, vs))(operands, vs)
    wanted = jax.jit(lambda xs, vs: jax.vjp(slopes(TABLE[name][0]), *xs)[1](vs))(operands, vs)
    for mine, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "max_pool", "lp_pool", "deform_conv"])
def test_hessian(name: str) -> None:
    """`jax.hessian`, forward over reverse, of the first array."""
    operation, (x, *others) = BY_JAX[name][0], arrays(name)
    hessian = jax.jit(jax.hessian(lambda x: jnp.sin(operation(x, *others)).sum()))(x)
    by_hand = slopes(lambda x: TABLE[name][0](x, *others))
    wanted = jax.jit(jax.jacrev(lambda x: by_hand(x)[0]))(x)
    np.testing.assert_allclose(hessian, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "conv" else pytest.mark.slow) for name in SEVERAL]
)
def test_a_gradient_that_nobody_asks_for_is_not_computed(name: str) -> None:
    """The compiled gradient of each array alone costs fewer operations than all of them together."""
    operation, operands = TABLE[name][0], arrays(name)

    def flops(wanted: tuple[int, ...]) -> float:
        gradient = jax.grad(lambda *xs: jnp.sin(operation(*xs)).sum(), wanted)
        return jax.jit(gradient).lower(*operands).compile().cost_analysis()["flops"]

    largest = max(range(len(operands)), key=lambda i: operands[i].size)
    everything = flops(tuple(range(len(operands))))
    assert flops((largest,)) < 0.9 * everything
    assert flops((1 if largest == 0 else 0,)) < 0.9 * everything
