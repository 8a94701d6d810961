"""The corners of ceil_mode, counts and divisors beside PyTorch; `test_pool_random` has every rank."""

from typing import Any

import jax
import numpy as np
import pytest

from interpreter import compiled
from jaxconv._pool import avg_pool, max_pool

torch = pytest.importorskip("torch", reason="PyTorch is the peer of this comparison")
pytestmark = pytest.mark.torch
F: Any = torch.nn.functional

# (size, kernel, stride, padding, dilation); PyTorch wants padding of at most half the kernel.
GEOMETRIES = [
    (7, 2, 2, 0, 1),
    (8, 3, 2, 1, 1),
    (7, 3, 2, 0, 1),
    (9, 3, 3, 1, 1),
    (6, 4, 3, 2, 1),
    (5, 2, 4, 1, 1),
    (9, 3, 2, 1, 2),
    (2, 3, 2, 1, 1),
]


def data(rank: int, size: int) -> np.ndarray:
    sizes = tuple(size + axis for axis in range(rank))
    return np.random.default_rng(size).standard_normal((2, *sizes, 3))


def torchs(x: np.ndarray, pool: Any) -> tuple[np.ndarray, np.ndarray]:
    """Value, and gradient of half the sum of squares, channels last."""
    leaf = torch.tensor(np.moveaxis(x, -1, 1)).requires_grad_()
    y = pool(leaf)
    (dx,) = torch.autograd.grad((y**2).sum() / 2, leaf)
    return tuple(np.moveaxis(a.detach().numpy(), 1, -1) for a in (y, dx))


def check(x: np.ndarray, ours: Any, theirs: Any) -> None:
    def value_and_gradient(x: Any) -> tuple[jax.Array, jax.Array]:
        y, pull_back = jax.vjp(ours, x)
        return y, pull_back(y)[0]

    y, dx = compiled(value_and_gradient, x)
    expected, gradient = torchs(x, theirs)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_max_pool(geometry: tuple[int, ...], ceil: bool) -> None:
    size, k, s, p, d = geometry
    check(
        data(2, size),
        lambda x: max_pool(x, (k, k), s, p, window_dilation=d, ceil_mode=ceil),
        lambda x: F.max_pool2d(x, k, s, p, d, ceil),
    )


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("options", [(False, None), (True, None), (True, 5)], ids=str)
@pytest.mark.parametrize("geometry", [g for g in GEOMETRIES if g[4] == 1], ids=str)
def test_avg_pool(geometry: tuple[int, ...], options: tuple[bool, int | None], ceil: bool) -> None:
    size, k, s, p, _ = geometry
    include, divisor = options
    check(
        data(2, size),
        lambda x: avg_pool(x, (k, k), s, p, include, divisor_override=divisor, ceil_mode=ceil),
        lambda x: F.avg_pool2d(x, k, s, p, ceil, include, divisor),
    )
