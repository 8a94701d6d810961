"""Every convolution over random configurations beside PyTorch: values, gradients, and gradients of those."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is the peer of this comparison")
from conv_peers import OPERATIONS, Case, Rng  # noqa: E402
from interpreter import compiled, interpret  # noqa: E402

pytestmark = pytest.mark.torch


def check(operation: Callable[[Rng, int], Case], seed: int, evaluate: Callable[..., Any]) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs, shapes = operation(rng, 1 + seed % 2)
    operands = [rng.standard_normal(shape) for shape in shapes]
    leaves = [torch.tensor(a, requires_grad=True) for a in operands]
    y = theirs(*leaves)
    dy = torch.tensor(rng.standard_normal(tuple(y.shape)), requires_grad=True)
    firsts = torch.autograd.grad(y, leaves, dy, create_graph=True)
    weights = [rng.standard_normal(shape) for shape in shapes]
    slope = sum((g * torch.tensor(a)).sum() for g, a in zip(firsts, weights, strict=True))
    seconds = torch.autograd.grad(slope, (dy, *leaves), allow_unused=True)

    def derivatives(dy: Any, *operands: Any) -> Any:
        def slope(dy: Any, *operands: Any) -> Any:
            y, pull_back = jax.vjp(ours, *operands)
            found = pull_back(dy)
            return sum((g * a).sum() for g, a in zip(found, weights, strict=True)), (y, *found)

        wanted = tuple(range(len(operands) + 1))
        seconds, values_and_firsts = jax.grad(slope, wanted, has_aux=True)(dy, *operands)
        return *values_and_firsts, *seconds

    got = evaluate(derivatives, dy.detach().numpy(), *operands)
    for mine, peer in zip(got, (y, *firsts, *seconds), strict=True):
        expected = np.zeros(mine.shape) if peer is None else peer.detach().numpy()
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-9, err_msg=f"{shapes}")


EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)


@EACH
def test_one(operation: Any) -> None:
    check(operation, 0, compiled)


@pytest.mark.slow
@EACH
def test_a_hundred(operation: Any) -> None:
    """Every twentieth compiled, the others interpreted."""
    for seed in range(1, 101):
        check(operation, seed, interpret if seed % 20 else compiled)
