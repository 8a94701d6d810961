"""The choice on a CPU: the first that suits and supports the problem, never XLA's convolution.

    outer       few taps and channels to sum over: no patches, a sum of outer products
    winograd    2 to 32 taps in a phase, where the multiplications saved outweigh the transforms
    fft         kernels so large that transforms of the maps cost less than the products
    depthwise   one channel on a side of each group: nothing to contract, a sum of taps
    grouped     other groups too small for a turn each, but in an input gradient
    banded      patches, thin or long on a line, that neighbouring outputs share along the last axis
    gemm        everything else

Constants are from `python experiments/speed/run.py` on 2 cores of an AMD EPYC (Zen 5, AVX-512), jaxlib
0.10.2, 2026-11-22, where no other date stands; the runs are in `experiments/speed/results`.
"""

from __future__ import annotations

import math

from ._ladder import Ladder, suits_all
from ._problem import ConvProblem, Pass, len_meetings
from ._window import Window
from .algorithms import BY_NAME
from .algorithms._lanes import outputs_at
from .algorithms._outer_products import MAX_TERMS, count_terms
from .algorithms._winograd_plan import count_products, is_in_pieces, kernel_rereads
from .algorithms.fft import count_values, spectrum_products
from .algorithms.gemm import is_view
from .algorithms.grouped import MAX_LANE_TERMS

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
# Products of channels from which outer products, all of them written out, give way to patches times matrix:
# 0.95 of their time and 0.23 of their compile time in 289 shapes other than the 350 that this was found by.
# In groups 0.7 and 0.4 (9 passes of 135 that it changed, 2026-11-27, AMD EPYC Zen 3).
OUTER_PRODUCTS = 640
# What Winograd has to save where groups would go to outer products: from 7 on it took 0.95 of their time and
# 0.85 of the compile time, below 1.3 times the time (19 passes, the same day).
OUTER_GROUPS_WINOGRAD_SAVINGS = 7
# Terms of an output, at most, that fall on padding on average: outer products meet all the padding of a full
# convolution of small maps. The second where no bands of two axes, which leave out the last one's, can take
# their place (106 shapes, 2026-11-27, AMD EPYC).
OUTER_PADDING_TERMS, OUTER_MOST_PADDING_TERMS = 145, 250
# Taps, and taps across the axis that has most, from which a loop along that axis pays.
OUTER_ROWS_TAPS, OUTER_ROWS_ACROSS = 16, 3

# Channels of a kernel gradient on either side, at most, and values of its patches, at least, on the side that
# has fewer. From races over 852 shapes of 1 to 32 channels: in the 400 that these numbers and those of banded
# changed, 0.87 of the time and 0.68 of the compile time (2026-11-27, AMD EPYC Zen 3).
OUTER_GRADIENT_CHANNELS, OUTER_GRADIENT_PATCH = 16, 100

# Winograd's products over the direct ones, at most, where the transform of the kernel, which the tiles of the
# batch share, counts as the products of so many tiles. With more, patches times matrix took 0.86 of the time
# and 0.4 of the compile time; strides of two make 25 products of 36, which is no faster (310 passes,
# 2026-11-27, AMD EPYC Zen 3). What 48 tiles let in and 60 did not took 0.7 of gemm's time, what neither does
# as long (33 passes, 2026-11-28, AMD EPYC Zen 4, AVX-512).
WINOGRAD_PRODUCTS, WINOGRAD_KERNEL_TILES = 0.7, 48
# Channels on both sides times the share of products saved, at least, for the transforms to pay. From 10 to 12
# Winograd took 1.04 of gemm's time (40 passes; 2.7 times its compile time in 24), from 12 to 14 0.86 (44
# more, 2026-11-28, AMD EPYC Zen 4, AVX-512). Groups count as dense problems: 0.66 of the time of a batched
# product (63 passes, 2026-11-27, AMD EPYC Zen 3). The second where all taps lie on one axis that is not the
# last: patches are copies of whole rows there, and gemm took 0.84 of Winograd's time below it, 1.19 of it
# above (63 passes, 2026-11-28, AMD EPYC Zen 4). The third where an axis has so many taps that they are
# transformed in pieces (2026-11-26).
WINOGRAD_SAVINGS, WINOGRAD_ROWS_SAVINGS, WINOGRAD_PIECES_SAVINGS = 12, 100, 16
# Multiply-adds saved on a line, at least, where tiles save no more than half of them: with fewer the other
# choice took 0.81 of the time (45 passes, 2026-11-28, AMD EPYC Zen 4).
WINOGRAD_LINE_PRODUCTS = 40_000_000
# Where blocks read the kernel's planes over and over: from 7 to 13 Winograd took 2 to 4 times gemm's time, up
# to 4 0.6 to 1.2 times, 1.8 in one (17 passes of 7 x 7 to 13 x 13 taps, the same day).
WINOGRAD_REREADS = 5

# Multiply-adds for each value that FFT would transform, at least, for the transforms to pay: with fewer
# channels on both sides than the last, and with more on either. Of 292 passes of 5 to 31 taps an axis, or 31
# to 501 on one, 85 went otherwise with 120 where one side had few: 0.55 of their time (0.13 to 2.1), 0.54 in
# the 24 drawn after the numbers were (2026-11-28, AMD EPYC Zen 4).
FFT_THIN_PRODUCTS = 100
FFT_PRODUCTS = 350
FFT_THIN_CHANNELS = 24

# The most values of a kernel's spectrum, which stays whole in memory.
FFT_KERNEL_VALUES = 2**25

# Multiply-adds of a group, and values of a patch on the side that has fewer, from which groups are worth a
# turn each, by gemm or banded, instead of a share of one batched product; an input gradient's always are.
# 0.87 of the time and 0.61 of the compile time in 252 passes of random shapes (2026-11-27, AMD EPYC Zen 3).
GROUP_PRODUCTS, GROUP_PATCH = 4_200_000, 150

# The next from jaxconv.tune's races over 60 shapes of 1 to 64 channels, 2026-11-24, AMD EPYC (Zen 4).

# A dense pass without channels to sum over is a sum of taps, if these are few for its lanes: taps at most, or
# taps times lanes.
LANE_TAPS = 16
LANE_TERMS = 512

# Channels on either side below which patches of one output are too thin for a product; channels to sum over
# from which they no longer are; strides in a window from which neighbours share enough of theirs.
BANDED_CHANNELS = 12
# The second where an input gradient has a stride of 1 and so many taps on the last axis (18 shapes,
# 2026-11-27).
BANDED_SUM, BANDED_GRADIENT_SUM, BANDED_GRADIENT_TAPS = 20, 128, 5
BANDED_OVERLAP = 3
# In a kernel gradient from so many strides, or from so many taps on (the 852 shapes).
BANDED_KERNEL_GRAD_OVERLAP, BANDED_MANY_TAPS = 7, 64
# Taps of a line, at least, and its channels, at most, from which wider patches are banded too (2026-11-26).
BANDED_LINE_TAPS, BANDED_LINE_CHANNELS = 16, 128


def suits_outer(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether a pass sums over few channels, for lanes enough, and patches are copies or of groups."""
    view = is_view(problem.windows)
    if problem.rank == 0 or (view and problem.groups == 1):
        return False
    if pass_ is Pass.KERNEL_GRAD:
        return not view and suits_outer_gradient(problem)
    summed = summed_channels(problem, pass_)
    lanes = sum(problem.channels_per_group) - summed
    terms = count_terms(problem, pass_)
    if summed * lanes >= OUTER_PRODUCTS:
        return False
    if problem.groups > 1:
        per_lane = OUTER_MANY_GROUPS_SUM if problem.groups >= OUTER_MANY_GROUPS else OUTER_SUM_PER_LANE
        if not 1 < summed <= per_lane * lanes or terms > (MAX_LANE_TERMS if view else MAX_TERMS):
            return False
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


def suits_outer_rows(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether taps are many, several of them in each step of a loop, and nothing saves their products."""
    across = problem.taps // max(problem.kernel_size)
    if problem.taps < OUTER_ROWS_TAPS or across < OUTER_ROWS_ACROSS:
        return False
    return not (suits_fft(problem, pass_) or suits_winograd(problem, pass_))


def suits_outer_gradient(problem: ConvProblem) -> bool:
    """Whether few channels meet in large patches, and neither FFT nor Winograd saves their products."""
    cin, cout = problem.channels_per_group
    if problem.groups > 1 or problem.rank == 1 or cout == 1 or max(cin, cout) > OUTER_GRADIENT_CHANNELS:
        return False
    if cin > OUTER_SUM_PER_LANE * cout or problem.taps * min(cin, cout) < OUTER_GRADIENT_PATCH:
        return False
    return not (suits_fft(problem, Pass.KERNEL_GRAD) or suits_winograd(problem, Pass.KERNEL_GRAD))


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
    if pass_ is Pass.INPUT_GRAD:
        problem = problem.input_adjoint()
    return 1 - math.prod(sample_share(window) for window in problem.windows)


def sample_share(window: Window) -> float:
    """The part of an axis's taps that fall on samples."""
    dense = [phase.window for phase in window.phases() if phase.window is not None]
    met = sum(len(outputs_at(w, k)) for w in dense for k in range(w.size))
    return met / max(1, len_meetings(window))


def phases(problem: ConvProblem, pass_: Pass) -> int:
    """Residue classes that a pass computes apart and interleaves."""
    if pass_ is Pass.INPUT_GRAD:
        return math.prod(problem.strides)
    return math.prod(w.base_dilation for w in problem.windows)


def suits_winograd(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether the transforms, which cost C + O an output, save more multiplications than that."""
    if BY_NAME["winograd"].supports(problem, Pass.FORWARD) is not None:
        return False
    tiles, share = count_products(problem)
    if problem.rank == 1 and (1 - share) * problem.flops(Pass.FORWARD) / 2 < WINOGRAD_LINE_PRODUCTS:
        return False
    saved = (1 - share) * min(problem.channels_per_group)
    return (
        saved >= least_savings(problem)
        and 0 < share * (tiles + WINOGRAD_KERNEL_TILES) <= WINOGRAD_PRODUCTS * tiles
        and kernel_rereads(problem, pass_) <= WINOGRAD_REREADS
    )


def least_savings(problem: ConvProblem) -> int:
    """The channels whose products Winograd has to save."""
    if problem.taps in problem.kernel_size[:-1]:
        return WINOGRAD_ROWS_SAVINGS
    return WINOGRAD_PIECES_SAVINGS if is_in_pieces(problem) else WINOGRAD_SAVINGS


def suits_fft(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether the products outnumber the values to transform, and the kernel's spectrum fits."""
    del pass_
    if BY_NAME["fft"].supports(problem, Pass.FORWARD) is not None:
        return False
    problem = problem.sized()
    signals, kernel = count_values(problem)
    least = FFT_THIN_PRODUCTS if max(problem.channels_per_group) < FFT_THIN_CHANNELS else FFT_PRODUCTS
    saved = problem.flops(Pass.FORWARD) / 2 - spectrum_products(problem)
    return kernel <= FFT_KERNEL_VALUES and saved >= least * (signals + kernel)


def suits_depthwise(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether there is nothing to contract: one channel in each group, or in a dense pass with few taps.

    A dense kernel gradient would copy x for each lane. One output of a strided layer is a sum of taps too,
    unless patches are views: matrices of one column would read copies of x.
    """
    if problem.groups > 1 or problem.in_channels == problem.out_channels == 1:
        return True
    terms = problem.taps * max(problem.in_channels, problem.out_channels)
    if pass_ is Pass.KERNEL_GRAD:
        return False
    if pass_ is Pass.FORWARD and problem.out_channels == 1 and max(problem.strides, default=1) > 1:
        return problem.taps <= LANE_TAPS and not is_view(problem.windows)
    return summed_channels(problem, pass_) == 1 and (problem.taps <= LANE_TAPS or terms <= LANE_TERMS)


def summed_channels(problem: ConvProblem, pass_: Pass) -> int:
    """How many channels of a group an output, or a sample of an input gradient, sums over."""
    cin, cout = problem.channels_per_group
    return cout if pass_ is Pass.INPUT_GRAD else cin


def suits_grouped(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether groups are too small for a turn each, with lanes enough for the channels that they sum over."""
    if problem.groups == 1 or pass_ is Pass.INPUT_GRAD:
        return False
    cin, cout = problem.channels_per_group
    products = problem.sized().flops(pass_) / 2 / problem.groups
    if products >= GROUP_PRODUCTS and problem.taps * min(cin, cout) >= GROUP_PATCH:
        return False
    return pass_ is Pass.KERNEL_GRAD or cin <= OUTER_SUM_PER_LANE * cout


def is_thin(problem: ConvProblem) -> bool:
    return min(problem.channels_per_group) < BANDED_CHANNELS


def neighbours_share(problem: ConvProblem, overlap: int = BANDED_OVERLAP) -> bool:
    """Whether windows along the last axis are at least `overlap` strides long."""
    return problem.rank > 0 and problem.windows[-1].size >= overlap * problem.windows[-1].stride


def suits_banded(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether patches are thin and overlap along the last axis, or long on a line."""
    if problem.rank == 1 and problem.taps >= BANDED_LINE_TAPS and neighbours_share(problem):
        return max(problem.channels_per_group) <= BANDED_LINE_CHANNELS
    if not (is_thin(problem) and neighbours_share(problem)):
        return False
    if pass_ is Pass.KERNEL_GRAD:
        return problem.taps >= BANDED_MANY_TAPS or neighbours_share(problem, BANDED_KERNEL_GRAD_OVERLAP)
    wide = max(problem.strides) == 1 and problem.kernel_size[-1] >= BANDED_GRADIENT_TAPS
    most = BANDED_GRADIENT_SUM if pass_ is Pass.INPUT_GRAD and wide else BANDED_SUM
    return summed_channels(problem, pass_) < most


LADDER: Ladder = (
    ("outer", suits_outer, "few taps and channels to sum over: a sum of outer products, without patches"),
    ("winograd", suits_winograd, "fewer multiplications for a dense kernel over many channels"),
    ("fft", suits_fft, "a kernel this large costs more than the transforms that avoid it"),
    ("depthwise", suits_depthwise, "one channel to sum over leaves an elementwise sum of taps"),
    ("grouped", suits_grouped, "small groups go side by side, or in one batched product"),
    ("banded", suits_banded, "patches, thin or long on a line, which neighbouring outputs share"),
    ("gemm", suits_all, "patches times matrix suits every problem"),
)
