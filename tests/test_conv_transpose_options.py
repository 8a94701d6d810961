"""Groups, output padding, output shapes and extensions of `conv_transpose`, as each library means them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxconv
import oracle
from interpreter import interpret

CHANNELS_FIRST = (("NCX", "OIX", "NCX"), ("NCXY", "OIXY", "NCXY"), ("NCXYZ", "OIXYZ", "NCXYZ"))


@st.composite
def geometries(draw: Any) -> dict[str, Any]:
    """PyTorch's arguments on one to three axes, with an input that leaves something of the output."""
    rank = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    arguments: dict[str, Any] = {"rank": rank, "groups": groups, "batch": draw(st.integers(1, 2))}
    arguments["cin"] = groups * draw(st.integers(1, 2))
    arguments["cout"] = groups * draw(st.integers(1, 2))
    for axis in ("sizes", "taps", "strides", "dilation", "pads", "extra"):
        arguments[axis] = []
    for _ in range(rank):
        size, taps = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        extra = draw(st.integers(0, max(stride, dilation) - 1))
        whole = (size - 1) * stride + dilation * (taps - 1) + 1 + extra
        pads = draw(st.integers(0, min(3, (whole - 1) // 2)))
        for axis, value in zip(
            ("sizes", "taps", "strides", "dilation", "pads", "extra"),
            (size, taps, stride, dilation, pads, extra),
            strict=True,
        ):
            arguments[axis].append(value)
    return arguments


def operands(g: dict[str, Any], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x and w in PyTorch's layout: [N, C, *S] and [C, O / G, *K]."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((g["batch"], g["cin"], *g["sizes"]))
    return x, rng.standard_normal((g["cin"], g["cout"] // g["groups"], *g["taps"]))


def ours(g: dict[str, Any], x: Any, w: Any, **size: Any) -> jax.Array:
    return jaxconv.conv_transpose(
        x, w, g["strides"], [(p, p) for p in g["pads"]], g["dilation"],
        dimension_numbers=CHANNELS_FIRST[g["rank"] - 1], transpose_kernel=True,
        use_consistent_padding=True, groups=g["groups"], **(size or {"output_padding": g["extra"]}),
    )  # fmt: skip


@given(geometries())
def test_groups_and_output_padding_against_the_oracle(g: dict[str, Any]) -> None:
    """The definition: the output is where a forward convolution of the same options would read."""
    x, w = operands(g)
    got = ours(g, x, w)
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            g["sizes"], g["strides"], g["pads"], g["dilation"], g["taps"], g["extra"], strict=True
        )
    ]
    assert got.shape == (g["batch"], g["cout"], *sizes)
    forward = oracle.Geometry(
        (g["batch"], *sizes, g["cout"]),
        (*g["taps"], g["cout"] // g["groups"], g["cin"]),
        tuple(g["strides"]),
        tuple((p, p) for p in g["pads"]),
        (1,) * g["rank"],
        tuple(g["dilation"]),
        g["groups"],
        1,
    )
    kernel = np.moveaxis(w, (0, 1), (-1, -2))
    # Output padding of a dilation's size makes room for outputs that this call does not have.
    missing = [(0, m - n) for m, n in zip(forward.y_shape[1:-1], g["sizes"], strict=True)]
    y = np.pad(np.moveaxis(x, 1, -1), [(0, 0), *missing, (0, 0)])
    wanted = oracle.input_gradient(y, kernel, forward)
    np.testing.assert_allclose(np.moveaxis(np.asarray(got), 1, -1), wanted, atol=1e-12)


@pytest.mark.slow
@pytest.mark.torch
@given(geometries())
def test_values_and_both_orders_of_gradients_are_those_of_torch(g: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    function = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)[g["rank"] - 1]
    x, w = operands(g)
    tx, tw = (torch.tensor(a, requires_grad=True) for a in (x, w))
    ty = function(tx, tw, None, g["strides"], g["pads"], g["extra"], g["groups"], g["dilation"])
    c = np.random.default_rng(1).standard_normal(ty.shape)
    first = torch.autograd.grad((ty * ty * torch.tensor(c)).sum(), (tx, tw), create_graph=True)
    second = torch.autograd.grad(sum((d * d).sum() for d in first), (tx, tw))

    def value(x: jax.Array, w: jax.Array) -> jax.Array:
        return (ours(g, x, w) ** 2 * c).sum()

    def slope(x: jax.Array, w: jax.Array) -> jax.Array:
        return sum((d * d).sum() for d in jax.grad(value, (0, 1))(x, w))  # type: ignore[return-value]

    def orders(x: jax.Array, w: jax.Array) -> Any:
        return ours(g, x, w), jax.grad(value, (0, 1))(x, w), jax.grad(slope, (0, 1))(x, w)

    y, *slopes = interpret(orders, x, w)
    once, twice = slopes[:2], slopes[2:]
    np.testing.assert_allclose(y, ty.detach().numpy(), atol=1e-11)
    for got, wanted in zip(once, first, strict=True):
        np.testing.assert_allclose(got, wanted.detach().numpy(), rtol=1e-9, atol=1e-9)
    for got, wanted in zip(twice, second, strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-8, atol=1e-7)


@given(geometries())
def test_output_shape_stands_for_the_output_padding(g: dict[str, Any]) -> None:
    g["extra"] = [min(e, s - 1) for e, s in zip(g["extra"], g["strides"], strict=True)]
    x, w = operands(g)
    wanted = ours(g, x, w)
    np.testing.assert_array_equal(ours(g, x, w, output_shape=wanted.shape[2:]), wanted)


@pytest.mark.parametrize("flip", [False, True])
def test_groups_are_independent_transposed_convolutions(flip: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 4, 6))
    w = rng.standard_normal((3, 2, 2, 6) if flip else (3, 2, 2, 9))
    got = jaxconv.conv_transpose(x, w, (2, 3), "SAME", transpose_kernel=flip, groups=3)
    parts = zip(np.split(x, 3, -1), np.split(w, 3, -1), strict=True)
    wanted = [oracle.conv_transpose(a, b, (2, 3), "SAME", (1, 1), flip) for a, b in parts]
    np.testing.assert_allclose(got, np.concatenate(wanted, -1), atol=1e-12)


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
def test_output_padding_beside_a_name_has_the_sizes_of_keras(taps: int, extra: int) -> None:
    x, w = np.ones((1, 4, 1)), np.ones((taps, 1, 1))
    same = jaxconv.conv_transpose(x, w, (3,), "SAME", output_padding=extra)
    valid = jaxconv.conv_transpose(x, w, (3,), "VALID", output_padding=extra)
    assert same.shape[1] == 3 * 3 + taps % 2 + extra
    assert valid.shape[1] == 3 * 3 + taps + extra


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_output_shape_beside_a_name_is_the_input_of_that_convolution(padding: str, size: int) -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, 3, 4))
    x, strides = rng.standard_normal((2, size, 3)), (2,)
    y = rng.standard_normal(jaxconv.conv(x, w, strides=2, padding=padding).shape)
    wanted = jaxconv.conv_input_gradient(y, w, x.shape, strides=2, padding=padding)
    got = jaxconv.conv_transpose(y, w, strides, padding, transpose_kernel=True, output_shape=(size,))
    np.testing.assert_allclose(got, wanted, atol=1e-12)


@pytest.mark.parametrize("mode", ["CIRCULAR", "REFLECT", "SYMMETRIC", "EDGE"])
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_extensions_fold_the_whole_transposed_convolution_back(mode: str, taps: int, stride: int) -> None:
    """Against the definition: every sample beyond the output is added to the one that it would copy."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 3)), rng.standard_normal((taps, 3, 2))
    got = jaxconv.conv_transpose(x, w, (stride,), mode)
    whole = oracle.conv_transpose(x, w, (stride,), ((taps - 1, taps - 1),), (1,), False)
    period, lo = 4 * stride, max(taps - stride, 0) // 2
    numpy_mode: Any = "wrap" if mode == "CIRCULAR" else mode.lower()
    source = np.pad(np.arange(period), (lo, max(taps - 1 - lo, 0)), mode=numpy_mode)
    wanted = np.zeros((2, period, 2))
    for position in range(whole.shape[1]):
        wanted[:, source[position]] += whole[:, position]
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_extension_has_gradients_and_an_output_shape() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 4, 5, 2)), rng.standard_normal((3, 4, 2, 3))

    def apply(x: jax.Array, w: jax.Array) -> jax.Array:
        return jaxconv.conv_transpose(x, w, (2, 3), "REFLECT", output_shape=(7, 14))

    y, pullback = jax.vjp(apply, x, w)
    assert y.shape == (1, 7, 14, 3)
    dx, dw = pullback(y)
    np.testing.assert_allclose((dx * x).sum(), (y * y).sum(), rtol=1e-9)
    np.testing.assert_allclose((dw * w).sum(), (y * y).sum(), rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_padding": 2}, "less than the stride"),
        ({"output_padding": -1}, "at least 0"),
        ({"output_padding": 1, "output_shape": (8, 8)}, "not both"),
        ({"output_shape": (8, 20)}, "SAME convolution maps"),
        ({"padding": ((1, 1), (1, 1)), "output_shape": (20, 8)}, "must lie between"),
        ({"padding": "CIRCULAR", "output_shape": (9, 8)}, "ceil"),
        ({"padding": "CIRCULAR", "output_padding": 1}, "output_shape"),
        ({"padding": "FULL"}, "give the pads"),
        ({"groups": 3}, "groups"),
        ({"groups": 0}, "groups"),
        ({"transpose_kernel": True}, "output features"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], message: str) -> None:
    x, w = jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 4, 2))
    arguments = {"padding": "SAME", **options}
    with pytest.raises(ValueError, match=message):
        jaxconv.conv_transpose(x, w, (2, 2), arguments.pop("padding"), **arguments)
