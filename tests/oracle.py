"""Convolution by its definition, in plain NumPy loops: the reference every suite compares with.

Canonical layout: `x [N, *S, C]`, `w [*K, C/G, O]`, `y [N/B, *M, O]` (G feature groups, B batch
groups, at most one of them above 1). One relation says everything. On one axis, output m, tap k
and input i meet exactly where

    i * input_dilation + lo == m * stride + k * kernel_dilation

and the convolution, its input gradient and its kernel gradient are three ways to sum over the
meeting triples (i, k, m). Nothing here pads, dilates, flips or imports JAX.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Pads = tuple[tuple[int, int], ...]


class Axis(NamedTuple):
    """One spatial axis: sizes of input and kernel and how they meet."""

    size: int
    taps: int
    stride: int
    pad: tuple[int, int]
    input_dilation: int
    kernel_dilation: int

    @property
    def out_size(self) -> int:
        spread = dilated(self.size, self.input_dilation) + sum(self.pad)
        return max(0, (spread - dilated(self.taps, self.kernel_dilation)) // self.stride + 1)

    def meetings(self) -> list[tuple[int, int, int]]:
        """All (input, tap, output) that meet."""
        found = []
        for m, k in itertools.product(range(self.out_size), range(self.taps)):
            i, off_grid = divmod(
                m * self.stride + k * self.kernel_dilation - self.pad[0], self.input_dilation
            )
            if not off_grid and 0 <= i < self.size:
                found.append((i, k, m))
        return found


def dilated(size: int, dilation: int) -> int:
    """Extent of `size` points that lie `dilation` apart."""
    return max(0, (size - 1) * dilation + 1)


@dataclass(frozen=True)
class Geometry:
    """One convolution problem with explicit paddings, batch and channels as they are."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: Pads
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: int = 1
    batch_groups: int = 1

    @property
    def axes(self) -> list[Axis]:
        columns = zip(
            self.x_shape[1:-1],
            self.w_shape[:-2],
            self.strides,
            self.pads,
            self.input_dilation,
            self.kernel_dilation,
            strict=True,
        )
        return [Axis(*column) for column in columns]

    @property
    def y_shape(self) -> tuple[int, ...]:
        spatial = tuple(axis.out_size for axis in self.axes)
        return (self.x_shape[0] // self.batch_groups, *spatial, self.w_shape[-1])

    def meetings(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
        """All (input, tap, output) index tuples that meet on every axis."""
        for triples in itertools.product(*(axis.meetings() for axis in self.axes)):
            yield (
                tuple(t[0] for t in triples),
                tuple(t[1] for t in triples),
                tuple(t[2] for t in triples),
            )

    def reduction(self, side: str) -> int:
        """How many products at most are summed into one entry of `side` ("y", "dx" or "dw")."""
        taps = int(np.prod(self.w_shape[:-2]))
        positions = int(np.prod(self.y_shape[:-1]))
        summed = {
            "y": taps * self.w_shape[-2],
            "dx": taps * self.w_shape[-1] // (self.groups * self.batch_groups),
            "dw": positions,
        }
        return max(1, summed[side])


def resolve_padding(
    padding: str | int | Sequence[Any],
    sizes: Sequence[int],
    taps: Sequence[int],
    strides: Sequence[int],
    kernel_dilation: Sequence[int],
) -> Pads:
    """Explicit pads of the zero-padding modes, one (lo, hi) per axis."""
    if isinstance(padding, int):
        return ((padding, padding),) * len(sizes)
    if not isinstance(padding, str):
        return tuple((p, p) if isinstance(p, int) else tuple(p) for p in padding)
    pads = []
    for n, k, s, d in zip(sizes, taps, strides, kernel_dilation, strict=True):
        extent = dilated(k, d)
        missing = max((-(-n // s) - 1) * s + extent - n, 0)
        pads.append(
            {
                "VALID": (0, 0),
                "SAME": (missing // 2, missing - missing // 2),
                "SAME_LOWER": (missing - missing // 2, missing // 2),
                "FULL": (extent - 1, extent - 1),
                "CAUSAL": (extent - 1, 0),
                "REVERSE_CAUSAL": (0, extent - 1),
            }[padding.upper()]
        )
    return tuple(pads)


def wide(a: Any) -> Array:
    """The same numbers in the widest type of their kind."""
    a = np.asarray(a)
    if a.dtype.kind in "iu":
        return a.astype(np.int64)
    return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)


def _split_x(x: Array, geometry: Geometry) -> Array:
    """`[N, *S, C] -> [B, N/B, *S, G, C/G]`."""
    b, g = geometry.batch_groups, geometry.groups
    return x.reshape(b, x.shape[0] // b, *x.shape[1:-1], g, x.shape[-1] // g)


def _split_w(w: Array, geometry: Geometry) -> Array:
    """`[*K, C/G, O] -> [*K, C/G, B, G, O/(BG)]`."""
    b, g = geometry.batch_groups, geometry.groups
    return w.reshape(*w.shape[:-1], b, g, w.shape[-1] // (b * g))


def _split_y(y: Array, geometry: Geometry) -> Array:
    """`[N/B, *M, O] -> [N/B, *M, B, G, O/(BG)]`."""
    b, g = geometry.batch_groups, geometry.groups
    return y.reshape(*y.shape[:-1], b, g, y.shape[-1] // (b * g))


def forward(x: Any, w: Any, geometry: Geometry) -> Array:
    """`y[n, m, o] = sum x[n, i, c] w[k, c, o]` over the meeting (i, k), groups apart."""
    xs, ws = _split_x(wide(x), geometry), _split_w(wide(w), geometry)
    y = np.zeros(geometry.y_shape, np.result_type(xs, ws))
    ys = _split_y(y, geometry)
    for i, k, m in geometry.meetings():
        ys[(slice(None), *m)] += np.einsum("bngc,cbgo->nbgo", xs[(slice(None),) * 2 + i], ws[k])
    return y


def input_gradient(dy: Any, w: Any, geometry: Geometry) -> Array:
    """`dx[n, i, c] = sum dy[n, m, o] w[k, c, o]` over the meeting (m, k), groups apart."""
    ys, ws = _split_y(wide(dy), geometry), _split_w(wide(w), geometry)
    dx = np.zeros(geometry.x_shape, np.result_type(ys, ws))
    xs = _split_x(dx, geometry)
    for i, k, m in geometry.meetings():
        xs[(slice(None),) * 2 + i] += np.einsum("nbgo,cbgo->bngc", ys[(slice(None), *m)], ws[k])
    return dx


def kernel_gradient(x: Any, dy: Any, geometry: Geometry) -> Array:
    """`dw[k, c, o] = sum x[n, i, c] dy[n, m, o]` over n and the meeting (i, m), groups apart."""
    xs, ys = _split_x(wide(x), geometry), _split_y(wide(dy), geometry)
    dw = np.zeros(geometry.w_shape, np.result_type(xs, ys))
    ws = _split_w(dw, geometry)
    for i, k, m in geometry.meetings():
        ws[k] += np.einsum("bngc,nbgo->cbgo", xs[(slice(None),) * 2 + i], ys[(slice(None), *m)])
    return dw


def border_pads(geometry: Geometry) -> Pads:
    """The pads of CIRCULAR, REFLECT, SYMMETRIC and EDGE: half the kernel each side, whatever the stride."""
    extents = [dilated(axis.taps, axis.kernel_dilation) for axis in geometry.axes]
    return tuple(((e - 1) // 2, e // 2) for e in extents)


def forward_with_border(x: Any, w: Any, geometry: Geometry, mode: str) -> Array:
    """Copy the border in a mode of `numpy.pad` ("wrap", "symmetric", ..), then a valid convolution."""
    pads = ((0, 0), *border_pads(geometry), (0, 0))
    x = np.pad(wide(x), pads, mode=mode)  # type: ignore[call-overload]
    valid = replace(geometry, x_shape=x.shape, pads=((0, 0),) * len(geometry.pads))
    return forward(x, w, valid)


def conv_transpose(
    x: Any,
    w: Any,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dilation: Sequence[int],
    transpose_kernel: bool = False,
    consistent: bool = False,
) -> Array:
    """Every input pixel stamps the kernel on the output, `stride` apart; then the ends are cropped.

    `w [*K, I, O]`; stamped as it is with `transpose_kernel` (and read `[*K, O, I]`), rotated by
    180 degrees without. A negative crop appends zeros.
    """
    x, w = wide(x), wide(w)
    if transpose_kernel:
        w = np.swapaxes(w, -1, -2)
    else:
        w = np.flip(w, tuple(range(w.ndim - 2)))
    sizes, taps = x.shape[1:-1], w.shape[:-2]
    extents = [dilated(k, d) for k, d in zip(taps, dilation, strict=True)]
    stamped = [max(0, (n - 1) * s + e) for n, s, e in zip(sizes, strides, extents, strict=True)]
    full = np.zeros((x.shape[0], *stamped, w.shape[-1]), np.result_type(x, w))
    for i in np.ndindex(*sizes):
        for k in np.ndindex(*taps):
            at = tuple(a * s + b * d for a, s, b, d in zip(i, strides, k, dilation, strict=True))
            full[(slice(None), *at)] += x[(slice(None), *i)] @ w[k]
    for axis, (n, s, e, size) in enumerate(zip(sizes, strides, extents, stamped, strict=True)):
        if padding in ("SAME", "VALID"):
            lo = max(e - s, 0) // 2 if padding == "SAME" else 0
            wanted = n * s if padding == "SAME" else n * s + max(e - s, 0)
            hi = size - lo - wanted
        else:
            lo, hi = padding[axis] if consistent else (e - 1 - p for p in padding[axis])
        full = _crop(full, axis + 1, lo, hi)
    return full


def _crop(a: Array, axis: int, lo: int, hi: int) -> Array:
    grow = [(0, 0)] * a.ndim
    grow[axis] = (max(-lo, 0), max(-hi, 0))
    a = np.pad(a, grow)
    return np.take(a, range(max(lo, 0), a.shape[axis] - max(hi, 0)), axis)


def convolve(x: Any, w: Any, mode: str) -> Array:
    """True convolution of two arrays of one rank, cut to SciPy's "full", "same" or "valid"."""
    x, w = wide(x), wide(w)
    full = np.zeros([n + k - 1 for n, k in zip(x.shape, w.shape, strict=True)], np.result_type(x, w))
    for i in np.ndindex(*x.shape):
        for k in np.ndindex(*w.shape):
            full[tuple(np.add(i, k))] += x[i] * w[k]
    if mode == "full":
        return full
    if mode == "same":
        sizes = x.shape
    else:
        sizes = tuple(abs(n - k) + 1 for n, k in zip(x.shape, w.shape, strict=True))
    starts = [(f - n) // 2 for f, n in zip(full.shape, sizes, strict=True)]
    return full[tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))]


def correlate(x: Any, w: Any, mode: str) -> Array:
    """Convolution with the reversed conjugate kernel."""
    return convolve(x, np.conj(np.flip(wide(w))), mode)
