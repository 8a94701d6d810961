"""Where a CPU transforms: Winograd and FFT, which buy multiplications with additions.

Constants without a date are of the day and machine that `_ladder_cpu.py` names.
"""

from __future__ import annotations

import math

from ._cpu_cache import has_large_cache
from ._problem import ConvProblem, Pass
from .algorithms import BY_NAME
from .algorithms._products import takes_output
from .algorithms._winograd_plan import count_products, is_in_pieces, kernel_rereads, phase_taps
from .algorithms.fft import count_values, spectrum_products

# Winograd's products over the direct ones, at most, where the transform of the kernel, which the tiles of the
# batch share, counts as the products of so many tiles. With more, patches times matrix took 0.86 of the time
# and 0.4 of the compile time; strides of two make 25 products of 36, which is no faster (310 passes,
# 2026-11-27, AMD EPYC Zen 3). What 30 tiles let in and 48 did not took 0.81 of gemm's time (66 passes), what
# 18 would let in 1.06, what not even these 1.33 (54 passes, 2026-11-29, AMD EPYC Zen 4, AVX-512).
# The third for an axis of more taps than the last, cut into five pieces or more, each with its transform:
# from 48 to 75 kernel gradients of 9 to 31 taps took 1.3 times gemm's time, the other passes 0.93 (27 passes
# of lines, the same day); from 30 to 75 all three of up to 16 taps took 0.81 (36 passes, 2026-11-30).
WINOGRAD_PRODUCTS, WINOGRAD_KERNEL_TILES, WINOGRAD_LONG_TILES = 0.7, 30, 75
WINOGRAD_LONG_TAPS = 16
# The same with a stride, whose phases each transform their part of the kernel, and more taps in a phase: 9 to
# 15 an axis took 1.2 times gemm's time from 30 to 60, and 0.87 beyond (53 and 74 passes, 2026-11-30).
WINOGRAD_STRIDED_TILES, WINOGRAD_STRIDED_TAPS = 60, 4
# Channels on both sides times the share of products saved, at least, for the transforms to pay. From 10 to 12
# Winograd took 1.04 of gemm's time (40 passes; 2.7 times its compile time in 24), from 12 to 14 0.86 (44
# more, 2026-11-28, AMD EPYC Zen 4, AVX-512). Groups count as dense problems: 0.66 of the time of a batched
# product (63 passes, 2026-11-27, AMD EPYC Zen 3). The second where all taps lie on one axis that is not the
# last: patches are copies of whole rows there, and gemm took 0.84 of Winograd's time below it, 1.19 of it
# above (63 passes, 2026-11-28, AMD EPYC Zen 4). The third where an axis has so many taps that they are
# transformed in pieces (2026-11-26).
WINOGRAD_SAVINGS, WINOGRAD_ROWS_SAVINGS, WINOGRAD_PIECES_SAVINGS = 12, 100, 16
# In a kernel gradient of fewer channels in y than twice x's: at 12, 3 x 3 taps and 16 channels, Winograd took
# 1.16 times gemm's time (seven layers, 2026-11-29, AMD EPYC Zen 4).
WINOGRAD_GRADIENT_SAVINGS = 13
# The same of one group without strides where a large cache holds larger blocks of patches, and where all taps
# lie on the last axis: with less gemm took 0.85 and 0.78 of Winograd's time, with more 1.18 and 1.05 (205 and
# 281 passes of random layers; 2026-12-01, Intel Xeon, AVX-512).
WINOGRAD_LARGE_CACHE_SAVINGS, WINOGRAD_LARGE_CACHE_LINE_SAVINGS = 20, 60
# Of a strided layer, but for its input gradient, whose patches other algorithms scatter: with less gemm took
# 0.84 of Winograd's time (36 passes). Output channels over input channels from which no pass of it suits:
# gemm took 0.76 (26 passes of random layers of 5 x 5 to 11 x 11 taps, 2026-11-29, AMD EPYC Zen 4).
WINOGRAD_STRIDED_SAVINGS, WINOGRAD_STRIDED_RATIO = 17, 4
# Multiply-adds saved, at least, where all taps lie on one axis and tiles save no more than half of them: with
# fewer the other choice took 0.81 of the time on lines (45 passes, 2026-11-28, AMD EPYC Zen 4), 0.77 on
# images (11 passes, a day later). In pieces of 6 to 16 taps Winograd took 0.78 (51 passes, 2026-11-30).
WINOGRAD_LINE_PRODUCTS = 40_000_000
# Where blocks read the kernel's planes over and over: from 7 to 13 Winograd took 2 to 4 times gemm's time, up
# to 4 0.6 to 1.2 times, 1.8 in one (17 passes of 7 x 7 to 13 x 13 taps, the same day).
WINOGRAD_REREADS = 5

# Multiply-adds saved for each value that FFT would transform, at least, for the transforms to pay: of
# Winograd's where it suits (0.18 to 0.75 of its time in 24 passes above this, 0.24 to 1.9 in 129 from 40 to
# it), else of the direct ones: where every group has one channel on both sides, with fewer channels than the
# last (0.42 to 1.05 of the next best's time in 16 passes of 4 to 16 channels, 0.86 to 2.0 in 12 from 90 to
# it), and with more on either (2026-11-29, AMD EPYC Zen 4). The second and the fourth are from 292 passes of
# 5 to 31 taps an axis, or 31 to 501 on one, the day before.
FFT_WINOGRAD_PRODUCTS = 110
FFT_SINGLE_PRODUCTS = 100
FFT_THIN_PRODUCTS = 180
FFT_PRODUCTS = 350
FFT_THIN_CHANNELS = 24

# The most values of a kernel's spectrum, which stays whole in memory.
FFT_KERNEL_VALUES = 2**25


def suits_winograd(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether the transforms, which cost C + O an output, save more multiplications than that."""
    if BY_NAME["winograd"].supports(problem, Pass.FORWARD) is not None:
        return False
    cin, cout = problem.channels_per_group
    if is_strided(problem) and cout >= WINOGRAD_STRIDED_RATIO * cin:
        return False
    _, share = count_products(problem)
    is_long = max(map(phase_taps, problem.windows)) > WINOGRAD_LONG_TAPS
    in_few_pieces = is_in_pieces(problem) and not is_long
    on_one_axis = problem.taps == max(problem.kernel_size) and not in_few_pieces
    if on_one_axis and (1 - share) * problem.flops(Pass.FORWARD) / 2 < WINOGRAD_LINE_PRODUCTS:
        return False
    saved = (1 - share) * min(cin, cout)
    return (
        saved >= least_savings(problem, pass_)
        and 0 < winograd_share(problem) <= WINOGRAD_PRODUCTS * patch_share(problem, pass_)
        and kernel_rereads(problem, pass_) <= WINOGRAD_REREADS
    )


def winograd_share(problem: ConvProblem) -> float:
    """Winograd's products over the direct ones, the transform of the kernel included."""
    tiles, share = count_products(problem)
    return share * (1 + kernel_tiles(problem) / max(1, tiles))


def kernel_tiles(problem: ConvProblem) -> int:
    """The tiles whose products take as long as the transform of the kernel."""
    taps = max(map(phase_taps, problem.windows))
    if taps > WINOGRAD_LONG_TAPS:
        return WINOGRAD_LONG_TILES
    many = is_strided(problem) and taps > WINOGRAD_STRIDED_TAPS
    return WINOGRAD_STRIDED_TILES if many else WINOGRAD_KERNEL_TILES


def patch_share(problem: ConvProblem, pass_: Pass) -> float:
    """The products of patches over the direct ones: fewer where patches of y, the smaller, take x's place.

    Winograd took 2.6 times gemm's time (0.7 to 9.6) in the 23 passes under FULL padding, of random dilated
    layers, that this leaves to gemm, and FFT 25 times in one that makes 7 x 7 outputs of single pixels
    (2026-11-30, AMD EPYC Zen 4, AVX-512).
    """
    if not takes_output(problem, pass_) or not all(w.is_unit for w in problem.windows):
        return 1
    return min(1, math.prod(w.in_size / max(1, w.out_size) for w in problem.windows))


def least_savings(problem: ConvProblem, pass_: Pass) -> int:
    """The channels whose products Winograd has to save."""
    if problem.taps in problem.kernel_size[:-1]:
        return WINOGRAD_ROWS_SAVINGS
    if is_in_pieces(problem):
        return WINOGRAD_PIECES_SAVINGS
    cin, cout = problem.channels_per_group
    if is_strided(problem) and pass_ is not Pass.INPUT_GRAD:
        return WINOGRAD_STRIDED_SAVINGS
    if has_large_cache() and problem.groups == 1 and not is_strided(problem):
        on_line = problem.taps == problem.kernel_size[-1]
        return WINOGRAD_LARGE_CACHE_LINE_SAVINGS if on_line else WINOGRAD_LARGE_CACHE_SAVINGS
    thin = pass_ is Pass.KERNEL_GRAD and cout < 2 * cin
    return WINOGRAD_GRADIENT_SAVINGS if thin else WINOGRAD_SAVINGS


def is_strided(problem: ConvProblem) -> bool:
    return max(problem.strides) > 1


def suits_fft(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether the products saved outnumber the values to transform, and the kernel's spectrum fits."""
    if BY_NAME["fft"].supports(problem, Pass.FORWARD) is not None:
        return False
    problem = problem.sized()
    signals, kernel = count_values(problem)
    products = problem.flops(Pass.FORWARD) / 2
    if suits_winograd(problem, pass_):
        _, share = count_products(problem)
        products, least = share * products, FFT_WINOGRAD_PRODUCTS
    else:
        products *= patch_share(problem, pass_)
        least = least_direct_products(max(problem.channels_per_group))
    saved = products - spectrum_products(problem)
    return kernel <= FFT_KERNEL_VALUES and saved >= least * (signals + kernel)


def least_direct_products(channels: int) -> int:
    """What FFT has to save of direct products, by the channels of a group on the side that has more."""
    if channels == 1:
        return FFT_SINGLE_PRODUCTS
    return FFT_THIN_PRODUCTS if channels < FFT_THIN_CHANNELS else FFT_PRODUCTS
