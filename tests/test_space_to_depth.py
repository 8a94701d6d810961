"""Blocks of samples as channels: every pass against the oracle, x copied once, and what it turns down."""

import math

import jax
import numpy as np
import pytest

from jaxconv._patches import depth_to_space, space_to_depth
from jaxconv._problem import Pass
from jaxconv.algorithms import _blocks
from jaxconv.algorithms.space_to_depth import ALGORITHM
from test_depthwise import (
    Description,
    by_dtype,
    by_pass,
    by_spoil,
    check,
    check_structure,
    on_cpu_cache,
    operand_shapes,
    problem_and_data,
)
from test_structure import equations

# name: input, kernel, groups, options
PROBLEMS: dict[str, Description] = {
    "whole_blocks": ((2, 16, 17, 3), (4, 8, 3, 5), 1, {"strides": (2, 4), "padding": 2}),
    "part_of_a_block": ((2, 17, 16, 3), (5, 7, 3, 4), 1, {"strides": (3, 4)}),
    "rows_without_a_stride": ((2, 9, 16, 3), (3, 6, 3, 4), 1, {"strides": (1, 3), "kernel_dilation": (2, 1)}),
    "kernel_below_its_stride": ((2, 13, 14, 3), (2, 5, 3, 4), 1, {"strides": (3, 4), "padding": 1}),
    "cropped": ((2, 19, 18, 3), (4, 4, 3, 5), 1, {"strides": 2, "padding": [(3, -2), (-3, 4)]}),
    "samples_left_over": ((2, 19, 15, 2), (4, 6, 2, 3), 1, {"strides": (4, 3), "padding": "VALID"}),
    "transposed": ((2, 5, 4, 4), (4, 6, 4, 3), 1, {"input_dilation": (2, 3), "padding": [(2, 1), (3, 4)]}),
    "transposed_with_gaps": ((2, 4, 5, 2), (3, 5, 2, 3), 1, {"input_dilation": 4, "padding": [(2, 9)] * 2}),
    "transposed_and_cropped": ((2, 6, 5, 2), (4, 4, 2, 3), 1, {"input_dilation": 2, "padding": -1}),
    "groups": ((2, 12, 12, 4), (4, 4, 2, 6), 2, {"strides": 2}),
    "transposed_groups": ((2, 4, 4, 4), (4, 4, 2, 6), 2, {"input_dilation": 2, "padding": 2}),
    "line": ((2, 41, 3), (9, 3, 4), 1, {"strides": 4}),
    "volume": ((2, 6, 8, 7, 2), (4, 3, 5, 2, 3), 1, {"strides": (2, 1, 3)}),
    "more_outputs": ((2, 12, 12, 2), (4, 4, 2, 40), 1, {"strides": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_values(name: str) -> None:
    check(ALGORITHM, PROBLEMS[name])


@by_dtype
def test_dtypes(dtype: str) -> None:
    check(ALGORITHM, PROBLEMS["part_of_a_block"], dtype)


@on_cpu_cache
@pytest.mark.parametrize("cached", [1, 8000], ids=["one", "several"])
@pytest.mark.parametrize("name", ["part_of_a_block", "transposed", "samples_left_over", "groups", "volume"])
def test_large_arrays_go_some_images_at_a_time(name: str, cached: int, limits: pytest.MonkeyPatch) -> None:
    limits.setattr(_blocks, "LARGE_BYTES", 0)
    limits.setattr(_blocks, "LARGE_BLOCK_BYTES", cached)
    check(ALGORITHM, PROBLEMS[name])
    if cached == 1:
        assert all("scan" in check_structure(ALGORITHM, PROBLEMS[name], which) for which in Pass)


@by_spoil
@pytest.mark.parametrize("name", ["whole_blocks", "transposed", "groups"])
def test_highest_precision_keeps_non_finite_values_in_their_windows(name: str, spoil: float) -> None:
    *shapes, options = PROBLEMS[name]
    check(ALGORITHM, (*shapes, {**options, "precision": "highest"}), spoil=spoil)


@by_pass
@pytest.mark.parametrize(
    ("description", "words"),
    [
        (((2, 9, 9, 3), (3, 3, 3, 4), 1, {}), "a stride or a dilated input, got neither"),
        (((2, 9, 3), (3, 3, 4), 1, {"strides": 2, "input_dilation": 3, "padding": 2}), "either strides or"),
        (((2, 9, 3), (3, 3, 4), 1, {"strides": 2, "kernel_dilation": 2}), "an undilated kernel"),
        (((2, 9, 3), (3, 3, 4), 1, {"strides": 2, "precision": "highest"}), "may spread a NaN"),
        (((2, 3), (3, 4), 1, {}), "got neither"),
    ],
)
def test_refusals(description: Description, words: str, which: Pass) -> None:
    problem, *_ = problem_and_data(description)
    assert words in str(ALGORITHM.supports(problem, which))


@by_pass
@pytest.mark.parametrize("name", ["whole_blocks", "transposed", "line"])
def test_no_array_is_larger_than_the_samples_or_their_products(name: str, which: Pass) -> None:
    """Patches, of whichever of x and y has more channels, would be larger."""
    problem, *_ = problem_and_data(PROBLEMS[name])
    strided = problem if problem.is_dense else problem.input_adjoint()
    samples = math.prod(
        -(-w.size // w.stride) * w.stride + (w.out_size - 1) * w.stride for w in strided.windows
    )
    outputs, blocks = (
        math.prod(strided.output_size),
        math.prod(-(-w.size // w.stride) for w in strided.windows),
    )
    most = 2 * max(samples * strided.in_channels, outputs * blocks * strided.out_channels)
    operands = [np.zeros(shape, np.float32) for shape in operand_shapes(problem, which)]
    jaxpr = jax.make_jaxpr(lambda a, b: ALGORITHM.run(problem, which, a, b))(*operands).jaxpr
    found = list(equations(jaxpr))
    assert sum(str(e.primitive) == "dot_general" for e in found) == 1
    assert max(v.aval.size for e in found for v in e.outvars) <= most
    assert most < 2 * outputs * strided.taps * max(problem.channels_per_group)


@pytest.mark.parametrize("first_axis", [0, 1])
def test_depth_to_space_is_the_inverse(first_axis: int) -> None:
    x = np.arange(2 * 6 * 4 * 9 * 5, dtype=np.float32).reshape(6, 4, 9, 2, 5)
    x = np.moveaxis(x, 3, 0) if first_axis else x
    deep = space_to_depth(x, first_axis, (2, 4, 3))
    assert deep.shape[first_axis : first_axis + 3] == (3, 1, 3)
    np.testing.assert_array_equal(depth_to_space(deep, first_axis, (2, 4, 3)), x)


def test_channels_of_a_block_are_its_samples_in_row_major_order() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    deep = space_to_depth(x, 1, (3, 2))
    for row, column in np.ndindex(3, 2):
        expected = x[:, row::3, column::2]
        start = 3 * (2 * row + column)
        np.testing.assert_array_equal(deep[..., start : start + 3], expected)
