"""Positions, unpooling, Lp, adaptive and fractional pools beside PyTorch's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv._pool_adaptive import adaptive_avg_pool, adaptive_max_pool
from jaxconv._pool_argmax import max_pool_with_argmax, max_unpool
from jaxconv._pool_fractional import fractional_max_pool
from jaxconv._pool_general import lp_pool

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
    values, positions = max_pool_with_argmax(x, (k,) * rank, s, [(p, p)] * rank, window_dilation=d)
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
    for rank, theirs in ((1, F.lp_pool1d), (2, F.lp_pool2d), (3, F.lp_pool3d)):
        # PyTorch's powers keep their sign: positive data, or the odd roots are NaN.
        x = np.abs(data(rank)) + 0.1
        check(
            x,
            lambda x, r=rank: lp_pool(x, (3,) * r, 2, p=p, signed=True, ceil_mode=ceil),
            lambda x, f=theirs: f(x, p, 3, 2, ceil),
        )
    x = data(1)
    with np.errstate(invalid="ignore"):
        expected = last(F.lp_pool1d(first(x), 3.0, 2, 1))
    assert np.isnan(expected).any()
    np.testing.assert_allclose(lp_pool(x, (2,), p=3, signed=True), expected, rtol=1e-11)


@pytest.mark.parametrize("outputs", [1, 2, 5, 13])
def test_adaptive_pools(outputs: int) -> None:
    averages = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    maxima = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
    for rank in (1, 2, 3)[: 2 if outputs > 5 else 3]:
        shape = (outputs,) * rank
        average, maximum = averages[rank - 1], maxima[rank - 1]
        check(data(rank), lambda x, s=shape: adaptive_avg_pool(x, s), lambda x, f=average, s=shape: f(x, s))
        check(data(rank), lambda x, s=shape: adaptive_max_pool(x, s), lambda x, f=maximum, s=shape: f(x, s))


def test_fractional_max_pool() -> None:
    rng = np.random.default_rng(3)
    for rank, theirs in ((2, F.fractional_max_pool2d), (3, F.fractional_max_pool3d)):
        window, outputs = (2, 3, 2)[:rank], (5, 4, 6)[:rank]
        u = rng.random((2, 3, rank))
        # In two dimensions PyTorch draws for the width first.
        given = torch.tensor(u[..., ::-1].copy() if rank == 2 else u)
        check(
            data(rank),
            lambda x, w=window, o=outputs, u=u: fractional_max_pool(x, w, o, samples=u),
            lambda x, f=theirs, w=window, o=outputs, g=given: f(x, w, o, _random_samples=g),
        )
