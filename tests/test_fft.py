"""FFT: channels go in blocks, whose frequencies stay in cache."""

import math
from typing import Any

import jax
import pytest

from jaxconv._problem import ConvProblem, Pass, make_problem
from jaxconv.algorithms import fft
from test_depthwise import Description, by_pass, check, operand_shapes, problem_and_data
from test_structure import equations

# name: input, kernel, groups, options
PROBLEMS: dict[str, Description] = {
    "dense": ((2, 9, 8, 6), (3, 4, 6, 4), 1, {}),
    "groups": ((2, 9, 8, 12), (3, 4, 6, 8), 2, {"strides": (2, 1), "kernel_dilation": (1, 2)}),
    "depthwise": ((2, 20, 4), (7, 1, 4), 4, {"padding": "CAUSAL"}),
    "transposed": ((2, 5, 4, 4), (3, 4, 4, 6), 1, {"input_dilation": (2, 3), "padding": [(2, 1), (0, 3)]}),
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("block_bytes", [1, 8000, 1 << 30], ids=["channels", "blocks", "whole"])
def test_values(name: str, block_bytes: int, limits: pytest.MonkeyPatch) -> None:
    limits.setattr(fft, "block_limit", lambda cache_bytes, io_bytes: block_bytes)
    check(fft.ALGORITHM, PROBLEMS[name])
    problem, _, _ = problem_and_data(PROBLEMS[name])
    found = {e.primitive.name for e in traced(problem, Pass.FORWARD)}
    if block_bytes != 8000:
        assert ("scan" in found) == (name != "depthwise" and block_bytes == 1)


@pytest.mark.parametrize(
    ("size", "most", "expected"), [(64, 10, 8), (64, 64, 64), (64, 99, 64), (7, 6, 1), (6, 0, 1), (0, 4, 1)]
)
def test_blocks_are_equal(size: int, most: int, expected: int) -> None:
    assert fft.largest_divisor(size, most) == expected


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="blocks for a CPU's cache")
@by_pass
def test_no_array_holds_the_frequencies_of_the_whole_kernel(which: Pass) -> None:
    problem, _ = make_problem((8, 28, 28, 64), (25, 25, 64, 64), "float32", "float32")
    _, kernel = fft.count_values(problem)
    sizes = [math.prod(v.aval.shape) for e in traced(problem, which) for v in e.outvars]
    assert max(sizes) < kernel / 4


def traced(problem: ConvProblem, which: Pass) -> list[Any]:
    operands = [jax.ShapeDtypeStruct(shape, "float32") for shape in operand_shapes(problem, which)]
    program = jax.jit(lambda a, b: fft.ALGORITHM.run(problem, which, a, b)).trace(*operands)
    return list(equations(program.jaxpr.jaxpr))
