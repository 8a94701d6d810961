"""Every pool over random configurations beside PyTorch: values, gradients, and gradients of those."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from interpreter import compiled, interpret

torch = pytest.importorskip("torch", reason="PyTorch is the peer of this comparison")
pytestmark = pytest.mark.torch
F: Any = torch.nn.functional

Rng = np.random.Generator
Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def by_rank(name: str, rank: int) -> Any:
    return getattr(F, f"{name}{rank}d")


def sliding(rng: Rng, sizes: list[int], dilated: bool) -> tuple[tuple[int, ...], ...]:
    """Window, strides, padding and dilation that PyTorch takes and that leave some output."""
    window, strides, pads, dilation = [], [], [], []
    for n in sizes:
        d = int(rng.integers(1, 3)) if dilated and n > 2 else 1
        k = int(rng.integers(1, max(2, min(4, (n - 1) // d + 1) + 1)))
        window.append(k)
        strides.append(int(rng.integers(1, 4)))
        pads.append(int(rng.integers(0, k // 2 + 1)))
        dilation.append(d)
    return tuple(window), tuple(strides), tuple(pads), tuple(dilation)


def pairs(pads: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(p, p) for p in pads]


def maximum(rng: Rng, sizes: list[int]) -> Pair:
    k, s, p, d = sliding(rng, sizes, True)
    ceil = bool(rng.integers(2))
    theirs = by_rank("max_pool", len(sizes))
    return (
        lambda x: jaxconv.max_pool(x, k, s, pairs(p), window_dilation=d, ceil_mode=ceil),
        lambda x: theirs(x, k, s, p, d, ceil),
    )


def minimum(rng: Rng, sizes: list[int]) -> Pair:
    k, s, p, d = sliding(rng, sizes, True)
    theirs = by_rank("max_pool", len(sizes))
    return (
        lambda x: jaxconv.min_pool(x, k, s, pairs(p), window_dilation=d),
        lambda x: -theirs(-x, k, s, p, d),
    )


def average(rng: Rng, sizes: list[int]) -> Pair:
    k, s, p, _ = sliding(rng, sizes, False)
    ceil, include = bool(rng.integers(2)), bool(rng.integers(2))
    theirs = by_rank("avg_pool", len(sizes))
    if len(sizes) == 1:  # PyTorch's has no divisor_override there.
        return (
            lambda x: jaxconv.avg_pool(x, k, s, pairs(p), include, ceil_mode=ceil),
            lambda x: theirs(x, k, s, p, ceil, include),
        )
    divisor = [None, 3][rng.integers(2)]
    return (
        lambda x: jaxconv.avg_pool(x, k, s, pairs(p), include, ceil_mode=ceil, divisor_override=divisor),
        lambda x: theirs(x, k, s, p, ceil, include, divisor),
    )


def total(rng: Rng, sizes: list[int]) -> Pair:
    k, s, p, _ = sliding(rng, sizes, False)
    taps = int(np.prod(k))
    theirs = by_rank("avg_pool", len(sizes))
    return lambda x: jaxconv.sum_pool(x, k, s, pairs(p)), lambda x: theirs(x, k, s, p) * taps


def norm(rng: Rng, sizes: list[int]) -> Pair:
    k, s, _, _ = sliding(rng, sizes, False)
    plain: Any = k if len(k) > 1 else k[0]
    p, ceil = [1, 2, 3, 1.5][rng.integers(4)], bool(rng.integers(2))
    theirs = by_rank("lp_pool", len(sizes))
    # PyTorch takes no absolute values; given them, both meanings agree but where ceil_mode cuts a window.
    signed = ceil or bool(rng.integers(2))
    return (
        lambda x: jaxconv.lp_pool(jnp.abs(x) + 0.1, k, s, p=p, signed=signed, ceil_mode=ceil),
        lambda x: theirs(x.abs() + 0.1, p, plain, s, ceil),
    )


def positions(rng: Rng, sizes: list[int]) -> Pair:
    k, s, p, d = sliding(rng, sizes, True)
    theirs = by_rank("max_pool", len(sizes))

    def ours(x: Any) -> Any:
        values, where = jaxconv.max_pool_with_argmax(x, k, s, pairs(p), window_dilation=d)
        return values * (1.0 + where.astype(x.dtype))

    def peer(x: Any) -> Any:
        values, where = theirs(x, k, s, p, d, return_indices=True)
        return values * (1 + where)

    return ours, peer


def unpooling(rng: Rng, sizes: list[int]) -> Pair:
    k = tuple(int(rng.integers(1, min(3, n) + 1)) for n in sizes)
    theirs, back = by_rank("max_pool", len(sizes)), by_rank("max_unpool", len(sizes))

    def ours(x: Any) -> Any:
        return jaxconv.max_unpool(*jaxconv.max_pool_with_argmax(x, k, k), sizes) ** 2

    def peer(x: Any) -> Any:
        values, where = theirs(x, k, k, return_indices=True)
        return back(values, where, k, k, output_size=sizes) ** 2

    return ours, peer


def adaptive_average(rng: Rng, sizes: list[int]) -> Pair:
    outputs = tuple(int(rng.integers(1, n + 3)) for n in sizes)
    theirs = by_rank("adaptive_avg_pool", len(sizes))
    return lambda x: jaxconv.adaptive_avg_pool(x, outputs), lambda x: theirs(x, outputs)


def adaptive_maximum(rng: Rng, sizes: list[int]) -> Pair:
    outputs = tuple(int(rng.integers(1, n + 3)) for n in sizes)
    theirs = by_rank("adaptive_max_pool", len(sizes))
    return lambda x: jaxconv.adaptive_max_pool(x, outputs), lambda x: theirs(x, outputs)


def whole(rng: Rng, sizes: list[int]) -> Pair:
    axes = tuple(range(2, len(sizes) + 2))
    if rng.integers(2):
        return jaxconv.global_avg_pool, lambda x: x.mean(axes)
    return jaxconv.global_max_pool, lambda x: x.amax(axes)


def fractional(rng: Rng, sizes: list[int]) -> Pair:
    sizes = sizes if len(sizes) > 1 else [*sizes, 4]
    k = tuple(int(rng.integers(1, min(3, n - 1) + 1)) for n in sizes)
    outputs = tuple(int(rng.integers(1, n - w + 1)) for n, w in zip(sizes, k, strict=True))
    theirs = by_rank("fractional_max_pool", len(sizes))
    u = rng.random((2, 2, len(sizes)))
    # In two dimensions PyTorch draws for the width first.
    given = torch.tensor(u[..., ::-1].copy() if len(sizes) == 2 else u)
    return (
        lambda x: jaxconv.fractional_max_pool(x, k, outputs, samples=jnp.asarray(u)),
        lambda x: theirs(x, k, outputs, _random_samples=given),
    )


def products(rng: Rng, sizes: list[int]) -> Pair:
    k, s, p, d = sliding(rng, sizes, True)
    rank = len(sizes)

    def peer(x: Any) -> Any:
        x = F.pad(x, [q for p_ in reversed(p) for q in (p_, p_)], value=1.0)
        for axis in range(rank):
            count = (x.shape[2 + axis] - (k[axis] - 1) * d[axis] - 1) // s[axis] + 1
            taps = [torch.arange(count) * s[axis] + t * d[axis] for t in range(k[axis])]
            parts = [x.index_select(2 + axis, t) for t in taps]
            x = parts[0]
            for part in parts[1:]:
                x = x * part
        return x

    return lambda x: jaxconv.pool(x, 1.0, jnp.multiply, k, s, pairs(p), window_dilation=d), peer


OPERATIONS = (
    maximum, minimum, average, total, norm, positions, unpooling, adaptive_average, adaptive_maximum, whole,
    fractional, products,
)  # fmt: skip


def first(x: Any) -> Any:
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy())


def check(
    operation: Callable[[Rng, list[int]], Pair], seed: int, evaluate: Callable[..., Any] = compiled
) -> None:
    rng = np.random.default_rng(seed)
    rank = (1, 2, 3, 1, 2, 1, 1, 2, 1, 1)[seed % 10]  # Programs of three axes take longest to compile.
    if operation is fractional and rank == 1:
        rank = 2
    sizes = [int(n) for n in rng.integers(2, (9, 7, 5)[rank - 1], rank)]
    ours, theirs = operation(rng, sizes)
    size = 4 * int(np.prod(sizes))
    # Values far enough apart, of either sign, for the winners to be the same in any arithmetic.
    x = ((rng.permutation(size) - size // 2 + 0.5) / size).reshape(2, *sizes, 2)

    leaf = first(x).requires_grad_()
    y = theirs(leaf)
    dy = torch.tensor(rng.standard_normal(tuple(y.shape))).requires_grad_()
    a = rng.standard_normal(x.shape)
    (dx,) = torch.autograd.grad(y, leaf, dy, create_graph=True)
    seconds = torch.autograd.grad((dx * first(a)).sum(), (leaf, dy), allow_unused=True)

    def derivatives(x: Any, dy: Any) -> Any:
        def slope(x: Any, dy: Any) -> Any:
            y, pull_back = jax.vjp(ours, x)
            (dx,) = pull_back(dy)
            return (dx * a).sum(), (y, dx)

        seconds, value_and_first = jax.grad(slope, (0, 1), has_aux=True)(x, dy)
        return *value_and_first, *seconds

    back = lambda t: np.moveaxis(t.detach().numpy(), 1, -1)  # noqa: E731
    got = evaluate(derivatives, x, back(dy))
    for mine, peer in zip(got, (y, dx, *seconds), strict=True):
        expected = np.zeros(mine.shape) if peer is None else back(peer)
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-10, err_msg=f"sizes {sizes}")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
def test_as_pytorch(operation: Any, request: pytest.FixtureRequest) -> None:
    """One problem of each rank, or a hundred in the slow suite, of which every twentieth is compiled."""
    for seed in range(3):
        check(operation, seed)
    if request.config.getoption("--slow"):
        for seed in range(3, 100):
            check(operation, seed, interpret if seed % 20 else compiled)
