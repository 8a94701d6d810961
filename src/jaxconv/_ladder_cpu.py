"""The choice on a CPU: the first that suits and supports the problem, never XLA's convolution.

    direct      padding so wide that most taps fall on it, in groups but for kernel gradients
    space_to_depth  long strides of windows that overlap: no patches, blocks of samples as channels
    outer       few taps and channels to sum over, for outputs enough: no patches, a sum of outer products
    fft         kernels so large that transforms of the maps cost less than the products
    winograd    2 to 32 taps in a phase, where the multiplications saved outweigh the transforms
    depthwise   one channel on a side of each group: nothing to contract, a sum of taps
    grouped     other groups too small for a turn each, of outputs enough, but for one tap and input gradients
    banded      patches, thin or long on a line, that neighbouring outputs share along the last axis
    gemm        everything else

The conditions of the first five are in `_ladder_cpu_direct.py`, `_ladder_cpu_strides.py`,
`_ladder_cpu_outer.py` and `_ladder_cpu_transforms.py`.

Constants are from `python experiments/speed/run.py` on 2 cores of an AMD EPYC (Zen 5, AVX-512), jaxlib
0.10.2, 2026-11-22, where no other date stands; the runs are in `experiments/speed/results`.
"""

from __future__ import annotations

import math

from ._ladder import Ladder, suits_all, summed_channels
from ._ladder_cpu_direct import suits_direct
from ._ladder_cpu_outer import (
    OUTER_MANY_GROUPS,
    OUTER_SUM_PER_LANE,
    has_few_outputs,
    loops_start_late,
    suits_outer,
)
from ._ladder_cpu_strides import suits_space_to_depth
from ._ladder_cpu_transforms import suits_fft, suits_winograd
from ._problem import ConvProblem, Pass
from .algorithms._outer_products import count_terms
from .algorithms.gemm import is_view
from .algorithms.grouped import MAX_LANE_TERMS, is_on_lanes
from .algorithms.outer import cross_vectors

# Multiply-adds of a group, and values of a patch on the side that has fewer, from which groups are worth a
# turn each, by gemm or banded, instead of a share of one batched product; an input gradient's always are.
# 0.87 of the time and 0.61 of the compile time in 252 passes of random shapes (2026-11-27, AMD EPYC Zen 3).
GROUP_PRODUCTS, GROUP_PATCH = 4_200_000, 150
# Outputs of all images from which groups are a batched product. With fewer a turn each took 0.78 of the time
# in forward passes (54 random ones, 0.29 to 2.0; 2026-12-01, Intel Xeon, AVX-512), and in kernel gradients
# 0.56 (11 random groups that outer products leave, 2026-11-29, AMD EPYC Zen 4), but of fewer products of
# channels in a group than the second 1.4 times the time (80 random passes, 0.2 to 14, 2026-11-30).
GROUP_POINTS, GROUP_FEW_PRODUCTS = 200, 64

# The next from jaxconv.tune's races over 60 shapes of 1 to 64 channels, 2026-11-24, AMD EPYC (Zen 4).

# A dense pass without channels to sum over is a sum of taps, if these are few for its lanes: taps at most, or
# taps times lanes.
LANE_TAPS = 16
LANE_TERMS = 512
# Taps, at most, where a strided layer has one output: 0.49 of gemm's time (31 random layers of 4 to 25 taps,
# 0.13 to 1.17), with 49 1.8 times it (6, 2026-11-29, AMD EPYC Zen 4).
LANE_OUTPUT_TAPS = 25

# Channels on either side below which patches of one output are too thin for a product; channels to sum over
# from which they no longer are; strides in a window from which neighbours share enough of theirs.
BANDED_CHANNELS = 12
# More channels without strides, where the last axis has so many taps: in input gradients (18 shapes,
# 2026-11-27) and in forward passes of images, which took 0.68 of the time (81 random layers of 20 to 64
# channels and 1 to 11 outputs, 0.28 to 1.6); with more channels and on lines 0.98 (49; 2026-12-01, Intel
# Xeon, AVX-512).
BANDED_SUM = 20
BANDED_WIDE_SUM = {Pass.FORWARD: 96, Pass.INPUT_GRAD: 128}
BANDED_WIDE_TAPS = {Pass.FORWARD: 7, Pass.INPUT_GRAD: 5}
BANDED_OVERLAP = 3
# In a kernel gradient from so many strides, or from so many taps on (the 852 shapes).
BANDED_KERNEL_GRAD_OVERLAP, BANDED_MANY_TAPS = 7, 64
# Taps of a line, at least, and its channels, at most, from which wider patches are banded too (2026-11-26).
BANDED_LINE_TAPS, BANDED_LINE_CHANNELS = 16, 128


def suits_depthwise(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether there is nothing to contract: one channel in each group, or in a dense pass with few taps.

    A dense kernel gradient would copy x for each lane. One output of a strided layer is a sum of taps too:
    a matrix of one column would read copies of x, but for tiles of the last axis. The input gradient of tiles
    is one product.
    """
    if problem.groups > 1 or problem.in_channels == problem.out_channels == 1:
        return True
    terms = problem.taps * max(problem.in_channels, problem.out_channels)
    if pass_ is Pass.KERNEL_GRAD or (pass_ is Pass.INPUT_GRAD and is_view(problem.windows)):
        return False
    if pass_ is Pass.FORWARD and problem.out_channels == 1 and max(problem.strides, default=1) > 1:
        in_place = is_view(problem.windows) and problem.taps == problem.kernel_size[-1]
        return problem.taps <= LANE_OUTPUT_TAPS and not in_place
    if loops_start_late(problem):
        return False
    return summed_channels(problem, pass_) == 1 and (problem.taps <= LANE_TAPS or terms <= LANE_TERMS)


def suits_grouped(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether groups are too small for a turn each, with lanes or outputs enough for what they sum over.

    Where lanes share vectors a forward pass by turns took 0.33 of the time of lanes side by side (93 random
    layers of 2 to 8 groups, 0.11 to 1.5; of 2 groups 0.22; 2026-12-01, Intel Xeon, AVX-512).
    """
    if problem.groups == 1 or problem.taps == 1 or pass_ is Pass.INPUT_GRAD:
        return False
    cin, cout = problem.channels_per_group
    sized = problem.sized()
    is_large = sized.flops(pass_) / 2 / problem.groups >= GROUP_PRODUCTS
    if is_large and problem.taps * min(cin, cout) >= GROUP_PATCH:
        return False
    many = sized.batch * math.prod(sized.output_size) >= GROUP_POINTS
    if pass_ is Pass.FORWARD:
        if count_terms(problem, pass_) <= MAX_LANE_TERMS and cross_vectors(problem):
            return False
        return many and cin <= OUTER_SUM_PER_LANE * cout
    if problem.groups >= OUTER_MANY_GROUPS and is_on_lanes(problem):
        return False  # outer products, which `suits_outer` has refused
    return many or cin * cout < GROUP_FEW_PRODUCTS


def is_thin(problem: ConvProblem) -> bool:
    return min(problem.channels_per_group) < BANDED_CHANNELS


def neighbours_share(problem: ConvProblem, overlap: int = BANDED_OVERLAP) -> bool:
    """Whether windows along the last axis are at least `overlap` strides long."""
    return problem.rank > 0 and problem.windows[-1].size >= overlap * problem.windows[-1].stride


def suits_banded(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether patches are thin and overlap along the last axis, or long on a line.

    Forward passes and input gradients of few outputs are left to gemm: 0.87 of the time (282 passes, 0.39 to
    1.5, 2026-11-30, AMD EPYC Zen 4).
    """
    if problem.rank == 1 and problem.taps >= BANDED_LINE_TAPS and neighbours_share(problem):
        return max(problem.channels_per_group) <= BANDED_LINE_CHANNELS
    if not (is_thin(problem) and neighbours_share(problem)):
        return False
    if pass_ is Pass.KERNEL_GRAD:
        return problem.taps >= BANDED_MANY_TAPS or neighbours_share(problem, BANDED_KERNEL_GRAD_OVERLAP)
    if problem.groups == 1 and has_few_outputs(problem):
        return False
    return summed_channels(problem, pass_) < most_summed(problem, pass_)


def most_summed(problem: ConvProblem, pass_: Pass) -> int:
    """Channels to sum over from which thin patches, but in kernel gradients, are no longer banded."""
    if max(problem.strides) > 1 or problem.kernel_size[-1] < BANDED_WIDE_TAPS[pass_]:
        return BANDED_SUM
    on_line = pass_ is Pass.FORWARD and problem.rank == 1
    return BANDED_SUM if on_line else BANDED_WIDE_SUM[pass_]


LADDER: Ladder = (
    ("direct", suits_direct, "padding this wide is left out tap by tap"),
    ("space_to_depth", suits_space_to_depth, "long strides: blocks of samples as channels, not patches"),
    ("outer", suits_outer, "few taps and channels to sum over: a sum of outer products, without patches"),
    ("fft", suits_fft, "a kernel this large costs more than the transforms that avoid it"),
    ("winograd", suits_winograd, "fewer multiplications for a dense kernel over many channels"),
    ("depthwise", suits_depthwise, "one channel to sum over leaves an elementwise sum of taps"),
    ("grouped", suits_grouped, "small groups go side by side, or in one batched product"),
    ("banded", suits_banded, "patches, thin or long on a line, which neighbouring outputs share"),
    ("gemm", suits_all, "patches times matrix suits every problem"),
)
