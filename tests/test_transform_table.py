"""Every public array operation under every transformation that maps, repeats, recomputes or compiles it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from interpreter import compiled, interpret

pytestmark = pytest.mark.slow

Shape = tuple[int, ...]
LAX = ("NHC", "HIO", "NHC")
KEY_DATA = np.array([0, 1], np.uint32)


def maxima_and_places(x: Any, **mode: str) -> jax.Array:
    values, places = jaxconv.max_pool_with_argmax(x, (2,), 2, **mode)
    spread = jaxconv.max_unpool(values, places, (6,), **mode)
    return spread * (1 + places.sum(-2, keepdims=True)).astype(x.dtype)


def fractional(x: Any) -> jax.Array:
    return jaxconv.fractional_max_pool(x, (2,), (3,), jax.random.wrap_key_data(KEY_DATA))


def window_maximum(x: Any, **mode: str) -> jax.Array:
    return jaxconv.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 1), (1, 2, 1), "SAME", **mode)


def stream(x: Any, w: Any, **mode: str) -> jax.Array:
    y, state = jaxconv.conv_stream(x[:, :4], w, **mode)
    return jnp.concatenate([y, jaxconv.conv_stream(x[:, 4:], w, state, **mode)[0]], 1)


def input_gradient(g: Any, w: Any, **mode: str) -> jax.Array:
    return jaxconv.conv_input_gradient(g, w, (*g.shape[:-2], 6, 4), strides=2, **mode)


X, W = (2, 6, 4), (3, 4, 4)


def table(**mode: str) -> dict[str, tuple[Callable[..., Any], tuple[Shape, ...]]]:
    """Name -> (operation, shapes of its arrays)."""
    new, j = functools.partial, jaxconv
    lax_conv = new(
        j.conv_general_dilated, window_strides=(1,), padding="SAME", rhs_dilation=(2,), dimension_numbers=LAX
    )
    lax_local = new(
        j.conv_general_dilated_local, window_strides=(1,), padding="VALID", filter_shape=(3,),
        dimension_numbers=LAX,
    )  # fmt: skip
    lax_patches = new(
        j.conv_general_dilated_patches, filter_shape=(3,), window_strides=(1,), padding="SAME",
        dimension_numbers=LAX,
    )  # fmt: skip
    average = new(j.avg_pool, window_shape=(3,), strides=(1,), padding="SAME", count_include_pad=False)
    product = new(j.pool, init=1.0, reduce_fn=jnp.multiply, window_shape=(2,), strides=(2,), padding="VALID")
    return {
        "conv": (new(j.conv, strides=2, **mode), (X, W, (4,))),
        "conv_general_dilated": (new(lax_conv, **mode), (X, W)),
        "conv_transpose": (new(j.conv_transpose, strides=(2,), padding="SAME", **mode), (X, W)),
        "conv_input_gradient": (new(input_gradient, **mode), ((2, 3, 4), W)),
        "conv_kernel_gradient": (new(j.conv_kernel_gradient, kernel_shape=W, **mode), (X, X)),
        "convolve": (new(j.convolve, **mode), ((6,), (3,))),
        "correlate": (new(j.correlate, mode="same", **mode), ((6,), (3,))),
        "deform_conv": (new(j.deform_conv, **mode), (X, (2, 6, 3), W)),
        "depthwise_conv": (new(j.depthwise_conv, **mode), (X, (3, 4, 2))),
        "separable_conv": (new(j.separable_conv, **mode), (X, (3, 4, 2), (8, 3))),
        "conv_local": (new(j.conv_local, padding="VALID", **mode), (X, (4, 3, 4, 2))),
        "conv_general_dilated_local": (new(lax_local, **mode), (X, (4, 12, 2))),
        "conv_stream": (new(stream, **mode), (X, W)),
        "extract_patches": (new(j.extract_patches, window_shape=(3,), strides=2, **mode), (X,)),
        "fold_patches": (new(j.fold_patches, output_shape=(7,), window_shape=(2,), **mode), ((2, 6, 8),)),
        "conv_general_dilated_patches": (new(lax_patches, **mode), (X,)),
        "max_pool": (new(j.max_pool, window_shape=(3,), strides=(2,), **mode), (X,)),
        "min_pool": (new(j.min_pool, window_shape=(3,), strides=(2,), padding="SAME", **mode), (X,)),
        "avg_pool": (new(average, **mode), (X,)),
        "sum_pool": (new(j.sum_pool, window_shape=(3,), **mode), (X,)),
        "lp_pool": (new(j.lp_pool, window_shape=(3,), p=3, **mode), (X,)),
        "pool": (new(product, **mode), (X,)),
        "reduce_window": (new(window_maximum, **mode), (X,)),
        "max_pool_with_argmax": (new(maxima_and_places, **mode), (X,)),
        "fractional_max_pool": (fractional, (X,)),
        "adaptive_avg_pool": (new(j.adaptive_avg_pool, output_shape=(4,), **mode), (X,)),
        "adaptive_max_pool": (new(j.adaptive_max_pool, output_shape=(4,), **mode), (X,)),
        "median_pool": (new(j.median_pool, window_shape=(3,), **mode), (X,)),
        "rank_pool": (new(j.rank_pool, window_shape=(4,), rank=1, **mode), (X,)),
        "global_avg_pool": (new(j.global_avg_pool, **mode), (X,)),
        "global_max_pool": (new(j.global_max_pool, **mode), (X,)),
    }


TABLE = table()
EACH = pytest.mark.parametrize("name", TABLE)
CHECKED_WITH_ANOTHER = {"max_unpool"}
WITHOUT_ARRAYS = {"explain", "conv_stream_state", "tune", "use_plans", "forget_plans"}


def arrays(name: str, *leading: int) -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal((*leading, *shape))) for shape in TABLE[name][1]]


def with_gradients(name: str) -> Callable[..., Any]:
    """The operation's value and all of its gradients."""
    operation, shapes = TABLE[name]

    def both(*operands: Any) -> Any:
        y, back = jax.vjp(operation, *operands)
        return y, *back(jnp.cos(y))

    return both


def assert_close(got: Any, wanted: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11), got, wanted)


def test_the_table_is_complete() -> None:
    assert set(TABLE) | CHECKED_WITH_ANOTHER | WITHOUT_ARRAYS == set(jaxconv.__all__)


@pytest.mark.slow
@EACH
def test_vmap_over_each_array_is_the_loop(name: str) -> None:
    both, singles, stacks = with_gradients(name), arrays(name), arrays(name, 3)
    for i, stack in enumerate(stacks):
        results = [interpret(both, *singles[:i], one, *singles[i + 1 :]) for one in stack]
        wanted = [np.stack(leaves) for leaves in zip(*results, strict=True)]
        for axis in (0, -1):
            axes = [axis if j == i else None for j in range(len(singles))]
            given = [*singles[:i], jnp.moveaxis(stack, 0, axis), *singles[i + 1 :]]
            assert_close(interpret(jax.vmap(both, axes), *given), wanted)


@pytest.mark.slow
@EACH
def test_scan_of_a_checkpoint_and_a_fori_loop(name: str) -> None:
    # The interpreter scatters into a loop's invariant, and the next turn finds what the last one left there.
    evaluate = compiled if name == "max_pool_with_argmax" else interpret
    both, stacks = with_gradients(name), arrays(name, 2)
    results = [interpret(both, *(stack[i] for stack in stacks)) for i in range(2)]
    total = [a + b for a, b in zip(*results, strict=True)]

    def scanned(*stacks: Any) -> Any:
        return jax.lax.scan(lambda _, one: (None, TABLE[name][0](*one)), None, stacks)[1]

    def checkpointed(*stacks: Any) -> Any:
        ys, back = jax.vjp(jax.checkpoint(scanned), *stacks)
        return ys, *back(jnp.cos(ys))

    stacked = [np.stack(leaves) for leaves in zip(*results, strict=True)]
    assert_close(evaluate(checkpointed, *stacks), stacked)

    def summed(*stacks: Any) -> Any:
        def body(i: Any, sums: Any) -> Any:
            return jax.tree.map(jnp.add, sums, both(*(stack[i] for stack in stacks)))

        shapes = jax.eval_shape(both, *(stack[0] for stack in stacks))
        return jax.lax.fori_loop(0, 2, body, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))

    assert_close(evaluate(summed, *stacks), total)


@pytest.mark.slow
@EACH
@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_donated_buffers_are_taken_and_change_nothing(name: str) -> None:
    both, operands = with_gradients(name), arrays(name)
    wanted = jax.jit(both)(*operands)
    # Each gradient has the shape of its array, so that the compiler can write it there.
    got = jax.jit(both, donate_argnums=range(len(operands)))(*operands)
    assert all(x.is_deleted() for x in operands)
    assert_close(got, wanted)
