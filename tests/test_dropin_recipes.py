"""The layers of docs/recipes.md, taken from the page, train to the parameters of those that they replace."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from pages import ROOT, blocks, run
from training import array, assert_same, mostly_slow, train_nnx, trained

eqx = pytest.importorskip("equinox")
hk = pytest.importorskip("haiku")
linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

SHAPE = (2, 7, 6, 4)


@pytest.fixture(autouse=True, scope="module")
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@cache
def recipes() -> dict[str, Any]:
    """The names that the page defines."""
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "recipes.md"):
        if block.language == "python":
            run(block.text, names, f"recipes.md:{block.line}")
    return names


@pytest.mark.parametrize("transpose_kernel", [False, True], ids=["as_is", "transposed"])
@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR"])
def test_the_places_of_flaxs_transposed_convolution(padding: str, transpose_kernel: bool) -> None:
    """Small integers, so that both sums are exact."""
    rng = np.random.default_rng(0)
    for size, taps, stride in [(4, 1, 2), (4, 2, 3), (5, 3, 1), (5, 3, 2), (6, 4, 2), (3, 5, 2), (4, 4, 3)]:
        x, kernel = (jnp.asarray(rng.integers(-9, 9, s), "float64") for s in ((2, size, 2), (taps, 2, 2)))
        options = dict(strides=(stride,), padding=padding, transpose_kernel=transpose_kernel)
        layer = linen.ConvTranspose(2, (taps,), use_bias=False, **options)
        wanted = layer.apply({"params": {"kernel": kernel}}, x)
        np.testing.assert_array_equal(jaxconv.conv_transpose(x, kernel, **options), wanted)


TRANSPOSED = {
    "same": dict(strides=(2, 1)),
    "circular": dict(strides=(2, 3), padding="CIRCULAR"),
    "turned": dict(strides=(2, 2), padding="CIRCULAR", transpose_kernel=True),
    "pads": dict(strides=(2, 2), padding=((1, 2), (2, 1)), kernel_dilation=(1, 2), use_bias=False),
    "batch_axes": dict(strides=(2, 2), padding="VALID", x=(2, 3, 4, 5, 4)),
}


@pytest.mark.parametrize("name", mostly_slow(TRANSPOSED, ["circular"]))
@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_flax_transposed_recipe(name: str, api: str) -> None:
    options = dict(kernel_size=(3, 2), param_dtype="float64") | TRANSPOSED[name]
    x = array(*options.pop("x", (2, 4, 5, 4)))
    if api == "linen":
        pair = [c(8, **options) for c in (recipes()["LinenConvTranspose"], linen.ConvTranspose)]
        results = [trained(m.apply, m.init(jax.random.key(0), x), x) for m in pair]
    else:
        pair = [
            c(4, 8, rngs=nnx.Rngs(0), **options) for c in (recipes()["NNXConvTranspose"], nnx.ConvTranspose)
        ]
        graphs = [train_nnx(m, x) for m in pair]
        results = [nnx.to_pure_dict(g) for g in graphs]
    assert_same(*results, "float64")


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_flax_local_recipe(padding: str) -> None:
    x = array(*SHAPE, dtype="float32")
    pair = [c(3, (3, 2), (2, 1), padding) for c in (recipes()["ConvLocal"], linen.ConvLocal)]
    assert_same(*(trained(m.apply, m.init(jax.random.key(0), x), x) for m in pair), "float32")


EQUINOX = {
    "pads": dict(padding=((1, 2), (0, 1)), stride=2),
    "same_grouped": dict(padding="SAME", groups=2, use_bias=False),
    "dilated": dict(dilation=2, padding=1),
    "circular": dict(padding="SAME", padding_mode="CIRCULAR"),
    "replicate": dict(padding=1, padding_mode="REPLICATE"),
}


@pytest.mark.parametrize("name", mostly_slow(EQUINOX, ["same_grouped"]))
def test_equinox_recipe(name: str) -> None:
    """A convolution and a pool under the vmap that every Equinox user writes."""
    x = array(3, 4, 7, 6)
    results = []
    for conv, pool in (
        (recipes()["EquinoxConv"], recipes()["EquinoxMaxPool"]),
        (eqx.nn.Conv, eqx.nn.Pool),
    ):
        layer = conv(2, 4, 8, 3, **EQUINOX[name], dtype="float64", key=jax.random.key(0))
        after = pool(-jnp.inf, jax.lax.max, 2, kernel_size=2, stride=2, use_ceil=True)
        arrays, rest = eqx.partition(layer, eqx.is_array)

        def apply(arrays: Any, x: Any, rest: Any = rest, after: Any = after) -> Any:
            return jax.vmap(lambda one: after(eqx.combine(arrays, rest)(one)))(x)

        results.append(jax.tree.leaves(trained(apply, arrays, x)))
    assert_same(*results, "float64")


HAIKU = {
    "same_strided": dict(stride=(2, 1)),
    "valid_dilated": dict(padding="VALID", rate=2),
    "channels_first": dict(data_format="NCHW", feature_group_count=2),
    "causal": dict(padding=(hk.pad.causal, hk.pad.same)),
    "no_bias": dict(with_bias=False),
    "unbatched": dict(x=(7, 6, 4)),
}


@pytest.mark.parametrize("name", mostly_slow(HAIKU, ["same_strided"]))
def test_haiku_recipe(name: str) -> None:
    options = dict(HAIKU[name])
    x = array(*options.pop("x", (2, 4, 7, 6) if "data_format" in options else SHAPE))
    results = []
    for conv in (recipes()["Conv2D"], hk.Conv2D):
        network = hk.without_apply_rng(hk.transform(lambda x, c=conv: c(8, 3, **options)(x)))
        results.append(trained(network.apply, network.init(jax.random.key(0), x), x))
    assert_same(*results, "float64")


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_haiku_pools(padding: str) -> None:
    x = array(*SHAPE)
    ours, theirs = (x, (3, 2), (2, 1), padding), (x, (3, 2, 1), (2, 1, 1), padding)
    np.testing.assert_array_equal(jaxconv.max_pool(*ours), hk.max_pool(*theirs))
    got = jaxconv.avg_pool(*ours, count_include_pad=False)
    np.testing.assert_allclose(got, hk.avg_pool(*theirs), rtol=1e-12)


@pytest.mark.torch
def test_weights_of_torch_layers() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype("float32")
    down = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    up = torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, bias=False)
    weights = [layer.weight.detach().numpy() for layer in (down, up)]
    wanted = [layer(torch.from_numpy(x)).detach().numpy() for layer in (down, up)]
    pads = ((1, 1), (1, 1))
    got = [
        jaxconv.conv_general_dilated(x, weights[0], (2, 2), pads, feature_group_count=2),
        jaxconv.conv_transpose(
            x, weights[1], (2, 2), pads, dimension_numbers=("NCHW", "OIHW", "NCHW"),
            transpose_kernel=True, use_consistent_padding=True, output_padding=1,
        ),
    ]  # fmt: skip
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
