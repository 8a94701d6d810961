"""Dtypes: what comes out, how precisely, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
import oracle
from cases import (
    ALGORITHM_NAMES,
    Case,
    expected,
    forward,
    operands,
    reduction,
    run_pass,
    subset,
    supported,
)
from jaxconv._problem import Pass
from tolerance import assert_close

by_algorithm = pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)


def home(algorithm: str) -> Case:
    """A small case that the algorithm takes."""
    special = {
        "depthwise": Case("dt_depthwise", (2, 7, 6, 3), (3, 3, 1, 3), "SAME", groups=3),
        "winograd": Case("dt_winograd", (2, 7, 6, 8), (3, 3, 8, 8), "SAME"),
        "fft": Case("dt_fft", (2, 9, 8, 2), (5, 5, 2, 3), "SAME"),
    }
    return special.get(algorithm, Case("dt", (2, 7, 6, 4), (3, 2, 2, 4), "SAME", (2, 1), groups=2))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16", "complex64", "complex128"])
@pytest.mark.parametrize("which", Pass, ids=lambda which: which.value)
@by_algorithm
def test_inexact_dtypes(algorithm: str, which: Pass, dtype: str) -> None:
    """Values in the operands' dtype; halves are sums in float32 rounded once."""
    case = home(algorithm)
    a, b = operands(which, *case.data(dtype))
    got = supported(algorithm, lambda: run_pass(case, which, a, b, algorithm))
    assert got.dtype == jnp.dtype(dtype)
    wanted = expected(case, which, a, b)
    if algorithm == "xla" and dtype in ("bfloat16", "float16"):
        got = got.astype(jnp.float32)  # XLA chooses its own accumulation here
        np.testing.assert_allclose(got, wanted, rtol=0.02, atol=0.05)
        return
    assert_close(got, wanted, reduction=4 * reduction(case, which), algorithm=algorithm)


@pytest.mark.parametrize(
    ("dtype", "preferred"),
    [("int8", None), ("int8", "int32"), ("uint8", "uint32"), ("int32", None), ("int16", "int64")],
)
@by_algorithm
def test_integers_are_exact(algorithm: str, dtype: str, preferred: str | None) -> None:
    """Wide sums are exact; a narrow result is the exact one modulo its range."""
    case = home(algorithm)
    x, w, _ = case.data(dtype)
    got = supported(
        algorithm,
        lambda: forward(case, x, w, preferred_element_type=preferred, algorithm=algorithm),
    )
    assert got.dtype == jnp.dtype(preferred or dtype)
    np.testing.assert_array_equal(got, oracle.forward(x, w, case.geometry).astype(got.dtype))


def test_int8_sums_overflow_int8_in_the_test_above() -> None:
    case = home("direct")
    x, w, _ = case.data("int8")
    assert np.abs(oracle.forward(x, w, case.geometry)).max() > 127


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@by_algorithm
def test_preferred_element_type_keeps_the_wide_sum(algorithm: str, dtype: str) -> None:
    wide = "float64" if dtype == "float32" else "float32"
    case = home(algorithm)
    x, w, _ = case.data(dtype)
    got = supported(algorithm, lambda: forward(case, x, w, preferred_element_type=wide, algorithm=algorithm))
    assert got.dtype == jnp.dtype(wide)
    wanted = oracle.forward(x, w, case.geometry)
    assert_close(got, wanted, reduction=reduction(case, Pass.FORWARD), algorithm=algorithm)


def test_gradients_of_a_preferred_type_come_back_in_the_operands_type() -> None:
    case = home("direct")
    x, w, dy = (jnp.asarray(a) for a in case.data("bfloat16"))
    y, pullback = jax.vjp(lambda x, w: forward(case, x, w, preferred_element_type=jnp.float32), x, w)
    assert y.dtype == jnp.float32
    dx, dw = pullback(dy.astype(jnp.float32))
    assert (dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert_close(dx, oracle.input_gradient(dy, w, case.geometry), reduction=24)
    assert_close(dw, oracle.kernel_gradient(x, dy, case.geometry), reduction=48)


def test_named_gradients_take_a_preferred_type() -> None:
    case = home("direct")
    x, w, dy = case.data("bfloat16")
    wide = {"preferred_element_type": jnp.float32}
    dx = jaxconv.conv_input_gradient(dy, w, case.x_shape, **case.options, **wide)
    dw = jaxconv.conv_kernel_gradient(x, dy, case.w_shape, **case.options, **wide)
    assert dx.dtype == dw.dtype == jnp.float32
    assert_close(dx, oracle.input_gradient(dy, w, case.geometry), reduction=24)
    assert_close(dw, oracle.kernel_gradient(x, dy, case.geometry), reduction=48)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int8"])
def test_output_dtype_is_that_of_lax(dtype: str) -> None:
    case = home("direct")
    x, w, _ = case.data(dtype)
    for preferred in (None, {"bfloat16": "float32", "float32": "float64", "int8": "int32"}[dtype]):
        kwargs: dict[str, Any] = {**case.lax_options, "preferred_element_type": preferred}
        ours = jax.eval_shape(lambda x, w: jaxconv.conv_general_dilated(x, w, **kwargs), x, w)  # noqa: B023
        theirs = jax.eval_shape(lambda x, w: lax.conv_general_dilated(x, w, **kwargs), x, w)  # noqa: B023
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("weak", [(False, False), (True, False)], ids=str)
def test_weak_types_behave_as_in_lax(weak: tuple[bool, bool]) -> None:
    x, w = (
        jnp.broadcast_to(jnp.asarray(2.0) if is_weak else jnp.asarray(2.0, "float64"), shape)
        for is_weak, shape in zip(weak, ((1, 2, 1), (1, 1, 1)), strict=True)
    )
    assert (x.weak_type, w.weak_type) == weak
    numbers = ("NXC", "XIO", "NXC")
    ours = jaxconv.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=numbers)
    theirs = lax.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=numbers)
    assert (ours.dtype, ours.weak_type) == (theirs.dtype, theirs.weak_type)


def test_highest_precision_is_the_plain_sum() -> None:
    """`precision=HIGHEST` never takes an algorithm that spreads or amplifies rounding."""
    (case,) = subset("wide")
    x, w, _ = case.data()
    got = forward(case, x, w, precision=lax.Precision.HIGHEST)
    assert_close(got, oracle.forward(x, w, case.geometry), reduction=72, algorithm="direct")
    for algorithm in {"winograd", "fft"} & set(ALGORITHM_NAMES):
        with pytest.raises(NotImplementedError, match="precision"):
            forward(case, x, w, precision="highest", algorithm=algorithm)


def test_mixed_dtypes_are_refused() -> None:
    x, w = np.ones((1, 4, 2), np.float32), np.ones((3, 2, 2), np.float64)
    match = "one dtype, got float32 and float64"
    with pytest.raises(TypeError, match=match):
        jaxconv.conv(x, w)
    with pytest.raises(TypeError, match=match):
        jaxconv.conv_transpose(x, w, (1,), "SAME")


@pytest.mark.parametrize(
    ("dtype", "preferred"),
    [("float32", "bfloat16"), ("float32", "int32"), ("int32", "int8"), ("complex64", "float32")],
)
def test_preferred_type_of_another_kind_or_narrower_is_refused(dtype: str, preferred: str) -> None:
    x, w = np.ones((1, 4, 2), dtype), np.ones((3, 2, 2), dtype)
    with pytest.raises(TypeError, match=f"`preferred_element_type`.*got {preferred}"):
        jaxconv.conv(x, w, preferred_element_type=preferred)


def test_booleans_are_lax_s_any_of_their_products() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.random((2, 3, 7)) < 0.4, rng.random((4, 3, 2)) < 0.4
    options: Any = dict(window_strides=(2,), padding=((1, 2),), lhs_dilation=(2,), rhs_dilation=(3,))
    got = jax.jit(lambda x, w: jaxconv.conv_general_dilated(x, w, **options))(x, w)
    np.testing.assert_array_equal(got, lax.conv_general_dilated(x, w, **options))
    assert got.dtype == bool and 0 < int(got.sum()) < got.size
    counts = jaxconv.conv_general_dilated(x, w, **options, preferred_element_type="int32")
    wanted = lax.conv_general_dilated(x.astype(np.int32), w.astype(np.int32), **options)
    np.testing.assert_array_equal(counts, wanted)


def test_booleans_are_refused() -> None:
    x = np.ones((1, 4, 2), bool)
    with pytest.raises(TypeError, match="must be numbers, got bool"):
        jaxconv.conv(x, np.ones((3, 2, 2), bool))
