"""What each row of the transformation table computes, in plain NumPy: one line from its definition.

Arrays are `[N, L, C]` and wide, so that nothing rounds or wraps. No code is shared with the library.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
# (window, stride, pad before, pad after, dilation) of SAME padding for 3 taps, with stride 1 and 2 over 6.
SAME, SAME_BY_TWO = (3, 1, 1, 1), (3, 2, 0, 1)


def taps(
    x: Array, size: int, stride: int = 1, lo: int = 0, hi: int = 0, gap: int = 1, fill: Any = 0
) -> Array:
    """`[N, M, C, K]`: what every window reads."""
    x = np.pad(x, ((0, 0), (lo, hi), (0, 0)), constant_values=fill)
    count = (x.shape[1] - (size - 1) * gap - 1) // stride + 1
    reads = [[m * stride + k * gap for k in range(size)] for m in range(count)]
    return np.moveaxis(x[:, reads], 2, -1)


def correlation(x: Array, w: Array, *window: int, gap: int = 1) -> Array:
    return np.einsum("nmck,kco->nmo", taps(x, len(w), *window, gap=gap), w)


def depthwise(x: Array, w: Array) -> Array:
    return np.einsum("nmck,kcq->nmcq", taps(x, *SAME), w).reshape(*x.shape[:2], -1)


def local(x: Array, w: Array) -> Array:
    return np.einsum("nmck,mkco->nmo", taps(x, 3), w)


def local_by_lax(x: Array, w: Array) -> Array:
    """lax keeps the window's entries on one axis, channel by channel."""
    return local(x, np.moveaxis(w.reshape(4, x.shape[-1], 3, -1), 2, 1))


def input_gradient(g: Array, w: Array) -> Array:
    dx = np.zeros((g.shape[0], 8, w.shape[1]), g.dtype)
    for m, k in np.ndindex(g.shape[1], len(w)):
        dx[:, 2 * m + k] += g[:, m] @ w[k].T
    return dx[:, :6]


def transposed(x: Array, w: Array) -> Array:
    dilated = np.zeros((x.shape[0], 11, x.shape[-1]), x.dtype)
    dilated[:, ::2] = x
    return correlation(dilated, w, 1, 2, 1)


def deformed(x: Array, offset: Array, w: Array) -> Array:
    """Every tap reads at its place plus its offset, linearly between two samples, 0 outside."""
    padded = np.pad(x, ((0, 0), (20, 20), (0, 0)))
    at = np.arange(6)[:, None] + np.arange(3) - 1 + offset + 20
    low = np.floor(at).astype(int)
    rows = np.arange(len(x))[:, None, None]
    part = (at - low)[..., None]
    p = (1 - part) * padded[rows, low] + part * padded[rows, low + 1]
    return np.einsum("nmkc,kco->nmo", p, w)


def patches(x: Array, *window: int) -> Array:
    read = taps(x, *window)
    return read.reshape(*read.shape[:2], -1)


def folded(p: Array) -> Array:
    x = np.zeros((p.shape[0], 7, p.shape[-1] // 2), p.dtype)
    for m, k in np.ndindex(p.shape[1], 2):
        x[:, m + k] += p[:, m].reshape(len(p), -1, 2)[..., k]
    return x


def mean_of_real_samples(x: Array) -> Array:
    return taps(x, *SAME).sum(-1) / np.array([2, 3, 3, 3, 3, 2])[:, None]


def norm(x: Array) -> Array:
    return (np.abs(taps(x, 3)) ** 3).sum(-1) ** (1 / 3)


def maxima_and_places(x: Array) -> Array:
    read = taps(x, 2, 2)
    places = read.argmax(-1) + 2 * np.arange(3)[:, None]
    y = np.zeros_like(x)
    np.put_along_axis(y, places, read.max(-1), 1)
    return y * (1 + places.sum(1, keepdims=True))


def fractional(x: Array, u: Array) -> Array:
    """Windows of 2 at floor((i + u) a) - floor(u a), a = (6 - 2) / (3 - 1), the last at the end."""
    y = np.zeros((x.shape[0], 3, x.shape[-1]), x.dtype)
    for n, i, c in np.ndindex(*y.shape):
        start = 4 if i == 2 else math.floor((i + u[n, c, 0]) * 2) - math.floor(u[n, c, 0] * 2)
        y[n, i, c] = x[n, start : start + 2, c].max()
    return y


def binned(x: Array, reduce: Callable[..., Array]) -> Array:
    bins = [(i * 6 // 4, -(-(i + 1) * 6 // 4)) for i in range(4)]
    return np.stack([reduce(x[:, start:stop], axis=1) for start, stop in bins], 1)


def product(x: Array) -> Array:
    return taps(x, 2, 2).prod(-1)


def ranked(x: Array, size: int, rank: int) -> Array:
    return np.sort(taps(x, size), -1)[..., rank]


def largest(x: Array) -> Array:
    """Complex numbers compare as pairs, by NumPy as by lax."""
    read = taps(x, *SAME_BY_TWO, fill=-(10**6) if x.dtype.kind == "i" else -np.inf)
    return np.sort(read, -1)[..., -1]


ORACLES: dict[str, Callable[..., Array]] = {
    "conv": lambda x, w, b: correlation(x, w, *SAME_BY_TWO[1:]) + b,
    "conv_general_dilated": lambda x, w: correlation(x, w, 1, 2, 2, gap=2),
    "conv_transpose": transposed,
    "conv_input_gradient": input_gradient,
    "conv_kernel_gradient": lambda x, g: np.einsum("nmck,nmo->kco", taps(x, *SAME), g),
    "convolve": np.convolve,
    "correlate": lambda x, w: np.convolve(x, w[::-1].conj(), "same"),
    "deform_conv": deformed,
    "depthwise_conv": depthwise,
    "separable_conv": lambda x, w, v: depthwise(x, w) @ v,
    "conv_local": local,
    "conv_general_dilated_local": local_by_lax,
    "conv_stream": lambda x, w: correlation(x, w, 1, 2, 0),
    "extract_patches": lambda x: patches(x, 3, 2),
    "fold_patches": folded,
    "conv_general_dilated_patches": lambda x: patches(x, *SAME),
    "max_pool": lambda x: taps(x, 3, 2).max(-1),
    "min_pool": lambda x: taps(x, *SAME_BY_TWO, fill=10**6).min(-1),
    "avg_pool": mean_of_real_samples,
    "sum_pool": lambda x: taps(x, 3).sum(-1),
    "lp_pool": norm,
    "pool": product,
    "reduce_window": largest,
    "max_pool_with_argmax": maxima_and_places,
    "adaptive_avg_pool": lambda x: binned(x, np.mean),
    "adaptive_max_pool": lambda x: binned(x, np.max),
    "median_pool": lambda x: ranked(x, 3, 1),
    "rank_pool": lambda x: ranked(x, 4, 1),
    "global_avg_pool": lambda x: x.mean(1),
    "global_max_pool": lambda x: x.max(1),
}


def gradients(name: str, operands: tuple[Array, ...], cotangent: Array) -> list[Array]:
    """Each array's gradient of <op, cotangent> by central differences; exact but for rounding if linear."""
    function, step = ORACLES[name], 2.0**-8
    found = []
    for i, operand in enumerate(operands):
        slope = np.zeros_like(operand)
        for index in np.ndindex(*operand.shape):
            moved = np.zeros_like(operand)
            moved[index] = step
            at = functools.partial(lambda i, v: function(*operands[:i], v, *operands[i + 1 :]), i)
            change = at(operand + moved) - at(operand - moved)
            slope[index] = (change * cotangent).sum() / (2 * step)
        found.append(slope)
    return found
