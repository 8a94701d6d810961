"""The two array views of pooling: what a tap reads, and what the taps of a sample send back to it.

Both are slices that never leave the array, then a pad: each becomes part of one elementwise loop, no padded
copy of the input is made, and no negative pad reaches XLA (openxla/xla issue 48715).

XLA fuses a pad into its consumer only if nothing else uses it, and stores it otherwise. So every tap enters
one operation, and what taps are reduced to leaves through a `fence`: else several consumers would each repeat
the loop, and the pads in it would be stored one by one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._patches import BARRIERS_HOLD
from ._pool_geometry import Diagonal, Shape, Stage, diagonals, reach


def fence(x: Array) -> Array:
    """x itself, stored if more than one operation reads it; accelerators' compilers weigh that themselves."""
    return _fence(x) if jax.default_backend() == "cpu" else x


@jax.custom_jvp
def _fence(x: Array) -> Array:
    """A barrier, or where that does not hold an empty row, added and taken off again.

    A single reader cancels the two; several keep the pad, which XLA does not compute twice. The barrier
    holds off the simplifications that would look through both. The row is added to the outermost axis, where
    telling it from the others costs nothing.
    """
    if BARRIERS_HOLD:
        return lax.optimization_barrier(x)
    rows = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    held = lax.optimization_barrier(_pad_rows(rows, 0, 1))
    return lax.slice_in_dim(held, 0, rows.shape[0]).reshape(x.shape)


@_fence.defjvp
def _fence_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _fence(*primals), tangents[0]


def stored(x: Array) -> Array:
    """x itself, stored even for a single reader, which would otherwise compute each entry several times over.

    On a CPU whose barriers do not hold it goes behind a pad that is read in two parts and put together again.
    """
    if jax.default_backend() != "cpu" or BARRIERS_HOLD:
        return fence(x)
    rows = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    half, count = rows.shape[0] // 2, rows.shape[0]
    held = lax.optimization_barrier(_pad_rows(rows, 0, 1))
    head = _pad_rows(lax.slice_in_dim(held, 0, half), 0, count - half)
    tail = _pad_rows(lax.slice_in_dim(held, half, count), half, 0)
    return lax.bitwise_or(head, tail).reshape(x.shape)


def _pad_rows(rows: Array, before: int, after: int) -> Array:
    edges = [(before, after, 0)] + [(0, 0, 0)] * (rows.ndim - 1)
    return lax.pad(rows, jnp.zeros((), rows.dtype), edges)


def tap(x: Array, stage: Stage, index: Shape, fill: Any) -> Array:
    """Tap `index` of every output, `[N, *M, C]` from x `[N, *S, C]`; `fill` where it lies on padding."""
    reaches = [reach(w, k) for w, k in zip(stage, index, strict=True)]
    spans = [(r.last - r.first - 1) * w.stride + 1 for r, w in zip(reaches, stage, strict=True)]
    starts = [r.start for r in reaches]
    stops = [start + span for start, span in zip(starts, spans, strict=True)]
    strides = [w.stride for w in stage]
    x = lax.slice(x, (0, *starts, 0), (x.shape[0], *stops, x.shape[-1]), (1, *strides, 1))
    return _pad(x, [(r.first, w.out_size - r.last) for r, w in zip(reaches, stage, strict=True)], fill)


def spread(stage: Stage, arrays: Sequence[Array], term: Callable[..., Array]) -> Array:
    """The adjoint of reading taps: the sum of what reaches each sample, `[N, *S, C]`.

    Block each axis by its stride s. Sample q s + r is then entry [q, r], and it meets outputs q - j for few
    j, the same for every q: the sum over taps is a sum of shifted copies, with no scatter and no inserted
    zero. `term(taps, *views)` makes one copy, of the last array's dtype: `views` are the `[N, *M, C]` arrays
    shifted, `[N, Q1, 1, Q2, 1, .., C]`, and `taps` the flat index of the tap through which each residue sees
    them, -1 for none, `[1, 1, s1, 1, s2, .., 1]`.
    """
    blocks = [-(-w.in_size // w.stride) for w in stage]
    terms = []
    for diagonal in itertools.product(*(diagonals(w) for w in stage)):
        firsts = [max(0, d.offset) for d in diagonal]
        lasts = [min(n, w.out_size + d.offset) for n, w, d in zip(blocks, stage, diagonal, strict=True)]
        if any(first >= last for first, last in zip(firsts, lasts, strict=True)):
            continue
        views = [_blocked_view(a, firsts, lasts, diagonal) for a in arrays]
        edges = []
        for first, last, n in zip(firsts, lasts, blocks, strict=True):
            edges += [(first, n - last), (0, 0)]
        terms.append(_pad(term(_flat_taps(stage, diagonal), *views), edges, 0))
    batch, channels = arrays[0].shape[0], arrays[0].shape[-1]
    if not terms:
        return jnp.zeros((batch, *(w.in_size for w in stage), channels), arrays[-1].dtype)
    total = functools.reduce(lax.add, terms)
    total = total.reshape(batch, *(n * w.stride for n, w in zip(blocks, stage, strict=True)), channels)
    return lax.slice(total, (0,) * total.ndim, (batch, *(w.in_size for w in stage), channels))


def _blocked_view(
    a: Array, firsts: Sequence[int], lasts: Sequence[int], diagonal: Sequence[Diagonal]
) -> Array:
    starts = [first - d.offset for first, d in zip(firsts, diagonal, strict=True)]
    stops = [last - d.offset for last, d in zip(lasts, diagonal, strict=True)]
    a = lax.slice(a, (0, *starts, 0), (a.shape[0], *stops, a.shape[-1]))
    return lax.expand_dims(a, range(2, 2 * len(diagonal) + 1, 2))


def _flat_taps(stage: Stage, diagonal: Sequence[Diagonal]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Row-major index of the tap that joins each residue to its output on this diagonal."""
    flat = np.zeros((), np.int32)
    for window, d in zip(stage, diagonal, strict=True):
        taps = np.array(d.taps, np.int32)
        both = (flat[..., None] >= 0) & (taps >= 0)
        flat = np.where(both, flat[..., None] * window.size + taps, np.int32(-1))
    return np.expand_dims(flat, (0, *range(1, 2 * len(stage), 2), 2 * len(stage) + 1))


def _pad(x: Array, edges: Sequence[tuple[int, int]], fill: Any) -> Array:
    if not any(lo or hi for lo, hi in edges):
        return x
    config = [(0, 0, 0), *((lo, hi, 0) for lo, hi in edges), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(fill, x.dtype), config)
