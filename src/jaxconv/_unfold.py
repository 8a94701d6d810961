"""Patches as an array, and their adjoint: the linear pair U and U' under `extract_patches` and `conv_local`.

With output m, tap k and sample i = m s + k d - lo on each axis (equation (*) of `_window`),

    U  x: p[n, m, c, k] = x[n, i, c], zero where i lies on padding
    U' p: x[n, i, c]    = sum of p[n, m, c, k] over the pairs (m, k) that read i

and <U x, p> = <x, U' p>, so each is the other's derivative. Both work on one axis after another: U reads
with an index `[M, K]`, and U' lets every sample read its pairs, one diagonal m - i / s after another. No
scatter, and compile time grows with the taps of one axis, not with all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._dtypes import sum_dtype
from ._patches import pad_or_crop, pad_to_windows
from ._pool_geometry import diagonals
from ._window import Window

# Diagonals of one axis that are written out; more are one gather and a sum over it.
MOST_DIAGONALS = 32


def unfold(windows: tuple[Window, ...], x: Array) -> Array:
    """U: x `[N, *S, C]` to patches `[N, *M, C, *K]`."""
    rank = len(windows)
    x = pad_to_windows(x, windows)
    for axis, window in reversed(list(enumerate(windows, start=1))):
        outputs = lax.broadcasted_iota(jnp.int32, (window.out_size, window.size), 0)
        taps = lax.broadcasted_iota(jnp.int32, (window.out_size, window.size), 1)
        x = read(x, outputs * window.stride + taps * window.dilation, axis)
    # [N, M1, K1, M2, K2, .., C]
    order = (0, *range(1, 2 * rank, 2), 2 * rank + 1, *range(2, 2 * rank + 1, 2))
    return x.transpose(order)


def fold(windows: tuple[Window, ...], p: Array) -> Array:
    """U': patches `[N, *M, C, *K]` to x `[N, *S, C]`; sums of narrow floats are kept in float32."""
    rank, dtype = len(windows), p.dtype
    pairs = [axis for j in range(rank) for axis in (1 + j, 2 + rank + j)]
    p = p.transpose(0, *pairs, 1 + rank).astype(sum_dtype(dtype))
    for axis, window in enumerate(windows, start=1):
        p = fold_axis(window, p, axis)
    return p.astype(dtype)


def fold_axis(window: Window, p: Array, axis: int) -> Array:
    """`[.., M, K, ..]` summed into `[.., S, ..]`."""
    flat = p.reshape(*p.shape[:axis], window.out_size * window.size, *p.shape[axis + 2 :])
    flat = pad_or_crop(flat, [(0, int(j == axis)) for j in range(1, flat.ndim)])
    indices = pair_indices(window)
    if len(indices) > MOST_DIAGONALS:
        return jnp.sum(read(flat, indices.T, axis), axis + 1, dtype=p.dtype)
    return functools.reduce(lax.add, (read(flat, index, axis) for index in indices))


def pair_indices(window: Window) -> Array:
    """`[diagonals, S]`: the flat (output, tap) that meets a sample there, or the place after the last."""
    lines = diagonals(window)
    offsets = jnp.asarray(np.array([[line.offset] for line in lines], np.int32))
    taps = jnp.asarray(np.array([line.taps for line in lines], np.int32))
    sample = lax.iota(jnp.int32, window.in_size)
    tap = read(taps, sample % window.stride, 1)
    output = (sample // window.stride)[None] - offsets
    meets = (tap >= 0) & (output >= 0) & (output < window.out_size)
    return jnp.where(meets, output * window.size + tap, window.out_size * window.size)


def read(a: Array, index: Array, axis: int) -> Array:
    """`a` at an index on `axis` that is known to lie inside."""
    return jnp.take(a, index, axis=axis, mode="clip")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def unfold_by_hand(windows: tuple[Window, ...], x: Array) -> Array:
    """`unfold` with U' for its derivative."""
    return unfold(windows, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def fold_by_hand(windows: tuple[Window, ...], p: Array) -> Array:
    """`fold` with U for its derivative."""
    return fold(windows, p)


unfold_by_hand.defvjp(
    lambda windows, x: (unfold_by_hand(windows, x), None),
    lambda windows, _, g: (fold_by_hand(windows, g),),
)
fold_by_hand.defvjp(
    lambda windows, p: (fold_by_hand(windows, p), None),
    lambda windows, _, g: (unfold_by_hand(windows, g),),
)


def dilate(x: Array, dilation: Sequence[int]) -> Array:
    """x `[N, *S, C]` with `dilation - 1` zeros between neighbours."""
    if all(b == 1 for b in dilation):
        return x
    config = [(0, 0, 0), *((0, 0, b - 1) for b in dilation), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)
