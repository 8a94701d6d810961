"""Where a CPU moves blocks of samples to channels: under long strides of windows that overlap.

Of 678 passes of random layers, half of them transposed, with strides of 2 to 16, 1 to 3 axes and 1 to 256
channels, the 162 chosen for strides of 4 and more took 0.57 of the time of the choice before (0.05 to 1.5)
and 0.34 of its compile time. 96 more passes, of another seed and of up to 60 MB, took 0.62 (0.06 to 2.2, the
worst where a few channels spread over long strides; 2026-11-30, Intel Xeon, AVX-512). 186 such
passes with strides of 3 took 0.78 (0.15 to 2.3) and 0.43 of the compile time (2026-12-01).
"""

from __future__ import annotations

import math

from ._problem import ConvProblem, Pass
from .algorithms import BY_NAME

# With strides of 2, 180 random passes took 0.95 of the time (0.30 to 4.1), nine of public networks 1.0 (0.8
# to 1.1, in another run one 1.4).
STRIDE = 3
# Multiply-adds over those of the taps that there are: from 1.3 to 1.6 kernel gradients took 0.95 of the time,
# forward passes 0.98, with more 1.2.
WHOLE_BLOCKS = 1.3
# Values copied over those of patches, times the above, on a line and with more axes. At 1.57 three layers of
# 11 x 11 taps and strides of 4 took 1.0 of the time (9 passes, 0.8 to 1.3).
LINE_COPIES, COPIES = 1, 1.5
# Values of the kernel, which is brought into another order, over those of x and y: with more 0.91.
KERNEL_SHARE = 0.7
# Samples with padding, which is copied too, over those without: with 2.7 temporaries took up to 5 times the
# bytes of x, w and y.
PADDED = 1.5


def suits_space_to_depth(problem: ConvProblem, pass_: Pass) -> bool:
    """Whether x copied once, and patches of whole blocks or their products, are fewer values than patches."""
    if problem.groups > 1 or problem.in_channels == problem.out_channels == 1:
        return False
    if BY_NAME["space_to_depth"].supports(problem, pass_) is not None:
        return False
    strided = (problem if problem.is_dense else problem.input_adjoint()).sized()
    if max(strided.strides) < STRIDE or all(w.size <= w.stride for w in strided.windows):
        return False
    blocks = math.prod(-(-w.size // w.stride) for w in strided.windows)
    samples, outputs = math.prod(w.reach for w in strided.windows), math.prod(strided.output_size)
    cin, cout, depth = strided.in_channels, strided.out_channels, math.prod(strided.strides)
    copied = samples * cin + outputs * blocks * min(depth * cin, cout)
    patches = outputs * strided.taps * min(cin, cout)
    products = blocks * depth / strided.taps
    values = strided.batch * (samples * cin + outputs * cout)
    return (
        products < WHOLE_BLOCKS
        and samples < PADDED * math.prod(w.in_size for w in strided.windows)
        and copied * products < (LINE_COPIES if problem.rank == 1 else COPIES) * patches
        and strided.taps * cin * cout < KERNEL_SHARE * values
    )
