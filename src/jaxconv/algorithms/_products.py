"""The three passes as products of patches and matrix, block by block, for any width of the bands.

With X the patches of all outputs and B the kernel as a banded matrix (`_bands.py`):

    gather       Y = X B         copies the T C samples that an output reads               (T5)
    scatter      dX = G B^T      adds up T C products of each output                       (T8)
    correlate    dB = X^T G      copies as gather does; dB summed along its band is dw     (T7)

The adjoint problem has C and O exchanged: y is what it scatters, dx what it gathers and dw, flipped, what it
correlates, from T O values for each sample of x. A pass lays out whichever of x and y has fewer channels, or
fewer samples: where these are few, copies and sums take most of its time. With a stride the residue classes
of x meet their taps one after another, so that nothing is dilated.

Where g is laid out, zeros around it meet samples and taps that the sum leaves out: a NaN among these would
spread, so precision=HIGHEST keeps x in both gradients.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jax import Array

from .._contract import contract, correlate_rows
from .._cpu_cache import has_large_cache, last_level_times
from .._dtypes import is_highest
from .._patches import (
    flip_and_swap,
    forward_by_phases,
    input_grad_by_phases,
    kernel_grad_by_phases,
    sum_tree,
)
from .._problem import ConvProblem, Pass
from ._bands import (
    Bands,
    band_matrix,
    from_output_rows,
    make_bands,
    output_rows,
    overlap_add,
    patch_matrices,
    sum_bands,
)
from ._blocks import (
    Blocks,
    block_limit,
    block_problem,
    forward_in_blocks,
    image_blocks,
    input_grad_in_blocks,
    kernel_grad_in_blocks,
    plan_blocks,
)

ChooseOutputs: TypeAlias = Callable[[ConvProblem], int]

# Patches of one block: a few megabytes lie in the second- and third-level caches, and more in larger ones, up
# to MOST_BLOCK_BYTES: beside a last level of 480 MB blocks of 16 MB took 0.94, 0.84 and 0.96 of the time of
# smaller ones in the three passes (126 random layers, 0.36 to 1.15; 2026-12-01, Intel Xeon, AVX-512),
# some of which were more than 1.5 times x, w and y, as now none is.
BLOCK_BYTES = 4 << 20
# Each block reads the kernel, or is added to its gradient: patches of so many times its bytes or more took
# 0.7 to 1.0 of the time of smaller ones (18 passes with kernels of 3 to 9 MB and kernel gradients of 512
# channels, 2026-11-28, AMD EPYC Zen 4, AVX-512). Up to the second: larger blocks, fresh memory in every call,
# took 1.0 to 1.2 times as long as such of 16 MB (seven layers with kernels of 3 to 26 MB, 2026-11-29).
KERNEL_PATCHES, MOST_BLOCK_BYTES = 2, 16 << 20

# Channels of x over those of y from which y is laid out in x's place, with a stride: the residue classes of x
# are copies too, and their products narrower. Without one the fewer are faster, and of two equal the copies.
# From 116 shapes of 1 to 512 channels and 71 strided input gradients more: 0.05 to 1.3 times the time of the
# other (2026-11-27, AMD EPYC).
STRIDED_RATIO = 2.5
# Times that a kernel counts against the patches of a forward pass: three took 0.98 of the time of one (117
# random passes, 2026-11-30, AMD EPYC Zen 4).
FORWARD_KERNEL = 3
# Beside a large cache, of two equal the sums up to so many taps: 0.81 of the time in input gradients (66
# random layers, 0.50 to 1.06), with more 1.07 (20). In forward passes, where the kernel is to be transposed,
# 0.84 (24, 0.63 to 1.04) if it counts so many times against patches, 1.13 else (19; 2026-12-01, Intel Xeon,
# AVX-512).
SUMMED_TAPS, SUMMED_KERNEL = 9, 20
# Residue classes, at most: each is a product and its patches to compile.
MAX_CLASSES = 9


def one_output(problem: ConvProblem) -> int:
    """The bands of im2col: one output in a row of patches."""
    del problem
    return 1


def forward(problem: ConvProblem, x: Array, w: Array, choose: ChooseOutputs) -> Array:
    """y, with bands of `choose(problem)` neighbours."""
    if not takes_output(problem, Pass.FORWARD):
        return gather(choose, problem, x, w)
    w = flip_and_swap(w, 1)

    def step(part: ConvProblem, x: Array) -> Array:
        return input_grad_by_phases(part.input_adjoint(), x, w, functools.partial(scatter, choose))

    return forward_in_blocks(problem, image_blocks(problem), x, step)


def input_grad(problem: ConvProblem, g: Array, w: Array, choose: ChooseOutputs) -> Array:
    """dx, with bands of `choose(problem)` neighbours."""
    if not takes_output(problem, Pass.INPUT_GRAD):
        return scatter(choose, problem, g, w)
    adjoint, w = problem.input_adjoint(), flip_and_swap(w, 1)
    return forward_by_phases(adjoint, g, w, functools.partial(gather, choose))


def kernel_grad(problem: ConvProblem, x: Array, g: Array, choose: ChooseOutputs) -> Array:
    """dw, with bands of `choose(problem)` neighbours."""
    if not takes_output(problem, Pass.KERNEL_GRAD):
        return correlate(choose, problem, x, g)

    def step(part: ConvProblem, x: Array, g: Array) -> Array:
        dw = kernel_grad_by_phases(part.input_adjoint(), g, x, functools.partial(correlate, choose))
        return flip_and_swap(dw, 1)

    return kernel_grad_in_blocks(problem, image_blocks(problem), x, g, step)


def takes_output(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether patches of y take the place of those of x."""
    if_sum = has_large_cache() and problem.taps <= SUMMED_TAPS
    if pass_ is Pass.FORWARD:
        if_equal = if_sum and not outweighs_patches(problem, SUMMED_KERNEL)
        return not outweighs_patches(problem, FORWARD_KERNEL) and lays_out_output(problem, if_equal)
    if is_highest(problem.precision) or outweighs_patches(problem):
        return False
    return lays_out_output(problem, if_equal=pass_ is Pass.INPUT_GRAD and not if_sum)


def lays_out_output(problem: ConvProblem, if_equal: bool = False) -> bool:
    """Whether y has so few channels, or `if_equal` as few, that its T O values take the place of x's T C.

    Never where windows share no sample, and patches of x are no larger than x: 0.66 of the time (0.25 to 1.2)
    and of the compile time 0.3 to 1.05 (15 passes, 2026-11-29, AMD EPYC Zen 4).
    Of S samples and M outputs one lays out S T O values for S T C O products, the other M T C for M T C O.
    Where S and M differ, the lesser product of values and products took 0.51 of the time of the fewer
    channels (173 passes of 261 whose S was 1/17 to 27 times M, 2026-11-28, AMD EPYC Zen 4).
    """
    cin, cout = problem.channels_per_group
    if all(w.size * w.out_size <= w.reach for w in problem.windows):
        return False
    samples = math.prod(w.in_size * w.base_dilation for w in problem.windows)
    outputs = math.prod(w.out_size * w.stride for w in problem.windows)
    of_x, of_y = cin * outputs**2, cout * samples**2
    if all(w.is_unit for w in problem.windows):
        return of_x > of_y or (if_equal and of_x == of_y)
    return of_x > STRIDED_RATIO * of_y and math.prod(problem.strides) <= MAX_CLASSES


def outweighs_patches(problem: ConvProblem, times: int = 1) -> bool:
    """Whether the kernel's T C O values, so many times, are more than those of any patches, N M T max(C, O).

    To transpose it then costs more than wide patches do: input gradients took 0.6 to 0.98 of the time without
    (7 shapes, 2026-11-28, AMD EPYC Zen 4, AVX-512), and of random passes 25 forward ones 0.73 (0.35 to 0.91)
    and 11 kernel gradients 0.67 (0.26 to 1.4, 2026-11-30).
    """
    sized = problem.sized()
    return sized.batch * math.prod(sized.output_size) < times * min(problem.channels_per_group)


def gather(choose: ChooseOutputs, problem: ConvProblem, x: Array, w: Array) -> Array:
    """Y = X B."""
    blocks, bands = plan(problem, choose(problem))
    matrix = band_matrix(bands, w)

    def step(part: ConvProblem, x: Array) -> Array:
        patches = patch_matrices(part, bands, x)
        _, *starts = itertools.accumulate((p.shape[-1] for p in patches[:-1]), initial=0)
        products = map(functools.partial(multiply_patches, part), patches, jnp.split(matrix, starts))
        return from_output_rows(bands, sum_tree(list(products)))

    return forward_in_blocks(problem, blocks, x, step)


def scatter(choose: ChooseOutputs, problem: ConvProblem, g: Array, w: Array) -> Array:
    """dX = G B^T, added up where segments overlap."""
    blocks, bands = plan(problem, choose(problem))
    matrix = band_matrix(bands, w)

    def step(part: ConvProblem, g: Array) -> Array:
        return overlap_add(part, bands, unmultiply_patches(part, output_rows(bands, g), matrix))

    return input_grad_in_blocks(problem, blocks, g, step)


def correlate(choose: ChooseOutputs, problem: ConvProblem, x: Array, g: Array) -> Array:
    """dB = X^T G, summed along its bands."""
    blocks, bands = plan(problem, choose(problem))

    def step(part: ConvProblem, x: Array, g: Array) -> Array:
        g = output_rows(bands, g)
        parts = [correlate_patches(part, patches, g) for patches in patch_matrices(part, bands, x)]
        return sum_bands(part, bands, parts[0] if len(parts) == 1 else jnp.concatenate(parts))

    return kernel_grad_in_blocks(problem, blocks, x, g, step)


def plan(problem: ConvProblem, outputs: int) -> tuple[Blocks, Bands]:
    """Blocks and their bands: patches take BLOCK_BYTES or x, w and y 2.5 times, what is less.

    More for a large kernel, and in a large cache, but there no more than x, w and y 1.5 times.
    """
    io_bytes, kernel_bytes = problem.sized().io_bytes(), math.prod(problem.kernel_shape) * 4
    cached = min(int(BLOCK_BYTES * last_level_times()), 3 * io_bytes // 2)
    block_bytes = min(max(BLOCK_BYTES, cached, KERNEL_PATCHES * kernel_bytes), MOST_BLOCK_BYTES)
    bands = make_bands(problem, outputs)
    depth = problem.taps // bands.window.size * bands.segment * problem.in_channels
    row_bytes = math.prod(problem.output_size[1:]) * depth * 4 // bands.outputs
    blocks = plan_blocks(problem, row_bytes, block_limit(block_bytes, 5 * io_bytes // 2))
    # With one spatial axis the rows of a block are the axis of its bands.
    return blocks, make_bands(block_problem(problem, blocks), bands.outputs)


def multiply_patches(problem: ConvProblem, patches: Array, w: Array) -> Array:
    """`[..., T C] [*K, C, O] -> [..., O]`."""
    *space, width = patches.shape
    patches, w = patches.reshape(-1, width), w.reshape(width, -1)
    return contract(problem, patches, w, (((1,), (0,)), ((), ()))).reshape(*space, -1)


def correlate_patches(problem: ConvProblem, patches: Array, g: Array) -> Array:
    """`[..., T C] [..., O] -> [T C, O]`."""
    return correlate_rows(problem, *(a.reshape(-1, a.shape[-1]) for a in (patches, g)))


def unmultiply_patches(problem: ConvProblem, g: Array, w: Array) -> Array:
    """`[..., O] [*K, C, O] -> [..., T C]`."""
    *space, width = g.shape
    g, w = g.reshape(-1, width), w.reshape(-1, width)
    return contract(problem, g, w, (((1,), (1,)), ((), ()))).reshape(*space, -1)
