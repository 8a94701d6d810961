"""Where a CPU multiplies tap by tap: under wide padding, of which others multiply the zeros."""

from __future__ import annotations

import math

from ._ladder import met_share, summed_channels
from ._ladder_cpu_transforms import patch_share, suits_fft, suits_winograd, winograd_share
from ._problem import ConvProblem, Pass
from .algorithms.direct import MAX_UNROLLED_TAPS

# How many products take as long as to copy a value, as to write and add up one, and as the transforms of a
# sample and of an output in Winograd. With these the choice took 1.04 times the time of the faster in 438
# random passes of dilated and padded layers of 16 to 512 channels, never direct 1.24 times; 54 passes of
# another seed that went to direct took 0.58 of gemm's time and 0.35 of lax's (2026-11-30, AMD EPYC Zen 4,
# AVX-512). In groups 23 random passes, kernel gradients apart, took 0.74 of the time of what was chosen
# before (0.26 to 1.5; 2026-12-01, Intel Xeon, AVX-512).
DIRECT_COPIES, DIRECT_SUMS, DIRECT_TRANSFORMS = 12, 30, 20
# Outputs of all images from which a forward pass or an input gradient goes here: with fewer they took up to
# 1.4 and 2.5 times gemm's time.
DIRECT_POINTS = 100


def suits_direct(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether so few taps meet samples that copies and sums for each cost less than products with padding."""
    sized = problem.sized()
    if problem.groups > 1 and pass_ is Pass.KERNEL_GRAD:
        return False
    if not 1 < problem.taps <= MAX_UNROLLED_TAPS or sized.is_empty:
        return False
    points = sized.batch * math.prod(sized.output_size)
    if (pass_ is not Pass.KERNEL_GRAD and points < DIRECT_POINTS) or suits_fft(problem, pass_):
        return False
    cin, cout = problem.channels_per_group
    others = patch_share(problem, pass_)
    if others < 1 and pass_ is not Pass.KERNEL_GRAD:  # gemm transposes the kernel
        others *= 1 + DIRECT_COPIES / (sized.batch * math.prod(w.in_size for w in problem.windows))
    if suits_winograd(problem, pass_):
        others = winograd_share(problem) + DIRECT_TRANSFORMS / min(cin, cout)
    summed = summed_channels(problem, pass_)
    sums = DIRECT_COPIES if pass_ is Pass.KERNEL_GRAD else DIRECT_SUMS
    moved = sums / summed + DIRECT_COPIES / (cin + cout - summed)
    return met_share(problem) * (1 + moved) <= others
