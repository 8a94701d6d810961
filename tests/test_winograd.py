"""Winograd: exact algorithms per axis, every pass against the oracle, error growth, and what it saves."""

import itertools
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxconv._problem import ConvProblem, Pass, make_problem
from jaxconv._window import Window
from jaxconv.algorithms import _winograd_plan
from jaxconv.algorithms._winograd_axis import MAX_PRODUCTS, axis_transform, tap_pieces, toom_cook
from jaxconv.algorithms.winograd import ALGORITHM
from test_depthwise import by_pass, geometry_of, operand_shapes
from test_structure import equations, xla_windows


def matrices(outputs: int, taps: int) -> list[np.ndarray]:
    return [np.array(matrix, dtype=object) for matrix in toom_cook(outputs, taps)]


@pytest.mark.parametrize(
    ("outputs", "taps"), [(m, r) for m in range(1, 5) for r in range(1, 6) if m + r - 1 <= MAX_PRODUCTS]
)
def test_toom_cook_is_exact(outputs: int, taps: int) -> None:
    a, g, b = matrices(outputs, taps)
    rng = np.random.default_rng(0)
    x = np.array([Fraction(int(v)) for v in rng.integers(-9, 9, outputs + taps - 1)])
    w = np.array([Fraction(int(v)) for v in rng.integers(-9, 9, taps)])
    expected = [sum(x[i + k] * w[k] for k in range(taps)) for i in range(outputs)]
    assert list(a @ ((g @ w) * (b @ x))) == expected
    minimal = outputs + taps - 1 if min(outputs, taps) > 1 else outputs * taps
    assert len(g) == minimal


def one_axis(window: Window, outputs: int, x: np.ndarray, w: np.ndarray) -> list[Any]:
    """The correlation of one axis, tile by tile, by its bilinear algorithm."""
    axis = axis_transform(window, outputs)
    a, g, b = (np.array(matrix, dtype=object) for matrix in (axis.a, axis.g, axis.b))
    y = {}
    for tile, residue in itertools.product(range(axis.tiles), range(axis.dilation)):
        places = [axis.first + (tile * axis.in_step + k) * axis.dilation + residue for k in range(b.shape[1])]
        samples = np.array([x[i] if 0 <= i < len(x) else Fraction(0) for i in places])
        for i, value in enumerate(a @ ((g @ w) * (b @ samples))):
            y[(tile * axis.out_step + i) * axis.dilation + residue] = value
    return [y[m] for m in range(window.out_size)]


GAPS = [(1, 1, 1), (2, 1, 1), (3, 1, 1), (1, 2, 1), (1, 3, 1), (1, 1, 2), (1, 1, 3)]


@pytest.mark.parametrize("gaps", GAPS, ids=lambda gaps: "stride{}_dilation{}_base{}".format(*gaps))
def test_axis_transforms_solve_the_window_equation(gaps: tuple[int, int, int]) -> None:
    stride, dilation, base = gaps
    rng = np.random.default_rng(1)
    for size, outputs, lo in itertools.product((*range(1, 10), 13, 16), (1, 2, 3, 4), (-2, 0, 1, 3)):
        phases = [range(tap, size, stride * base) for tap in range(min(stride * base, size))]
        if max(len(piece) for phase in phases for piece in tap_pieces(phase)) + outputs - 1 > MAX_PRODUCTS:
            continue
        window = Window(19, size, stride, dilation, base, lo, 2)
        x = np.array([Fraction(int(v)) for v in rng.integers(-9, 9, 19)])
        w = np.array([Fraction(int(v)) for v in rng.integers(-9, 9, size)])
        expected = [Fraction(0)] * window.out_size
        for i, k, m in oracle.Axis(19, size, stride, (lo, 2), base, dilation).meetings():
            expected[m] += x[i] * w[k]
        assert one_axis(window, outputs, x, w) == expected


PROBLEMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "odd_sizes": ((2, 9, 11, 3), (3, 3, 3, 4), {"padding": "VALID"}),
    "negative_pads": ((2, 9, 8, 3), (3, 3, 3, 4), {"padding": [(-1, 2), (0, -2)]}),
    "row_kernel": ((2, 7, 9, 3), (1, 3, 3, 4), {}),
    "five_taps": ((1, 9, 8, 3), (5, 4, 3, 4), {}),
    "dilated": ((2, 11, 9, 3), (3, 3, 3, 4), {"kernel_dilation": (2, 3)}),
    "strided": ((2, 9, 10, 3), (3, 5, 3, 4), {"strides": (2, 3)}),
    "transposed": ((2, 5, 4, 3), (3, 4, 3, 4), {"input_dilation": (2, 3), "padding": [(2, 1), (-1, 3)]}),
    "line": ((2, 13, 3), (3, 3, 4), {}),
    "pieces": ((2, 13, 12, 3), (7, 6, 3, 4), {}),
    "strided_pieces": ((1, 27, 9, 3), (12, 3, 3, 4), {"strides": (2, 1), "padding": "VALID"}),
    "dilated_line_in_pieces": ((2, 70, 3), (11, 3, 4), {"kernel_dilation": 3}),
    "volume": ((1, 5, 4, 5, 2), (3, 3, 2, 2, 3), {}),
    "many_channels": ((1, 4, 4, 16), (3, 3, 16, 24), {}),
    "rows_of_tiles": ((2, 23, 5, 3), (3, 3, 3, 4), {}),
    "rows_strided": ((2, 29, 5, 3), (5, 3, 3, 4), {"strides": (2, 1)}),
    "rows_dilated": ((1, 41, 5, 3), (3, 3, 3, 4), {"kernel_dilation": (2, 1)}),
    "rows_input_dilated": (
        (1, 14, 4, 3),
        (5, 3, 3, 4),
        {"input_dilation": (2, 1), "padding": ((2, 3), (1, 1))},
    ),
    "odd_rows_input_dilated": (
        (1, 14, 4, 3),
        (5, 3, 3, 4),
        {"input_dilation": (2, 1), "padding": ((2, 4), (1, 1))},
    ),
    "long_line": ((1, 250, 3), (3, 3, 4), {}),
    "groups": ((2, 9, 8, 9), (3, 3, 3, 6), {"groups": 3}),
    "groups_strided": ((2, 9, 10, 4), (5, 5, 2, 6), {"groups": 2, "strides": 2}),
}


def problem_and_data(name: str, dtype: str = "float32") -> tuple[ConvProblem, oracle.Geometry, list[Any]]:
    x_shape, w_shape, options = PROBLEMS[name]
    problem, _ = make_problem(x_shape, w_shape, dtype, dtype, **options)
    geometry = geometry_of(problem)
    rng = np.random.default_rng(2)
    shapes = (x_shape, w_shape, problem.output_shape)
    arrays = [rng.normal(size=s) + (1j * rng.normal(size=s) if dtype[0] == "c" else 0) for s in shapes]
    return problem, geometry, [jnp.asarray(a, dtype) for a in arrays]


def run_and_expect(name: str, dtype: str = "float32") -> list[tuple[np.ndarray, np.ndarray]]:
    """Result and truth of each pass; the three are one program."""
    problem, geometry, (x, w, g) = problem_and_data(name, dtype)
    pairs = [(x, w), (g, w), (x, g)]
    references = (oracle.forward, oracle.input_gradient, oracle.kernel_gradient)
    assert all(ALGORITHM.supports(problem, which) is None for which in Pass)

    @jax.jit
    def program(pairs: Any) -> Any:
        return [ALGORITHM.run(problem, which, *pair) for which, pair in zip(Pass, pairs, strict=True)]

    results = program(pairs)
    assert all(got.dtype == dtype for got in results)
    truths = [reference(*pair, geometry) for reference, pair in zip(references, pairs, strict=True)]
    return [(np.asarray(got), truth) for got, truth in zip(results, truths, strict=True)]


@pytest.mark.parametrize("name", PROBLEMS)
def test_against_the_definition(name: str) -> None:
    for got, expected in run_and_expect(name):
        np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


@pytest.fixture
def small_blocks(limits: pytest.MonkeyPatch) -> Any:
    """Blocks of a few tiles or channels, so that every problem needs several."""
    limits.setattr(_winograd_plan, "BLOCK_BYTES", {p: 1 << 12 for p in Pass})
    _winograd_plan.make_plan.cache_clear()
    yield
    _winograd_plan.make_plan.cache_clear()


# Blocks of images, of rows of tiles and of channels.
GRIDS = {
    "dilated": (2, 2, 1),
    "rows_of_tiles": (2, 3, 1),
    "rows_strided": (2, 4, 1),
    "rows_dilated": (1, 7, 1),
    "rows_input_dilated": (1, 3, 1),
    "odd_rows_input_dilated": (1, 4, 1),
    "long_line": (1, 3, 1),
    "many_channels": (1, 1, 24),
}


@pytest.mark.parametrize("name", GRIDS)
def test_blocks_join_without_seams(name: str, small_blocks: None) -> None:
    assert _winograd_plan.make_plan(problem_and_data(name)[0], Pass.FORWARD).grid == GRIDS[name]
    for got, expected in run_and_expect(name):
        np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name", ["rows_of_tiles", "rows_strided", "rows_dilated", "rows_input_dilated", "long_line"]
)
def test_no_rows_behind_those_of_the_output(name: str, small_blocks: None) -> None:
    """A y of whole blocks would be cut, which is a copy of it."""
    problem, _, (x, w, _) = problem_and_data(name)
    found = equations(jax.make_jaxpr(lambda x, w: ALGORITHM.run(problem, Pass.FORWARD, x, w))(x, w).jaxpr)
    batch, height, *others = problem.output_shape
    rows = [
        v.aval.shape[1]
        for e in found
        for v in e.outvars
        if v.aval.ndim == problem.rank + 2 and (v.aval.shape[0], *v.aval.shape[2:]) == (batch, *others)
    ]
    assert max(rows) == height


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-13), ("complex64", 2e-5), ("bfloat16", 8e-3)]
)
def test_dtypes(dtype: str, tolerance: float) -> None:
    for got, expected in run_and_expect("odd_sizes", dtype):
        np.testing.assert_allclose(
            got.astype(expected.dtype), expected, atol=tolerance * np.abs(expected).max()
        )


def error(function: Callable[..., Any], arrays: list[Any], exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.asarray(jax.jit(function)(*arrays)) - exact) ** 2)))


@pytest.mark.parametrize(("size", "growth"), [(2, 1.7), (8, 3.5)])
def test_error_over_that_of_a_plain_sum(size: int, growth: float) -> None:
    """F(2 x 2) on a 2 x 2 output, F(4 x 4) on 8 x 8; the points 0, +-1, +-2 would fail the second."""
    problem, _ = make_problem((4, size, size, 64), (3, 3, 64, 32), "float32", "float32")
    assert {a.out_step for a in _winograd_plan.make_plan(problem, Pass.FORWARD).axes} == {min(size, 4)}
    rng = np.random.default_rng(3)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (problem.input_shape, problem.kernel_shape))
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + size, j : j + size] for i in range(3) for j in range(3)]
    patches, matrix = np.concatenate(taps, -1), np.asarray(w).reshape(-1, 32)
    exact = patches.astype(np.float64) @ matrix.astype(np.float64)
    plain = error(jnp.matmul, [jnp.asarray(patches), jnp.asarray(matrix)], exact)
    tiled = error(lambda x, w: ALGORITHM.run(problem, Pass.FORWARD, x, w), [x, w], exact)
    assert tiled < growth * plain


def dot_multiplies(jaxpr: Any) -> int:
    """Multiplies of the dots, those of a loop's body counted once for every turn."""
    total = 0
    for equation in equations(jaxpr):
        if equation.primitive.name == "dot_general":
            (lhs_sum, _), _ = equation.params["dimension_numbers"]
            summed = math.prod(equation.invars[0].aval.shape[axis] for axis in lhs_sum)
            total += summed * math.prod(equation.outvars[0].aval.shape)
    return total


@by_pass
def test_four_times_fewer_multiplies_and_no_window_of_xla(which: Pass) -> None:
    problem, _ = make_problem((2, 16, 16, 8), (3, 3, 8, 12), "float32", "float32")
    assert _winograd_plan.make_plan(problem, Pass.FORWARD).blocks == 1
    arrays = [jnp.zeros(shape, jnp.float32) for shape in operand_shapes(problem, which)]
    jaxpr = jax.make_jaxpr(lambda a, b: ALGORITHM.run(problem, which, a, b))(*arrays).jaxpr
    assert not xla_windows({equation.primitive.name for equation in equations(jaxpr)})
    transform = 0 if which is Pass.KERNEL_GRAD else 36 * 9 * 8 * 12
    assert (dot_multiplies(jaxpr) - transform) * 4 == problem.flops(which) // 2


def test_pieces_of_seven_taps_save_three_quarters_of_the_products() -> None:
    problem, _ = make_problem((1, 48, 18, 4), (7, 7, 4, 4), "float32", "float32", padding="VALID")
    tiles, share = _winograd_plan.count_products(problem)
    assert (tiles, share) == (14 * 4, 11**2 / (3 * 7) ** 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_value_reaches_its_tiles_and_no_others(value: float) -> None:
    problem, _ = make_problem((1, 16, 16, 2), (3, 3, 2, 3), "float32", "float32")
    x = np.ones(problem.input_shape, np.float32)
    x[0, 5, 6, 1] = value
    w = jnp.ones(problem.kernel_shape, jnp.float32)
    y = np.asarray(jax.jit(lambda x, w: ALGORITHM.run(problem, Pass.FORWARD, x, w))(x, w))
    assert not np.isfinite(y[0, 4:7, 5:8]).any()
    tile = np.s_[4:8, 4:8]
    outside = np.ones((16, 16), bool)
    outside[tile] = False
    assert np.isfinite(y[0][outside]).all()


def test_jax_differentiates_through_it() -> None:
    problem, geometry, (x, w, g) = problem_and_data("row_kernel")

    def loss(x: Any, w: Any) -> Any:
        return (ALGORITHM.run(problem, Pass.FORWARD, x, w) * g).sum()

    dx, dw = jax.jit(jax.grad(loss, (0, 1)))(x, w)
    np.testing.assert_allclose(dx, oracle.input_gradient(g, w, geometry), atol=1e-4)
    np.testing.assert_allclose(dw, oracle.kernel_gradient(x, g, geometry), atol=1e-3)
    _, tangent = jax.jvp(lambda x: loss(x, w), (x,), (x,))
    np.testing.assert_allclose(tangent, loss(x, w), rtol=1e-4)


REFUSED = {
    "pointwise": ((1, 8, 8, 4), (1, 1, 4, 4), {}, "two taps"),
    "many_taps": ((1, 40, 8, 4), (33, 3, 4, 4), {}, "33 taps"),
    "many_products": ((1, 8, 8, 8, 4), (7, 7, 7, 4, 4), {}, "1331 products"),
    "two_gaps": ((1, 8, 8, 4), (3, 3, 4, 4), {"strides": 2, "kernel_dilation": 2}, "only one of"),
    "rank_0": ((1, 4), (4, 4), {"padding": "VALID"}, "two taps"),
    "highest": ((1, 8, 8, 4), (3, 3, 4, 4), {"precision": "highest"}, "HIGHEST"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_reasons_of_refusal(name: str) -> None:
    x_shape, w_shape, options, words = REFUSED[name]
    problem, _ = make_problem(x_shape, w_shape, "float32", "float32", **options)
    assert all(words in (ALGORITHM.supports(problem, which) or "") for which in Pass)


def test_integers_are_refused() -> None:
    problem, _ = make_problem((1, 8, 8, 4), (3, 3, 4, 4), "int32", "int32")
    assert "fractions" in (ALGORITHM.supports(problem, Pass.FORWARD) or "")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how XLA copies on a CPU")
@pytest.mark.parametrize("size", [(2, 16, 16), (1, 16, 16), (2, 8, 8, 8), (1, 8, 8, 8), (1, 64)], ids=str)
def test_no_plane_is_copied_between_two_stages(size: tuple[int, ...]) -> None:
    """The copies left are of the zeros in the branch that never runs, one for each product but the first."""
    rank = len(size) - 1
    problem, _ = make_problem((*size, 8), ((3,) * rank + (8, 8)), "float32", "float32")
    function = jax.jit(lambda x, w: ALGORITHM.run(problem, Pass.FORWARD, x, w))
    operands = (jnp.zeros(shape) for shape in (problem.input_shape, problem.kernel_shape))
    program = function.lower(*operands).compile().as_text()
    products = {1: 6, 2: 12, 3: 12}[rank]
    assert len(re.findall(r"copy\S* = f32\S+ (?:copy|fusion)\(", program)) == products - 1
