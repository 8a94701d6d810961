"""`depthwise_conv` and `separable_conv`: grouped convolutions under their own names."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxconv
import oracle
from cases import Case


@st.composite
def problems(draw: Any) -> Case:
    """A depthwise problem in lax's form, [*K, 1, C Q]."""
    rank, channels = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    axes = []
    for _ in range(rank):
        taps, dilation, base = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        lo, hi = draw(st.integers(-1, 3)), draw(st.integers(-1, 3))
        least = max(2, (taps - 1) * dilation + 1 - lo - hi)
        axes.append(
            (draw(st.integers(least, least + 3)), taps, draw(st.integers(1, 3)), base, dilation, (lo, hi))
        )
    sizes, taps, strides, base, dilation, pads = (tuple(c) for c in zip(*axes, strict=True))
    per_channel = draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 2)), *sizes, channels)
    return Case(
        "depthwise", shape, (*taps, 1, channels * per_channel), pads, strides, base, dilation, channels
    )


def options(case: Case) -> dict[str, Any]:
    return {name: value for name, value in case.options.items() if name != "groups"}


@given(problems())
def test_depthwise_is_the_grouped_convolution_in_both_forms_of_the_kernel(case: Case) -> None:
    x, w, dy = case.data("float64")
    wanted = oracle.forward(x, w, case.geometry)
    channels = case.x_shape[-1]
    keras = w.reshape(*w.shape[:-2], channels, -1)

    @jax.jit
    def program(x: Any, w: Any, dy: Any, flat: Any) -> Any:
        y, pullback = jax.vjp(lambda x, w: jaxconv.depthwise_conv(x, w, **options(case)), x, w)
        return y, jaxconv.depthwise_conv(x, flat, **options(case)), *pullback(dy)

    y, again, dx, dw = program(x, keras, dy, w)
    np.testing.assert_allclose(y, wanted, atol=1e-11)
    np.testing.assert_allclose(again, wanted, atol=1e-11)
    np.testing.assert_allclose(dx, oracle.input_gradient(dy, w, case.geometry), atol=1e-11)
    np.testing.assert_allclose(dw.reshape(w.shape), oracle.kernel_gradient(x, dy, case.geometry), atol=1e-11)


@given(problems(), st.integers(1, 3), st.booleans())
def test_separable_is_one_dense_convolution(case: Case, out: int, flat: bool) -> None:
    """Its dense kernel is the product of the two."""
    x, w, _ = case.data("float64")
    channels, rank = case.x_shape[-1], case.rank
    pointwise = np.random.default_rng(0).standard_normal((w.shape[-1], out))
    depthwise = w.reshape(*w.shape[:-2], channels, -1)
    per_channel = pointwise.reshape(channels, -1, out)
    dense = np.einsum("...cq,cqo->...co", depthwise, per_channel)
    geometry = Case("dense", case.x_shape, dense.shape, case.padding, case.strides, case.input_dilation,
                    case.kernel_dilation).geometry  # fmt: skip
    second = pointwise if flat else pointwise.reshape(*[1] * rank, *pointwise.shape)
    got = jax.jit(lambda *a: jaxconv.separable_conv(*a, **options(case)))(x, depthwise, second)
    np.testing.assert_allclose(got, oracle.forward(x, dense, geometry), atol=1e-10)


def test_second_order_gradients_agree_with_the_dense_kernel() -> None:
    rng = np.random.default_rng(0)
    x, d, p = (rng.standard_normal(s) for s in [(1, 5, 4, 3), (3, 2, 3, 2), (6, 4)])

    def separable(x: Any, d: Any, p: Any) -> jax.Array:
        return jaxconv.separable_conv(x, d, p, strides=2)

    def dense(x: Any, d: Any, p: Any) -> jax.Array:
        return jaxconv.conv(x, jnp.einsum("hwcq,cqo->hwco", d, p.reshape(3, 2, 4)), strides=2)

    def slopes(function: Any) -> Any:
        def value(*a: Any) -> jax.Array:
            return jnp.sin(function(*a)).sum()

        def second(*a: Any) -> jax.Array:
            return sum((g * g).sum() for g in jax.grad(value, (0, 1, 2))(*a))  # type: ignore[return-value]

        return jax.jit(lambda *a: jax.grad(value, (0, 1, 2))(*a) + jax.grad(second, (0, 1, 2))(*a))(x, d, p)

    for got, wanted in zip(slopes(separable), slopes(dense), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_bias_types_and_batches() -> None:
    x = jnp.ones((2, 3, 6, 2), jnp.bfloat16)
    d, p = jnp.ones((3, 2, 1), jnp.bfloat16), jnp.ones((2, 4), jnp.bfloat16)
    y = jaxconv.separable_conv(x, d, p, jnp.ones(4, jnp.bfloat16), padding="VALID")
    assert y.shape == (2, 3, 4, 4) and y.dtype == jnp.bfloat16 and (y == 7).all()
    wide = jaxconv.separable_conv(x, d, p, padding="CIRCULAR", preferred_element_type=jnp.float32)
    assert wide.dtype == jnp.float32 and (wide == 6).all()
    ints = jaxconv.depthwise_conv(
        jnp.full((1, 4, 2), 100, jnp.int8), jnp.full((2, 2, 1), 100, jnp.int8),
        padding="VALID", preferred_element_type=jnp.int32,
    )  # fmt: skip
    assert (ints == 20000).all()


def test_one_compiled_call() -> None:
    x, d, p = jnp.ones((1, 5, 2)), jnp.ones((3, 2, 1)), jnp.ones((2, 4))
    jaxpr = jax.make_jaxpr(jaxconv.separable_conv)(x, d, p)
    outer = [str(equation.primitive) for equation in jaxpr.eqns if "jit" in str(equation.primitive)]
    assert outer == ["jit"]


@pytest.mark.parametrize(
    ("d", "p", "message"),
    [
        ((3, 3, 3, 1), (4, 5), r"\[\*K, C, Q\]"),
        ((3, 3, 1, 6), (6, 5), r"\[\*K, C, Q\]"),
        ((3, 3, 4, 2), (4, 5), "pointwise_kernel"),
        ((3, 3, 4, 1), (1, 4, 5), "pointwise_kernel"),
        ((3, 3, 4, 1), (2, 2, 4, 5), "pointwise_kernel"),
    ],
)
def test_wrong_kernels_say_what_they_must_be(d: Any, p: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jaxconv.separable_conv(jnp.ones((1, 6, 6, 4)), jnp.ones(d), jnp.ones(p))
