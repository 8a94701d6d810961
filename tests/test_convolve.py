"""`convolve` and `correlate` against the definition and SciPy (T1)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import jaxconv
import oracle
from cases import random_array

SHAPES = [((7,), (4,)), ((4,), (6,)), ((5, 6), (3, 2)), ((3, 5, 4), (2, 3, 2))]
by_mode = pytest.mark.parametrize("mode", ["full", "same", "valid"])
PAIRS = [
    (jaxconv.convolve, oracle.convolve, scipy.signal.convolve),
    (jaxconv.correlate, oracle.correlate, scipy.signal.correlate),
]
by_function = pytest.mark.parametrize(("ours", "reference", "scipys"), PAIRS, ids=["convolve", "correlate"])


@by_mode
@by_function
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_values(ours: Any, reference: Any, scipys: Any, mode: str, shapes: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = (random_array(rng, shape, "float64") for shape in shapes)
    got = ours(x, w, mode)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, reference(x, w, mode), atol=1e-12)
    np.testing.assert_allclose(got, scipys(x, w, mode, method="direct"), atol=1e-12)


@by_mode
@by_function
def test_complex(ours: Any, reference: Any, scipys: Any, mode: str) -> None:
    """SciPy's correlate conjugates the kernel; its convolve does not."""
    rng = np.random.default_rng(1)
    x, w = (random_array(rng, shape, "complex128") for shape in ((6, 5), (3, 2)))
    np.testing.assert_allclose(ours(x, w, mode), scipys(x, w, mode, method="direct"), atol=1e-12)


def test_default_mode_is_full() -> None:
    x, w = np.float32([1, 2, 3]), np.float32([0, 1])
    assert np.array_equal(jaxconv.convolve(x, w), [0, 1, 2, 3])
    assert np.array_equal(jaxconv.correlate(x, w), [1, 2, 3, 0])


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 2)])
def test_convolution_is_correlation_with_the_rotated_kernel(shape: tuple[int, ...]) -> None:
    """T1 as an identity of the library's own two functions."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal([n + 3 for n in shape]), rng.standard_normal(shape)
    np.testing.assert_allclose(
        jaxconv.convolve(x, w, "same"), jaxconv.correlate(x, np.flip(w), "same"), atol=1e-12
    )


def test_gradient_and_vmap() -> None:
    rng = np.random.default_rng(3)
    xs, w = jnp.asarray(rng.standard_normal((3, 6))), jnp.asarray(rng.standard_normal(3))
    batched = jax.vmap(jaxconv.convolve, (0, None))(xs, w)
    np.testing.assert_allclose(batched, [oracle.convolve(x, w, "full") for x in xs], atol=1e-12)
    dw = jax.grad(lambda w: (jaxconv.convolve(xs[0], w) ** 2).sum())(w)
    wanted = 2 * oracle.correlate(oracle.convolve(xs[0], w, "full"), xs[0], "valid")
    np.testing.assert_allclose(dw, wanted, atol=1e-12)


def test_integers_are_exact() -> None:
    rng = np.random.default_rng(4)
    x, w = random_array(rng, (6, 5), "int32"), random_array(rng, (3, 2), "int32")
    got = jaxconv.convolve(x, w)
    assert got.dtype == jnp.int32
    np.testing.assert_array_equal(got, scipy.signal.convolve(x, w))


def test_valid_needs_one_array_inside_the_other() -> None:
    x, w = np.ones((3, 5)), np.ones((4, 2))
    with pytest.raises(ValueError, match="`mode`|valid"):
        jaxconv.convolve(x, w, "valid")
    with pytest.raises(ValueError):
        scipy.signal.convolve(x, w, "valid")


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="`mode` must be .*got 'circular'"):
        jaxconv.convolve(np.ones(3), np.ones(2), mode="circular")


def test_ranks_must_match() -> None:
    with pytest.raises(ValueError, match="as many axes|same number of axes"):
        jaxconv.convolve(np.ones((3, 3)), np.ones(2))
