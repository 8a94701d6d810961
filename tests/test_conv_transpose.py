"""`conv_transpose`: lax's signature and values; it is the input gradient of a convolution."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
import oracle
from cases import ALGORITHM_NAMES, supported
from tolerance import assert_close

GEOMETRIES = [
    # x_shape, kernel, strides, padding, dilation
    ((2, 5, 3), (3,), (2,), "SAME", (1,)),
    ((2, 5, 3), (2,), (3,), "VALID", (2,)),
    ((1, 4, 5, 2), (3, 4), (2, 1), "SAME", (1, 2)),
    ((1, 4, 3, 2), (2, 5), (3, 2), "VALID", (1, 1)),
    ((1, 4, 5, 2), (3, 3), (2, 3), ((1, 0), (-1, 4)), (2, 1)),
    ((1, 3, 2, 4, 2), (2, 3, 1), (2, 1, 3), ((2, 2), (1, 1), (0, 0)), (1, 1, 1)),
]


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g[1]}s{g[2]}{g[3]}")
def test_against_oracle_and_lax(geometry: Any, transpose_kernel: bool) -> None:
    x_shape, taps, strides, padding, dilation = geometry
    rng = np.random.default_rng(0)
    channels = (4, x_shape[-1]) if transpose_kernel else (x_shape[-1], 4)
    x = rng.standard_normal(x_shape)
    w = rng.standard_normal((*taps, *channels))
    got = jaxconv.conv_transpose(x, w, strides, padding, dilation, transpose_kernel=transpose_kernel)
    wanted = oracle.conv_transpose(x, w, strides, padding, dilation, transpose_kernel)
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    witness = lax.conv_transpose(x, w, strides, padding, dilation, transpose_kernel=transpose_kernel)
    assert got.shape == witness.shape
    np.testing.assert_allclose(got, witness, atol=1e-12)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (0, 2)), ((-1, 2), (3, 0))])
def test_consistent_padding_is_that_of_the_forward_convolution(padding: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 4, 5, 2)), rng.standard_normal((3, 2, 2, 3))
    arguments: dict[str, Any] = {"use_consistent_padding": True}
    got = jaxconv.conv_transpose(x, w, (2, 3), padding, **arguments)
    wanted = oracle.conv_transpose(x, w, (2, 3), padding, (1, 1), consistent=True)
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    np.testing.assert_allclose(got, lax.conv_transpose(x, w, (2, 3), padding, **arguments), atol=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_is_the_input_gradient(algorithm: str) -> None:
    """With the kernel transposed and the pads of the forward call, it is the pullback of `conv`."""
    rng = np.random.default_rng(0)
    depthwise = algorithm == "depthwise"
    groups, strides = (2, 1) if depthwise else (1, 1 if algorithm in ("winograd", "fft") else 2)
    x = rng.standard_normal((1, 9, 9, 2)).astype(np.float32)
    w = rng.standard_normal((3, 3, 2 // groups, 2)).astype(np.float32)
    options = {"strides": strides, "padding": 1, "groups": groups, "algorithm": algorithm}
    y, pullback = supported(algorithm, lambda: jax.vjp(lambda x: jaxconv.conv(x, w, **options), x))
    dy = jnp.asarray(rng.standard_normal(y.shape).astype(np.float32))
    (dx,) = pullback(dy)
    np.testing.assert_array_equal(jaxconv.conv_input_gradient(dy, w, x.shape, **options), dx)
    if depthwise:
        return
    again = jaxconv.conv_transpose(
        dy,
        w,
        (strides,) * 2,
        ((1, 1), (1, 1)),
        transpose_kernel=True,
        use_consistent_padding=True,
        algorithm=algorithm,
    )
    assert_close(again, dx, reduction=18, algorithm=algorithm)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_default_layout_is_channels_last(rank: int) -> None:
    rng = np.random.default_rng(rank)
    x = rng.standard_normal((2, *range(3, 3 + rank), 3))
    w = rng.standard_normal((*range(2, 2 + rank), 3, 4))
    got = jaxconv.conv_transpose(x, w, (2,) * rank, "SAME")
    np.testing.assert_allclose(got, lax.conv_transpose(x, w, (2,) * rank, "SAME"), atol=1e-12)


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_other_layouts(transpose_kernel: bool) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 3, 2, 3))
    numbers = ("NCHW", "OIHW", "NHWC")
    arguments = {"dimension_numbers": numbers, "transpose_kernel": transpose_kernel}
    got = jaxconv.conv_transpose(x, w, (2, 1), "SAME", **arguments)
    wanted = lax.conv_transpose(x, w, (2, 1), "SAME", **arguments)
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_gradients_agree_with_jax_on_lax() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 4, 5, 2)), rng.standard_normal((3, 2, 2, 3))

    def gradients(conv_transpose: Any) -> Any:
        def value(x: jax.Array, w: jax.Array) -> jax.Array:
            y = conv_transpose(x, w, (2, 3), "SAME")
            return (y * jnp.sin(y)).sum()

        def second(x: jax.Array, w: jax.Array) -> jax.Array:
            dx, dw = jax.grad(value, (0, 1))(x, w)
            return (dx * dx).sum() + (dw * dw).sum()

        return jax.jit(jax.grad(value, (0, 1)))(x, w) + jax.jit(jax.grad(second, (0, 1)))(x, w)

    for got, wanted in zip(gradients(jaxconv.conv_transpose), gradients(lax.conv_transpose), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_preferred_element_type_and_dtype() -> None:
    x, w = jnp.ones((1, 3, 2), jnp.bfloat16), jnp.ones((2, 2, 2), jnp.bfloat16)
    assert jaxconv.conv_transpose(x, w, (2,), "SAME").dtype == jnp.bfloat16
    got = jaxconv.conv_transpose(x, w, (2,), "SAME", preferred_element_type=jnp.float32)
    assert got.dtype == jnp.float32


def test_signature_starts_as_that_of_lax() -> None:
    ours = list(inspect.signature(jaxconv.conv_transpose).parameters.values())
    theirs = list(inspect.signature(lax.conv_transpose).parameters.values())
    assert [(p.name, p.default, p.kind) for p in ours[: len(theirs)]] == [
        (p.name, p.default, p.kind) for p in theirs
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])
