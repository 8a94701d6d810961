"""PyTorch as an independent witness: values and gradients of its convolutions."""

from typing import Any

import jax
import numpy as np
import pytest

import jaxconv

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

CONVOLUTIONS = [
    # x [N, C, *S], w [O, C/G, *K], options of torch
    ((2, 3, 9), (4, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 4, 11), (6, 2, 3), {"dilation": 3, "padding": 2, "groups": 2}),
    ((2, 3, 7, 8), (4, 3, 3, 2), {"stride": (2, 1), "padding": (1, 2)}),
    ((2, 4, 7, 6), (8, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 4}),
    ((1, 2, 9, 9), (3, 2, 3, 3), {"dilation": (2, 3), "padding": 3}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"stride": (1, 2, 2), "padding": 1}),
]
TRANSPOSED = [
    # x [N, C, *S], w [C, O, *K], options of torch
    ((2, 3, 5), (3, 4, 3), {"stride": 2, "padding": 1}),
    ((2, 3, 4, 5), (3, 2, 3, 2), {"stride": (2, 3), "padding": (1, 0)}),
    ((1, 2, 4, 4), (2, 3, 3, 3), {"stride": 1, "padding": 2, "dilation": 2}),
    ((1, 2, 3, 2, 3), (2, 2, 2, 3, 2), {"stride": 2, "padding": (1, 1, 0)}),
]


def per_axis(option: Any, rank: int) -> tuple[int, ...]:
    return (option,) * rank if isinstance(option, int) else tuple(option)


def channels_first(rank: int, kernel: str) -> tuple[str, str, str]:
    letters = "XYZ"[:rank]
    return (f"NC{letters}", f"{kernel}{letters}", f"NC{letters}")


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


def witness(function: Any, x: np.ndarray, w: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Torch's output, the cotangent of ones, and its two gradients."""
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w)]
    y = function(*leaves, **options)
    dy = np.cos(np.arange(y.numel())).reshape(y.shape)
    y.backward(torch.tensor(dy))
    return [y.detach().numpy(), dy, *(leaf.grad.numpy() for leaf in leaves)]


def check(conv: Any, x: np.ndarray, w: np.ndarray, theirs: list[np.ndarray]) -> None:
    wanted_y, dy, *wanted = theirs
    y, pullback = jax.vjp(conv, jax.numpy.asarray(x), jax.numpy.asarray(w))
    np.testing.assert_allclose(y, wanted_y, atol=1e-11)
    for got, expected in zip(pullback(jax.numpy.asarray(dy)), wanted, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), CONVOLUTIONS, ids=str)
def test_conv(x_shape: Any, w_shape: Any, options: dict[str, Any]) -> None:
    rank = len(x_shape) - 2
    x, w = arrays(x_shape, w_shape)
    function = (torch.conv1d, torch.conv2d, torch.conv3d)[rank - 1]

    @jax.jit
    def conv(x: Any, w: Any) -> jax.Array:
        return jaxconv.conv_general_dilated(
            x,
            w,
            per_axis(options.get("stride", 1), rank),
            [(p, p) for p in per_axis(options.get("padding", 0), rank)],
            rhs_dilation=per_axis(options.get("dilation", 1), rank),
            feature_group_count=options.get("groups", 1),
            dimension_numbers=channels_first(rank, "OI"),
        )

    check(conv, x, w, witness(function, x, w, **options))


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), TRANSPOSED, ids=str)
def test_conv_transpose(x_shape: Any, w_shape: Any, options: dict[str, Any]) -> None:
    """Torch's transposed convolution: `transpose_kernel` and `use_consistent_padding` both on."""
    rank = len(x_shape) - 2
    x, w = arrays(x_shape, w_shape)
    names = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    function = getattr(torch.nn.functional, names[rank - 1])

    @jax.jit
    def conv(x: Any, w: Any) -> jax.Array:
        return jaxconv.conv_transpose(
            x,
            w,
            per_axis(options["stride"], rank),
            [(p, p) for p in per_axis(options["padding"], rank)],
            rhs_dilation=per_axis(options.get("dilation", 1), rank),
            dimension_numbers=channels_first(rank, "OI"),
            transpose_kernel=True,
            use_consistent_padding=True,
        )

    check(conv, x, w, witness(function, x, w, **options))


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_conv_transpose_is_the_input_gradient(groups: int) -> None:
    """Groups and output padding, which lax lacks, through `conv_input_gradient`."""
    x, w = arrays((2, 4, 5), (4, 6 // 2, 3))
    size = (5 - 1) * 2 + 3 - 2 * 1 + 1

    def conv(x: Any, w: Any) -> jax.Array:
        dx = jaxconv.conv_input_gradient(
            x.transpose(0, 2, 1),
            w.transpose(2, 1, 0),
            (2, size, 3 * groups),
            strides=2,
            padding=1,
            groups=groups,
        )
        return dx.transpose(0, 2, 1)

    theirs = witness(
        torch.nn.functional.conv_transpose1d,
        x,
        w,
        stride=2,
        padding=1,
        output_padding=1,
        groups=groups,
    )
    check(jax.jit(conv), x, w, theirs)


@pytest.mark.parametrize(
    ("mode", "torchs"), [("CIRCULAR", "circular"), ("REFLECT", "reflect"), ("EDGE", "replicate")]
)
def test_border_modes(mode: str, torchs: str) -> None:
    x, w = arrays((2, 3, 6, 7), (4, 3, 3, 3))

    def theirs_conv(x: Any, w: Any) -> Any:
        return torch.conv2d(torch.nn.functional.pad(x, (1, 1, 1, 1), mode=torchs), w)

    @jax.jit
    def conv(x: Any, w: Any) -> jax.Array:
        return jaxconv.conv_general_dilated(x, w, (1, 1), mode)

    check(conv, x, w, witness(theirs_conv, x, w))
