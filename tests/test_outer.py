"""Outer: every pass against the oracle, in one sum and many, lanes padded or not, whole and in blocks."""

import pytest

from jaxconv._problem import Pass, make_problem
from jaxconv.algorithms import _blocks, _outer_products
from jaxconv.algorithms._outer_products import count_terms
from jaxconv.algorithms.outer import ALGORITHM, MAX_ROW_TERMS
from test_depthwise import (
    Description,
    by_dtype,
    by_pass,
    by_spoil,
    check,
    check_structure,
    on_cpu_cache,
    problem_and_data,
    temporary_bytes,
)

# name: input, kernel, groups, options
PROBLEMS: dict[str, Description] = {
    "whole_vectors": ((2, 9, 8, 3), (3, 3, 3, 16), 1, {}),
    "padded_vectors": ((3, 9, 8, 5), (3, 2, 5, 6), 1, {}),
    "few_lanes": ((2, 9, 8, 2), (3, 3, 2, 3), 1, {}),
    "one_term": ((2, 9, 8, 1), (1, 1, 1, 8), 1, {"strides": 2}),
    "strided": ((2, 9, 10, 4), (3, 5, 4, 9), 1, {"strides": (2, 3), "padding": "VALID"}),
    "dilated": ((2, 9, 10, 3), (3, 2, 3, 8), 1, {"kernel_dilation": (2, 3)}),
    "transposed": ((2, 5, 4, 3), (3, 4, 3, 8), 1, {"input_dilation": (2, 3), "padding": [(2, 1), (0, 3)]}),
    "cropped": ((2, 9, 9, 3), (3, 3, 3, 8), 1, {"padding": [(3, -1), (-2, 4)]}),
    "line": ((2, 140, 3), (5, 3, 8), 1, {}),
    "long_line": ((2, 60, 2), (17, 2, 8), 1, {"strides": 2, "kernel_dilation": 3}),
    "volume": ((2, 5, 4, 6, 2), (3, 2, 3, 2, 4), 1, {"strides": (1, 2, 1)}),
    "groups": ((2, 9, 8, 12), (3, 3, 3, 8), 4, {}),
    "groups_strided": ((2, 9, 10, 8), (3, 3, 4, 6), 2, {"strides": (2, 3)}),
    "groups_of_a_line": ((2, 40, 12), (3, 4, 36), 3, {}),
    "depthwise": ((2, 5, 6, 6), (3, 3, 1, 12), 6, {}),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_values(name: str) -> None:
    check(ALGORITHM, PROBLEMS[name])


@pytest.mark.parametrize("name", ["whole_vectors", "padded_vectors", "line", "groups_strided"])
def test_values_block_by_block(name: str, limits: pytest.MonkeyPatch) -> None:
    limits.setattr(_outer_products, "BLOCK_BYTES", 1)
    limits.setattr(_outer_products, "MAX_DENSE_TERMS", 0)
    check(ALGORITHM, PROBLEMS[name])


@on_cpu_cache
@pytest.mark.parametrize("cached", [1, 3000], ids=["rows", "images"])
@pytest.mark.parametrize("name", ["strided", "transposed", "groups", "groups_strided", "volume"])
def test_large_arrays_go_block_by_block(name: str, cached: int, limits: pytest.MonkeyPatch) -> None:
    limits.setattr(_blocks, "LARGE_BYTES", 0)
    limits.setattr(_blocks, "LARGE_BLOCK_BYTES", cached)
    limits.setattr(_outer_products, "LARGER", 0)
    check(ALGORITHM, PROBLEMS[name])
    if name in ("transposed", "groups") and cached == 1:
        assert "scan" in check_structure(ALGORITHM, PROBLEMS[name], Pass.KERNEL_GRAD)
    if name == "groups_strided" and cached == 1:
        assert "scan" in check_structure(ALGORITHM, PROBLEMS[name], Pass.FORWARD)


@pytest.mark.parametrize(
    ("which", "groups", "stride", "batch"),
    [(Pass.FORWARD, 1, 2, 16), (Pass.FORWARD, 8, 2, 8), (Pass.KERNEL_GRAD, 8, 1, 4)],
)
def test_a_large_input_takes_the_memory_of_a_block(which: Pass, groups: int, stride: int, batch: int) -> None:
    """A padded copy of all of x took 0.8 times what is read and written, all partial sums 0.5 times."""
    channels = 24 if groups == 1 else 48
    shapes = (batch, 112, 112, channels), (3, 3, channels // groups, channels)
    problem, _ = make_problem(*shapes, "float32", "float32", strides=stride, groups=groups)
    assert temporary_bytes(ALGORITHM, problem, which) <= 0.4 * problem.io_bytes()


@pytest.mark.parametrize("at_once", [1, 40])
@pytest.mark.parametrize("name", PROBLEMS)
def test_values_by_rows_of_taps_in_a_loop(name: str, at_once: int, limits: pytest.MonkeyPatch) -> None:
    limits.setattr(_outer_products, "MAX_TERMS", 0)
    limits.setattr(_outer_products, "LOOP_TERMS", at_once)
    limits.setattr(_outer_products, "MAX_DENSE_TERMS", 0)
    check(ALGORITHM, PROBLEMS[name])


@by_dtype
@pytest.mark.parametrize("name", ["padded_vectors", "groups_strided"])
def test_dtypes(name: str, dtype: str) -> None:
    check(ALGORITHM, PROBLEMS[name], dtype)


@by_spoil
@pytest.mark.parametrize("name", ["padded_vectors", "groups"])
def test_non_finite_values_stay_in_their_lanes_and_windows(name: str, spoil: float) -> None:
    check(ALGORITHM, PROBLEMS[name], spoil=spoil)


@by_pass
@pytest.mark.parametrize("name", ["padded_vectors", "strided", "transposed", "cropped", "groups"])
def test_structure(name: str, which: Pass) -> None:
    names = check_structure(ALGORITHM, PROBLEMS[name], which)
    assert "mul" in names
    assert which is Pass.KERNEL_GRAD or "dot_general" not in names


@pytest.mark.parametrize("name", PROBLEMS)
def test_terms_are_the_most_that_meet_in_a_sum(name: str) -> None:
    """Counted tap by tap, for every residue that a position can have."""
    problem = problem_and_data(PROBLEMS[name])[0]
    for which, channels, steps in (
        (Pass.FORWARD, problem.channels_per_group[0], problem.input_dilation),
        (Pass.INPUT_GRAD, problem.channels_per_group[1], problem.strides),
    ):
        met = channels
        for window, step in zip(problem.windows, steps, strict=True):
            taps = [k * window.dilation for k in range(window.size)]
            met *= max(sum((residue + k) % step == 0 for k in taps) for residue in range(step))
        assert count_terms(problem, which) == met


def test_few_groups_take_turns_but_on_lines() -> None:
    for groups, lanes, together in ((3, 12, True), (3, 4, False), (3, 13, False), (2, 12, False)):
        line = ((2, 40, 4 * groups), (3, 4, lanes * groups), groups, {})
        names = check_structure(ALGORITHM, line, Pass.FORWARD)
        assert ("concatenate" not in names) == together


def test_few_rows_of_a_dense_kernel_gradient_are_written_out() -> None:
    for size, in_loop in ((3, False), (5, True)):
        names = check_structure(ALGORITHM, ((2, 9, 8, 3), (size, 3, 3, 8), 1, {}), Pass.KERNEL_GRAD)
        assert ("scan" in names) == in_loop


@pytest.mark.parametrize(
    ("size", "most", "count"),
    [(15, 6, 5), (19, 5, 3), (25, 4, 4), (31, 3, 3), (17, 5, 5), (7, 14, 7), (9, 1, 1)],
)
def test_a_turn_of_the_loop_takes_many_taps_and_leaves_few(size: int, most: int, count: int) -> None:
    assert _outer_products.taps_at_once(size, most) == count


def test_rows_of_more_terms_than_are_written_out_are_refused() -> None:
    for channels in (MAX_ROW_TERMS // 3, MAX_ROW_TERMS // 3 + 1):
        problem, _ = make_problem((1, 9, 9, channels), (3, 3, channels, 4), "float32", "float32")
        reason = ALGORITHM.supports(problem, Pass.FORWARD)
        assert (reason is None) == (3 * channels <= MAX_ROW_TERMS)
        assert reason is None or str(3 * channels) in reason
        assert ALGORITHM.supports(problem, Pass.INPUT_GRAD) is None
        assert ALGORITHM.supports(problem, Pass.KERNEL_GRAD) is None
    rank_0, _ = make_problem((3, 4), (4, 5), "float32", "float32")
    assert "spatial axis" in (ALGORITHM.supports(rank_0, Pass.FORWARD) or "")


@by_pass
@pytest.mark.parametrize(("channels", "outputs"), [(3, 32), (8, 16), (6, 6), (64, 32)])
def test_memory_stays_below_three_times_what_is_read_and_written(
    channels: int, outputs: int, which: Pass
) -> None:
    problem, _ = make_problem((8, 28, 28, channels), (3, 3, channels, outputs), "float32", "float32")
    assert temporary_bytes(ALGORITHM, problem, which) <= 3 * problem.io_bytes()
