"""What a row of taps reads for one output column, where x and g lie: slices that a sum of products fuses.

Padding is part of a slice where the compiler can tell it from samples outside its loop along the lanes, else
a narrow copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from jax import Array, lax

from .._patches import Tap
from .._window import Window, dilated
from ._lane_sums import pad_axis

# An array and the position on its last axis of the first tap of a column, outside it where that is padding.
Source: TypeAlias = tuple[Array, int]

# Output columns on one side, at most, whose taps beyond the border are padding within the sum. XLA vectorises
# the loop along lanes where such conditions are few: one column on either side took 0.6 to 1.2 of the time of
# padded copies, mostly 0.85, two or three 1.3 to 2.7 times as long (23 shapes, 2026-11-29, AMD EPYC Zen 4).
FUSED_BORDER = 1


def column_sources(windows: Sequence[Window], x: Array) -> list[Source]:
    """For each output column what its row of taps reads x from.

    Only taps beyond the border need padding: of many columns two narrow strips are padded, x is not copied.
    """
    axis, last = len(windows), windows[-1]
    size, extent = last.in_size, last.extent
    right = max(0, size - extent + 1)
    firsts = [j * last.stride - last.lo for j in range(last.out_size)]

    def strip(start: int, stop: int, lo: int, hi: int) -> Array:
        return lax.optimization_barrier(pad_axis(lax.slice_in_dim(x, start, stop, axis=axis), axis, lo, hi))

    lefts, rights = [a for a in firsts if a < 0], [a for a in firsts if a >= 0 and a + extent > size]
    sources = {a: (x, a) for a in firsts}
    if len(lefts) > FUSED_BORDER:
        below = -lefts[0]
        left_strip = strip(0, min(size, extent), below, max(0, extent - size))
        sources |= {a: (left_strip, a + below) for a in lefts}
    if len(rights) > FUSED_BORDER:
        right_strip = strip(right, size, 0, rights[-1] + extent - size)
        sources |= {a: (right_strip, a - right) for a in rights}
    return [sources[a] for a in firsts]


def meeting_slices(
    windows: Sequence[Window], lead: Tap, source: Source, g: Array, images: int, i: int, j: int
) -> tuple[Array, Array]:
    """What a row of taps reads for output column j of the i-th block of images, and that column of g."""
    *rows, last = windows
    x, left = source
    axis, batch = len(windows), x.shape[0] // images
    outputs = [w.outputs_at(k) for k, w in zip(lead, rows, strict=True)]
    inputs = [w.inputs_at(k) for k, w in zip(lead, rows, strict=True)]
    taps = taps_inside(last, left, x.shape[axis])
    first = left + taps.start * last.dilation if taps else 0
    stop = first + dilated(len(taps), last.dilation)
    lanes = x.shape[axis + 1 :]
    x_part = lax.slice(
        x,
        (i * batch, *(r.start for r in inputs), first, *[0] * len(lanes)),
        ((i + 1) * batch, *(r[-1] + 1 for r in inputs), stop, *lanes),
        (1, *(w.stride for w in rows), last.dilation, *[1] * len(lanes)),
    )
    if len(taps) < last.size:
        x_part = pad_axis(x_part, axis, taps.start, last.size - taps.stop)
    lanes = g.shape[axis + 1 :]
    g_part = lax.slice(
        g,
        (i * batch, *(r.start for r in outputs), j, *[0] * len(lanes)),
        ((i + 1) * batch, *(r.stop for r in outputs), j + 1, *lanes),
    )
    return x_part, g_part


def taps_inside(window: Window, first: int, size: int) -> range:
    """The taps that fall on `size` samples, where tap 0 falls on sample `first`."""
    start = min(window.size, max(0, -(first // window.dilation)))
    return range(start, max(start, min(window.size, -((first - size) // window.dilation))))
