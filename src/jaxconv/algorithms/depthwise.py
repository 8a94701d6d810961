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
import operator
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._patches import Tap, all_taps, pad_to_windows, tap_slice
from .._problem import ConvProblem, Pass, accumulator
from .._window import Window
from ._record import Algorithm

# Terms of a forward pass that are written out border by border; with more, one sum reads a padded input.
MAX_BORDER_TERMS = 160
# Terms of one fused sum. Kernels with more taps loop over their rows: compile time grows with every term.
MAX_FUSED_TAPS = 64
# Kernel gradients: rows of taps written out one by one; kernels with more rows loop over them.
MAX_UNROLLED_ROWS = 9
# Output columns that one row of taps is summed over; longer rows are cut into blocks of at most so many.
MAX_COLUMNS = 64
# Terms of one fused sum over columns: more overflow the L1 cache, fewer leave more partial sums.
MAX_TERMS = 28


@dataclasses.dataclass(frozen=True)
class Segment:
    """Outputs start..stop-1 of one axis, which all meet the same taps inside the input."""

    start: int
    stop: int
    taps: tuple[int, ...]


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    x, w = spread(x, lanes(problem)), kernel_lanes(problem, w)
    segments = [border_segments(window) for window in problem.windows]
    if math.prod(sum(len(s.taps) for s in axis) for axis in segments) <= MAX_BORDER_TERMS:
        y = sum_by_borders(problem, segments, x, w)
    else:
        x, windows = with_padding(x, problem.windows)
        y = sum_taps(windows, x, w) if problem.taps <= MAX_FUSED_TAPS else sum_tap_rows(windows, x, w)
    return sum_lanes(y, problem.out_channels)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    x, g = spread(x, lanes(problem)), spread(g, lanes(problem))
    if math.prod(problem.kernel_size[:-1]) <= MAX_UNROLLED_ROWS:
        dw = row_gradients(problem, problem.windows, x, g)
    else:
        x, windows = with_padding(x, problem.windows)
        indices, row = tap_rows(windows)
        dw = lax.map(lambda index: row_gradients(problem, row, row_slice(windows, x, index), g), indices)
    cin, cout = problem.channels_per_group
    dw = dw.reshape(*problem.kernel_size, problem.groups, cin, cout)
    return jnp.moveaxis(dw, -2, -3).reshape(problem.kernel_shape)


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
    """`[*K, C/G, O]` with C/G or O/G 1 as `[*K, L]` in the accumulator dtype."""
    cin, cout = problem.channels_per_group
    w = w.astype(accumulator(problem)).reshape(*problem.kernel_size, cin, problem.groups, cout)
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

    def output(chosen: tuple[Segment, ...]) -> Array:
        axis = len(chosen)
        if axis < problem.rank:
            parts = [output((*chosen, segment)) for segment in axes[axis]]
            return parts[0] if len(parts) == 1 else lax.concatenate(parts, axis + 1)
        return segment_sum(problem, chosen, x, w)

    return output(())


def segment_sum(problem: ConvProblem, segments: Sequence[Segment], x: Array, w: Array) -> Array:
    sizes = [s.stop - s.start for s in segments]

    def term(tap: Tap) -> Array:
        axes = list(zip(segments, problem.windows, tap, strict=True))
        starts = [s.start * v.stride + k * v.dilation - v.lo for s, v, k in axes]
        stops = [a + (n - 1) * v.stride + 1 for a, n, v in zip(starts, sizes, problem.windows, strict=True)]
        x_tap = lax.slice(x, [0, *starts, 0], [x.shape[0], *stops, x.shape[-1]], [1, *problem.strides, 1])
        return x_tap.astype(w.dtype) * w[tap]

    positions = all_taps([len(s.taps) for s in segments])
    taps = [tuple(s.taps[i] for s, i in zip(segments, index, strict=True)) for index in positions]
    if not taps:
        return jnp.zeros((x.shape[0], *sizes, x.shape[-1]), w.dtype)
    return add_up(map(term, taps))


def sum_taps(windows: Sequence[Window], x: Array, w: Array) -> Array:
    """y `[N, *M, L]` from the padded x as one fused sum."""
    taps = all_taps(w.shape[:-1])
    return add_up(tap_slice(x, windows, t).astype(w.dtype) * w[t] for t in taps)


def sum_tap_rows(windows: Sequence[Window], x: Array, w: Array) -> Array:
    """y `[N, *M, L]` from the padded x, one fused sum per row of taps."""
    indices, row = tap_rows(windows)
    w = w.reshape(len(indices), *(v.size for v in row), w.shape[-1])

    def add_row(y: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        index, w_row = at
        return y + sum_taps(row, row_slice(windows, x, index), materialise(w_row)[..., :-1, :]), None

    y = jnp.zeros((x.shape[0], *(v.out_size for v in windows), w.shape[-1]), w.dtype)
    return lax.scan(add_row, y, (indices, w))[0]


def add_up(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def with_padding(x: Array, windows: Sequence[Window]) -> tuple[Array, tuple[Window, ...]]:
    """x with its padding in memory, and the windows over it."""
    x = lax.optimization_barrier(pad_to_windows(x, windows))
    sizes = x.shape[1:-1]
    return x, tuple(dataclasses.replace(w, in_size=n, lo=0, hi=0) for w, n in zip(windows, sizes, strict=True))


def tap_rows(windows: Sequence[Window]) -> tuple[Array, tuple[Window, ...]]:
    """Indices `[R, A]` of all taps on the first A axes, and the windows that are left to a row of taps.

    A row runs along the last axis; where that is too long to be written out, a row is a single tap.
    """
    long = len(windows) == 1 or windows[-1].size > MAX_FUSED_TAPS
    axes = len(windows) - (not long)
    indices = jnp.asarray(list(all_taps([w.size for w in windows[:axes]])), jnp.int32)
    pointwise = tuple(Window(w.out_size, 1) for w in windows[:axes])
    return indices, (*pointwise, *windows[axes:])


def row_slice(windows: Sequence[Window], x: Array, index: Array) -> Array:
    """What a row of taps reads from the padded input: axes that `index` covers are tap slices."""
    starts, sizes, strides = [jnp.int32(0)] * x.ndim, list(x.shape), [1] * x.ndim
    for axis, window in enumerate(windows[: index.shape[0]], start=1):
        starts[axis] = index[axis - 1] * window.dilation
        sizes[axis] = (window.out_size - 1) * window.stride + 1
        strides[axis] = window.stride
    block = lax.dynamic_slice(x, starts, sizes)
    return materialise(lax.slice(block, [0] * x.ndim, block.shape, strides))


def materialise(x: Array) -> Array:
    """x in memory of its own, with a row on the axis before the last that nothing reads.

    XLA would else repeat a dynamic slice in every sum that reads it, and its index arithmetic keeps the CPU
    backend from vectorising them. A result larger than its operand is not fused into several readers.
    """
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, int(axis == x.ndim - 2), 0) for axis in range(x.ndim)])
    return lax.optimization_barrier(padded)


def row_gradients(problem: ConvProblem, windows: Sequence[Window], x: Array, g: Array) -> Array:
    """x times g summed over batch and space, for all taps of `windows`: `[rows, K, L]`.

    A row holds the K taps of the last axis. For one output column they are neighbours in x, so that a slice
    of K columns of x times one column of g serves the whole row: [N, *R, K, L] x [N, *R, 1, L].
    """
    if windows[-1].out_size > MAX_COLUMNS:
        return long_row_gradients(problem, windows, x, g)
    return jnp.stack([sum_leading(parts) for parts in block_sums(problem, windows, x, g)])


def block_sums(problem: ConvProblem, windows: Sequence[Window], x: Array, g: Array) -> list[list[Array]]:
    """For each row of taps some arrays `[N', *R, K, L]` that add up to its gradient."""
    acc = accumulator(problem)
    columns = windows[-1].out_size
    images = next(n for n in range(max(1, MAX_COLUMNS // columns), 0, -1) if x.shape[0] % n == 0)
    spots = [(i, j) for i in range(images) for j in range(columns)]
    length = -(-len(spots) // max(2, -(-len(spots) // MAX_TERMS)))
    sources = column_sources(x, windows[-1])

    def row_sums(lead: Tap) -> list[Array]:
        if not all(outputs_at(w, k) for k, w in zip(lead, windows, strict=False)):
            return [jnp.zeros((1, windows[-1].size, x.shape[-1]), acc)]
        pairs = [meeting_slices(windows, lead, sources[j], g, images, i, j) for i, j in spots]
        products = [a.astype(acc) * b.astype(acc) for a, b in pairs]
        return [add_up(products[start : start + length]) for start in range(0, len(spots), length)]

    return [row_sums(lead) for lead in all_taps([w.size for w in windows[:-1]])]


def column_sources(x: Array, last: Window) -> list[tuple[Array, int]]:
    """For each output column an array and the position in it of the columns of x that the column's taps read.

    Only taps beyond the border need padding: two narrow strips are padded, x itself is not copied.
    """
    axis, size, extent = x.ndim - 2, last.in_size, last.extent
    right = max(0, size - extent + 1)

    def strip(start: int, stop: int, lo: int, hi: int) -> Array:
        config = [(0, 0, 0)] * x.ndim
        config[axis] = (lo, hi, 0)
        part = lax.slice_in_dim(x, start, stop, axis=axis)
        return lax.optimization_barrier(lax.pad(part, jnp.zeros((), x.dtype), config))

    firsts = [j * last.stride - last.lo for j in range(last.out_size)]
    below, above = max(0, -firsts[0]), max(0, firsts[-1] + extent - size)
    left_strip = strip(0, min(size, extent), below, max(0, extent - size)) if below else x
    right_strip = strip(right, size, 0, above) if above else x
    return [
        (left_strip, a + below) if a < 0 else (right_strip, a - right) if a + extent > size else (x, a)
        for a in firsts
    ]


def outputs_at(window: Window, k: int) -> range:
    """The outputs of a dense window whose tap k falls on the input, not on padding."""
    first = k * window.dilation - window.lo
    start = max(0, -(first // window.stride))
    return range(start, max(start, min(window.out_size, -((first - window.in_size) // window.stride))))


def meeting_slices(
    windows: Sequence[Window], lead: Tap, source: tuple[Array, int], g: Array, images: int, i: int, j: int
) -> tuple[Array, Array]:
    """What a row of taps reads for output column j of the i-th block of images, and that column of g."""
    *rows, last = windows
    x, left = source
    batch = x.shape[0] // images
    outputs = [outputs_at(w, k) for k, w in zip(lead, rows, strict=True)]
    firsts = [r.start * w.stride + k * w.dilation - w.lo for r, k, w in zip(outputs, lead, rows, strict=True)]
    ends = [a + (len(r) - 1) * w.stride + 1 for a, r, w in zip(firsts, outputs, rows, strict=True)]
    x_part = lax.slice(
        x,
        (i * batch, *firsts, left, 0),
        ((i + 1) * batch, *ends, left + last.extent, x.shape[-1]),
        (1, *(w.stride for w in rows), last.dilation, 1),
    )
    g_part = lax.slice(
        g,
        (i * batch, *(r.start for r in outputs), j, 0),
        ((i + 1) * batch, *(r.stop for r in outputs), j + 1, g.shape[-1]),
    )
    return x_part, g_part


def long_row_gradients(problem: ConvProblem, windows: Sequence[Window], x: Array, g: Array) -> Array:
    """`row_gradients` of too wide an output to write out: a loop over equal blocks of columns, and the rest."""
    x, (*rows, last) = with_padding(x, windows)
    axis, outputs = x.ndim - 2, last.out_size
    size = next((n for n in range(MAX_COLUMNS, MAX_COLUMNS // 2, -1) if outputs % n == 0), MAX_COLUMNS)

    def cut(start: int | Array, count: int) -> tuple[tuple[Window, ...], Array, Array]:
        window = dataclasses.replace(last, in_size=(count - 1) * last.stride + last.extent)
        x_cut = lax.dynamic_slice_in_dim(x, start * last.stride, window.in_size, axis)
        return (*rows, window), x_cut, lax.dynamic_slice_in_dim(g, start, count, axis)

    def sums(i: int | Array) -> list[list[Array]]:
        cut_windows, x_cut, g_cut = cut(i * size, size)
        return block_sums(problem, cut_windows, materialise(x_cut), materialise(g_cut))

    zeros = [[jnp.zeros(s.shape, s.dtype) for s in parts] for parts in jax.eval_shape(sums, 0)]
    add = functools.partial(jax.tree.map, operator.add)
    totals = lax.fori_loop(0, outputs // size, lambda i, totals: add(totals, sums(i)), zeros)
    dw = jnp.stack([sum_leading(parts) for parts in totals])
    if outputs % size == 0:
        return dw
    return dw + row_gradients(problem, *cut(outputs - outputs % size, outputs % size))


def sum_leading(parts: Sequence[Array]) -> Array:
    """Sum of arrays `[*, K, L]` and over all their leading axes: `[K, L]`.

    Joining them along the lanes keeps XLA from pulling their sums into what follows, and a product with
    ones is vectorised where XLA's reductions on CPUs are scalar.
    """
    *_, taps, size = parts[0].shape
    joined = lax.concatenate(parts, parts[0].ndim - 1).reshape(-1, taps * len(parts) * size)
    ones = jnp.ones((1, joined.shape[0]), joined.dtype)
    sums = lax.dot(ones, joined, precision=lax.Precision.HIGHEST, preferred_element_type=joined.dtype)
    sums = sums.reshape(taps, len(parts), size)
    return add_up(sums[:, i] for i in range(len(parts)))


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Groups with one input or one output channel."""
    del pass_
    if min(problem.channels_per_group) == 1:
        return None
    cin, cout = problem.channels_per_group
    return f"it needs groups with one input or one output channel, not {cin} and {cout}"


ALGORITHM = Algorithm("depthwise", supports, forward, kernel_grad)
