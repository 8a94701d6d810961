"""`extract_patches` and `fold_patches`: each the other's adjoint, and lax's and PyTorch's in value."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxconv
from jaxconv._patches import pad_or_crop, slice_padded


@st.composite
def geometries(draw: Any) -> dict[str, Any]:
    """Shapes and options on one to three axes with at least one output."""
    rank = draw(st.integers(1, 3))
    axes = []
    for _ in range(rank):
        taps, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        lo, hi = draw(st.integers(-1, 3)), draw(st.integers(-1, 3))
        least = max(1, (taps - 1) * dilation + 1 - lo - hi, 2)
        axes.append((draw(st.integers(least, least + 4)), taps, draw(st.integers(1, 4)), dilation, (lo, hi)))
    sizes, taps, strides, dilation, pads = (tuple(column) for column in zip(*axes, strict=True))
    batch = tuple(draw(st.lists(st.integers(1, 2), max_size=2)))
    return {
        "shape": (*batch, *sizes, draw(st.integers(1, 3))),
        "sizes": sizes,
        "window": {"window_shape": taps, "strides": strides, "padding": pads, "window_dilation": dilation},
    }


def by_definition(x: np.ndarray, window: dict[str, Any]) -> np.ndarray:
    """[N, *M, C * prod(K)] in plain loops."""
    taps, rank = window["window_shape"], len(window["window_shape"])
    batch = x.shape[: x.ndim - rank - 1]
    x = x.reshape(-1, *x.shape[x.ndim - rank - 1 :])
    outputs = [
        (n + lo + hi - ((k - 1) * d + 1)) // s + 1
        for n, k, s, d, (lo, hi) in zip(
            x.shape[1:-1], taps, window["strides"], window["window_dilation"], window["padding"], strict=True
        )
    ]
    out = np.zeros((len(x), *outputs, x.shape[-1], *taps), x.dtype)
    for m in np.ndindex(*outputs):
        for k in np.ndindex(*taps):
            i = [
                a * s + b * d - lo
                for a, b, s, d, (lo, _) in zip(
                    m, k, window["strides"], window["window_dilation"], window["padding"], strict=True
                )
            ]
            if all(0 <= a < n for a, n in zip(i, x.shape[1:-1], strict=True)):
                out[(slice(None), *m, slice(None), *k)] = x[(slice(None), *i)]
    return out.reshape(*batch, *outputs, -1)


@given(geometries())
def test_values_and_the_adjoint_are_those_of_the_definition(g: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(g["shape"])
    wanted = by_definition(x, g["window"])
    q = rng.standard_normal(wanted.shape)

    @jax.jit
    def both(x: Any, q: Any) -> Any:
        folded = jaxconv.fold_patches(q, g["sizes"], **g["window"])
        return jaxconv.extract_patches(x, **g["window"]), folded

    p, folded = (np.asarray(a) for a in both(x, q))
    np.testing.assert_array_equal(p, wanted)
    assert folded.shape == x.shape
    np.testing.assert_allclose((p * q).sum(), (x * folded).sum(), rtol=1e-10, atol=1e-10)
    # The identity holds for any x, so it decides every entry: check one by itself.
    spot = tuple(n // 2 for n in g["shape"])
    unit = np.zeros(g["shape"])
    unit[spot] = 1
    np.testing.assert_allclose(folded[spot], (by_definition(unit, g["window"]) * q).sum(), atol=1e-12)


@pytest.mark.parametrize("autodiff", ["custom", "jax"])
def test_each_is_the_derivative_of_the_other_at_both_orders(autodiff: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 7, 6, 2))
    window: dict[str, Any] = dict(window_shape=(3, 2), strides=(2, 1), padding=((1, 0), (2, 1)))
    options = {"window_dilation": (1, 2), "autodiff": autodiff}
    p, pullback = jax.vjp(lambda x: jaxconv.extract_patches(x, **window, **options), x)
    q = jnp.asarray(rng.standard_normal(p.shape))
    wanted = jaxconv.fold_patches(q, (7, 6), **window, **options)
    np.testing.assert_allclose(pullback(q)[0], wanted, atol=1e-12)
    (back,) = jax.vjp(lambda q: jaxconv.fold_patches(q, (7, 6), **window, **options), q)[1](jnp.asarray(x))
    np.testing.assert_array_equal(back, p)

    def cube(x: jax.Array) -> jax.Array:
        return (jaxconv.extract_patches(x, **window, **options) ** 3).sum()

    curvature = jax.grad(lambda x: (jax.grad(cube)(x) ** 2).sum())(jnp.asarray(x))
    counts = jaxconv.fold_patches(jnp.ones(p.shape), (7, 6), **window, window_dilation=(1, 2))
    np.testing.assert_allclose(curvature, 2 * (3 * x**2 * counts) * 6 * x * counts, rtol=1e-9, atol=1e-9)


def test_forward_mode_with_jax_derivatives() -> None:
    x = jnp.arange(12.0).reshape(1, 12, 1)
    _, tangent = jax.jvp(lambda x: jaxconv.extract_patches(x, (3,), 2, autodiff="jax"), (x,), (x,))
    np.testing.assert_array_equal(tangent, jaxconv.extract_patches(x, (3,), 2))


@pytest.mark.parametrize(
    "padding",
    ["CIRCULAR", "REFLECT", "SYMMETRIC", "EDGE", "SAME", "SAME_LOWER", "FULL", "CAUSAL", "REVERSE_CAUSAL", 2],
)
def test_every_padding_is_that_of_conv(padding: Any) -> None:
    """Patches times the kernel are the convolution; the fold is its input gradient."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((3, 4, 3, 5))
    matrix = np.moveaxis(w, 2, 0).reshape(-1, 5)
    y = jaxconv.conv(x, w, strides=(2, 1), padding=padding)
    p = jaxconv.extract_patches(x, (3, 4), (2, 1), padding)
    np.testing.assert_allclose(p @ matrix, y, atol=1e-11)
    dx = jaxconv.conv_input_gradient(y, w, x.shape, strides=(2, 1), padding=padding)
    np.testing.assert_allclose(
        jaxconv.fold_patches(y @ matrix.T, (7, 6), (3, 4), (2, 1), padding), dx, atol=1e-10
    )


@pytest.mark.parametrize("dimension_numbers", [None, ("NHWC", "HWIO", "NCHW"), ("HNWC", "WHIO", "CWNH")])
def test_lax_patches(dimension_numbers: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 4))
    arguments = ((2, 3), (2, 1), ((1, 2), (0, 3)), (1, 2), (2, 1), dimension_numbers)
    got = jaxconv.conv_general_dilated_patches(x, *arguments)
    np.testing.assert_array_equal(got, lax.conv_general_dilated_patches(x, *arguments))


def test_lax_patches_round_trip_in_low_precision() -> None:
    x = jnp.ones((1, 2, 5), jnp.bfloat16)
    got = jaxconv.conv_general_dilated_patches(x, (3,), (1,), "SAME", preferred_element_type=jnp.float32)
    assert got.dtype == jnp.float32
    assert jaxconv.conv_general_dilated_patches(x, (3,), (1,), "SAME").dtype == jnp.bfloat16


@pytest.mark.torch
@pytest.mark.parametrize(
    ("taps", "dilation", "padding", "stride"),
    [((3, 2), (1, 2), (1, 2), (2, 1)), ((2, 2), (1, 1), (0, 0), (3, 2))],
)
def test_torch_unfold_and_fold(taps: Any, dilation: Any, padding: Any, stride: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 9))
    wanted = torch.nn.functional.unfold(torch.tensor(x), taps, dilation, padding, stride)
    pads = [(p, p) for p in padding]
    got = jaxconv.extract_patches(np.moveaxis(x, 1, -1), taps, stride, pads, window_dilation=dilation)
    flat = np.moveaxis(np.asarray(got).reshape(2, -1, got.shape[-1]), 1, 2)
    np.testing.assert_array_equal(flat, wanted.numpy())
    back = torch.nn.functional.fold(wanted, (8, 9), taps, dilation, padding, stride)
    folded = jaxconv.fold_patches(got, (8, 9), taps, stride, pads, window_dilation=dilation)
    np.testing.assert_allclose(np.moveaxis(np.asarray(folded), -1, 1), back.numpy(), atol=1e-12)


def test_a_long_window_is_not_written_out() -> None:
    """Compile time and the jaxpr grow with the taps of an axis only up to a bound."""
    x = jnp.ones((1, 300, 1))
    p = jaxconv.extract_patches(x, (200,))
    text = str(jax.make_jaxpr(lambda p: jaxconv.fold_patches(p, (300,), (200,)))(p))
    assert text.count("gather") < 10
    counts = jaxconv.fold_patches(p, (300,), (200,))[0, :, 0]
    np.testing.assert_array_equal(counts, oracle_counts(300, 200))


def oracle_counts(samples: int, taps: int) -> np.ndarray:
    counts = np.zeros(samples)
    for start in range(samples - taps + 1):
        counts[start : start + taps] += 1
    return counts


@pytest.mark.parametrize("dtype", ["bool", "int8", "bfloat16", "complex64"])
def test_any_dtype_is_copied(dtype: str) -> None:
    x = jnp.arange(6).reshape(1, 6, 1).astype(dtype)
    p = jaxconv.extract_patches(x, (2,), 1, 1)
    assert p.dtype == x.dtype and p.shape == (1, 7, 2)
    assert not p[0, 0, 0] and p[0, 2, 1] == x[0, 2, 0]


def test_narrow_floats_fold_in_float32() -> None:
    """256 ones: bfloat16 sums would stop counting at 256 and round on the way."""
    p = jnp.ones((1, 301, 300), jnp.bfloat16)
    assert jaxconv.fold_patches(p, (600,), (300,))[0, 299, 0] == 300


def test_a_nan_stays_in_its_windows_and_padding_is_zero() -> None:
    x = jnp.full((1, 4, 1), jnp.nan)
    p = jaxconv.extract_patches(x, (3,), 1, 2)
    np.testing.assert_array_equal(p[0, 0], [0, 0, np.nan])
    folded = jaxconv.fold_patches(jnp.zeros((1, 6, 3)).at[0, 0, 2].set(jnp.nan), (4,), (3,), 1, 2)
    np.testing.assert_array_equal(folded[0, :, 0], [np.nan, 0, 0, 0])


def test_empty_and_batched() -> None:
    assert jaxconv.extract_patches(jnp.ones((0, 5, 2)), (3,)).shape == (0, 3, 6)
    assert jaxconv.extract_patches(jnp.ones((2, 2, 3)), (5,)).shape == (2, 0, 15)
    assert jaxconv.fold_patches(jnp.ones((2, 0, 15)), (2,), (5,)).shape == (2, 2, 3)
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 2))
    mapped = jax.vmap(lambda x: jaxconv.extract_patches(x, (2,)), in_axes=1)(x)
    np.testing.assert_array_equal(mapped, np.moveaxis(jaxconv.extract_patches(x, (2,)), 1, 0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: jaxconv.extract_patches(x, 3), TypeError, "window_shape"),
        (lambda x: jaxconv.extract_patches(x, (3, 3, 3, 3)), ValueError, "spatial axes"),
        (lambda x: jaxconv.extract_patches(x, (0, 1)), ValueError, "at least 1"),
        (lambda x: jaxconv.extract_patches(x, (2, 2), padding="NEAR"), ValueError, "NEAR"),
        (lambda x: jaxconv.fold_patches(x, (6,), (2, 2)), ValueError, "output_shape"),
        (lambda x: jaxconv.fold_patches(x, (6, 6), (2, 2)), ValueError, "extract_patches makes"),
        (lambda x: jaxconv.fold_patches(x, (4, 4), (2, 2)), ValueError, "extract_patches makes"),
        (lambda x: jaxconv.conv_general_dilated_patches(x, (2,), (1, 1), "SAME"), ValueError, "filter_shape"),
    ],
)
def test_wrong_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(jnp.ones((2, 3, 3, 6)))


def test_the_oracle_agrees_with_lax_on_patches() -> None:
    x = np.random.default_rng(0).standard_normal((1, 5, 2))
    window = {"window_shape": (2,), "strides": (1,), "padding": ((0, 0),), "window_dilation": (1,)}
    wanted = lax.conv_general_dilated_patches(x, (2,), (1,), "VALID", dimension_numbers=("NHC", "HIO", "NHC"))
    np.testing.assert_array_equal(by_definition(x, window), wanted)


@pytest.mark.parametrize("edges", [(0, 0), (2, 3), (0, 5), (-1, 2), (3, -2), (9, 9)])
@pytest.mark.parametrize("size", [1, 4, 9])
def test_a_padded_slice_is_a_slice_of_the_padded_array(edges: tuple[int, int], size: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 3))
    padded = pad_or_crop(jnp.asarray(x), [edges])
    starts = range(padded.shape[1] - size + 1)
    cut = jax.jit(lambda start: slice_padded(jnp.asarray(x), (1, start, 0), (1, size, 2), edges))
    assert len(starts) or size == 9
    for start in starts:
        np.testing.assert_array_equal(cut(start), padded[1:, start : start + size, :2])
