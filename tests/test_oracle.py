"""The oracle itself against three independent witnesses: lax, SciPy and its own bilinearity."""

import jax
import numpy as np
import pytest
import scipy.signal
from jax import lax

import cases
import oracle
from cases import BY_NAME, CASES, Case
from tolerance import assert_close


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_agrees_with_lax(case: Case) -> None:
    x, w, _ = case.data("float64")
    got = lax.conv_general_dilated(x, w, **case.lax_options)
    assert_close(got, oracle.forward(x, w, case.geometry), reduction=case.geometry.reduction("y"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_trilinear_form(case: Case) -> None:
    """<conv(x, w), dy> = <x, dx> = <w, dw>, with all three counted by separate loops."""
    x, w, dy = case.data("float64")
    value = np.vdot(dy, oracle.forward(x, w, case.geometry))
    np.testing.assert_allclose(np.vdot(x, oracle.input_gradient(dy, w, case.geometry)), value)
    np.testing.assert_allclose(np.vdot(w, oracle.kernel_gradient(x, dy, case.geometry)), value)


@pytest.mark.parametrize("name", ["everything", "batch_grouped_strided", "line_causal"])
def test_gradients_agree_with_jax_grad_of_lax(name: str) -> None:
    case = BY_NAME[name]
    x, w, dy = case.data("float64")
    _, pullback = jax.vjp(lambda x, w: lax.conv_general_dilated(x, w, **case.lax_options), x, w)
    dx, dw = pullback(jax.numpy.asarray(dy))
    geometry = case.geometry
    assert_close(dx, oracle.input_gradient(dy, w, geometry), reduction=geometry.reduction("dx"))
    assert_close(dw, oracle.kernel_gradient(x, dy, geometry), reduction=geometry.reduction("dw"))


@pytest.mark.parametrize("padding", ["VALID", "SAME", "SAME_LOWER"])
def test_named_padding_agrees_with_lax(padding: str) -> None:
    for size in range(1, 9):
        for taps in range(1, 5):
            for stride, dilation in ((1, 1), (1, 2), (2, 1), (3, 2), (5, 1)):
                expected = lax.padtype_to_pads((size,), (oracle.dilated(taps, dilation),), (stride,), padding)
                got = oracle.resolve_padding(padding, (size,), (taps,), (stride,), (dilation,))
                assert [list(p) for p in got] == [list(p) for p in expected]


@pytest.mark.parametrize("shapes", [((7,), (3,)), ((4,), (6,)), ((5, 6), (3, 2)), ((3, 4, 2), (2, 2, 2))])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve_agrees_with_scipy(shapes: tuple[tuple[int, ...], ...], mode: str) -> None:
    rng = np.random.default_rng(0)
    x, w = (cases.random_array(rng, shape, "complex128") for shape in shapes)
    for ours, theirs in (
        (oracle.convolve, scipy.signal.convolve),
        (oracle.correlate, scipy.signal.correlate),
    ):
        np.testing.assert_allclose(ours(x, w, mode), theirs(x, w, mode, method="direct"))


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 0),), ((-1, 3),), ((4, 5),)])
def test_conv_transpose_agrees_with_lax(padding: str | tuple[tuple[int, int], ...]) -> None:
    rng = np.random.default_rng(0)
    for stride, taps, dilation, flip in ((1, 3, 1, False), (2, 3, 2, True), (3, 2, 1, True)):
        consistent = flip and not isinstance(padding, str)
        x, w = rng.standard_normal((2, 5, 3)), rng.standard_normal((taps, 3, 3))
        expected = lax.conv_transpose(
            x,
            w,
            (stride,),
            padding,
            (dilation,),
            transpose_kernel=flip,
            use_consistent_padding=consistent,
        )
        got = oracle.conv_transpose(x, w, (stride,), padding, (dilation,), flip, consistent)
        np.testing.assert_allclose(got, expected, atol=1e-12)
