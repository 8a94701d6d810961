"""`jax.export` with a symbolic batch: one program for every batch size, each algorithm and pass."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxconv
from test_transform_table import TABLE, with_gradients

# Sizes [*S, C], kernel, options: one for each rung of the ladder on a CPU.
CASES = {
    "gemm": ((9, 8, 16), (3, 3, 16, 16), {"precision": "highest"}),
    "space_to_depth": ((32, 40, 24), (8, 8, 24, 24), {"strides": 4}),
    "gemm_strided": ((9, 8, 13), (3, 3, 13, 13), {"strides": 2}),
    "banded": ((9, 8, 3), (3, 3, 3, 8), {}),
    "direct_gradient": ((9, 8, 3), (3, 3, 3, 32), {"strides": 2}),
    "one_channel": ((9, 8, 1), (5, 5, 1, 6), {}),
    "pointwise": ((5, 4, 32), (1, 1, 32, 8), {}),
    "depthwise": ((9, 8, 8), (3, 3, 1, 8), {"groups": 8}),
    "depthwise_large": ((9, 8, 8), (7, 7, 1, 8), {"groups": 8}),
    "grouped": ((9, 8, 8), (3, 3, 4, 8), {"groups": 2}),
    "winograd": ((40, 36, 32), (3, 3, 32, 32), {}),
    "circular": ((9, 3), (3, 3, 4), {"padding": "CIRCULAR"}),
}


def check(function: Any, *shapes: Any) -> None:
    """The exported function on two batch sizes against the function itself."""
    (n,) = export.symbolic_shape("n")
    specs = [jax.ShapeDtypeStruct(tuple(n if d is None else d for d in s), jnp.float32) for s in shapes]
    exported = export.export(jax.jit(function))(*specs)
    for batch in (1, 3):
        rng = np.random.default_rng(batch)
        sizes = [tuple(batch if d is None else d for d in s) for s in shapes]
        arrays = [rng.standard_normal(size).astype(np.float32) for size in sizes]
        for got, wanted in zip(
            jax.tree.leaves(exported.call(*arrays)), jax.tree.leaves(function(*arrays)), strict=True
        ):
            np.testing.assert_allclose(got, wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("name", CASES)
def test_convolutions_and_their_gradients(name: str) -> None:
    sizes, kernel, options = CASES[name]

    def all_passes(x: Any, w: Any) -> Any:
        y, pullback = jax.vjp(lambda x, w: jaxconv.conv(x, w, **options), x, w)
        return y, pullback(y)

    check(all_passes, (None, *sizes), kernel)


def test_other_front_doors() -> None:
    check(lambda x, w: jaxconv.conv_transpose(x, w, (2, 2), "SAME"), (None, 5, 4, 8), (3, 3, 8, 4))
    check(lambda x, w: jaxconv.conv_general_dilated(x, w, (1, 1), "SAME"), (None, 3, 6, 5), (4, 3, 3, 3))
    check(lambda x, g: jaxconv.conv_kernel_gradient(x, g, (3, 3, 8, 4)), (None, 5, 4, 8), (None, 5, 4, 4))
    check(
        lambda g, w: jaxconv.conv_input_gradient(g, w, (g.shape[0], 2, 9, 8, 4), strides=2),
        (None, 2, 5, 4, 8),
        (3, 3, 4, 8),
    )
    check(lambda x, w: jaxconv.conv_stream(x, w), (None, 9, 4), (3, 4, 4))
    check(lambda x, w: jaxconv.conv_local(x, w), (None, 5, 4), (5, 3, 4, 4))
    check(lambda x: jaxconv.fold_patches(jaxconv.extract_patches(x, (3,)), (9,), (3,)), (None, 9, 4))


# A signal has no batch, and `jax.random` draws no symbolic number of samples.
WITHOUT_BATCH = {"convolve", "correlate", "fractional_max_pool"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TABLE if name not in WITHOUT_BATCH])
def test_every_operation_and_its_gradients(name: str) -> None:
    """Of the table's arrays those whose first axis has size 2 are batches."""
    shapes = TABLE[name][1]
    check(with_gradients(name), *((None, *s[1:]) if s[0] == 2 else s for s in shapes))


@pytest.mark.slow
def test_fractional_pooling_with_given_samples() -> None:
    def pool(x: Any, u: Any) -> jax.Array:
        return jaxconv.fractional_max_pool(x, (2,), (3,), samples=jax.nn.sigmoid(u))

    check(jax.value_and_grad(lambda x, u: (pool(x, u) ** 2).sum()), (None, 6, 4), (None, 4, 1))


def test_the_state_of_a_stream() -> None:
    check(lambda x: jaxconv.conv_stream_state(x.shape, (3, 4, 4), x.dtype), (None, 9, 4))


def test_only_the_batch_may_be_symbolic() -> None:
    n, m = export.symbolic_shape("n, m")
    g, w = jax.ShapeDtypeStruct((n, 9, 4), jnp.float32), jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)
    with pytest.raises(TypeError, match="`input_shape` must be made of Python integers"):
        jax.eval_shape(lambda g, w: jaxconv.conv_input_gradient(g, w, (n, m, 4)), g, w)
