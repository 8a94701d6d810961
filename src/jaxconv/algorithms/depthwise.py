"""Depthwise: one multiply-add per tap and lane, no contraction over channels (Howard et al. 2017).

Where a group has one input or one output channel, no sum over channels is left, and the direct form is
elementwise on L = G max(C/G, O/G) lanes:

    y[n, m, l] = sum_k x[n, m s + k d - lo, l] w[k, l]                      (T2, T5)
    dw[k, l]   = sum_n sum_m x[n, m s + k d - lo, l] g[n, m, l]             (T7)

A compiler turns a sum of slices into one vectorised loop; a matrix product of width one it does not.
Padding is not multiplied in small kernels: outputs near a border meet fewer taps and are sums of their own.
Error: that of a plain sum.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._cpu_cache import first_level_times, last_level_times
from .._patches import Tap, all_taps
from .._problem import ConvProblem, Pass, accumulator
from .._window import Window
from ._blocks import (
    Blocks,
    forward_in_blocks,
    is_large,
    kernel_grad_in_blocks,
    large_blocks,
    one_block,
    padded_bytes,
)
from ._lane_plan import MAX_COLUMNS, READ_BYTES, Lanes, bytes_read, is_unrolled
from ._lane_sums import add_up, by_tap, scale
from ._lanes import image_bytes, tap_gradients
from ._outer_products import LEAST_LANES, sum_in_loop, sum_terms
from ._record import Algorithm
from ._stages import separately

# Terms of a forward pass that are written out border by border; with more, one sum reads a padded input.
MAX_BORDER_TERMS = 160
# Taps of one fused sum over a padded input, at most: 16 took up to 1.3 times as long (2026-11-26, AMD EPYC
# Zen 4). Of no more lanes than the second it takes the third: 0.28 to 1.07 of the time of ten, mostly 0.65
# (49 layers of 17 to 49 taps on one to 16 lanes). No sum border by border takes more, but of lanes too few
# for a vector: 49 and 121 taps of 128 lanes took 1.6 and 2.9 times the time of parts, 25 taps 0.9
# (2026-11-30, AMD EPYC Zen 4, AVX-512).
FUSED_TAPS, FEW_LANES, MOST_FUSED_TAPS = 10, 16, 32
# Bytes that they read of x and w for one output, for the L1 cache to hold, and the taps, at least, that are
# worth it: 0.87 of the time of ten (48 random layers of 344 to 1,024 lanes), of more lanes 1.0 to 1.2
# (2026-11-30, AMD EPYC Zen 4, AVX-512). An L1 cache of 48 KB holds half as many again: 0.85 of the time of as
# many as 24 KB hold (50 layers of as many lanes, the same day, Intel Xeon).
FUSED_BYTES, LEAST_FUSED_TAPS = 24 << 10, 3
# Bytes of a copy, at most, for which glibc, with what lies beside it, takes no fresh memory in every call: it
# does from 32 MB on.
KEPT_BYTES = 30 << 20
# Copies of g, at most, that a kernel gradient makes for the input channels of a group; more are broadcast, as
# x is for output channels: 0.55 to 0.75 of the time of copies of x, 0.8 of five or more of g, 1.1 to 1.3 of
# two to four (97 shapes, 2026-11-29, AMD EPYC Zen 4).
MAX_COPIES = 4
# Kernels with more taps loop over their rows and copy what a row reads. Compile time grows with every tap, to
# 0.4 s; 75 to 196 taps written out took 0.6 to 0.9 of the loop's time (2026-11-26, AMD EPYC Zen 4).
MAX_UNROLLED_TAPS = 200


@dataclasses.dataclass(frozen=True)
class Segment:
    """Outputs start..stop-1 of one axis, which all meet the same taps inside the input."""

    start: int
    stop: int
    taps: tuple[int, ...]


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    acc = accumulator(problem)
    x, w = spread(x.astype(acc), lanes(problem)), kernel_lanes(problem, w.astype(acc))
    if problem.out_channels == lanes(problem):
        return sum_taps(problem, (x, w))
    # XLA would make of both sums one product for each tap, from a copy of what it reads.
    return sum_lanes(separately(functools.partial(sum_taps, problem), (x, w)), problem.out_channels)


def sum_taps(problem: ConvProblem, operands: tuple[Array, Array]) -> Array:
    """y `[N, *M, L]` of each lane, from x `[N, *S, L]` and w `[*K, L]`."""
    x, w = operands
    segments = [border_segments(window) for window in problem.windows]
    terms = math.prod(sum(len(s.taps) for s in axis) for axis in segments)
    few = problem.taps <= MOST_FUSED_TAPS or x.shape[-1] < LEAST_LANES
    if few and terms <= MAX_BORDER_TERMS:
        return sum_by_borders(problem, segments, x, w)
    return sum_padded(problem, x, w)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    acc = accumulator(problem)
    cin, cout = problem.channels_per_group
    x, g = x.astype(acc), g.astype(acc)
    shapes: Lanes = (problem.groups, cin), (problem.groups, cout)
    if cout == 1 and cin <= MAX_COPIES:
        g, shapes = spread(g, problem.in_channels), ((problem.in_channels,),) * 2

    def step(part: ConvProblem, x: Array, g: Array) -> Array:
        dw = tap_gradients(part.windows, shapes, x, g, is_unrolled(part.windows))
        dw = dw.reshape(*problem.kernel_size, problem.groups, cin, cout)
        return jnp.moveaxis(dw, -2, -3).reshape(problem.kernel_shape)

    return kernel_grad_in_blocks(problem, gradient_blocks(problem, image_bytes(x, g)), x, g, step)


def gradient_blocks(problem: ConvProblem, each_bytes: Sequence[int]) -> Blocks:
    """Rows of one image where rows of taps read more of it than caches hold, or one block of all.

    They took 0.52 of the time (63 layers of more than 16 MB, 0.2 to 2.6, most of it with strides on three
    axes; 2026-11-30, AMD EPYC Zen 4, AVX-512). Wider images go by columns already.
    """
    by_columns = problem.rank == 1 or problem.output_size[-1] > MAX_COLUMNS
    if by_columns or not is_large(problem) or bytes_read(problem.windows, each_bytes) <= READ_BYTES:
        return one_block(problem, padded=False)
    return large_blocks(problem)


def lanes(problem: ConvProblem) -> int:
    return problem.groups * max(problem.channels_per_group)


def spread(x: Array, size: int) -> Array:
    """Each channel as often as its group has lanes."""
    return x if x.shape[-1] == size else jnp.repeat(x, size // x.shape[-1], axis=-1)


def sum_lanes(y: Array, channels: int) -> Array:
    """The adjoint of `spread`: lanes of one output channel added up."""
    if y.shape[-1] == channels:
        return y
    return jnp.sum(y.reshape(*y.shape[:-1], channels, -1), axis=-1, dtype=y.dtype)


def kernel_lanes(problem: ConvProblem, w: Array) -> Array:
    """`[*K, C/G, O]` with C/G or O/G 1 as `[*K, L]`."""
    cin, cout = problem.channels_per_group
    w = w.reshape(*problem.kernel_size, cin, problem.groups, cout)
    return jnp.moveaxis(w, -3, -2).reshape(*problem.kernel_size, -1)


def border_segments(window: Window) -> list[Segment]:
    """The outputs of a dense window split where the set of taps that fall on the input changes."""
    lo, d, s, n = window.lo, window.dilation, window.stride, window.in_size
    cuts = {0, window.out_size}
    for k in range(window.size):
        enters, leaves = -(-(lo - k * d) // s), -(-(n + lo - k * d) // s)
        cuts |= {min(max(cut, 0), window.out_size) for cut in (enters, leaves)}
    ordered = sorted(cuts)
    return [
        Segment(a, b, tuple(k for k in range(window.size) if 0 <= a * s + k * d - lo < n))
        for a, b in zip(ordered, ordered[1:], strict=False)
    ]


def sum_by_borders(problem: ConvProblem, axes: Sequence[Sequence[Segment]], x: Array, w: Array) -> Array:
    """y `[N, *M, L]` from the unpadded x, put together from one fused sum per combination of segments."""
    lanes_of = by_tap(w, problem.rank)

    def output(chosen: tuple[Segment, ...]) -> Array:
        axis = len(chosen)
        if axis < problem.rank:
            parts = [output((*chosen, segment)) for segment in axes[axis]]
            return parts[0] if len(parts) == 1 else lax.concatenate(parts, axis + 1)
        return segment_sum(problem, chosen, x, lanes_of)

    return output(())


def segment_sum(problem: ConvProblem, segments: Sequence[Segment], x: Array, w: Mapping[Tap, Array]) -> Array:
    sizes = [s.stop - s.start for s in segments]

    def term(tap: Tap) -> Array:
        axes = list(zip(segments, problem.windows, tap, strict=True))
        starts = [s.start * v.stride + k * v.dilation - v.lo for s, v, k in axes]
        stops = [a + (n - 1) * v.stride + 1 for a, n, v in zip(starts, sizes, problem.windows, strict=True)]
        x_tap = lax.slice(x, [0, *starts, 0], [x.shape[0], *stops, x.shape[-1]], [1, *problem.strides, 1])
        return scale(x_tap, w[tap])

    positions = all_taps([len(s.taps) for s in segments])
    taps = [tuple(s.taps[i] for s, i in zip(segments, index, strict=True)) for index in positions]
    if not taps:
        return jnp.zeros((x.shape[0], *sizes, x.shape[-1]), x.dtype)
    return add_up(map(term, taps))


def sum_padded(problem: ConvProblem, x: Array, w: Array) -> Array:
    """y `[N, *M, L]` from a padded x, a few taps at a time, each lane a group of its own."""
    size = x.shape[-1]
    problem = dataclasses.replace(
        problem, in_channels=size, out_channels=size, groups=size, y_dtype=x.dtype.name
    )
    fused = fused_taps(size, x.dtype.itemsize)
    w = jnp.expand_dims(w, -2)
    add_taps = sum_terms if problem.taps <= MAX_UNROLLED_TAPS else sum_in_loop

    def step(part: ConvProblem, x: Array) -> Array:
        return add_taps(part, x, w, fused)

    several = problem.taps > fused and is_beyond_caches(problem)
    blocks = large_blocks(problem) if several else one_block(problem)
    return forward_in_blocks(problem, blocks, x, step)


def is_beyond_caches(problem: ConvProblem) -> bool:
    """Whether several sums over x and y wait for memory, or a padded copy of x is fresh memory in every call.

    Beside a last-level cache of 480 MB whole sums took 0.69 of the time of blocks (32 random layers of 17 to
    57 MB, 0.49 to 1.74), with strides of two 0.89 (27), where the copy is fresh 1.4 to 2.0 (2026-11-30, Intel
    Xeon).
    """
    is_fresh = padded_bytes(problem, accumulator(problem).itemsize) > KEPT_BYTES
    return is_large(problem, last_level_times()) or (is_large(problem) and is_fresh)


def fused_taps(size: int, itemsize: int) -> int:
    """Taps of one fused sum of so many lanes over a padded input."""
    if size <= FEW_LANES:
        return MOST_FUSED_TAPS
    held = int(FUSED_BYTES * first_level_times() / (2 * size * itemsize))
    is_held = jax.default_backend() == "cpu" and held >= LEAST_FUSED_TAPS
    return min(held, FUSED_TAPS) if is_held else FUSED_TAPS


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Groups with one input or one output channel."""
    del pass_
    if problem.rank == 0:
        return "depthwise needs a spatial axis, got none"
    if min(problem.channels_per_group) > 1:
        cin, cout = problem.channels_per_group
        return f"depthwise needs one input or one output channel in a group, got {cin} and {cout}"
    return None


ALGORITHM = Algorithm("depthwise", supports, forward, kernel_grad)
