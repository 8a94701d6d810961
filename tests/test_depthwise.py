"""Depthwise: every pass against the oracle on every path of the file, what it keeps clean, what it saves."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
import oracle
from jaxconv._problem import ConvProblem, Pass, make_problem
from jaxconv._window import Window
from jaxconv.algorithms import _blocks, _lane_plan, _lane_slices, _lanes, depthwise
from jaxconv.algorithms._record import Algorithm
from jaxconv.algorithms.depthwise import ALGORITHM
from test_structure import equations, xla_windows
from tolerance import assert_close

by_pass = pytest.mark.parametrize("which", Pass, ids=lambda which: which.value)
by_dtype = pytest.mark.parametrize(
    "dtype", ["bfloat16", "float16", "float64", "int8", "uint8", "int32", "complex64"]
)
on_cpu_cache = pytest.mark.skipif(jax.default_backend() != "cpu", reason="what a CPU's cache asks for")
by_spoil = pytest.mark.parametrize("spoil", [np.nan, np.inf])
Description = tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]

# name: input, kernel, groups, options
PROBLEMS: dict[str, Description] = {
    "borders": ((2, 9, 8, 8), (3, 3, 1, 8), 8, {}),
    "strided": ((2, 9, 10, 8), (3, 3, 1, 8), 8, {"strides": (2, 3)}),
    "dilated": ((2, 9, 10, 4), (3, 2, 1, 4), 4, {"kernel_dilation": (2, 3), "padding": "VALID"}),
    "transposed": ((2, 5, 4, 4), (3, 4, 1, 4), 4, {"input_dilation": (2, 3), "padding": [(2, 1), (0, 3)]}),
    "cropped": ((2, 9, 9, 4), (3, 3, 1, 4), 4, {"padding": [(3, -1), (-2, 4)]}),
    "taps_off_the_input": ((2, 4, 5, 4), (9, 3, 1, 4), 4, {"padding": [(9, 9), (4, 3)]}),
    "padded_sum": ((2, 13, 12, 4), (7, 7, 1, 4), 4, {}),
    "parts_without_padding": ((2, 12, 12, 20), (7, 6, 1, 20), 20, {"padding": "VALID"}),
    "one_lane_in_one_sum": ((2, 12, 12, 1), (7, 6, 1, 1), 1, {"padding": "VALID"}),
    "tap_rows": ((2, 17, 16, 4), (15, 14, 1, 4), 4, {"strides": (2, 1)}),
    "multiplier": ((2, 7, 6, 4), (3, 3, 1, 12), 4, {"strides": 2}),
    "one_output_channel": ((2, 7, 6, 12), (3, 3, 3, 4), 4, {}),
    "one_channel": ((2, 7, 8, 1), (3, 4, 1, 1), 1, {"padding": "FULL"}),
    "one_to_many": ((2, 7, 8, 1), (3, 3, 1, 5), 1, {}),
    "line": ((2, 21, 4), (5, 1, 4), 4, {"kernel_dilation": 2}),
    "long_line": ((2, 270, 4), (3, 1, 4), 4, {"strides": 1}),
    "long_line_and_rest": ((1, 661, 4), (5, 1, 4), 4, {"strides": 2}),
    "wide_tap_rows": ((2, 5, 258, 4), (13, 2, 1, 4), 4, {}),
    "long_kernel": ((1, 220, 4), (210, 1, 4), 4, {"padding": 2}),
    "many_taps": ((2, 17, 16, 4), (13, 9, 1, 4), 4, {"strides": (2, 1)}),
    "volume": ((2, 5, 4, 6, 4), (3, 2, 3, 1, 4), 4, {"strides": (1, 2, 1)}),
    "single_image_single_column": ((1, 9, 1, 8), (3, 1, 1, 8), 8, {}),
}

SIX_IMAGES: Description = ((6, 9, 8, 4), (3, 3, 1, 4), 4, {"padding": "VALID"})


def geometry_of(problem: ConvProblem) -> oracle.Geometry:
    """The problem as the oracle takes it."""
    return oracle.Geometry(
        problem.input_shape,
        problem.kernel_shape,
        problem.strides,
        tuple((w.lo, w.hi) for w in problem.windows),
        problem.input_dilation,
        problem.kernel_dilation,
        problem.groups,
    )


def problem_and_data(
    description: Description, dtype: str = "float32"
) -> tuple[ConvProblem, oracle.Geometry, list[np.ndarray]]:
    """The problem, its geometry for the oracle, and x, w and g."""
    x_shape, w_shape, groups, options = description
    problem, _ = make_problem(x_shape, w_shape, dtype, dtype, groups=groups, **options)
    geometry = geometry_of(problem)
    rng = np.random.default_rng(0)
    size = 3.0 if "int" in dtype else 1.0
    arrays = []
    for shape in (x_shape, w_shape, problem.output_shape):
        a = rng.normal(size=shape, scale=size)
        arrays.append(a + 1j * rng.normal(size=shape) if dtype.startswith("complex") else np.abs(a))
    return problem, geometry, [a.astype(jnp.dtype(dtype)) for a in arrays]


REFERENCES = {
    Pass.FORWARD: (oracle.forward, "y"),
    Pass.INPUT_GRAD: (oracle.input_gradient, "dx"),
    Pass.KERNEL_GRAD: (oracle.kernel_gradient, "dw"),
}


def check(algorithm: Algorithm, description: Description, dtype: str = "float32", spoil: Any = None) -> None:
    """Each pass agrees with the oracle; with `spoil`, also where one sample of its first operand is that."""
    problem, geometry, (x, w, g) = problem_and_data(description, dtype)
    pairs = {Pass.FORWARD: (x, w), Pass.INPUT_GRAD: (g, w), Pass.KERNEL_GRAD: (x, g)}
    if spoil is not None:
        pairs = {which: (spoiled(a, spoil), b) for which, (a, b) in pairs.items()}
    assert all(algorithm.supports(problem, which) is None for which in Pass)

    @jax.jit
    def program(pairs: Any) -> Any:
        return [algorithm.run(problem, which, a, b) for which, (a, b) in zip(Pass, pairs, strict=True)]

    for which, got in zip(Pass, program([pairs[which] for which in Pass]), strict=True):
        reference, side = REFERENCES[which]
        assert got.dtype == problem.result(which).dtype
        with np.errstate(invalid="ignore"):
            expected = reference(*pairs[which], geometry)
        if "int" in dtype:
            expected = expected.astype(dtype)
        assert_close(got, expected, reduction=geometry.reduction(side))


def operand_shapes(problem: ConvProblem, which: Pass) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return {
        Pass.FORWARD: (problem.input_shape, problem.kernel_shape),
        Pass.INPUT_GRAD: (problem.output_shape, problem.kernel_shape),
        Pass.KERNEL_GRAD: (problem.input_shape, problem.output_shape),
    }[which]


def temporary_bytes(algorithm: Algorithm, problem: ConvProblem, which: Pass) -> int:
    """What a pass in float32 lays out beyond its operands and its result."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in operand_shapes(problem, which)]
    compiled = jax.jit(lambda a, b: algorithm.run(problem, which, a, b)).lower(*arguments).compile()
    analysis: Any = compiled.memory_analysis()
    if jax.default_backend() != "cpu" or analysis is None:
        pytest.skip("temporary memory is as measured on the CPU backend")
    return analysis.temp_size_in_bytes


def spoiled(a: np.ndarray, value: float) -> np.ndarray:
    a = a.copy()
    a[(0, *(n // 2 for n in a.shape[1:-1]), 1)] = value
    return a


@pytest.mark.parametrize("name", PROBLEMS)
def test_values(name: str) -> None:
    check(ALGORITHM, PROBLEMS[name])


@by_dtype
def test_dtypes(dtype: str) -> None:
    check(ALGORITHM, PROBLEMS["multiplier"], dtype)


@by_spoil
@pytest.mark.parametrize("name", ["borders", "strided", "padded_sum", "line"])
def test_non_finite_values_reach_their_windows_and_nothing_else(name: str, spoil: float) -> None:
    check(ALGORITHM, PROBLEMS[name], spoil=spoil)


def test_every_path_is_taken() -> None:
    """The problems above cover all ways through the algorithm; a moved limit must not empty the suite."""
    windows = {name: problem_and_data(d)[0].windows for name, d in PROBLEMS.items()}

    def terms(name: str) -> int:
        axes = [depthwise.border_segments(w) for w in windows[name]]
        return int(np.prod([sum(len(s.taps) for s in axis) for axis in axes]))

    def taps(name: str) -> int:
        return int(np.prod([w.size for w in windows[name]]))

    assert terms("borders") <= depthwise.MAX_BORDER_TERMS < min(terms("padded_sum"), terms("tap_rows"))
    assert max(terms("parts_without_padding"), terms("one_lane_in_one_sum")) <= depthwise.MAX_BORDER_TERMS
    assert taps("parts_without_padding") > depthwise.MOST_FUSED_TAPS
    assert taps("many_taps") <= depthwise.MAX_UNROLLED_TAPS < min(taps("tap_rows"), taps("long_kernel"))
    assert windows["long_kernel"][-1].size > _lanes.MAX_ROW_TAPS
    assert windows["long_line"][-1].out_size > _lane_plan.MAX_COLUMNS
    assert windows["long_line_and_rest"][-1].out_size > _lane_plan.MAX_COLUMNS
    assert windows["wide_tap_rows"][-1].out_size > _lane_plan.MAX_COLUMNS
    assert not _lane_plan.is_unrolled(windows["wide_tap_rows"])
    assert not any(windows["long_line_and_rest"][-1].out_size % n == 0 for n in range(17, 33))


def test_rows_of_taps_in_a_loop(limits: pytest.MonkeyPatch) -> None:
    limits.setattr(_lane_plan, "MAX_UNROLLED_TERMS", 8)
    for name in ("borders", "strided", "padded_sum", "volume"):
        assert not _lane_plan.is_unrolled(problem_and_data(PROBLEMS[name])[0].windows)
        check(ALGORITHM, PROBLEMS[name])


@on_cpu_cache
@pytest.mark.parametrize("cached", [1, 8000])
def test_kernel_gradients_in_blocks_of_images(limits: pytest.MonkeyPatch, cached: int) -> None:
    limits.setattr(_lane_plan, "WHOLE_BYTES", 0)
    limits.setattr(_lane_plan, "READ_BYTES", 0)
    limits.setattr(_lane_plan, "CACHED_BYTES", cached)
    for description in (*map(PROBLEMS.get, ("strided", "long_line", "wide_tap_rows", "volume")), SIX_IMAGES):
        assert description is not None
        check(ALGORITHM, description)
    x, g = jnp.zeros((6, 9, 8, 4), jnp.float32), jnp.zeros((6, 7, 6, 4), jnp.float32)
    assert _lane_plan.cached_images(6, sum(_lanes.image_bytes(x, g))) == {1: 1, 8000: 3}[cached]
    assert "scan" in check_structure(ALGORITHM, SIX_IMAGES, Pass.KERNEL_GRAD)


@on_cpu_cache
@pytest.mark.parametrize("cached", [1, 20000])
def test_forward_sums_in_blocks(limits: pytest.MonkeyPatch, cached: int) -> None:
    limits.setattr(_blocks, "LARGE_BYTES", 0)
    limits.setattr(_blocks, "LARGE_BLOCK_BYTES", cached)
    summed: Description = ((3, 9, 8, 12), (7, 6, 3, 4), 4, {})
    names = "padded_sum", "parts_without_padding", "tap_rows", "many_taps", "long_kernel"
    for description in (*(PROBLEMS[name] for name in names), summed):
        check(ALGORITHM, description)
    check(ALGORITHM, summed, "bfloat16")
    assert "scan" in check_structure(ALGORITHM, summed, Pass.FORWARD)


@on_cpu_cache
@pytest.mark.usefixtures("large_caches")
@pytest.mark.parametrize(
    ("batch", "size", "channels", "in_blocks"),
    [
        (2, 112, 192, False),  # 38 MB, and 21 of a padded x
        (40, 28, 192, True),  # 48 MB, but a padded x of 35 is fresh memory in every call
        (2, 576, 192, True),  # 509 MB
    ],
)
def test_a_large_cache_holds_more_of_x_and_y(batch: int, size: int, channels: int, in_blocks: bool) -> None:
    problem, _ = make_problem(
        (batch, size, size, channels), (7, 7, 1, channels), "float32", "float32", groups=channels
    )
    assert depthwise.is_beyond_caches(problem) is in_blocks


@on_cpu_cache
@pytest.mark.parametrize("cached", [1, 3000])
def test_kernel_gradients_in_rows_of_images(limits: pytest.MonkeyPatch, cached: int) -> None:
    limits.setattr(depthwise, "READ_BYTES", 0)
    limits.setattr(_blocks, "LARGE_BYTES", 0)
    limits.setattr(_blocks, "LARGE_BLOCK_BYTES", cached)
    for name in ("strided", "dilated", "cropped", "padded_sum", "tap_rows", "multiplier", "volume"):
        check(ALGORITHM, PROBLEMS[name])
    check(ALGORITHM, SIX_IMAGES, "bfloat16")
    assert "scan" in check_structure(ALGORITHM, SIX_IMAGES, Pass.KERNEL_GRAD)


@by_pass
def test_sums_of_large_arrays_take_the_memory_of_a_block(which: Pass) -> None:
    """A padded copy of all of x took 0.6 times what is read and written, partial sums of all rows 1.2."""
    problem, _ = make_problem((1, 112, 112, 192), (5, 5, 1, 192), "float32", "float32", groups=192)
    assert temporary_bytes(ALGORITHM, problem, which) <= 0.4 * problem.io_bytes()


@on_cpu_cache
@pytest.mark.parametrize(
    ("lanes", "taps"),
    [(16, 32), (17, 10), (306, 10), (308, 9), (614, 5), (616, 4), (1024, 3), (1028, 10)],
)
def test_the_l1_cache_holds_what_a_sum_reads(lanes: int, taps: int) -> None:
    assert depthwise.fused_taps(lanes, 4) == taps


@on_cpu_cache
@pytest.mark.usefixtures("large_caches")
@pytest.mark.parametrize(("lanes", "taps"), [(460, 10), (461, 9), (1536, 3), (1537, 10)])
def test_a_larger_l1_cache_holds_more(lanes: int, taps: int) -> None:
    assert depthwise.fused_taps(lanes, 4) == taps


@pytest.mark.parametrize(
    "window", [Window(9, 3, 1, 1, 1, 1, 1), Window(5, 9, 2, 1, 1, 9, 9), Window(12, 3, 3, 4, 1, -1, 5)]
)
def test_border_segments_split_the_outputs_by_the_taps_on_the_input(window: Window) -> None:
    pads = (window.lo, window.hi)
    axis = oracle.Axis(window.in_size, window.size, window.stride, pads, 1, window.dilation)
    met = {m: {k for _, k, output in axis.meetings() if output == m} for m in range(window.out_size)}
    segments = depthwise.border_segments(window)
    assert [m for s in segments for m in range(s.start, s.stop)] == list(met)
    assert all(set(s.taps) == met[m] for s in segments for m in range(s.start, s.stop))


def test_groups_with_several_channels_on_both_sides_are_refused() -> None:
    problem, _ = make_problem((1, 5, 5, 4), (3, 3, 2, 4), "float32", "float32", groups=2)
    reason = ALGORITHM.supports(problem, Pass.FORWARD)
    assert reason is not None and "got 2 and 2" in reason


def check_structure(algorithm: Algorithm, description: Description, which: Pass) -> set[str]:
    """No convolution and no interior padding anywhere; returns the primitives that there are."""
    problem, _, (x, w, g) = problem_and_data(description)
    a, b = {Pass.FORWARD: (x, w), Pass.INPUT_GRAD: (g, w), Pass.KERNEL_GRAD: (x, g)}[which]
    found = list(equations(jax.make_jaxpr(lambda a, b: algorithm.run(problem, which, a, b))(a, b).jaxpr))
    names = {str(equation.primitive) for equation in found}
    assert not xla_windows(names)
    pads = [e.params["padding_config"] for e in found if str(e.primitive) == "pad"]
    assert all(interior == 0 and lo >= 0 and hi >= 0 for config in pads for lo, hi, interior in config)
    return names


@by_pass
@pytest.mark.parametrize("name", ["strided", "transposed", "cropped", "tap_rows", "long_line_and_rest"])
def test_structure(name: str, which: Pass) -> None:
    names = check_structure(ALGORITHM, PROBLEMS[name], which)
    assert "mul" in names
    if which is not Pass.KERNEL_GRAD:
        assert "dot_general" not in names


@by_pass
def test_small_kernels_take_next_to_no_memory(which: Pass) -> None:
    problem, _ = make_problem((4, 28, 28, 64), (3, 3, 1, 64), "float32", "float32", groups=64)
    assert temporary_bytes(ALGORITHM, problem, which) <= problem.io_bytes()


def test_rows_of_taps_take_the_memory_of_one() -> None:
    """Partial sums of all seven rows at once took 2.2 times what is read and written."""
    problem, _ = make_problem((4, 28, 28, 192), (7, 7, 1, 192), "float32", "float32", groups=192)
    assert temporary_bytes(ALGORITHM, problem, Pass.KERNEL_GRAD) <= problem.io_bytes()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_lanes_of_one_output_are_summed_over_taps_first(padding: str) -> None:
    """XLA made of both sums one product for each tap, from a copy of all that it reads."""
    shapes = (8, 40, 40, 64), (4, 4, 64, 1)
    problem, _ = make_problem(*shapes, "float32", "float32", strides=2, padding=padding)
    lanes = int(np.prod([8, *problem.output_size, 64])) * 4
    assert temporary_bytes(ALGORITHM, problem, Pass.FORWARD) <= 1.1 * lanes


def test_equal_forward_passes_and_input_gradients_are_one_program() -> None:
    def multiplications(function: Any, *args: Any) -> int:
        return jax.jit(function).lower(*args).as_text().count("stablehlo.multiply")

    x, w = jnp.ones((2, 9, 8, 8)), jnp.ones((3, 3, 1, 8))
    conv = functools.partial(jaxconv.conv, groups=8)
    strided = functools.partial(conv, strides=2)
    for forward, passes in ((conv, 1), (strided, 2)):
        both = multiplications(lambda x, f=forward: jax.vjp(lambda x: f(x, w), x)[1](f(x, w)), x)
        assert both >= passes * 9
        assert (both == multiplications(forward, x, w)) == (passes == 1)


@pytest.mark.parametrize(("size", "lo", "hi"), [(3, 1, 1), (4, 1, 2), (5, 2, 2), (3, 4, 0), (2, 0, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_columns_beyond_the_border_read_zeros(
    size: int, lo: int, hi: int, stride: int, dilation: int, length: int
) -> None:
    window = Window(length, size, stride, dilation, 1, lo, hi)
    x = np.arange(1.0, 1 + length, dtype=np.float32).reshape(1, length, 1)
    padded = np.pad(x[0, :, 0], (lo, hi + window.extent))
    g = jnp.ones((1, window.out_size, 1))
    for j, source in enumerate(_lane_slices.column_sources((window,), jnp.asarray(x))):
        taps, _ = _lane_slices.meeting_slices((window,), (), source, g, 1, 0, j)
        expected = padded[j * stride : j * stride + window.extent : dilation]
        np.testing.assert_array_equal(taps[0, :, 0], expected)


def test_gradients_take_a_symbolic_batch() -> None:
    """Folding images needs to know their number; with an unknown one each image stands for itself."""
    (batch,) = jax.export.symbolic_shape("b")
    kernel = jnp.asarray(np.random.default_rng(1).standard_normal((3, 3, 1, 4)), jnp.float32)

    def gradients(x: Any) -> Any:
        energy = lambda x, w: (jaxconv.conv(x, w, groups=4, algorithm="depthwise") ** 2).sum()  # noqa: E731
        return jax.grad(energy, (0, 1))(x, kernel)

    exported = jax.export.export(jax.jit(gradients))(jax.ShapeDtypeStruct((batch, 6, 5, 4), jnp.float32))
    for images in (1, 3, 4):
        x = np.random.default_rng(images).standard_normal((images, 6, 5, 4)).astype(np.float32)
        for got, expected in zip(exported.call(x), gradients(jnp.asarray(x)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
