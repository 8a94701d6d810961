"""Kernel gradients on lanes: fused sums of slices instead of products of matrices.

The channels of x `[N, *S, A]` and of g `[N, *M, B]` are lanes, in shapes `lanes` that broadcast against each
other. Everything is elementwise in them, so that the compiler's one vectorised loop runs along the last. They
take these shapes within a sum: of an array with axes of length 1 XLA makes a copy for the loop that reads it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._loops import map_in_loop
from .._patches import BARRIERS_HOLD, Tap, all_taps, pad_to_windows
from .._window import Window
from ._lane_plan import Lanes, cached_images, folded_images, len_parts, summed_at_once, tap_leads
from ._lane_slices import column_sources, meeting_slices
from ._lane_sums import add_in_chains, add_up, pad_axis, scale
from ._stages import add_in_loop, apart

# Taps of one axis that are written out in one sum; longer kernels loop over single taps.
MAX_ROW_TAPS = 64


def with_padding(x: Array, windows: Sequence[Window]) -> tuple[Array, tuple[Window, ...]]:
    """x with its padding in memory, and the windows over it."""
    x = lax.optimization_barrier(pad_to_windows(x, windows))
    return x, tuple(w.padded() for w in windows)


def tap_rows(windows: Sequence[Window]) -> tuple[Array, tuple[Window, ...]]:
    """Indices `[R, A]` of all taps on the first A axes, and the windows that are left to a row of taps.

    A row runs along the last axis; where that is too long to be written out, a row is a single tap.
    """
    long = len(windows) == 1 or windows[-1].size > MAX_ROW_TAPS
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
    return materialise(lax.slice(block, [0] * x.ndim, block.shape, strides), len(windows))


def materialise(x: Array, axis: int) -> Array:
    """x in memory of its own, one sample longer on `axis`, which nothing reads.

    XLA would else repeat a dynamic slice in every sum that reads it, and its index arithmetic keeps the CPU
    backend from vectorising them. A result larger than its operand is not fused into several readers.
    """
    return lax.optimization_barrier(pad_axis(x, axis, 0, 1))


def tap_gradients(windows: Sequence[Window], lanes: Lanes, x: Array, g: Array, unrolled: bool) -> Array:
    """x times g summed over batch and space, for every tap: `[R, K, *L]`, R rows written out or in a loop.

    The barrier keeps a GPU's compiler from computing what x and g come from anew in each of the sums: a
    ConvNeXt's training step compiled in 54 s without it, in 18 with it (2026-11-26, jaxlib 0.11.2).
    """
    x, g = lax.optimization_barrier((x, g))
    if unrolled:
        return row_gradients(windows, lanes, x, g)
    x, windows = with_padding(x, windows)
    indices, row = tap_rows(windows)
    images = cached_images(x.shape[0], sum(image_bytes(x, g)))

    def of_block(i: Any) -> Array:
        x_block, g_block = (lax.dynamic_slice_in_dim(a, i * images, images) for a in (x, g))

        def of_row(index: Array) -> Array:
            return row_gradients(row, lanes, row_slice(windows, x_block, index), g_block)

        return map_in_loop(of_row, indices)

    return add_in_loop(x.shape[0] // images, of_block, x)


def row_gradients(windows: Sequence[Window], lanes: Lanes, x: Array, g: Array) -> Array:
    """x times g summed over batch and space, for all taps of `windows`: `[rows, K, *L]`.

    A row holds the K taps of the last axis. For one output column they are neighbours in x, so that a slice
    of K columns of x times one column of g serves the whole row: [N, *R, K, *A] x [N, *R, 1, *B].
    """
    images, columns = summed_at_once(windows, lanes, x.shape[0], image_bytes(x, g))
    if columns < windows[-1].out_size:
        x, windows = with_padding(x, windows)
    elif images == x.shape[0]:
        return block_gradients(windows, lanes, x, g)
    return looped_gradients(windows, lanes, x, g, images, columns)


def image_bytes(*arrays: Array) -> list[int]:
    """Bytes of one image of each."""
    return [math.prod(a.shape[1:]) * a.dtype.itemsize for a in arrays]


def block_gradients(windows: Sequence[Window], lanes: Lanes, x: Array, g: Array) -> Array:
    """`row_gradients` written out, one row of taps after another.

    Side by side, XLA keeps the partial sums of all of them: K times the memory, and 0.9 to 1.6 times the time
    (17 shapes with groups, 2026-11-29, AMD EPYC Zen 4).
    """
    sums = partial_sums(windows, lanes, x, g)

    def add_row(lead: Tap, dw: Array | None) -> Array:
        row = sum_leading(sums(lead), len(windows))[None]
        return row if dw is None else lax.concatenate([dw, row], 0)

    dw = None
    for lead in tap_leads(windows):
        dw = apart(functools.partial(add_row, lead))(dw)
    return cast(Array, dw)


def partial_sums(windows: Sequence[Window], lanes: Lanes, x: Array, g: Array) -> Callable[[Tap], list[Array]]:
    """A function that gives some arrays `[N', *R, K, *L]` that add up to the gradient of a row of taps."""
    columns = windows[-1].out_size
    images = folded_images(windows, lanes, columns, x.shape[0])
    spots = [(i, j) for i in range(images) for j in range(columns)]
    length = -(-len(spots) // len_parts(len(spots), lanes, x.dtype.itemsize))
    sources = column_sources(windows, x)

    def of_row(lead: Tap) -> list[Array]:
        if not all(w.outputs_at(k) for w, k in zip(windows, lead, strict=False)):
            shape = (*[0] * len(windows), windows[-1].size, *jnp.broadcast_shapes(*lanes))
            return [jnp.zeros(shape, x.dtype)]
        pairs = [meeting_slices(windows, lead, sources[j], g, images, i, j) for i, j in spots]
        products = [multiply_lanes(lanes, a, b) for a, b in pairs]
        return [add_in_chains(products[start : start + length]) for start in range(0, len(spots), length)]

    return of_row


def multiply_lanes(lanes: Lanes, *slices: Array) -> Array:
    """x and g of one column, `[..., A]` and `[..., B]`, multiplied in the shapes of their lanes."""
    x, g = (lax.reshape(a, (*a.shape[:-1], *shape)) for a, shape in zip(slices, lanes, strict=True))
    return scale(x, g)


def looped_gradients(
    windows: Sequence[Window], lanes: Lanes, x: Array, g: Array, images: Any, columns: int
) -> Array:
    """`row_gradients` in a loop over blocks of images and columns, and what columns are left."""
    axis, (*rows, last) = len(windows), windows
    across = last.out_size // columns

    def window_of(count: int) -> Window:
        if count == last.out_size:
            return last
        return dataclasses.replace(last, in_size=(count - 1) * last.stride + last.extent)

    def cut(start: Any, count: int, x: Array, g: Array) -> tuple[Array, Array]:
        x = lax.dynamic_slice_in_dim(x, start * last.stride, window_of(count).in_size, axis)
        return x, lax.dynamic_slice_in_dim(g, start, count, axis)

    def sums(i: Any) -> list[list[Array]]:
        block = (lax.dynamic_slice_in_dim(a, i // across * images, images) for a in (x, g))
        x_cut, g_cut = (materialise(a, axis) for a in cut(i % across * columns, columns, *block))
        of_row = partial_sums((*rows, window_of(columns)), lanes, x_cut, g_cut)
        return [of_row(lead) for lead in tap_leads(windows)]

    of_rows = add_in_loop(x.shape[0] // images * across, sums, x)
    dw = jnp.stack([sum_leading(parts, axis) for parts in of_rows])
    rest = last.out_size % columns
    if not rest:
        return dw
    return dw + row_gradients((*rows, window_of(rest)), lanes, *cut(last.out_size - rest, rest, x, g))


def sum_leading(parts: Sequence[Array], axes: int) -> Array:
    """Sum of arrays, and over all their leading `axes`.

    A barrier keeps XLA from pulling their sums into what follows; where none holds, they are joined along
    their first axis: along the last XLA compiles a copy for every point.
    """
    *shape, size = parts[0].shape
    if 0 in shape:
        return jnp.zeros((*shape[axes:], size), parts[0].dtype)
    if BARRIERS_HOLD and jax.default_backend() == "cpu":
        return add_up(sum_points(part, axes) for part in lax.optimization_barrier(list(parts)))
    return sum_points(lax.concatenate(parts, 0), axes)


def sum_points(x: Array, axes: int) -> Array:
    """Sum over leading axes, as a product with ones: XLA's reductions on CPUs are scalar."""
    points = math.prod(x.shape[:axes])
    ones, matrix = jnp.ones((1, points), x.dtype), x.reshape(points, -1)
    sums = lax.dot(ones, matrix, precision=lax.Precision.HIGHEST, preferred_element_type=x.dtype)
    return sums.reshape(x.shape[axes:])
