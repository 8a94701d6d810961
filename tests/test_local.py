"""`conv_local`: a kernel of its own at every output."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxconv
import oracle
from cases import CASES, Case


@st.composite
def problems(draw: Any) -> Case:
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    axes = []
    for _ in range(rank):
        taps, dilation, base = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        lo, hi = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        size = draw(st.integers(max(1, (taps - 1) * dilation + 1 - lo - hi), 6))
        axes.append((size, taps, draw(st.integers(1, 3)), base, dilation, (lo, hi)))
    sizes, taps, strides, base, dilation, pads = (tuple(c) for c in zip(*axes, strict=True))
    cin, cout = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return Case(
        "local", (2, *sizes, cin * groups), (*taps, cin, cout * groups), pads, strides, base, dilation, groups
    )


def kernels(case: Case, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*case.geometry.y_shape[1:-1], *case.w_shape))


def by_definition(case: Case, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The oracle's convolution with every kernel in turn, each kept at its own output."""
    y = np.zeros(case.geometry.y_shape)
    for m in np.ndindex(*case.geometry.y_shape[1:-1]):
        spot = (slice(None), *m)
        y[spot] = oracle.forward(x, w[m], case.geometry)[spot]
    return y


@given(problems())
def test_values_and_gradients(case: Case) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(case.x_shape), kernels(case)
    g = rng.standard_normal(case.geometry.y_shape)

    @jax.jit
    def all_three(x: Any, w: Any, g: Any) -> Any:
        y, pullback = jax.vjp(lambda x, w: jaxconv.conv_local(x, w, **case.options), x, w)
        return y, *pullback(g)

    y, dx, dw = all_three(x, w, g)
    np.testing.assert_allclose(y, by_definition(case, x, w), atol=1e-11)
    np.testing.assert_allclose([np.vdot(dx, x), np.vdot(dw, w)], np.vdot(y, g), rtol=1e-9, atol=1e-9)


SHARED = [case for case in CASES if case.rank and case.batch_groups == 1]


@pytest.mark.parametrize("case", SHARED, ids=str)
def test_equal_kernels_make_a_convolution(case: Case) -> None:
    x, w, _ = case.data("float64")
    outputs = case.geometry.y_shape[1:-1]
    repeated = np.broadcast_to(w, (*outputs, *w.shape))
    got = jaxconv.conv_local(x, repeated, **case.options)
    np.testing.assert_allclose(got, oracle.forward(x, w, case.geometry), atol=1e-11)


@pytest.mark.parametrize("padding", ["CIRCULAR", "REFLECT", "SYMMETRIC", "EDGE", "CAUSAL", "FULL"])
def test_padding_names(padding: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 7, 3)), rng.standard_normal((3, 3, 2))
    y = jaxconv.conv(x, w, padding=padding, strides=2)
    repeated = np.broadcast_to(w, (y.shape[1], *w.shape))
    np.testing.assert_allclose(jaxconv.conv_local(x, repeated, padding=padding, strides=2), y, atol=1e-12)


@pytest.mark.parametrize("autodiff", ["custom", "jax"])
def test_gradients_of_both_orders_are_those_of_lax(autodiff: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3 * 6, 3, 5))
    arguments = ((2, 1), ((1, 1), (1, 0)), (3, 2), None, (1, 1), ("NCHW", "OIHW", "NHWC"))

    def both(local: Any) -> Any:
        def value(x: jax.Array, w: jax.Array) -> jax.Array:
            return jnp.sin(local(x, w, *arguments)).sum()

        def second(x: jax.Array, w: jax.Array) -> jax.Array:
            return sum((d * d).sum() for d in jax.grad(value, (0, 1))(x, w))  # type: ignore[return-value]

        orders = lambda x, w: (jax.grad(value, (0, 1))(x, w), jax.grad(second, (0, 1))(x, w))  # noqa: E731
        return [local(x, w, *arguments), *jax.tree.leaves(jax.jit(orders)(x, w))]

    ours = both(lambda *a: jaxconv.conv_general_dilated_local(*a, autodiff=autodiff))
    for got, wanted in zip(ours, both(lax.conv_general_dilated_local), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("per_output", [True, False])
def test_bias_and_batches(per_output: bool) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 5, 2)), rng.standard_normal((3, 3, 2, 4))
    bias = rng.standard_normal((3, 4) if per_output else 4)
    got = jaxconv.conv_local(x, w, bias, padding="VALID")
    assert got.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(got, np.asarray(jaxconv.conv_local(x, w, padding="VALID")) + bias, atol=1e-12)
    np.testing.assert_allclose(jaxconv.conv_local(x[0, 0], w, bias, padding="VALID"), got[0, 0], atol=1e-12)


def test_narrow_types_accumulate_wide() -> None:
    x, w = jnp.ones((1, 600, 1), jnp.bfloat16), jnp.ones((1, 600, 1, 1), jnp.bfloat16)
    assert jaxconv.conv_local(x, w, padding="VALID")[0, 0, 0] == 600
    ints = jaxconv.conv_local(
        jnp.full((1, 3, 1), 100, jnp.int8), jnp.full((1, 3, 1, 1), 100, jnp.int8),
        padding="VALID", preferred_element_type=jnp.int32,
    )  # fmt: skip
    assert ints[0, 0, 0] == 30000 and ints.dtype == jnp.int32


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 3, 2, 2), {}, "one kernel for each"),
        ((3, 3, 5, 2), {}, "channels"),
        ((3, 3, 3, 2, 2), {}, "even number"),
        ((3, 3, 2, 2), {"bias": jnp.ones(3)}, "bias"),
        ((3, 3, 2, 2), {"autodiff": "both"}, "autodiff"),
    ],
)
def test_wrong_calls(shape: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jaxconv.conv_local(jnp.ones((1, 5, 2)), jnp.ones(shape), padding="VALID", **options)


def test_lax_names_the_wrong_number_of_entries() -> None:
    with pytest.raises(ValueError, match="entries"):
        jaxconv.conv_general_dilated_local(jnp.ones((1, 2, 5)), jnp.ones((3, 5, 3)), (1,), "VALID", (3,))
