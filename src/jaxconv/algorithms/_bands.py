"""Patches of several neighbouring outputs at once, and the banded matrix that they multiply.

On the last spatial axis, t neighbouring outputs read one segment of e = (t - 1) s + Ke samples. As one row of
the patch matrix X they share what they read, and the kernel becomes a banded (Toeplitz) matrix B:

    X[(m, q), (k, p, c)]   = x[m s + k d, q t s + p, c]                 p in [0, e)
    B[(k, p, c), (j, o)]   = w[k, l, c, o]   where  p = j s + l d       j in [0, t)
    y[m, q t + j, o]       = (X B)[(m, q), (j, o)]

k runs over the taps of all other axes. t = 1 is the patch matrix of im2col. A larger t copies fewer samples
in longer runs and gives the product more columns, for multiplications by the zeros outside the band: e / Ke
times the work per output. That pays where C and O are small. A kernel dilated on the last axis takes t = 1,
and p then runs over its taps alone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .._patches import all_taps, interleave, sum_tree
from .._problem import ConvProblem
from .._window import Window
from ._stages import separately

# Rows of taps in one matrix on a CPU: XLA stacks up to 8 arrays in one loop on all threads, at 18 to 25 GB/s,
# and copies more of them one by one on one thread, at 2 to 8. In several matrices 36 passes with more rows
# took 0.5 to 1.03 of the time (2026-11-28, AMD EPYC Zen 4; jax 0.10, and 0.12 copies alike).
MAX_STACKED_ROWS = 8


@dataclasses.dataclass(frozen=True)
class Bands:
    """Neighbouring outputs t of the last axis as one row of the patch matrix."""

    window: Window
    outputs: int

    @property
    def reach(self) -> int:
        """Samples from the first to the last that t outputs read."""
        return (self.outputs - 1) * self.window.stride + self.window.extent

    @property
    def hop(self) -> int:
        """Samples from one segment to the next."""
        return self.outputs * self.window.stride

    @property
    def count(self) -> int:
        """Segments that cover the axis."""
        return -(-self.window.out_size // self.outputs)

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """(first, length) of the pieces that make up a segment, none of them across a multiple of the hop."""
        if self.window.dilation > 1:
            return [(tap * self.window.dilation, 1) for tap in range(self.window.size)]
        return [(p, min(self.hop, self.reach - p)) for p in range(0, self.reach, self.hop)]

    @property
    def is_view(self) -> bool:
        """Whether each segment is a part of a hop of its own."""
        return len(self.chunks) == 1

    @property
    def segment(self) -> int:
        """e, the samples in a segment."""
        return sum(length for _, length in self.chunks)

    @property
    def hops(self) -> int:
        """Hops that hold every segment."""
        return self.count + max(first // self.hop for first, _ in self.chunks)


def make_bands(problem: ConvProblem, outputs: int) -> Bands:
    """Bands of the problem's last axis, at most as long as the axis."""
    return Bands(problem.windows[-1], min(outputs, problem.windows[-1].out_size))


def patch_matrix(problem: ConvProblem, bands: Bands, x: Array) -> Array:
    """X: `[N, *M, Q, K E C]` from the padded input, K the taps of all axes but the last."""
    return _side_by_side(_tap_rows(problem, bands, x))


def patch_matrices(problem: ConvProblem, bands: Bands, x: Array) -> list[Array]:
    """The columns of X in a few matrices, none of which takes a CPU long to stack."""
    rows = _tap_rows(problem, bands, x)
    count = -(-len(rows) // MAX_STACKED_ROWS) if jax.default_backend() == "cpu" else 1
    ends = [i * len(rows) // count for i in range(count + 1)]
    return [_side_by_side(rows[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


def _tap_rows(problem: ConvProblem, bands: Bands, x: Array) -> list[Array]:
    """What each tap of all axes but the last reads: K arrays `[N, *M, Q, E C]`.

    Taps share the segments of a row, gathered in a stage of its own (each would gather anew), unless strides
    leave out so many rows that most are read once or never.
    """
    others = problem.windows[:-1]
    taps = list(all_taps([w.size for w in others]))
    if math.prod(w.size * w.out_size for w in others) < math.prod(w.in_size for w in others):
        return [_segments(bands, _row_slice(x, others, tap)) for tap in taps]
    if bands.is_view or len(taps) == 1:
        segments = _segments(bands, x)
    else:
        segments = separately(functools.partial(_segments, bands), x)
    return [_row_slice(segments, others, tap) for tap in taps]


def _side_by_side(rows: list[Array]) -> Array:
    """R arrays `[..., L]` as `[..., R L]`, stacked on an axis of their own, which all threads copy."""
    if len(rows) == 1:
        return rows[0]
    stacked = jnp.stack(rows, rows[0].ndim - 1)
    return stacked.reshape(*stacked.shape[:-2], -1)


def _segments(bands: Bands, x: Array) -> Array:
    """`[N, *H, W, C]` -> `[N, *H, Q, E C]`: chunks of one hop are reshapes, overlapping segments a gather."""
    axis, channels = x.ndim - 2, x.shape[-1]
    if not bands.is_view and bands.window.dilation == 1:
        return _gathered_segments(bands, x)
    x = _grow(x, axis, bands.chunks[-1][0] + bands.count * bands.hop)
    views = []
    for first, length in bands.chunks:
        view = lax.slice_in_dim(x, first, first + bands.count * bands.hop, axis=axis)
        view = view.reshape(*x.shape[:axis], bands.count, bands.hop * channels)
        views.append(lax.slice_in_dim(view, 0, length * channels, axis=axis + 1))
    return _side_by_side(views)


def _gathered_segments(bands: Bands, x: Array) -> Array:
    """The same by one gather: on the flattened last two axes a segment is one run.

    All threads gather; one alone copies slices laid side by side, which took 1.03 times as long, up to 1.16,
    and up to twice the temporaries (33 passes, 2026-11-29, AMD EPYC Zen 4). With holes between the samples of
    a segment the slices are faster.
    """
    *lead, _, channels = x.shape
    x = _grow(x, len(lead), (bands.count - 1) * bands.hop + bands.reach)
    lines = x.reshape(math.prod(lead), -1)
    starts = np.arange(bands.count, dtype=np.int32) * bands.hop * channels
    numbers = lax.GatherDimensionNumbers(offset_dims=(0, 2), collapsed_slice_dims=(), start_index_map=(1,))
    sizes = (lines.shape[0], bands.segment * channels)
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    rows = lax.gather(lines, jnp.asarray(starts[:, None]), numbers, sizes, indices_are_sorted=True, mode=mode)
    return rows.reshape(*lead, bands.count, -1)


def _row_slice(rows: Array, windows: tuple[Window, ...], tap: tuple[int, ...]) -> Array:
    """What one tap of the other axes reads, every stride-th row."""
    starts = [k * w.dilation for k, w in zip(tap, windows, strict=True)]
    spans = [(w.out_size - 1) * w.stride + 1 for w in windows]
    stops = [start + span for start, span in zip(starts, spans, strict=True)]
    return lax.slice(
        rows,
        [0, *starts, 0, 0],
        [rows.shape[0], *stops, *rows.shape[-2:]],
        [1, *(w.stride for w in windows), 1, 1],
    )


def band_matrix(bands: Bands, w: Array) -> Array:
    """B: `[K E C, t O]` from the kernel `[*K, L, C, O]`."""
    *_, size, cin, cout = w.shape
    w = w.reshape(-1, size, cin, cout)
    zero = jnp.zeros((), w.dtype)
    margins = [(lo, bands.segment - size - lo, 0) for lo in _starts(bands)]
    columns = [lax.pad(w, zero, [(0, 0, 0), margin, (0, 0, 0), (0, 0, 0)]) for margin in margins]
    return jnp.stack(columns, 3).reshape(-1, bands.outputs * cout)


def sum_bands(problem: ConvProblem, bands: Bands, matrix: Array) -> Array:
    """The kernel gradient from X^T G, `[K E C, t O]`: the adjoint of `band_matrix`."""
    cin, cout = problem.kernel_shape[-2:]
    matrix = matrix.reshape(-1, bands.segment, cin, bands.outputs, cout)
    dw = jnp.zeros((), matrix.dtype)
    for j, lo in enumerate(_starts(bands)):
        stop = (matrix.shape[0], lo + bands.window.size, cin, j + 1, cout)
        dw = dw + lax.slice(matrix, [0, lo, 0, j, 0], stop)
    return dw.reshape(problem.kernel_shape)


def _starts(bands: Bands) -> list[int]:
    """Zeros above the taps in each column of the band."""
    return [j * bands.window.stride for j in range(bands.outputs)]


def output_rows(bands: Bands, g: Array) -> Array:
    """`[N, *M, W, O]` -> `[N, *M, Q, t O]`, zeros after the last output."""
    axis = g.ndim - 2
    g = _grow(g, axis, bands.count * bands.outputs)
    return g.reshape(*g.shape[:axis], bands.count, bands.outputs * g.shape[-1])


def from_output_rows(bands: Bands, y: Array) -> Array:
    """`[N, *M, Q, t O]` -> `[N, *M, W, O]`."""
    y = y.reshape(*y.shape[:-2], bands.count * bands.outputs, -1)
    return lax.slice_in_dim(y, 0, bands.window.out_size, axis=y.ndim - 2)


def overlap_add(problem: ConvProblem, bands: Bands, z: Array) -> Array:
    """The padded input's gradient from Z = G B^T, `[N, *M, Q, K E C]`: the adjoint of `patch_matrix`.

    Every term is a shift of z padded with zeros, so the sum is elementwise; rows of one residue class
    modulo the stride are summed apart and interleaved.
    """
    others = problem.windows[:-1]
    z = z.reshape(*z.shape[:-1], math.prod(w.size for w in others), -1)
    terms = dict(zip(all_taps([w.size for w in others]), jnp.split(z, z.shape[-2], -2), strict=True))
    channels = z.shape[-1] // bands.segment

    def rows(axis: int, taps: dict[tuple[int, ...], Array]) -> Array:
        if axis == len(others):
            return _overlap_segments(bands, jnp.squeeze(taps[()], -2), channels)
        return _overlap_rows(others[axis], axis, taps, rows)

    return rows(0, terms)


def _overlap_rows(
    window: Window,
    axis: int,
    taps: dict[tuple[int, ...], Array],
    inner: Callable[[int, dict[tuple[int, ...], Array]], Array],
) -> Array:
    """Sum over the taps of one axis; `inner` sums over the axes behind it."""
    size = (window.out_size - 1) * window.stride + window.extent
    parts: list[Array] = []
    for residue in range(min(window.stride, size)):
        length = len(range(residue, size, window.stride))
        terms = []
        for k in range(window.size):
            shift, remainder = divmod(k * window.dilation - residue, window.stride)
            if remainder == 0:
                term = inner(axis + 1, {tap[1:]: z for tap, z in taps.items() if tap[0] == k})
                terms.append(_place(term, axis + 1, shift, length))
        parts.append(sum_tree(terms) if terms else _zeros_like(parts[0], axis + 1, length))
    return interleave(parts, axis + 1, size)


def _zeros_like(x: Array, axis: int, size: int) -> Array:
    return jnp.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)


def _overlap_segments(bands: Bands, z: Array, channels: int) -> Array:
    """`[N, *H, Q, E C]` -> `[N, *H, W, C]`: a chunk that starts at p lands p samples behind its segment."""
    axis = z.ndim - 2
    terms = []
    begin = 0
    for first, length in bands.chunks:
        chunk = lax.slice_in_dim(z, begin * channels, (begin + length) * channels, axis=axis + 1)
        begin += length
        hops, samples = divmod(first, bands.hop)
        chunk = _place(chunk, axis + 1, samples * channels, bands.hop * channels)
        terms.append(_place(chunk, axis, hops, bands.hops))
    x = sum_tree(terms).reshape(*z.shape[:axis], bands.hops * bands.hop, channels)
    window = bands.window
    size = (window.out_size - 1) * window.stride + window.extent
    return lax.slice_in_dim(_grow(x, axis, size), 0, size, axis=axis)


def _place(x: Array, axis: int, start: int, size: int) -> Array:
    """x at `start` of an axis of length `size`, zeros elsewhere."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (start, size - start - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _grow(x: Array, axis: int, size: int) -> Array:
    return x if x.shape[axis] >= size else _place(x, axis, 0, size)
