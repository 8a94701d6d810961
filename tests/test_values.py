"""Every algorithm, case and pass against the oracle; which pairs are supported is pinned."""

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
    BY_NAME,
    CASES,
    Case,
    expected,
    forward,
    operands,
    reduction,
    run_all,
    subset,
)
from jaxconv._problem import Pass
from tolerance import assert_close

by_pass = pytest.mark.parametrize("which", Pass, ids=lambda which: which.value)


# XLA's convolution is here for comparison: the cases that its adapter treats differently will do.
FOR_XLA = subset("everything", "negative_pads_dilated", "batch_grouped_strided", "volume", "rank_0")
PAIRS = [
    (algorithm, case) for algorithm in ALGORITHM_NAMES for case in (FOR_XLA if algorithm == "xla" else CASES)
]


@pytest.mark.parametrize(("algorithm", "case"), PAIRS, ids=str)
def test_algorithm_on_case(algorithm: str, case: Case) -> None:
    results, refused = run_all(case, algorithm)
    if not results:
        pytest.skip(refused[Pass.FORWARD].splitlines()[0])
    arrays = case.data()
    for which, got in results.items():
        assert got.dtype == jnp.float32
        wanted = expected(case, which, *operands(which, *arrays))
        assert_close(got, wanted, reduction=reduction(case, which), algorithm=algorithm)


SUPPORTED = {"winograd": "wide", "fft": "line_long_kernel", "depthwise": "depthwise"}


@by_pass
@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHM_NAMES) & set(SUPPORTED)))
def test_special_algorithms_take_their_own_case(algorithm: str, which: Pass) -> None:
    case = BY_NAME[SUPPORTED[algorithm]]
    x, w, dy = case.data()
    options = {**case.options, "algorithm": {which.value: algorithm}}
    calls = {
        Pass.FORWARD: lambda: jaxconv.conv(x, w, **options),
        Pass.INPUT_GRAD: lambda: jaxconv.conv_input_gradient(dy, w, case.x_shape, **options),
        Pass.KERNEL_GRAD: lambda: jaxconv.conv_kernel_gradient(x, dy, case.w_shape, **options),
    }
    jax.eval_shape(calls[which])


@pytest.mark.parametrize("case", subset("line", "everything", "wide", "depthwise_strided"), ids=str)
def test_auto_agrees_with_oracle_and_lax(case: Case) -> None:
    x, w, _ = case.data()
    got = forward(case, x, w)
    assert_close(
        got,
        oracle.forward(x, w, case.geometry),
        reduction=reduction(case, Pass.FORWARD),
        algorithm="winograd",
    )
    assert got.dtype == lax.conv_general_dilated(x, w, **case.lax_options).dtype


@pytest.mark.parametrize("mode", ["CIRCULAR", "REFLECT", "SYMMETRIC", "EDGE"])
@pytest.mark.parametrize(
    "options",
    [{}, {"strides": (2, 3)}, {"kernel_dilation": (2, 1)}, {"groups": 2, "strides": 2}],
    ids=["plain", "strided", "dilated", "grouped"],
)
def test_border_padding(mode: str, options: dict[str, Any]) -> None:
    groups = options.get("groups", 1)
    case = Case("border", (2, 6, 7, 4), (3, 4, 4 // groups, 2), "VALID", **options)
    x, w, _ = case.data()
    got = jaxconv.conv(x, w, padding=mode, **options)
    numpy_mode = "wrap" if mode == "CIRCULAR" else mode.lower()
    wanted = oracle.forward_with_border(x, w, case.geometry, numpy_mode)
    assert_close(got, wanted, reduction=48, algorithm="winograd")


@pytest.mark.parametrize("mode", ["CIRCULAR", "REFLECT", "SYMMETRIC", "EDGE"])
def test_border_padding_gradients_by_finite_difference(mode: str) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((1, 5, 6, 2)), rng.standard_normal((3, 2, 2, 3))
    u, v = rng.standard_normal(x.shape), rng.standard_normal(w.shape)

    def conv(x: Any, w: Any) -> jax.Array:
        return jaxconv.conv(x, w, padding=mode, strides=2)

    y, pullback = jax.vjp(conv, jnp.asarray(x), jnp.asarray(w))
    dy = rng.standard_normal(y.shape)
    dx, dw = pullback(jnp.asarray(dy))
    np.testing.assert_allclose(np.vdot(u, dx), np.vdot(conv(x + u, w) - y, dy))
    np.testing.assert_allclose(np.vdot(v, dw), np.vdot(conv(x, w + v) - y, dy))


def test_border_padding_in_the_named_gradients() -> None:
    """`conv_input_gradient` and `conv_kernel_gradient` take every padding that `conv` takes."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 6, 2)), rng.standard_normal((3, 2, 3))
    for mode in ("CIRCULAR", "REFLECT", "SYMMETRIC", "EDGE"):
        y = jaxconv.conv(x, w, padding=mode)
        dy = rng.standard_normal(y.shape)
        dx = jaxconv.conv_input_gradient(dy, w, x.shape, padding=mode)
        dw = jaxconv.conv_kernel_gradient(x, dy, w.shape, padding=mode)
        np.testing.assert_allclose([np.vdot(x, dx), np.vdot(w, dw)], np.vdot(y, dy))


def test_padding_spellings_mean_the_same() -> None:
    case = BY_NAME["line"]
    x, w, _ = case.data()
    names = (("SAME", "same"), ("Causal", [(2, 0)]), ("Reverse_causal", [(0, 2)]), ([0], "valid"))
    for one, other in ((1, [(1, 1)]), *names):
        np.testing.assert_array_equal(jaxconv.conv(x, w, padding=one), jaxconv.conv(x, w, padding=other))


def test_same_pads_by_the_stride_but_circular_does_not() -> None:
    x, w = np.ones((1, 7, 1), np.float32), np.ones((3, 1, 1), np.float32)
    same = jaxconv.conv(x, w, padding="SAME", strides=2)
    circular = jaxconv.conv(x, w, padding="CIRCULAR", strides=2)
    assert np.ravel(same).tolist() == [2, 3, 3, 2]
    assert np.ravel(circular).tolist() == [3, 3, 3, 3]


def test_textbook_example() -> None:
    """T1, T2: the correlation of a 3 x 3 picture with a 2 x 2 kernel, by hand."""
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    w = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 2, 1, 1)
    y = jaxconv.conv(x, w, padding="VALID")
    assert np.array_equal(y[0, :, :, 0], [[27, 37], [57, 67]])
