"""The choice on a GPU: XLA's, which is cuDNN's, but for what cuDNN, or what XLA asks of it, is slow at.

    direct      gradients of dilated kernels, one channel in each group: one fused reduction a tap
    depthwise   groups of one channel with few taps, and images of one channel where windows slide by one: one
                fused sum; gradients of many taps, or of three axes; integers in groups of one channel, which
                cuDNN does not convolve
    grouped     forward passes and kernel gradients in groups of a few channels; pointwise groups; gradients
                of dilated kernels in groups; integers in groups
    gemm        one channel on either side; gradients of dilated kernels; integers
    xla         everything else

XLA slides the cotangent over the input to get a dilated kernel's gradient, with the dilation as the stride,
and cuDNN sees an ordinary convolution whose kernel is as large as the output: 15 ms where 0.05 do (jax issue
26266). With one channel it pads, copies or picks a slow kernel: 41 ms where 0.05 do (jax issues
31662 and 23783). With many groups channels-last operands are copied, or meet a slow kernel: 0.20 ms where
0.07 do (mobilenetv2_dw_s2 input_grad).

Figures are of an NVIDIA H100 and an H200, jaxlib 0.11.2, 2026-11-25 and 26 (`experiments/speed/results/gpu`):
the constants and conditions below come from `race.json` there, and the other files are what they gave. Sums
over 64 channels are the widest that were raced where the other side has one.
"""

from __future__ import annotations

from ._ladder import Ladder, suits_all
from ._problem import ConvProblem, Pass

# Channels of a group, at most, for sums over groups side by side to beat cuDNN: 4 do but for the input
# gradient, 16 do not.
GROUP_CHANNELS = 4
# Taps of an image kernel up to which one fused sum beats cuDNN, and cuDNN's gradient ours: 9 and 25, not 49.
FUSED_TAPS = 25
# Taps up to which it does on one or three axes: 31 do; kernels that need more than one sum were not measured.
FUSED_TAPS_ELSEWHERE = 64


def is_depthwise(problem: ConvProblem) -> bool:
    return problem.groups > 1 and min(problem.channels_per_group) == 1


def is_thin(problem: ConvProblem) -> bool:
    """Whether a window, not a matrix, meets one channel on a side."""
    return problem.groups == 1 and problem.taps > 1 and min(problem.in_channels, problem.out_channels) == 1


def is_exact(problem: ConvProblem) -> bool:
    """Whether the operands are integers."""
    return "int" in problem.x_dtype or "int" in problem.w_dtype


def slides_with_gaps(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether XLA takes a kernel gradient for an ordinary convolution with a huge kernel."""
    return pass_ is Pass.KERNEL_GRAD and max(problem.kernel_dilation, default=1) > 1


def suits_direct(problem: ConvProblem, pass_: Pass) -> bool:
    return is_depthwise(problem) and slides_with_gaps(problem, pass_)


def suits_depthwise(problem: ConvProblem, pass_: Pass) -> bool:
    images = problem.rank == 2
    few_taps = problem.taps <= (FUSED_TAPS if images else FUSED_TAPS_ELSEWHERE)
    if is_thin(problem):
        dense = max((*problem.strides, *problem.input_dilation), default=1) == 1
        return images and few_taps and dense and pass_ is not Pass.KERNEL_GRAD
    if not is_depthwise(problem):
        return False
    if is_exact(problem):
        return True
    if pass_ is Pass.KERNEL_GRAD:
        return not few_taps if images else few_taps and problem.rank == 3
    return few_taps


def suits_grouped(problem: ConvProblem, pass_: Pass) -> bool:
    if problem.groups == 1 or is_depthwise(problem):
        return False
    narrow = max(problem.channels_per_group) <= GROUP_CHANNELS and pass_ is not Pass.INPUT_GRAD
    return narrow or problem.taps == 1 or slides_with_gaps(problem, pass_) or is_exact(problem)


def suits_gemm(problem: ConvProblem, pass_: Pass) -> bool:
    return problem.groups == 1 and (is_thin(problem) or slides_with_gaps(problem, pass_) or is_exact(problem))


LADDER: Ladder = (
    (
        "direct",
        suits_direct,
        "the gradient of a dilated kernel with no channels to sum over: a sum for each tap",
    ),
    ("depthwise", suits_depthwise, "no channels to sum over leave an elementwise sum of taps"),
    ("grouped", suits_grouped, "groups go side by side, or in one batched product"),
    ("gemm", suits_gemm, "patches times matrix, where cuDNN would get a convolution that it is slow at"),
    ("xla", suits_all, "cuDNN's own convolutions, as XLA calls them"),
)
