"""Per-example gradients, `vmap(grad)`: what they hold in memory, and that their program has one size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from test_structure import equations

# resnet_28 of the benchmark: one example's input, and the kernel.
EXAMPLE, KERNEL = (28, 28, 128), (3, 3, 128, 128)
BATCHES = pytest.mark.parametrize("batch", [8, pytest.param(64, marks=pytest.mark.slow), 256])


def kernel_gradient(x: Any, g: Any) -> jax.Array:
    return jaxconv.conv_kernel_gradient(x[None], g[None], KERNEL)


def loss(w: Any, x: Any) -> jax.Array:
    return (jaxconv.conv(x[None], w) ** 2).sum()


def memory(function: Any, *shapes: tuple[int, ...]) -> tuple[int, int]:
    """Bytes of the temporaries and of the result, as the compiler planned them; nothing runs."""
    specs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    plan = jax.jit(function).lower(*specs).compile().memory_analysis()
    return plan.temp_size_in_bytes, plan.output_size_in_bytes


@BATCHES
def test_kernel_gradients_hold_one_example_at_a_time(batch: int) -> None:
    """No copy of an operand: neither the batch's inputs nor its cotangents are laid out anew."""
    one, _ = memory(kernel_gradient, EXAMPLE, EXAMPLE)
    held, result = memory(jax.vmap(kernel_gradient), (batch, *EXAMPLE), (batch, *EXAMPLE))
    assert held <= 1.2 * one
    assert result == 4 * batch * np.prod(KERNEL)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [8, 64, 256])
def test_vmap_of_grad_holds_the_outputs_and_their_cotangents_beside_that(batch: int) -> None:
    """Both belong to the loss: y is what its gradient is computed from, dy what that gradient is."""
    one, _ = memory(kernel_gradient, EXAMPLE, EXAMPLE)
    forward, _ = memory(lambda w, x: jaxconv.conv(x, w), KERNEL, (batch, *EXAMPLE))
    held, _ = memory(jax.vmap(jax.grad(loss), (None, 0)), KERNEL, (batch, *EXAMPLE))
    assert held <= 2 * 4 * batch * np.prod(EXAMPLE) + max(forward, 1.2 * one)


def test_the_program_does_not_grow_with_the_batch() -> None:
    def size(batch: int) -> int:
        w, x = jnp.zeros((3, 3, 8, 8)), jnp.zeros((batch, 9, 9, 8))
        return len(list(equations(jax.make_jaxpr(jax.vmap(jax.grad(loss), (None, 0)))(w, x).jaxpr)))

    assert size(2) == size(20)  # of few outputs, another algorithm
    assert size(32) == size(64) == size(256)
