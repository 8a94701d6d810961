"""Empty arrays, oversized kernels, NaN and inf, batch axes, bias, determinism."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
import oracle
from cases import ALGORITHM_NAMES, HAND_WRITTEN, Case, forward, random_array, subset, supported
from tolerance import assert_close

# A non-finite input may reach further than its own windows here, within a tile or the map.
SPREADING = ("winograd", "fft", "banded", "space_to_depth")
by_algorithm = pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)

EMPTY = [
    Case("no_batch", (0, 5, 4, 2), (3, 2, 2, 3), "SAME", 2),
    Case("kernel_above_input", (2, 3, 4, 2), (5, 2, 2, 3)),
    Case("cropped_to_nothing", (2, 3, 2), (2, 2, 3), ((-1, -2),)),
    Case("one_tap_on_nothing", (2, 3, 2), (1, 2, 3), ((-1, -2),)),
    Case("kernel_too_large_by_a_stride", (2, 1, 2), (2, 2, 3), "VALID", 3),
    Case("no_input_channels", (2, 4, 0), (3, 0, 3), "SAME"),
    Case("no_output_channels", (2, 4, 3), (3, 3, 0), "SAME"),
    Case("no_space", (2, 0, 3), (2, 3, 4), 2),
]


@pytest.mark.parametrize("case", EMPTY, ids=str)
def test_empty_problems_are_zeros_of_the_shape_that_lax_gives(case: Case) -> None:
    x, w, dy = (jnp.asarray(a) for a in case.data())
    theirs = lax.conv_general_dilated(x, w, **case.lax_options)
    y, pullback = jax.vjp(lambda x, w: forward(case, x, w), x, w)
    dx, dw = pullback(dy)
    assert y.shape == theirs.shape == case.geometry.y_shape
    for got, shape in ((y, theirs.shape), (dx, x.shape), (dw, w.shape)):
        np.testing.assert_array_equal(got, np.zeros(shape, np.float32))


@pytest.mark.parametrize("case", EMPTY[:3], ids=str)
@by_algorithm
def test_empty_problems_by_each_algorithm(algorithm: str, case: Case) -> None:
    x, w, _ = case.data()
    got = supported(algorithm, lambda: forward(case, x, w, algorithm=algorithm))
    np.testing.assert_array_equal(got, np.zeros(case.geometry.y_shape, np.float32))


def test_kernel_larger_than_input_with_padding_has_values() -> None:
    case = Case("oversized", (2, 3, 2, 2), (5, 4, 2, 3), 3)
    x, w, _ = case.data()
    assert_close(forward(case, x, w), oracle.forward(x, w, case.geometry), reduction=40)


def test_empty_transposed_convolution() -> None:
    x, w = np.ones((0, 4, 2), np.float32), np.ones((3, 2, 5), np.float32)
    assert jaxconv.conv_transpose(x, w, (2,), "SAME").shape == (0, 8, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", subset("strided", "wide", "depthwise", "input_dilated"), ids=str)
@by_algorithm
def test_a_non_finite_input_reaches_every_output_that_covers_it(
    algorithm: str, case: Case, value: float
) -> None:
    """Direct and GEMM touch those and no other; Winograd and FFT may spread but never lose it."""
    x, w, _ = case.data()
    w = np.abs(w) + 1
    x[0, 2, 3, 1] = value
    got = np.asarray(supported(algorithm, lambda: forward(case, x, w, algorithm={"forward": algorithm})))
    mark = np.zeros(x.shape)
    mark[0, 2, 3, 1] = 1
    covered = oracle.forward(mark, w, case.geometry) > 0
    assert covered.any() and not covered.all()
    assert not np.isfinite(got[covered]).any()
    if algorithm not in SPREADING:
        assert np.isfinite(got[~covered]).all()
        assert np.isnan(got[covered]).all() if np.isnan(value) else (got[covered] == value).all()


@pytest.mark.parametrize("algorithm", sorted({"direct", "gemm", "depthwise"} & set(HAND_WRITTEN)))
def test_non_finite_cotangents_stay_with_the_windows_that_cover_them(algorithm: str) -> None:
    case = Case("nan_dy", (2, 7, 6, 3), (3, 2, 1, 3), 1, (2, 1), groups=3)
    x, w, dy = case.data()
    w = np.abs(w) + 1
    dy[1, 1, 2, 0] = np.nan
    mark = np.zeros(dy.shape)
    mark[1, 1, 2, 0] = 1
    dx = jaxconv.conv_input_gradient(dy, w, case.x_shape, **case.options, algorithm=algorithm)
    reached = oracle.input_gradient(mark, w, case.geometry) > 0
    np.testing.assert_array_equal(np.isnan(dx), reached)


def test_auto_at_highest_precision_does_not_spread() -> None:
    (case,) = subset("wide")
    x, w, _ = case.data()
    x[1, 4, 4, 0] = np.inf
    got = np.asarray(forward(case, x, np.abs(w) + 1, precision="highest"))
    assert np.isfinite(got[0]).all()
    assert (~np.isfinite(got[1]).all(-1)).sum() == 9


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 2)], ids=str)
def test_any_number_of_batch_axes(lead: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((*lead, 5, 6, 2)), rng.standard_normal((3, 2, 2, 4))
    got = jaxconv.conv(x, w, strides=(2, 1))
    flat = Case("flat", (int(np.prod(lead)), 5, 6, 2), w.shape, "SAME", (2, 1))
    wanted = oracle.forward(x.reshape(flat.x_shape), w, flat.geometry)
    assert got.shape == (*lead, *wanted.shape[1:])
    np.testing.assert_allclose(np.reshape(got, wanted.shape), wanted, atol=1e-12)
    dx = jaxconv.conv_input_gradient(got, w, x.shape, strides=(2, 1))
    wanted = oracle.input_gradient(np.reshape(got, flat.geometry.y_shape), w, flat.geometry)
    np.testing.assert_allclose(dx, wanted.reshape(x.shape), atol=1e-12)
    dw = jaxconv.conv_kernel_gradient(x, got, w.shape, strides=(2, 1))
    wanted = oracle.kernel_gradient(
        x.reshape(flat.x_shape), np.reshape(got, flat.geometry.y_shape), flat.geometry
    )
    np.testing.assert_allclose(dw, wanted, atol=1e-11)


def test_unbatched_border_padding() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((6, 2)), rng.standard_normal((3, 2, 4))
    got = jaxconv.conv(x, w, padding="REFLECT")
    np.testing.assert_allclose(got, jaxconv.conv(x[None], w, padding="REFLECT")[0], atol=1e-12)


def test_bias_is_added_and_its_gradient_is_the_sum_over_batch_and_space() -> None:
    """T6: Z = conv(A, W) + b and db = sum of dZ."""
    (case,) = subset("grouped_strided")
    x, w, dy = (jnp.asarray(a) for a in case.data("float64"))
    b = jnp.asarray(np.random.default_rng(0).standard_normal(case.w_shape[-1]))
    y, pullback = jax.vjp(lambda b: jaxconv.conv(x, w, b, **case.options), b)
    np.testing.assert_allclose(y, oracle.forward(x, w, case.geometry) + np.asarray(b), atol=1e-12)
    np.testing.assert_allclose(pullback(dy)[0], np.sum(dy, (0, 1, 2)), atol=1e-12)


def test_bias_is_added_before_the_one_rounding_or_in_the_preferred_type() -> None:
    x, w = jnp.ones((1, 4, 2), jnp.bfloat16), jnp.ones((3, 2, 3), jnp.bfloat16)
    b = jnp.ones(3, jnp.bfloat16)
    assert jaxconv.conv(x, w, b).dtype == jnp.bfloat16
    wide = jaxconv.conv(x, w, b.astype(jnp.float32), preferred_element_type=jnp.float32)
    assert wide.dtype == jnp.float32
    assert np.array_equal(wide[0, 1], [7.0, 7.0, 7.0])


@pytest.mark.parametrize("case", subset("everything", "wide", "depthwise_strided"), ids=str)
def test_the_same_call_gives_the_same_bits(case: Case) -> None:
    x, w, dy = (jnp.asarray(a) for a in case.data())

    @jax.jit
    def all_three(x: Any, w: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(lambda x, w: forward(case, x, w), x, w)
        return y, *pullback(dy)

    first = all_three(x, w, dy)
    for _ in range(4):
        for a, b in zip(first, all_three(x, w, dy), strict=True):
            np.testing.assert_array_equal(a, b)


def test_numpy_lists_and_scalars_are_handled_as_jax_does() -> None:
    x, w = random_array(np.random.default_rng(0), (1, 5, 2), "float32"), np.ones((2, 2, 1), "f4")
    assert isinstance(jaxconv.conv(x, w), jax.Array)
    with pytest.raises(TypeError):
        jaxconv.conv("image", w)  # type: ignore[arg-type]


def test_many_taps_are_summed_right() -> None:
    """Kernels of more taps than are ever unrolled."""
    case = Case("many_taps", (1, 20, 12, 2), (13, 9, 2, 2), "SAME")
    x, w, dy = case.data()
    for algorithm in ("direct", "gemm"):
        y, pullback = jax.vjp(
            lambda x, w, algorithm=algorithm: forward(case, x, w, algorithm=algorithm), x, w
        )
        dx, dw = pullback(jnp.asarray(dy))
        assert_close(y, oracle.forward(x, w, case.geometry), reduction=234)
        assert_close(dx, oracle.input_gradient(dy, w, case.geometry), reduction=234)
        assert_close(dw, oracle.kernel_gradient(x, dy, case.geometry), reduction=240)


def test_blocks_that_do_not_divide_the_output() -> None:
    """GEMM walks over blocks of images or rows; the last reaches back over the one before."""
    for shape, strides in (((5, 40, 40, 16), 1), ((2, 130, 63, 16), (1, 2))):
        case = Case("blocks", shape, (3, 3, 16, 4), "VALID", strides)
        x, w, dy = case.data()
        y, pullback = jax.vjp(lambda x, w, case=case: forward(case, x, w, algorithm="gemm"), x, w)
        wanted_y, wanted_pullback = jax.vjp(
            lambda x, w, case=case: lax.conv_general_dilated(x, w, **case.lax_options),
            x.astype(np.float64),
            w.astype(np.float64),
        )
        assert_close(y, wanted_y, reduction=144)
        gradients = pullback(jnp.asarray(dy)), wanted_pullback(jnp.asarray(dy, jnp.float64))
        for got, wanted in zip(*gradients, strict=True):
            assert_close(got, wanted, reduction=int(np.prod(dy.shape[:-1])))
