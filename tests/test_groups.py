"""Groups one after another: one body for any number of them, and nothing as large as all their patches."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxconv._problem import Pass, make_problem
from jaxconv.algorithms import banded, gemm, winograd
from jaxconv.algorithms._record import Algorithm
from test_depthwise import by_pass, operand_shapes
from test_structure import equations

by_algorithm = pytest.mark.parametrize(
    "algorithm", [gemm.ALGORITHM, banded.ALGORITHM, winograd.ALGORITHM], ids=lambda a: a.name
)


def traced(algorithm: Algorithm, which: Pass, groups: int) -> list[Any]:
    """Every equation of a pass over `groups` groups of 8 and 12 channels."""
    shapes = (2, 16, 16, 8 * groups), (3, 3, 8, 12 * groups)
    problem, _ = make_problem(*shapes, "float32", "float32", groups=groups)
    arrays = [jnp.zeros(shape, jnp.float32) for shape in operand_shapes(problem, which)]
    jaxpr = jax.make_jaxpr(lambda a, b: algorithm.run(problem, which, a, b))(*arrays).jaxpr
    return list(equations(jaxpr))


@by_pass
@by_algorithm
def test_more_groups_compile_to_nothing_more(algorithm: Algorithm, which: Pass) -> None:
    few, many = ([e.primitive.name for e in traced(algorithm, which, groups)] for groups in (2, 7))
    assert "dot_general" in few
    assert few == many


@by_pass
@by_algorithm
def test_no_array_holds_the_patches_of_all_groups(algorithm: Algorithm, which: Pass) -> None:
    groups = 7
    sizes = [math.prod(v.aval.shape) for e in traced(algorithm, which, groups) for v in e.outvars]
    assert max(sizes) <= 2 * 16 * 16 * 12 * groups
