"""Positions, unpooling and Lp pools beside PyTorch's own; `test_pool_random` has the others."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interpreter import compiled
from jaxconv._pool_argmax import max_pool_with_argmax, max_unpool
from jaxconv._pool_norm import lp_pool

torch = pytest.importorskip("torch", reason="PyTorch is the peer of this comparison")
pytestmark = pytest.mark.torch
F: Any = torch.nn.functional


def data(rank: int, size: int = 9) -> np.ndarray:
    sizes = tuple(size + axis for axis in range(rank))
    return np.random.default_rng(rank).standard_normal((2, *sizes, 3))


def first(x: Any) -> Any:
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1))


def last(x: Any) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def check(x: np.ndarray, ours: Any, theirs: Any) -> None:
    """Values, and gradients of half the sum of squares."""
    leaf = first(x).requires_grad_()
    expected = theirs(leaf)
    (gradient,) = torch.autograd.grad((expected**2).sum() / 2, leaf)
    y, pull_back = jax.vjp(ours, jnp.asarray(x))
    np.testing.assert_allclose(y, last(expected), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(pull_back(y)[0], last(gradient), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("geometry", [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2)], ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_positions_and_unpooling(rank: int, geometry: tuple[int, ...]) -> None:
    k, s, p, d = geometry
    x = data(rank)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    unpool = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[rank - 1]
    expected, where = pool(first(x), k, s, p, d, return_indices=True)

    def ours(x: Any) -> tuple[jax.Array, jax.Array]:
        return max_pool_with_argmax(x, (k,) * rank, s, [(p, p)] * rank, window_dilation=d)

    values, positions = compiled(ours, x)
    np.testing.assert_array_equal(values, last(expected))
    np.testing.assert_array_equal(positions, last(where))
    back = unpool(expected, where, k, s, p, output_size=x.shape[1:-1]) if d == 1 else None
    if back is not None:
        np.testing.assert_array_equal(max_unpool(values, positions, x.shape[1:-1]), last(back))


def test_unpooling_gradient() -> None:
    values, where = F.max_pool2d(first(data(2)), 2, 2, return_indices=True)
    leaf = values.clone().requires_grad_()
    back = F.max_unpool2d(leaf, where, 2, 2, output_size=(9, 10))
    weights = np.random.default_rng(0).standard_normal((2, 9, 10, 3))
    (gradient,) = torch.autograd.grad((back * first(weights)).sum(), leaf)
    ours = jax.grad(lambda v: (max_unpool(v, last(where), (9, 10)) * weights).sum())(
        jnp.asarray(last(values))
    )
    np.testing.assert_array_equal(ours, last(gradient))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_signed_lp_pool(p: int, ceil: bool) -> None:
    # PyTorch's powers keep their sign: positive data, or the odd roots are NaN.
    check(
        np.abs(data(2)) + 0.1,
        lambda x: lp_pool(x, (3, 3), 2, p=p, signed=True, ceil_mode=ceil),
        lambda x: F.lp_pool2d(x, p, 3, 2, ceil),
    )
    x = data(1)
    with np.errstate(invalid="ignore"):
        expected = last(F.lp_pool1d(first(x), 3.0, 2, 1))
    assert np.isnan(expected).any()
    np.testing.assert_allclose(lp_pool(x, (2,), p=3, signed=True), expected, rtol=1e-11)
