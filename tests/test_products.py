"""Products of patches: every pass against the oracle, whichever of x and y is laid out; the thinner is."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxconv._patches import pad_to_windows
from jaxconv._problem import ConvProblem, Pass, make_problem
from jaxconv.algorithms import _blocks, _products, banded, gemm
from jaxconv.algorithms._bands import MAX_STACKED_ROWS, make_bands, patch_matrices, patch_matrix
from jaxconv.algorithms._products import MAX_CLASSES, STRIDED_RATIO, lays_out_output
from jaxconv.algorithms._record import Algorithm
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
THIN_OUTPUT: dict[str, Description] = {
    "dense": ((2, 9, 8, 7), (3, 4, 7, 2), 1, {}),
    "valid": ((2, 9, 8, 9), (3, 4, 9, 2), 1, {"padding": "VALID"}),
    "strided": ((2, 9, 10, 8), (3, 5, 8, 3), 1, {"strides": (2, 3)}),
    "strided_on_one_axis": ((2, 9, 10, 16), (3, 2, 16, 3), 1, {"strides": (1, 3), "padding": "VALID"}),
    "dilated": ((2, 9, 10, 5), (3, 2, 5, 2), 1, {"kernel_dilation": (2, 3)}),
    "cropped": ((2, 9, 9, 6), (3, 3, 6, 2), 1, {"strides": 2, "padding": [(3, -1), (-2, 4)]}),
    "transposed": ((2, 5, 4, 8), (3, 4, 8, 2), 1, {"input_dilation": (2, 3), "padding": [(2, 1), (0, 3)]}),
    "line": ((2, 40, 6), (5, 6, 2), 1, {"strides": 2}),
    "volume": ((2, 5, 4, 6, 6), (3, 2, 3, 6, 2), 1, {"strides": (1, 2, 2)}),
    "groups": ((2, 9, 8, 12), (3, 3, 6, 4), 2, {"strides": 2}),
    "more_outputs": ((2, 5, 4, 3), (3, 4, 3, 5), 1, {"padding": [(2, 2), (3, 3)]}),
    "many_rows": ((2, 12, 9, 7), (10, 3, 7, 2), 1, {}),
    "sample_between_strides": ((2, 1, 5, 6), (1, 3, 6, 2), 1, {"strides": 2, "padding": [(1, 0), (0, 0)]}),
}
THIN_INPUT: dict[str, Description] = {
    "dense": ((2, 9, 8, 2), (3, 4, 2, 7), 1, {}),
    "equal": ((2, 9, 8, 3), (3, 4, 3, 3), 1, {}),
    "strided": ((2, 9, 10, 3), (3, 5, 3, 8), 1, {"strides": (2, 3)}),
    "fewer_outputs": ((2, 9, 8, 7), (3, 4, 7, 2), 1, {"padding": "VALID"}),
    "nearly_as_thin_strided": ((2, 9, 10, 4), (3, 5, 4, 2), 1, {"strides": 2}),
    "many_rows": ((2, 12, 9, 3), (17, 3, 3, 5), 1, {"strides": (1, 2)}),
    "many_rows_of_a_volume": ((2, 5, 6, 7, 2), (3, 3, 2, 2, 4), 1, {"strides": (2, 1, 1)}),
    "stride_above_kernel": ((2, 11, 10, 8), (2, 1, 8, 2), 1, {"strides": (3, 3), "padding": 1}),
    "tiles_with_holes": ((2, 11, 10, 8), (3, 3, 8, 2), 1, {"strides": 3, "kernel_dilation": 2}),
    "padded_tiles": ((3, 7, 9, 8), (2, 3, 8, 2), 1, {"strides": (2, 3), "padding": [(1, 0), (1, 2)]}),
    "rows_left_out": ((2, 13, 10, 6), (1, 4, 6, 5), 1, {"strides": (4, 2)}),
    "rows_left_out_of_a_volume": ((2, 9, 8, 7, 4), (1, 2, 3, 4, 5), 1, {"strides": (3, 3, 2)}),
    "many_classes": ((2, 17, 16, 8), (5, 4, 8, 2), 1, {"strides": 4}),
}
# The kernel has more values than any patches.
SMALL_MAPS: dict[str, Description] = {
    "small_map": ((1, 2, 3, 9), (3, 2, 9, 8), 1, {}),
    "small_map_strided": ((1, 4, 4, 16), (3, 3, 16, 5), 1, {"strides": 2}),
}
PROBLEMS = {f"thin_output_{k}": v for k, v in THIN_OUTPUT.items()} | THIN_INPUT | SMALL_MAPS
by_algorithm = pytest.mark.parametrize("algorithm", [gemm.ALGORITHM, banded.ALGORITHM], ids=lambda a: a.name)


@by_algorithm
@pytest.mark.parametrize("name", PROBLEMS)
def test_values(name: str, algorithm: Algorithm) -> None:
    problem, _, _ = problem_and_data(PROBLEMS[name])
    if algorithm is banded.ALGORITHM and problem.windows[-1].dilation > 1:
        assert algorithm.supports(problem, Pass.FORWARD)
        return
    check(algorithm, PROBLEMS[name])


@by_algorithm
@pytest.mark.parametrize("block_bytes", [1, 8000], ids=["rows", "images"])
@pytest.mark.parametrize(
    "name", ["thin_output_dense", "thin_output_strided", "thin_output_line", "padded_tiles", "rows_left_out"]
)
def test_values_block_by_block(
    name: str, block_bytes: int, algorithm: Algorithm, limits: pytest.MonkeyPatch
) -> None:
    limits.setattr(_products, "BLOCK_BYTES", block_bytes)
    limits.setattr(_products, "KERNEL_PATCHES", 0)
    limits.setattr(gemm, "PADDED_BYTES", 0)
    check(algorithm, PROBLEMS[name])
    if block_bytes == 1 or (algorithm is gemm.ALGORITHM and name == "thin_output_dense"):
        assert "scan" in check_structure(algorithm, PROBLEMS[name], Pass.FORWARD)


@on_cpu_cache
@by_algorithm
@pytest.mark.parametrize("cached", [1, 8000], ids=["one", "several"])
@pytest.mark.parametrize(
    "name", ["thin_output_strided", "thin_output_transposed", "thin_output_volume", "thin_output_groups"]
)
def test_residue_classes_of_large_arrays_are_those_of_some_images(
    name: str, cached: int, algorithm: Algorithm, limits: pytest.MonkeyPatch
) -> None:
    limits.setattr(_blocks, "LARGE_BYTES", 0)
    limits.setattr(_blocks, "LARGE_BLOCK_BYTES", cached)
    check(algorithm, PROBLEMS[name])
    if cached == 1 and name == "thin_output_strided":
        assert "scan" in check_structure(algorithm, PROBLEMS[name], Pass.FORWARD)
        assert "scan" in check_structure(algorithm, PROBLEMS[name], Pass.KERNEL_GRAD)


@by_dtype
def test_dtypes(dtype: str) -> None:
    check(gemm.ALGORITHM, PROBLEMS["thin_output_strided"], dtype)


@by_spoil
@pytest.mark.parametrize("name", ["valid", "strided", "groups"])
def test_highest_precision_keeps_non_finite_values_in_their_windows(name: str, spoil: float) -> None:
    shapes, options = THIN_OUTPUT[name][:3], THIN_OUTPUT[name][3]
    check(gemm.ALGORITHM, (*shapes, {**options, "precision": "highest"}), spoil=spoil)


def test_the_rule_on_both_sides_of_its_limits() -> None:
    for name, (x_shape, w_shape, groups, options) in PROBLEMS.items():
        problem, _ = make_problem(x_shape, w_shape, "float32", "float32", groups=groups, **options)
        if problem.is_dense and name not in SMALL_MAPS:
            assert lays_out_output(problem) == name.startswith("thin_output"), name
    assert lays_out_output(problem_and_data(PROBLEMS["equal"])[0], if_equal=True)
    cin, cout = problem_and_data(PROBLEMS["nearly_as_thin_strided"])[0].channels_per_group
    assert cout < cin <= STRIDED_RATIO * cout
    assert math.prod(problem_and_data(PROBLEMS["many_classes"])[0].strides) > MAX_CLASSES


@by_pass
@pytest.mark.parametrize("name", SMALL_MAPS)
def test_no_pass_of_a_small_map_transposes_the_kernel(name: str, which: Pass) -> None:
    problem, _, _ = problem_and_data(PROBLEMS[name])
    assert lays_out_output(problem)
    assert "rev" not in check_structure(gemm.ALGORITHM, PROBLEMS[name], which)
    larger = dataclasses.replace(problem, batch=8)
    assert "rev" in {e.primitive.name for e in equations(traced(larger, which).jaxpr.jaxpr)}


@on_cpu_cache
@by_pass
def test_a_block_outweighs_the_kernel(which: Pass) -> None:
    """Both have 7.2 MB of patches, two blocks; the kernels have 9.4 and 0.15 MB."""
    for batch, channels, has_loop in ((8, 512, False), (64, 64, True)):
        shapes = (batch, 7, 7, channels), (3, 3, channels, channels)
        problem, _ = make_problem(*shapes, "float32", "float32")
        found = equations(traced(problem, which).jaxpr.jaxpr)
        assert ("scan" in {e.primitive.name for e in found}) == has_loop


@on_cpu_cache
@pytest.mark.usefixtures("large_caches")
@by_pass
def test_a_large_cache_holds_larger_blocks(which: Pass) -> None:
    """Patches of 8 and of 32 MB, in one block and in two; those of 8 would be two beside a small cache."""
    for batch, has_loop in ((160, False), (640, True)):
        problem, _ = make_problem((batch, 7, 7, 64), (2, 2, 64, 192), "float32", "float32")
        found = equations(traced(problem, which).jaxpr.jaxpr)
        assert ("scan" in {e.primitive.name for e in found}) == has_loop


@on_cpu_cache
@pytest.mark.usefixtures("large_caches")
def test_a_large_cache_holds_the_products_of_equal_channels() -> None:
    """Up to nine taps they are summed, and forward passes transpose the kernel; else input gradients do."""
    for batch, taps, transposed in ((4, 9, [True, False]), (4, 12, [False, True]), (1, 9, [False, False])):
        problem, _ = make_problem((batch, 7, 7, 8), (3, taps // 3, 8, 8), "float32", "float32")
        traces = [traced(problem, which).jaxpr.jaxpr for which in (Pass.FORWARD, Pass.INPUT_GRAD)]
        assert ["rev" in {e.primitive.name for e in equations(t)} for t in traces] == transposed


def traced(problem: ConvProblem, which: Pass) -> Any:
    operands = [jax.ShapeDtypeStruct(shape, "float32") for shape in operand_shapes(problem, which)]
    return jax.jit(lambda a, b: gemm.ALGORITHM.run(problem, which, a, b)).trace(*operands)


@by_pass
@pytest.mark.parametrize("side", ["thin_output_dense", "dense"])
def test_no_array_holds_the_taps_of_the_wider_side(side: str, which: Pass) -> None:
    """Patches of 2 channels are 24 values wide, those of 7 would be 84."""
    problem, _, _ = problem_and_data(PROBLEMS[side])
    found = equations(traced(problem, which).jaxpr.jaxpr)
    sizes = [math.prod(v.aval.shape) for e in found for v in e.outvars]
    positions = problem.batch * math.prod(w.in_size for w in problem.windows)
    assert positions * problem.taps * 2 <= max(sizes) < 2 * positions * problem.taps * 2


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how XLA copies on a CPU")
@pytest.mark.parametrize("rows", [7, 8, 9, 17])
def test_a_matrix_holds_no_more_rows_of_taps_than_xla_copies_in_one_loop(rows: int) -> None:
    problem, _ = make_problem((1, 20, 6, 2), (rows, 3, 2, 5), "float32", "float32")
    bands = make_bands(problem, 2)
    x = jnp.arange(math.prod(problem.input_shape), dtype=jnp.float32).reshape(problem.input_shape)
    padded = pad_to_windows(x, problem.windows)
    parts = patch_matrices(problem, bands, padded)
    widths = [part.shape[-1] // (bands.segment * 2) for part in parts]
    assert sum(widths) == rows and max(widths) <= MAX_STACKED_ROWS and max(widths) - min(widths) <= 1
    assert (jnp.concatenate(parts, -1) == patch_matrix(problem, bands, padded)).all()
    found = equations(traced(problem, Pass.FORWARD).jaxpr.jaxpr)
    assert [e.primitive.name for e in found].count("dot_general") == len(parts) == -(-rows // 8)


@on_cpu_cache
@by_pass
@pytest.mark.parametrize(("batch", "has_loop"), [(4, False), (6, True)])
def test_a_large_input_is_not_padded_whole_for_one_product(batch: int, has_loop: bool, which: Pass) -> None:
    """An image takes 3.3 MB; where its size is even it needs no padding."""
    for size, pads in ((113, True), (114, False)):
        problem, _ = make_problem((batch, size, size, 64), (2, 2, 64, 64), "float32", "float32", strides=2)
        found = equations(traced(problem, which).jaxpr.jaxpr)
        assert ("scan" in {e.primitive.name for e in found}) == (has_loop and pads)


@pytest.mark.parametrize("which", [Pass.FORWARD, Pass.KERNEL_GRAD])
@pytest.mark.parametrize(("rows", "stride"), [(1, 2), (2, 3), (2, 2)])
def test_rows_that_no_output_reads_are_not_gathered(rows: int, stride: int, which: Pass) -> None:
    """No array is larger than the patches, of which those of all rows are as many where each is read."""
    problem, _ = make_problem((2, 60, 20, 4), (rows, 5, 4, 9), "float32", "float32", strides=(stride, 1))
    found = equations(traced(problem, which).jaxpr.jaxpr)
    largest = max(math.prod(v.aval.shape) for e in found for v in e.outvars)
    assert largest == problem.batch * math.prod(problem.output_size) * problem.taps * 4


@by_pass
@pytest.mark.parametrize("channels", [(16, 24), (24, 16)], ids=["thin_input", "thin_output"])
def test_no_padding_of_the_whole_batch(channels: tuple[int, int], which: Pass) -> None:
    """Two images of 2.4 MB of patches are a block, padded on its own; so are gradients cropped."""
    problem, _ = make_problem((8, 64, 64, channels[0]), (3, 3, *channels), "float32", "float32")
    shapes = {v.aval.shape[:3] for e in equations(traced(problem, which).jaxpr.jaxpr) for v in e.outvars}
    assert (2, 66, 66) in shapes and (8, 66, 66) not in shapes


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="how a CPU multiplies")
@pytest.mark.parametrize(("channels", "product"), [((64, 4), "f32[4,64]"), ((4, 64), "f32[4,64]")])
def test_a_sum_over_rows_transposes_the_narrower_operand(channels: tuple[int, int], product: str) -> None:
    problem, _ = make_problem((2, 256, channels[0]), (1, *channels), "float32", "float32")
    program = traced(problem, Pass.KERNEL_GRAD).lower().compile().as_text()
    assert [line.split(" = ")[1].split("{")[0] for line in program.splitlines() if " dot(" in line] == [
        product
    ]
