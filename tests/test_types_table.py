"""Every public operation in every element type: right by its definition, or refused in words."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from oracle_table import ORACLES, gradients
from test_structure import equations
from test_transform_table import TABLE, table

FLOATS = ("bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2")
INTEGERS, COMPLEX = ("int8", "uint8", "int32"), ("complex64", "complex128")
REAL = {
    "max_pool", "min_pool", "max_pool_with_argmax", "adaptive_max_pool", "median_pool", "rank_pool",
    "global_max_pool",
}  # fmt: skip
ONLY_FLOATS = {"deform_conv", "lp_pool", "fractional_max_pool"}
MEANS = {"avg_pool", "adaptive_avg_pool", "global_avg_pool"}
MOVES = {"extract_patches", "conv_general_dilated_patches"}
ANY_KIND = {"pool", "reduce_window", *MOVES}
# Those that round on the way to the result or to a gradient: the sum before its bias, the depthwise step, the
# norm's sum, the gradient of each patch before these add up, those of two chunks.
ROUNDED_TWICE = {
    "conv", "separable_conv", "lp_pool", "conv_local", "conv_general_dilated_local", "conv_stream",
}  # fmt: skip
EACH = pytest.mark.parametrize("name", [name for name in TABLE if name in ORACLES])


def refusal(name: str, dtype: str) -> str | None:
    """The words with which an operation turns a dtype down, None where it takes it."""
    if name in ONLY_FLOATS:
        return None if dtype in FLOATS else f"must be floats, got {dtype}"
    if dtype in COMPLEX and name in REAL:
        return f"must be booleans or integers or floats, got {dtype}"
    if dtype == "bool" and name not in REAL and name not in ANY_KIND and name != "conv_general_dilated":
        return f"got {dtype}"
    return None


@functools.cache
def data(name: str, kind: str) -> tuple[np.ndarray, ...]:
    """Small numbers that every type of the kind holds; no two in a batch's column alike, none an integer."""
    rng = np.random.default_rng(3)
    operands = []
    for shape in TABLE[name][1]:
        if len(shape) == 3 and shape[0] == 2:
            ramp = np.arange(6) if kind == "uint8" else np.array([-1.5, -0.75, -0.5, 0.25, 0.75, 1.25])
            values = rng.permuted(np.broadcast_to(ramp[: shape[1], None], shape), axis=1)
        else:
            values = rng.integers(0 if kind == "uint8" else -2, 3, shape).astype(float)
        if kind == "complex":
            values = values + 1j * rng.integers(-2, 3, shape)
        if kind in ("uint8", "int"):
            values = np.round(values * 4).astype(np.int64)
        operands.append(values)
    return tuple(operands)


def kind_of(dtype: str) -> str:
    return (
        "complex" if dtype in COMPLEX else dtype if dtype == "uint8" else "int" if "int" in dtype else "float"
    )


@functools.cache
def wanted_gradients(name: str, kind: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """A cotangent of small powers of two, and what it pulls back to."""
    operands = data(name, kind)
    shape = ORACLES[name](*operands).shape
    cotangent = np.random.default_rng(4).choice([-0.25, 0.125, 0.5], shape)
    return cotangent, gradients(name, operands, cotangent)


def assert_rounded(got: Any, wanted: np.ndarray, dtype: Any, twice: bool, exact: float) -> None:
    """`got` is `wanted`, good to `exact`, rounded to dtype; rounded `twice`, up to a unit of the largest."""
    assert got.dtype == jnp.dtype(dtype)
    assert got.shape == wanted.shape
    got = np.asarray(got).astype(wanted.dtype)
    unit, largest = float(jnp.finfo(dtype).eps), float(np.abs(wanted).max())
    sums = 16 * min(unit, float(jnp.finfo(jnp.float32).eps))
    others = max(sums, exact, twice * unit) * largest
    np.testing.assert_allclose(got, wanted, rtol=0.51 * unit, atol=others)


@functools.partial(jax.jit, static_argnums=0)
def value_and_slopes(operation: Any, cotangent: Any, *operands: Any) -> Any:
    """One program to compile instead of one for each step of the gradients."""
    y, pullback = jax.vjp(operation, *operands)
    return y, pullback(cotangent)


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_inexact(name: str, dtype: str) -> None:
    """Values and gradients are the exact ones, rounded once."""
    if refusal(name, dtype):
        pytest.skip("refused, as test_refusals pins")
    operands = [jnp.asarray(a).astype(dtype) for a in data(name, kind_of(dtype))]
    cotangent, wanted = wanted_gradients(name, kind_of(dtype))
    y, slopes = value_and_slopes(TABLE[name][0], jnp.asarray(cotangent).astype(dtype), *operands)
    twice = name in ROUNDED_TWICE
    assert_rounded(y, ORACLES[name](*data(name, kind_of(dtype))), dtype, twice, 0)
    exact = 1e-4 if name == "lp_pool" else 1e-12
    for i, (got, slope) in enumerate(zip(slopes, wanted, strict=True)):
        conjugated = name == "correlate" and i == 1
        assert_rounded(got, slope.conj() if conjugated else slope, dtype, twice, exact)


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(name: str, dtype: str) -> None:
    """Exact, modulo the range of the type; means in JAX's default float."""
    if refusal(name, dtype):
        pytest.skip("refused, as test_refusals pins")
    operands = [jnp.asarray(a).astype(dtype) for a in data(name, kind_of(dtype))]
    y, wanted = TABLE[name][0](*operands), ORACLES[name](*data(name, kind_of(dtype)))
    if name in MEANS:
        assert y.dtype == jax.eval_shape(jnp.mean, operands[0]).dtype
        np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=1e-7)
    else:
        assert y.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(y, wanted.astype(dtype))


@EACH
@pytest.mark.parametrize("dtype", FLOATS + COMPLEX + INTEGERS + ("bool",))
def test_refusals(name: str, dtype: str) -> None:
    """What is refused, and nothing else."""
    operation, shapes = TABLE[name]
    operands = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    words = refusal(name, dtype)
    if words is None:
        jax.eval_shape(operation, *operands)
        return
    with pytest.raises(TypeError, match=words):
        jax.eval_shape(operation, *operands)


WIDENED = (
    "conv", "conv_general_dilated", "conv_transpose", "conv_input_gradient", "conv_kernel_gradient",
    "depthwise_conv", "separable_conv", "conv_local", "conv_stream",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDENED)
def test_preferred_element_type(name: str) -> None:
    """The sum comes out as it was kept, int8's in int32; gradients are of the operands' type."""
    operands = [jnp.asarray(a).astype("int8") for a in data(name, "int")]
    y = table(preferred_element_type=jnp.int32)[name][0](*operands)
    assert y.dtype == jnp.int32
    np.testing.assert_array_equal(y, ORACLES[name](*data(name, "int")))

    operands = [jnp.asarray(a).astype("bfloat16") for a in data(name, "float")]
    cotangent, wanted = wanted_gradients(name, "float")
    widened = table(preferred_element_type=jnp.float32)[name][0]
    y, slopes = value_and_slopes(widened, jnp.asarray(cotangent, jnp.float32), *operands)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, ORACLES[name](*data(name, "float")), rtol=1e-6, atol=1e-6)
    for got, slope in zip(slopes, wanted, strict=True):
        assert_rounded(got, slope, "bfloat16", name in ROUNDED_TWICE, 0)


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
@pytest.mark.parametrize("preferred", [None, "float32"])
def test_a_backward_of_bfloat16_multiplies_bfloat16(algorithm: str, preferred: str | None) -> None:
    """No pass widens an operand that is kept: each product has x or w in bfloat16, and a float32 sum."""
    x, w = jnp.ones((2, 9, 9, 16), jnp.bfloat16), jnp.ones((3, 3, 16, 16), jnp.bfloat16)

    def conv(x: Any, w: Any) -> jax.Array:
        return jaxconv.conv(x, w, algorithm=algorithm, preferred_element_type=preferred)

    def all_passes(x: Any, w: Any) -> Any:
        y, pullback = jax.vjp(conv, x, w)
        return pullback(y)

    dots = [e for e in equations(jax.make_jaxpr(all_passes)(x, w).jaxpr) if str(e.primitive) == "dot_general"]
    assert len(dots) >= 3
    for dot in dots:
        narrow = [v.aval.dtype == jnp.bfloat16 for v in dot.invars]
        assert all(narrow) or (preferred and any(narrow))
        assert dot.outvars[0].aval.dtype == jnp.float32


LONG, ONES = 600, (1, 1199, 1)
SUMS = {
    "conv": lambda x: jaxconv.conv(x, jnp.ones((LONG, 1, 1), x.dtype), padding="VALID"),
    "depthwise_conv": lambda x: jaxconv.depthwise_conv(x, jnp.ones((LONG, 1, 1), x.dtype), padding="VALID"),
    "conv_local": lambda x: jaxconv.conv_local(x, jnp.ones((LONG, LONG, 1, 1), x.dtype), padding="VALID"),
    "sum_pool": lambda x: jaxconv.sum_pool(x, (LONG,)),
    "avg_pool": lambda x: jaxconv.avg_pool(x, (LONG,), divisor_override=1),
    "reduce_window": lambda x: jaxconv.reduce_window(x, 0.0, jax.lax.add, (1, LONG, 1)),
    "pool": lambda x: jaxconv.pool(x, 0.0, jnp.add, (LONG,)),
    "lp_pool": lambda x: jaxconv.lp_pool(x, (LONG,), p=1),
}


@pytest.mark.parametrize("name", SUMS)
def test_bfloat16_sums_are_kept_in_float32(name: str) -> None:
    """600 ones: a bfloat16 sum of them would stop at 256. The middle sample lies under every window."""
    x = jnp.ones(ONES, jnp.bfloat16)
    y, pullback = jax.vjp(SUMS[name], x)
    (dx,) = pullback(jnp.ones_like(y))
    assert (y.dtype, dx.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert (y == LONG).all()
    assert dx.max() == dx[0, LONG - 1, 0] == LONG
