"""jaxconv under Flax: networks train to the parameters that lax gives them, and pools are Flax's."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from training import array, assert_same, mostly_slow, train_nnx, trained

linen = pytest.importorskip("flax.linen")
linen_pools = pytest.importorskip("flax.linen.pooling")
nnx = pytest.importorskip("flax.nnx")

SHAPE = (2, 7, 6, 4)
# Options in the words of either Flax API; "x" is the shape of the input.
LAYERS: dict[str, dict[str, Any]] = {
    "same_strided": dict(strides=(2, 1)),
    "valid": dict(padding="VALID"),
    "pads": dict(padding=((1, 2), (0, 1))),
    "circular": dict(padding="CIRCULAR"),
    "reflect": dict(padding="REFLECT"),
    "causal": dict(padding="CAUSAL", kernel_size=(3,), x=(2, 9, 4)),
    "grouped": dict(feature_group_count=2),
    "depthwise": dict(feature_group_count=4),
    "kernel_dilated": dict(kernel_dilation=(1, 2)),
    "input_dilated": dict(input_dilation=(2, 1), padding=((1, 1), (1, 1))),
    "masked": dict(mask=True),
    "no_bias": dict(use_bias=False),
    "unbatched": dict(x=(7, 6, 4)),
    "batch_axes": dict(x=(2, 3, 7, 6, 4)),
    "volume": dict(kernel_size=(2, 3, 2), x=(2, 4, 5, 4, 4)),
}
QUICK = ("same_strided", "circular", "causal", "grouped", "masked", "batch_axes")


@pytest.fixture(autouse=True, scope="module")
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def options_of(name: str, dtype: str) -> tuple[dict[str, Any], tuple[int, ...]]:
    options = dict(kernel_size=(3, 3), param_dtype=dtype) | LAYERS[name]
    shape = options.pop("x", SHAPE)
    if options.get("mask"):
        options["mask"] = jnp.asarray(np.random.default_rng(3).integers(2, size=(3, 3, 4, 8)), dtype)
    return options, shape


def train_linen(first: Any, x: jax.Array, dtype: str) -> Any:
    network = linen.Sequential([first, jnp.tanh, linen.Dense(3, param_dtype=dtype)])
    return trained(network.apply, network.init(jax.random.key(0), x), x)


@pytest.mark.parametrize("name", mostly_slow(LAYERS, QUICK[:2]))
def test_linen_conv(name: str) -> None:
    check_linen(name, "float64")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_linen_conv_in_other_dtypes(dtype: str) -> None:
    check_linen("same_strided", dtype)


def check_linen(name: str, dtype: str) -> None:
    options, shape = options_of(name, dtype)
    x = array(*shape, dtype=dtype)
    ours = linen.Conv(8, **options, conv_general_dilated_cls=lambda: jaxconv.conv_general_dilated)
    assert_same(train_linen(ours, x, dtype), train_linen(linen.Conv(8, **options), x, dtype), dtype)


@pytest.mark.parametrize("name", mostly_slow(LAYERS, QUICK))
def test_nnx_conv(name: str) -> None:
    check_nnx(name, "float64")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nnx_conv_in_other_dtypes(dtype: str) -> None:
    check_nnx("same_strided", dtype)


def check_nnx(name: str, dtype: str, **more: Any) -> None:
    options, shape = options_of(name, dtype)
    x = array(*shape, dtype=dtype)
    layers = [
        nnx.Conv(4, 8, rngs=nnx.Rngs(0), **options, **more, **hook)
        for hook in ({"conv_general_dilated": jaxconv.conv_general_dilated}, {})
    ]
    assert_same(*(train_nnx(layer, x) for layer in layers), dtype)


def test_nnx_passes_the_preferred_element_type() -> None:
    check_nnx("same_strided", "bfloat16", preferred_element_type=jnp.float32)


@pytest.mark.parametrize(
    "pool",
    [
        lambda m, x: m.max_pool(x, (3, 2), (2, 1), "SAME"),
        lambda m, x: m.min_pool(x, (2, 2)),
        lambda m, x: m.avg_pool(x, (3, 3), padding="SAME"),
        lambda m, x: m.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False),
        lambda m, x: m.avg_pool(x, (2, 3), (1, 2), ((1, 0), (1, 2))),
        lambda m, x: m.pool(x, 0.0, jax.lax.add, (2, 2), (2, 2), "VALID"),
    ],
    ids=["max", "min", "avg", "avg_uncounted", "avg_pads", "pool"],
)
def test_flax_pools(pool: Any) -> None:
    for shape in (SHAPE, SHAPE[1:]):
        x = array(*shape)
        (y, back), (wanted, wanted_back) = (
            jax.vjp(lambda x, m=m: pool(m, x), x) for m in (jaxconv, linen_pools)
        )
        np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-14)
        g = array(*y.shape, seed=1)
        np.testing.assert_allclose(back(g)[0], wanted_back(g)[0], rtol=1e-12, atol=1e-14)
