"""Every public array operation under every transformation that maps, repeats, recomputes or compiles it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from test_structure import primitives, xla_windows

pytestmark = pytest.mark.slow

Shape = tuple[int, ...]
LAX = ("NHC", "HIO", "NHC")
KEY_DATA = np.array([0, 1], np.uint32)


def maxima_and_places(x: Any) -> jax.Array:
    values, places = jaxconv.max_pool_with_argmax(x, (2,), 2)
    return jaxconv.max_unpool(values, places, (6,)) * (1 + places.sum(-2, keepdims=True)).astype(x.dtype)


def fractional(x: Any) -> jax.Array:
    return jaxconv.fractional_max_pool(x, (2,), (3,), jax.random.wrap_key_data(KEY_DATA))


def window_maximum(x: Any) -> jax.Array:
    return jaxconv.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 1), (1, 2, 1), "SAME")


def stream(x: Any, w: Any) -> jax.Array:
    y, state = jaxconv.conv_stream(x[:, :4], w)
    return jnp.concatenate([y, jaxconv.conv_stream(x[:, 4:], w, state)[0]], 1)


X, W = (2, 6, 4), (3, 4, 4)
# Name -> (operation, shapes of its arrays).
TABLE: dict[str, tuple[Callable[..., Any], tuple[Shape, ...]]] = {
    "conv": (partial(jaxconv.conv, strides=2), (X, W, (4,))),
    "conv_general_dilated": (
        lambda x, w: jaxconv.conv_general_dilated(x, w, (1,), "SAME", None, (2,), LAX),
        (X, W),
    ),
    "conv_transpose": (lambda x, w: jaxconv.conv_transpose(x, w, (2,), "SAME"), (X, W)),
    "conv_input_gradient": (
        lambda g, w: jaxconv.conv_input_gradient(g, w, (*g.shape[:-2], 6, 4), strides=2),
        ((2, 3, 4), W),
    ),
    "conv_kernel_gradient": (partial(jaxconv.conv_kernel_gradient, kernel_shape=W), (X, X)),
    "convolve": (jaxconv.convolve, ((6,), (3,))),
    "correlate": (partial(jaxconv.correlate, mode="same"), ((6,), (3,))),
    "deform_conv": (jaxconv.deform_conv, (X, (2, 6, 3), W)),
    "depthwise_conv": (jaxconv.depthwise_conv, (X, (3, 4, 2))),
    "separable_conv": (jaxconv.separable_conv, (X, (3, 4, 2), (8, 3))),
    "conv_local": (partial(jaxconv.conv_local, padding="VALID"), (X, (4, 3, 4, 2))),
    "conv_general_dilated_local": (
        lambda x, w: jaxconv.conv_general_dilated_local(x, w, (1,), "VALID", (3,), None, None, LAX),
        (X, (4, 12, 2)),
    ),
    "conv_stream": (stream, (X, W)),
    "extract_patches": (lambda x: jaxconv.extract_patches(x, (3,), 2), (X,)),
    "fold_patches": (lambda x: jaxconv.fold_patches(x, (7,), (2,)), ((2, 6, 8),)),
    "conv_general_dilated_patches": (
        lambda x: jaxconv.conv_general_dilated_patches(x, (3,), (1,), "SAME", dimension_numbers=LAX),
        (X,),
    ),
    "max_pool": (lambda x: jaxconv.max_pool(x, (3,), (2,)), (X,)),
    "min_pool": (lambda x: jaxconv.min_pool(x, (3,), (2,), "SAME"), (X,)),
    "avg_pool": (lambda x: jaxconv.avg_pool(x, (3,), (1,), "SAME", count_include_pad=False), (X,)),
    "sum_pool": (lambda x: jaxconv.sum_pool(x, (3,)), (X,)),
    "lp_pool": (lambda x: jaxconv.lp_pool(x, (3,), p=3), (X,)),
    "pool": (lambda x: jaxconv.pool(x, 1.0, jnp.multiply, (2,), (2,), "VALID"), (X,)),
    "reduce_window": (window_maximum, (X,)),
    "max_pool_with_argmax": (maxima_and_places, (X,)),
    "fractional_max_pool": (fractional, (X,)),
    "adaptive_avg_pool": (lambda x: jaxconv.adaptive_avg_pool(x, (4,)), (X,)),
    "adaptive_max_pool": (lambda x: jaxconv.adaptive_max_pool(x, (4,)), (X,)),
    "median_pool": (lambda x: jaxconv.median_pool(x, (3,)), (X,)),
    "rank_pool": (lambda x: jaxconv.rank_pool(x, (4,), rank=1), (X,)),
    "global_avg_pool": (jaxconv.global_avg_pool, (X,)),
    "global_max_pool": (jaxconv.global_max_pool, (X,)),
}
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
    both, singles, stacks = jax.jit(with_gradients(name)), arrays(name), arrays(name, 3)
    for i, stack in enumerate(stacks):
        results = [both(*singles[:i], one, *singles[i + 1 :]) for one in stack]
        wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
        for axis in (0, -1):
            axes = [axis if j == i else None for j in range(len(singles))]
            given = [*singles[:i], jnp.moveaxis(stack, 0, axis), *singles[i + 1 :]]
            assert_close(jax.jit(jax.vmap(with_gradients(name), axes))(*given), wanted)


@pytest.mark.slow
@EACH
def test_scan_of_a_checkpoint_and_a_fori_loop(name: str) -> None:
    both, stacks = with_gradients(name), arrays(name, 2)
    results = [jax.jit(both)(*(stack[i] for stack in stacks)) for i in range(2)]
    total = jax.tree.map(jnp.add, *results)

    def scanned(*stacks: Any) -> Any:
        return jax.lax.scan(lambda _, one: (None, TABLE[name][0](*one)), None, stacks)[1]

    ys, back = jax.vjp(jax.checkpoint(scanned), *stacks)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
    assert_close((ys, *back(jnp.cos(ys))), stacked)

    def body(i: Any, sums: Any) -> Any:
        return jax.tree.map(jnp.add, sums, both(*(stack[i] for stack in stacks)))

    zeros = jax.tree.map(jnp.zeros_like, total)
    assert_close(jax.jit(lambda: jax.lax.fori_loop(0, 2, body, zeros))(), total)


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


@EACH
def test_no_convolution_or_window_of_xlas(name: str) -> None:
    both = with_gradients(name)
    assert not xla_windows(primitives(both, *arrays(name)))
    assert not xla_windows(primitives(jax.vmap(both), *arrays(name, 3)))
