"""The choice on a GPU: XLA's, which is cuDNN's, but for what cuDNN, or what XLA asks of it, is slow at.

    depthwise   integers in groups of one channel, which cuDNN does not convolve; one channel in each group on
                one or three axes, and gradients of large kernels: cuDNN's own kernels are for small images
    grouped     groups of a few channels; gradients of dilated kernels in groups; integers in groups
    direct      gradients of dilated kernels, one channel in each group: one fused reduction a tap
    gemm        one channel on either side; gradients of dilated kernels; integers
    xla         everything else

XLA slides the cotangent over the input to get a dilated kernel's gradient, with the dilation as the stride,
and cuDNN sees an ordinary convolution whose kernel is as large as the output: 15 ms where 0.05 do (jax issue
26266). With one channel it pads, copies or picks a slow kernel: 41 ms where 0.05 do (jax issues
31662 and 23783).

Figures are of an NVIDIA H100, jaxlib 0.11.2, 2026-11-25 (`experiments/speed/results/gpu`). The constants
below come from a race of the candidates there, each in a loop inside one program.
"""

from __future__ import annotations

from ._ladder import Ladder, suits_all
from ._problem import ConvProblem, Pass

# Channels of a group, at most, for sums over groups side by side to beat cuDNN: measured at 4 alone.
GROUP_CHANNELS = 4
# Taps of a depthwise image kernel up to which cuDNN's gradient is ahead: 9 are, 49 are not.
DEPTHWISE_TAPS = 25


def is_depthwise(problem: ConvProblem) -> bool:
    return problem.groups > 1 and min(problem.channels_per_group) == 1


def is_exact(problem: ConvProblem) -> bool:
    """Whether the operands are integers."""
    return "int" in problem.x_dtype or "int" in problem.w_dtype


def slides_with_gaps(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether XLA takes a kernel gradient for an ordinary convolution with a huge kernel."""
    return pass_ is Pass.KERNEL_GRAD and max(problem.kernel_dilation, default=1) > 1


def suits_direct(problem: ConvProblem, pass_: Pass) -> bool:
    return is_depthwise(problem) and slides_with_gaps(problem, pass_)


def suits_depthwise(problem: ConvProblem, pass_: Pass) -> bool:
    if not is_depthwise(problem):
        return False
    if is_exact(problem):
        return True
    if pass_ is Pass.KERNEL_GRAD:
        return problem.rank == 2 and problem.taps > DEPTHWISE_TAPS
    return problem.rank != 2


def suits_grouped(problem: ConvProblem, pass_: Pass) -> bool:
    if problem.groups == 1 or is_depthwise(problem):
        return False
    narrow = max(problem.channels_per_group) <= GROUP_CHANNELS
    return narrow or slides_with_gaps(problem, pass_) or is_exact(problem)


def suits_gemm(problem: ConvProblem, pass_: Pass) -> bool:
    thin = problem.taps > 1 and min(problem.in_channels, problem.out_channels) == 1
    return problem.groups == 1 and (thin or slides_with_gaps(problem, pass_) or is_exact(problem))


LADDER: Ladder = (
    (
        "direct",
        suits_direct,
        "the gradient of a dilated kernel with no channels to sum over: a sum for each tap",
    ),
    ("depthwise", suits_depthwise, "one channel to sum over leaves an elementwise sum of taps"),
    ("grouped", suits_grouped, "groups go side by side, or in one batched product"),
    ("gemm", suits_gemm, "patches times matrix, where cuDNN would get a convolution that it is slow at"),
    ("xla", suits_all, "cuDNN's own convolutions, as XLA calls them"),
)
