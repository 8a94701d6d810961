"""`conv_general_dilated` in every layout: letters, integers, random permutations, lax's default."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
import oracle
from cases import Case, channels_last, subset
from tolerance import assert_close

Permutation = tuple[int, ...]


def inverse(permutation: Permutation) -> Permutation:
    return tuple(int(i) for i in np.argsort(permutation))


def relabel(spec: str, permutation: Permutation) -> str:
    return "".join(spec[axis] for axis in permutation)


def permutations_of(rank: int, seed: int) -> tuple[Permutation, Permutation, Permutation]:
    rng = np.random.default_rng(seed)
    return tuple(tuple(int(i) for i in rng.permutation(rank + 2)) for _ in range(3))  # type: ignore[return-value]


LAYOUT_CASES = subset("line_causal", "everything", "grouped", "batch_grouped", "volume", "rank_0")


@pytest.mark.parametrize(("seed", "form"), [(0, "letters"), (1, "integers")])
@pytest.mark.parametrize("case", LAYOUT_CASES, ids=str)
def test_any_permutation(case: Case, seed: int, form: str) -> None:
    """Permuting an array and its letters together permutes the result and nothing else."""
    x, w, dy = case.data()
    order = permutations_of(case.rank, seed)
    specs = tuple(map(relabel, channels_last(case.rank), order))
    xs, ws, ys = (np.transpose(a, p) for a, p in zip((x, w, dy), order, strict=True))
    numbers: Any = specs
    if form == "integers":
        numbers = lax.conv_dimension_numbers(xs.shape, ws.shape, specs)
    options = {**case.lax_options, "dimension_numbers": numbers}
    # One value per spatial axis means: in the order in which the kernel's layout names the axes.
    kernel_axes = [axis for axis in order[1] if axis < case.rank]
    for name in ("window_strides", "padding", "lhs_dilation", "rhs_dilation"):
        options[name] = [options[name][axis] for axis in kernel_axes]

    @jax.jit
    def all_three(xs: Any, ws: Any, ys: Any) -> Any:
        conv = lambda x, w: jaxconv.conv_general_dilated(x, w, **options)  # noqa: E731
        y, pullback = jax.vjp(conv, xs, ws)
        return y, *pullback(ys)

    wanted = (
        oracle.forward(x, w, case.geometry),
        oracle.input_gradient(dy, w, case.geometry),
        oracle.kernel_gradient(x, dy, case.geometry),
    )
    back = (order[2], order[0], order[1])
    for got, expected, p in zip(all_three(xs, ws, ys), wanted, back, strict=True):
        assert_close(np.transpose(got, inverse(p)), expected, reduction=100, algorithm="winograd")


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_default_is_channels_first_as_in_lax(rank: int) -> None:
    rng = np.random.default_rng(rank)
    x = rng.standard_normal((2, 3, *range(5, 5 + rank)))
    w = rng.standard_normal((4, 3, *range(2, 2 + rank)))
    got = jaxconv.conv_general_dilated(x, w, (1,) * rank, "SAME")
    wanted = lax.conv_general_dilated(x, w, (1,) * rank, "SAME")
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_plain_tuples_of_integers_are_dimension_numbers_too() -> None:
    """Flax hands over `ConvDimensionNumbers`; lax itself also takes a bare triple of specs."""
    (case,) = subset("same")
    x, w, _ = case.data()
    named = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    by_name = jaxconv.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=named)
    by_letters = jaxconv.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_array_equal(by_name, by_letters)


def test_spatial_letters_pair_by_name_not_by_place() -> None:
    """'NWHC' against 'HWIO': the axes swap although their places match."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 5, 7, 2)), rng.standard_normal((2, 3, 2, 3))
    numbers = ("NWHC", "HWIO", "NCHW")
    got = jaxconv.conv_general_dilated(x, w, (2, 1), [(1, 0), (0, 2)], dimension_numbers=numbers)
    wanted = lax.conv_general_dilated(x, w, (2, 1), [(1, 0), (0, 2)], dimension_numbers=numbers)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_positional_call_in_the_order_of_lax() -> None:
    (case,) = subset("everything")
    x, w, _ = case.data("float64")
    o = case.lax_options
    arguments = (
        o["window_strides"],
        o["padding"],
        o["lhs_dilation"],
        o["rhs_dilation"],
        o["dimension_numbers"],
        o["feature_group_count"],
        o["batch_group_count"],
        lax.Precision.HIGHEST,
        jnp.float64,
    )
    got = jaxconv.conv_general_dilated(x, w, *arguments)
    np.testing.assert_allclose(got, lax.conv_general_dilated(x, w, *arguments), atol=1e-12)
