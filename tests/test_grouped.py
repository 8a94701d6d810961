"""Grouped: both ways of every pass against the oracle, and what they keep clean."""

import math

import jax
import pytest

from jaxconv._problem import Pass, make_problem
from jaxconv.algorithms import grouped
from jaxconv.algorithms.grouped import ALGORITHM
from test_depthwise import (
    Description,
    by_dtype,
    by_pass,
    by_spoil,
    check,
    check_structure,
    problem_and_data,
    temporary_bytes,
)
from test_structure import equations

# name: input, kernel, groups, options
PROBLEMS: dict[str, Description] = {
    "narrow": ((2, 9, 8, 24), (3, 3, 2, 36), 12, {}),
    "narrow_strided": ((2, 9, 10, 8), (3, 3, 4, 8), 2, {"strides": (2, 3)}),
    "wide": ((2, 6, 5, 40), (3, 3, 20, 36), 2, {}),
    "wide_strided": ((3, 9, 8, 40), (3, 2, 20, 40), 2, {"strides": 2, "padding": "VALID"}),
    "thin_output_strided": ((2, 9, 8, 24), (3, 5, 12, 8), 2, {"strides": (2, 1)}),
    "dilated": ((2, 9, 10, 12), (3, 2, 3, 8), 4, {"kernel_dilation": (2, 3)}),
    "transposed": ((2, 5, 4, 12), (3, 4, 3, 8), 4, {"input_dilation": (2, 3), "padding": [(2, 1), (0, 3)]}),
    "cropped": ((2, 9, 9, 8), (3, 3, 2, 8), 4, {"padding": [(3, -1), (-2, 4)]}),
    "one_tap": ((2, 5, 6, 12), (1, 1, 4, 6), 3, {}),
    "depthwise": ((2, 5, 6, 6), (3, 3, 1, 12), 6, {}),
    "line": ((2, 140, 8), (3, 2, 8), 4, {"strides": 1}),
    "volume": ((2, 5, 4, 6, 8), (3, 2, 3, 2, 8), 4, {"strides": (1, 2, 1)}),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_values(name: str) -> None:
    check(ALGORITHM, PROBLEMS[name])


@pytest.mark.parametrize("name", ["narrow_strided", "thin_output_strided", "dilated", "line", "volume"])
def test_values_by_products(name: str, limits: pytest.MonkeyPatch) -> None:
    limits.setattr(grouped, "MAX_LANE_TERMS", 0)
    limits.setattr(grouped, "MAX_LANE_PRODUCTS", 0)
    check(ALGORITHM, PROBLEMS[name])


@by_dtype
@pytest.mark.parametrize("name", ["narrow_strided", "wide"])
def test_dtypes(name: str, dtype: str) -> None:
    check(ALGORITHM, PROBLEMS[name], dtype)


@by_spoil
@pytest.mark.parametrize("name", ["narrow", "wide"])
def test_non_finite_values_stay_in_their_group_and_windows(name: str, spoil: float) -> None:
    check(ALGORITHM, PROBLEMS[name], spoil=spoil)


def test_both_ways_are_taken() -> None:
    problems = {name: problem_and_data(PROBLEMS[name])[0] for name in ("narrow", "wide")}
    terms = {n: p.taps * p.channels_per_group[0] for n, p in problems.items()}
    products = {n: math.prod(p.channels_per_group) for n, p in problems.items()}
    assert terms["narrow"] <= grouped.MAX_LANE_TERMS < terms["wide"]
    assert products["narrow"] <= grouped.MAX_LANE_PRODUCTS < products["wide"]


@by_pass
@pytest.mark.parametrize("name", ["narrow_strided", "wide_strided", "transposed", "cropped"])
def test_structure(name: str, which: Pass) -> None:
    check_structure(ALGORITHM, PROBLEMS[name], which)


def test_a_product_multiplies_no_zero_between_groups() -> None:
    problem, _, (x, w, _) = problem_and_data(PROBLEMS["wide"])
    jaxpr = jax.make_jaxpr(lambda x, w: ALGORITHM.run(problem, Pass.FORWARD, x, w))(x, w)
    (dot,) = [e for e in equations(jaxpr.jaxpr) if str(e.primitive) == "dot_general"]
    (contracted, _), (batch, _) = dot.params["dimension_numbers"]
    left = dot.invars[0].aval.shape
    assert math.prod(left[i] for i in batch) == problem.groups
    assert math.prod(left[i] for i in contracted) == problem.taps * problem.channels_per_group[0]


def test_one_group_is_refused() -> None:
    problem, _ = make_problem((1, 5, 5, 4), (3, 3, 4, 4), "float32", "float32")
    assert "more groups than one" in (ALGORITHM.supports(problem, Pass.FORWARD) or "")


@by_pass
def test_memory_stays_below_three_times_what_is_read_and_written(which: Pass) -> None:
    for description in (((4, 14, 14, 128), (3, 3, 16, 128), 8), ((4, 14, 14, 64), (3, 3, 2, 64), 32)):
        x_shape, w_shape, groups = description
        problem, _ = make_problem(x_shape, w_shape, "float32", "float32", groups=groups)
        assert temporary_bytes(ALGORITHM, problem, which) <= 3 * problem.io_bytes()
