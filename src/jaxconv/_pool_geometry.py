"""Pooling geometry on static integers: which samples a tap reads, which taps a sample meets, what is counted.

With stride s, tap distance d and padding lo, tap k of output m reads sample i = m s + k d - lo on each axis
(equation (*) of `_window`). Everything here follows from it; no arrays, no jax.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ._window import Window, dilated

Shape: TypeAlias = tuple[int, ...]
Stage: TypeAlias = tuple[Window, ...]

# Taps that one pass may hold, because the compiler's time grows with them: beyond it the axes are pooled one
# after another, and a long axis in steps.
MOST_TAPS = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """Where one tap meets real samples on one axis: outputs [first, last) read `start :: stride`."""

    first: int
    last: int
    start: int


@dataclasses.dataclass(frozen=True, slots=True)
class Diagonal:
    """One diagonal of the adjoint on one axis: sample q s + r meets output q - `offset` through `taps[r]`.

    Samples split into blocks of s = len(taps); a tap of -1 says that residue r meets nothing here.
    """

    offset: int
    taps: tuple[int, ...]


def reach(window: Window, tap: int) -> Reach:
    """The outputs whose tap `tap` lies on a sample and not on padding."""
    position = tap * window.dilation - window.lo
    first = min(max(0, -(position // window.stride)), window.out_size)
    last = min((window.in_size - 1 - position) // window.stride + 1, window.out_size)
    return Reach(first, max(first, last), position + first * window.stride)


def live_taps(stage: Stage) -> Iterator[tuple[int, Shape]]:
    """(flat index, index) of the taps that meet some sample, in row-major order."""
    for flat, tap in enumerate(itertools.product(*(range(w.size) for w in stage))):
        reaches = (reach(w, k) for w, k in zip(stage, tap, strict=True))
        if all(r.first < r.last for r in reaches):
            yield flat, tap


def diagonals(window: Window) -> tuple[Diagonal, ...]:
    """The diagonals that together make the adjoint of one axis."""
    table: dict[int, list[int]] = {}
    for tap in range(window.size):
        offset, residue = divmod(tap * window.dilation - window.lo, window.stride)
        table.setdefault(offset, [-1] * window.stride)[residue] = tap
    return tuple(Diagonal(offset, tuple(taps)) for offset, taps in sorted(table.items()))


def first_real_taps(window: Window) -> Shape:
    """For each output the first tap that lies on a sample."""
    firsts = (-((m * window.stride - window.lo) // window.dilation) for m in range(window.out_size))
    return tuple(min(max(0, k), window.size - 1) for k in firsts)


def ceil_hi(window: Window) -> int:
    """The padding after the input with which the output size is PyTorch's and ONNX's for ceil_mode.

    The size is rounded up, and a last window that would start in the padding after the input is dropped.
    """
    span = window.in_size + window.lo + window.hi - window.extent
    outputs = -(-span // window.stride) + 1
    if (outputs - 1) * window.stride >= window.in_size + window.lo:
        outputs -= 1
    return (max(0, outputs) - 1) * window.stride + window.extent - window.in_size - window.lo


def counts(window: Window, hi: int, include_pad: bool) -> Shape:
    """For each output how many of its taps an average counts.

    `hi` is the padding after the input without what ceil_mode adds to it, which never counts.
    """
    begin, end = (-window.lo, window.in_size + hi) if include_pad else (0, window.in_size)
    begin, end = max(begin, -window.lo), min(end, window.in_size + hi)
    positions = (
        range(start, start + window.extent, window.dilation)
        for start in (m * window.stride - window.lo for m in range(window.out_size))
    )
    return tuple(sum(begin <= i < end for i in taps) for taps in positions)


def identity_window(size: int) -> Window:
    """The window that pools nothing on an axis of this size."""
    return Window(size, 1)


def stages(windows: Sequence[Window], overlapping: bool) -> tuple[tuple[tuple[Stage, ...], ...], ...]:
    """Pooling over `windows` as steps of chains of stages; the results of a step's chains are combined.

    The last axis comes first, so that of equal winners the first in row-major order wins. `overlapping`
    says that the reduction may meet a sample twice, as a maximum may and a sum may not.
    """
    taps = math.prod(w.size for w in windows)
    if taps <= min(MOST_TAPS, separate_taps(windows)) or any(w.out_size == 0 for w in windows):
        return (((tuple(windows),),),)
    steps = []
    sizes = [w.in_size for w in windows]
    for axis in reversed(range(len(windows))):
        window = windows[axis]
        if window.is_pointwise:
            continue
        chains = []
        for chain in axis_chains(window, overlapping):
            rest = [identity_window(n) for n in sizes]
            chains.append(tuple((*rest[:axis], w, *rest[axis + 1 :]) for w in chain))
        steps.append(tuple(chains))
        sizes[axis] = window.out_size
    return tuple(steps)


def separate_taps(windows: Sequence[Window]) -> int:
    """Taps per output when the axes are pooled one after another, the last first.

    What lies between two axes is written and read once more, counted as two taps. A stride makes it larger
    than the output: 3 x 3 windows are cheaper separate at stride 1, together at stride 2.
    """
    total = 0
    for axis, window in enumerate(windows):
        copies = math.prod(w.stride for w in windows[:axis])
        total += copies * (window.size + 2 * (axis > 0))
    return total


def axis_chains(window: Window, overlapping: bool) -> list[list[Window]]:
    """One axis as chains of windows of at most MOST_TAPS taps; several chains only where none may overlap."""
    if window.size <= MOST_TAPS:
        return [[window]]
    blocks, length, distance, left = split(window.size, overlapping)
    inner, outer = nested(window, blocks, length, distance)
    heads, tails = axis_chains(inner, overlapping), axis_chains(outer, overlapping)
    chains = [[*head, *tail] for head in heads for tail in tails]
    if left:
        lo = window.lo - blocks * distance * window.dilation
        chains += axis_chains(resized(window, left, lo), overlapping)
    return chains


def split(size: int, overlapping: bool) -> tuple[int, int, int, int]:
    """(blocks, block length, distance of blocks, taps left over) that make up `size` taps.

    Blocks of a sum lie end to end; those of a maximum may overlap, and then nothing is left over.
    """
    root = min(math.isqrt(size), MOST_TAPS)
    divisors = [b for b in range(max(2, root // 2), root + 1) if size % b == 0]
    blocks = divisors[-1] if divisors else root
    distance = size // blocks
    if overlapping:
        return blocks, size - (blocks - 1) * distance, distance, 0
    return blocks, distance, distance, size - blocks * distance


def nested(window: Window, blocks: int, length: int, distance: int) -> tuple[Window, Window]:
    """The window over a block and the window over the blocks: pooling by one, then the other, is `window`."""
    gap = distance * window.dilation
    stride = gap if window.out_size == 1 else window.stride
    step = math.gcd(stride, gap)
    positions = ((window.out_size - 1) * stride + (blocks - 1) * gap) // step + 1
    extent = dilated(length, window.dilation)
    hi = (positions - 1) * step + extent - window.in_size - window.lo
    inner = Window(window.in_size, length, step, window.dilation, 1, window.lo, hi)
    return inner, Window(positions, blocks, stride // step, gap // step)


def resized(window: Window, size: int, lo: int) -> Window:
    """A window of `size` taps that starts `lo` before the input and has as many outputs as `window`."""
    reach_ = (window.out_size - 1) * window.stride + dilated(size, window.dilation)
    return Window(window.in_size, size, window.stride, window.dilation, 1, lo, reach_ - window.in_size - lo)
