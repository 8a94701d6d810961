"""Where a CPU sums outer products: the conditions under which no patches are worth their copies.

Constants without a date are of the day and machine that `_ladder_cpu.py` names.
"""

from __future__ import annotations

import math

from ._ladder import met_share, summed_channels
from ._ladder_cpu_transforms import suits_fft, suits_winograd
from ._problem import ConvProblem, Pass, accumulator
from .algorithms import BY_NAME
from .algorithms._blocks import block_problem, is_large, large_blocks
from .algorithms._lane_plan import MAX_COLUMNS, count_sums, is_unrolled
from .algorithms._outer_products import MAX_TERMS, count_terms, is_written_out, product_lanes
from .algorithms._winograd_plan import count_products
from .algorithms.gemm import is_view
from .algorithms.grouped import MAX_LANE_TERMS
from .algorithms.outer import MAX_SEPARATE_GROUPS, fill_no_vector

# Channels to sum over, at most, where a pass runs in phases, and terms of all phases: 9 to 24 channels took
# 0.61 of the time, mostly gemm's, in 28 shapes, for 1.1 s of compile time in the place of 0.3; 48 and 64 took
# 1 to 3.6 times as long, and 5,400 terms 5 s to compile (2026-11-28, AMD EPYC Zen 4). Channels for each lane
# of the result. What Winograd has to save where it suits too: the share of products times C O / (C + O).
# Lanes from which one channel goes here whatever its taps, and the terms up to which it stays a sum of taps
# with fewer. From races over 500 shapes of 1 to 128 channels (2026-11-26, AMD EPYC Zen 4).
OUTER_PHASE_SUM, OUTER_PHASE_TERMS, OUTER_SUM_PER_LANE = 24, 1000, 3
OUTER_WINOGRAD_SAVINGS = 10
OUTER_LANES, LANE_FEW_TERMS = 8, 4
# Groups whose lanes side by side fill vectors, and how many channels each lane may sum over then: with fewer
# groups products took 0.7 of the time, with more 1.2 (69 shapes, 2026-11-27, AMD EPYC Zen 3).
OUTER_MANY_GROUPS, OUTER_MANY_GROUPS_SUM = 8, 8
# Where the lanes of a group fill no vector, side by side, input gradients sum over fewer channels than lanes
# or fewer terms than these, forward passes over as many for each lane as few groups do: beyond that patches
# took 0.48 of the time and 0.35 of the compile time in 53 random input gradients (0.18 to 1.7), 0.55 in 12
# forward passes (2026-12-01, Intel Xeon, AVX-512).
OUTER_ODD_TERMS = 24
# Lanes of a group that take one channel are a multiple of this, or copies of that channel are faster: 0.65 of
# the time of depthwise in 45 passes, 1.6 times in 55 others (2026-11-29, AMD EPYC Zen 4).
OUTER_SPREAD_LANES = 4
# Products of channels from which outer products, all of them written out, give way to patches times matrix:
# 0.95 of their time and 0.23 of their compile time in 289 shapes other than the 350 that this was found by.
# In groups 0.7 and 0.4 (9 passes of 135 that it changed, 2026-11-27, AMD EPYC Zen 3).
OUTER_PRODUCTS = 640
# What Winograd has to save where groups would go to outer products: from 7 on it took 0.95 of their time and
# 0.85 of the compile time, below 1.3 times the time (19 passes, the same day).
OUTER_GROUPS_WINOGRAD_SAVINGS = 7
# Taps times channels, at most, of forward passes whose windows tile the input, and outputs of all images, at
# least: so shallow a product took 1.44 times as long (297 random layers, 0.5 to 8.2, 44 of them below 0.95,
# 2026-11-30, AMD EPYC Zen 4, AVX-512).
OUTER_TILE_TERMS, OUTER_TILE_POINTS = 32, 2000
# Outputs of all images, and these times the taps, below which dense layers do not go here: handing two or
# three loops to all threads takes as long as a product of so few patches. 0.70 of the time in 309 passes of
# random shapes, and on others, of one to three axes, 0.61 to 0.84 (2026-11-30, AMD EPYC Zen 4, AVX-512).
# Of fewer multiply-adds than the third one thread is enough: 0.75 of the time in 229 passes (the same day).
FEW_POINTS, FEW_PATCHES, TINY_PRODUCTS = 2000, 40_000, 30_000
# Terms of an output, at most, that fall on padding on average: outer products meet all the padding of a full
# convolution of small maps. The second where no bands of two axes, which leave out the last one's, can take
# their place (106 shapes, 2026-11-27, AMD EPYC).
OUTER_PADDING_TERMS, OUTER_MOST_PADDING_TERMS = 145, 250
# Taps, and taps across the axis that has most, from which a loop along that axis pays.
OUTER_ROWS_TAPS, OUTER_ROWS_ACROSS = 16, 3

# Of groups of one tap: products of channels, at most, outputs of all images, at least, and channels to sum
# over for each lane, at most. Of 222 passes 123 changed by this: 0.86, 0.72 and 0.64 of the time in the three
# passes (0.18 to 1.7, 2026-11-29, AMD EPYC Zen 4, AVX-512).
OUTER_POINTWISE_PRODUCTS, OUTER_POINTWISE_POINTS = 2304, 512
OUTER_POINTWISE_SUM_PER_LANE = {Pass.FORWARD: 2, Pass.INPUT_GRAD: 16}

# Of a kernel gradient in many groups: products of channels, at most, and products in each partial sum, at
# least. Of partial sums, with one tap too: bytes over those of x, w and y, and bytes, at most; 22 MB, fresh
# memory in every call, took up to 4.7 times the time of gemm. 69 random groups within these bounds took 0.64
# of the time of the next best, 18 beyond them 1.5 times (2026-11-29, AMD EPYC Zen 4, AVX-512).
OUTER_GROUP_GRADIENT_PRODUCTS, OUTER_GRADIENT_TERMS = 1024, 7
OUTER_GRADIENT_MEMORY, OUTER_GRADIENT_BYTES = 3, 20 << 20
# Products of channels, at most, where x and y are large and go block by block: 0.63 of the time of what was
# chosen before (35 random layers, 0.3 to 1.09); of 1,024 products 0.9 to 2 times gemm's (4, 2026-11-30, AMD
# EPYC Zen 4, AVX-512).
OUTER_LARGE_GRADIENT_PRODUCTS = 256

# Channels of a kernel gradient on either side, at most, and values of its patches, at least, on the side that
# has fewer. From races over 852 shapes of 1 to 32 channels: in the 400 that these numbers and those of banded
# changed, 0.87 of the time and 0.68 of the compile time (2026-11-27, AMD EPYC Zen 3).
OUTER_GRADIENT_CHANNELS, OUTER_GRADIENT_PATCH = 16, 100
# Where patches are smaller: output channels, at least and at most, and products of channels, at most, where
# rows of taps are written out and in a loop over them: 0.79 of the time, mostly gemm's, in 28 passes of
# random shapes (0.61 to 1.12, 2026-11-29, AMD EPYC Zen 4, AVX-512).
OUTER_GRADIENT_LEAST, OUTER_GRADIENT_MOST = 6, 32
OUTER_GRADIENT_PRODUCTS, OUTER_GRADIENT_LOOP_PRODUCTS = 400, 16


def suits_outer(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether a pass sums over few channels, for lanes enough, and patches are copies or of groups."""
    view = is_view(problem.windows)
    if problem.rank == 0:
        return False
    if view and problem.groups == 1:
        return pass_ is Pass.FORWARD and suits_outer_tiles(problem)
    if problem.taps == 1:
        return suits_outer_pointwise(problem, pass_)
    if pass_ is Pass.KERNEL_GRAD:
        suits = suits_outer_gradient if problem.groups == 1 else suits_outer_group_gradient
        return not view and suits(problem)
    if problem.groups == 1 and loops_start_late(problem):
        return False
    summed = summed_channels(problem, pass_)
    lanes = sum(problem.channels_per_group) - summed
    terms = count_terms(problem, pass_)
    if summed * lanes >= OUTER_PRODUCTS:
        return False
    if problem.groups > 1:
        if sums_too_much(problem, pass_) or terms > (MAX_LANE_TERMS if view else MAX_TERMS):
            return False
        if summed == 1:
            return lanes % OUTER_SPREAD_LANES == 0
        return not beats_outer(problem, pass_, OUTER_GROUPS_WINOGRAD_SAVINGS)
    if summed == 1 and (lanes == 1 or (lanes < OUTER_LANES and terms <= LANE_FEW_TERMS)):
        return False
    if phases(problem, pass_) > 1:
        few = problem.taps * summed <= OUTER_PHASE_TERMS
        return few and summed <= min(OUTER_PHASE_SUM, OUTER_SUM_PER_LANE * lanes)
    if summed > OUTER_SUM_PER_LANE * lanes:
        return False
    if terms * padding_share(problem, pass_) > most_padding_terms(problem, pass_):
        return False
    if terms > MAX_TERMS:
        return suits_outer_rows(problem, pass_)
    return not beats_outer(problem, pass_, OUTER_WINOGRAD_SAVINGS)


def sums_too_much(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether groups sum over too many channels for each of their lanes."""
    summed = summed_channels(problem, pass_)
    lanes = sum(problem.channels_per_group) - summed
    odd = fill_no_vector(lanes)
    if odd and pass_ is Pass.INPUT_GRAD and problem.groups > MAX_SEPARATE_GROUPS:
        return summed >= lanes and count_terms(problem, pass_) >= OUTER_ODD_TERMS
    many = problem.groups >= OUTER_MANY_GROUPS and not odd
    return summed > (OUTER_MANY_GROUPS_SUM if many else OUTER_SUM_PER_LANE) * lanes


def suits_outer_tiles(problem: ConvProblem) -> bool:
    """Whether windows that tile the input are a product too shallow for many outputs."""
    sized = problem.sized()
    cin, cout = problem.channels_per_group
    if problem.taps == 1 or min(cin, cout) == 1 or problem.taps * cin > OUTER_TILE_TERMS:
        return False
    return sized.batch * math.prod(sized.output_size) >= OUTER_TILE_POINTS


def has_few_outputs(problem: ConvProblem) -> bool:
    """Whether a product of patches takes no longer than to hand loops to all threads."""
    sized = problem.sized()
    points = sized.batch * math.prod(sized.output_size)
    return points < FEW_POINTS and points * problem.taps < FEW_PATCHES


def loops_start_late(problem: ConvProblem) -> bool:
    """The same, but for what one thread sums in no time."""
    return has_few_outputs(problem) and problem.sized().flops(Pass.FORWARD) / 2 >= TINY_PRODUCTS


def suits_outer_pointwise(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether groups of one tap have many outputs and few channels for a product of matrices each."""
    sized = problem.sized()
    if sized.batch * math.prod(sized.output_size) < OUTER_POINTWISE_POINTS:
        return False
    cin, cout = problem.channels_per_group
    if min(cin, cout) == 1 or cin * cout > OUTER_POINTWISE_PRODUCTS:
        return False
    if pass_ is Pass.KERNEL_GRAD:
        return sums_take_little(problem)
    summed = summed_channels(problem, pass_)
    return summed <= OUTER_POINTWISE_SUM_PER_LANE[pass_] * (cin + cout - summed)


def suits_outer_rows(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether taps are many, several of them in each step of a loop, and nothing saves their products."""
    across = problem.taps // max(problem.kernel_size)
    if problem.taps < OUTER_ROWS_TAPS or across < OUTER_ROWS_ACROSS:
        return False
    return not (suits_fft(problem, pass_) or suits_winograd(problem, pass_))


def suits_outer_gradient(problem: ConvProblem) -> bool:
    """Whether few channels meet, in few sums or large patches, and no transform saves products.

    On lines too wide to be summed at once gemm took 0.5 of the time (5 passes of 300 to 512 columns, 0.37 to
    0.58, 2026-11-30, AMD EPYC Zen 4).
    """
    cin, cout = problem.channels_per_group
    if problem.rank == 1 or cout == 1 or cin > OUTER_SUM_PER_LANE * cout or loops_start_late(problem):
        return False
    if problem.windows[-1].out_size > MAX_COLUMNS:
        return False
    if suits_fft(problem, Pass.KERNEL_GRAD) or suits_winograd(problem, Pass.KERNEL_GRAD):
        return False
    if max(cin, cout) <= OUTER_GRADIENT_CHANNELS and problem.taps * min(cin, cout) >= OUTER_GRADIENT_PATCH:
        return True
    most = OUTER_GRADIENT_PRODUCTS if is_written_out(problem) else OUTER_GRADIENT_LOOP_PRODUCTS
    if not OUTER_GRADIENT_LEAST <= cout <= OUTER_GRADIENT_MOST or cin * cout > most:
        return False
    return sums_are_few(problem)


def suits_outer_group_gradient(problem: ConvProblem) -> bool:
    """Whether many groups have few products each, and these few partial sums."""
    cin, cout = problem.channels_per_group
    if problem.groups < OUTER_MANY_GROUPS or min(cin, cout) == 1:
        return False
    if is_large(problem):
        part = block_problem(problem, large_blocks(problem))
        return cin * cout <= OUTER_LARGE_GRADIENT_PRODUCTS and sums_are_few(part)
    if cin * cout > OUTER_GROUP_GRADIENT_PRODUCTS:
        return False
    return is_unrolled(problem.windows) and sums_are_few(problem)


def sums_are_few(problem: ConvProblem) -> bool:
    """Whether partial sums hold enough products each, and take little memory."""
    if not sums_take_little(problem):
        return False
    _, products = count_partial_sums(problem)
    return products >= OUTER_GRADIENT_TERMS


def sums_take_little(problem: ConvProblem) -> bool:
    """Whether the partial sums of a kernel gradient take little memory, beside x, w and y too."""
    if problem.sized().is_empty:
        return False
    values, _ = count_partial_sums(problem)
    most = min(OUTER_GRADIENT_BYTES, OUTER_GRADIENT_MEMORY * problem.sized().io_bytes())
    return values * accumulator(problem).itemsize <= most


def count_partial_sums(problem: ConvProblem) -> tuple[int, float]:
    """Values of the partial sums of a kernel gradient, and products that each holds."""
    lanes, size = product_lanes(problem), accumulator(problem).itemsize
    return count_sums(problem.windows, problem.sized().batch, lanes, size)


def beats_outer(problem: ConvProblem, pass_: Pass, least: int) -> bool:
    """Whether Winograd saves enough of C O products to transform C + O values."""
    if not suits_winograd(problem, pass_):
        return False
    _, share = count_products(problem)
    cin, cout = problem.channels_per_group
    return (1 - share) * cin * cout / (cin + cout) >= least


def most_padding_terms(problem: ConvProblem, pass_: Pass) -> int:
    """How many terms of an outer product may fall on padding before another algorithm is faster."""
    bands = problem.rank == 2 and BY_NAME["banded"].supports(problem, pass_) is None
    return OUTER_PADDING_TERMS if bands else OUTER_MOST_PADDING_TERMS


def padding_share(problem: ConvProblem, pass_: Pass) -> float:
    """The part of the taps that a forward pass or an input gradient meets on padding."""
    return 1 - met_share(problem.input_adjoint() if pass_ is Pass.INPUT_GRAD else problem)


def phases(problem: ConvProblem, pass_: Pass) -> int:
    """Residue classes that a pass computes apart and interleaves."""
    if pass_ is Pass.INPUT_GRAD:
        return math.prod(problem.strides)
    return math.prod(w.base_dilation for w in problem.windows)
