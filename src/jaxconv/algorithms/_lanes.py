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
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._loops import map_in_loop
from .._patches import BARRIERS_HOLD, Tap, all_taps, pad_to_windows
from .._window import Window
from ._lane_slices import column_sources, meeting_slices
from ._lane_sums import add_in_chains, add_up, cached_terms, pad_axis, scale
from ._stages import add_in_loop, apart

# The shapes that the channels of x and of g take.
Lanes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

# Taps of one axis that are written out in one sum; longer kernels loop over single taps.
MAX_ROW_TAPS = 64
# Output columns that a row of taps is summed over: blocks of the second number took 1.7 times as long on 160
# to 256 columns (10 passes, 2026-11-30), of 64 1.1 times (35 lines). The third: columns of several images.
MAX_COLUMNS, BLOCK_COLUMNS, FOLDED_COLUMNS = 256, 32, 64
# Where x and g have so many lanes and share them, half as many columns of several images take 0.86 of the
# time to compile, and as long (58 layers, 0.67 to 1.3); 3 to 8 lanes took 1.3 times as long (26).
FEW_FOLDED_COLUMNS, SHARED_LANES = 32, 16
# Terms of one fused sum over columns: more overflow the L1 cache, fewer leave more partial sums. At least so
# many where a product has the lanes of x and g, and where it has more: 512 channels took 0.2 to 0.9 of the
# time of 28 terms, groups of 2 to 16 that have as many together 0.3 to 0.8 (30 shapes, 2026-11-29, AMD EPYC
# Zen 4).
MAX_COLUMN_TERMS, LEAST_COLUMN_TERMS, LEAST_PRODUCT_TERMS = 28, 10, 16
# An x and g of more bytes than the first are summed over image by image, or a few of at most the second: rows
# of taps that read whole batches in turn took 1.3 to 2.5 times as long (2026-11-26, AMD EPYC Zen 4).
WHOLE_BYTES, CACHED_BYTES = 10 << 20, 3 << 20
# Terms of all rows together that are written out: compile time grows with every one, to half a second.
MAX_UNROLLED_TERMS = 384


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


def is_unrolled(windows: Sequence[Window]) -> bool:
    """Whether all rows of taps can be written out, or a kernel gradient has to loop over them."""
    *rows, last = windows
    columns = last.out_size if last.out_size <= MAX_COLUMNS else BLOCK_COLUMNS
    return columns * math.prod(w.size for w in rows) <= MAX_UNROLLED_TERMS


def folded_images(windows: Sequence[Window], lanes: Lanes, columns: int, batch: int) -> int:
    """How many blocks of images to sum over like columns, so that narrow outputs leave few partial sums."""
    if not isinstance(batch, int):
        return 1
    share = lanes[0] == lanes[1] and math.prod(lanes[0]) >= SHARED_LANES
    folded = FEW_FOLDED_COLUMNS if share else FOLDED_COLUMNS
    most = min(folded, MAX_UNROLLED_TERMS // len(tap_leads(windows))) // columns
    return next(n for n in range(max(1, most), 0, -1) if batch % n == 0)


def count_sums(windows: Sequence[Window], batch: int, lanes: Lanes, itemsize: int) -> tuple[int, float]:
    """Values of the partial sums that are alive at once, and products that each holds.

    These are the sums of a row of taps, in a loop over images or columns those of all rows.
    """
    *rows, last = windows
    sizes = math.prod(w.in_size for w in windows), math.prod(w.out_size for w in windows)
    values = sum(size * math.prod(shape) for size, shape in zip(sizes, lanes, strict=True))
    images, columns = summed_at_once(windows, batch, values * itemsize)
    alive = 1 if (images, columns) == (batch, last.out_size) else len(tap_leads(windows))
    folded = folded_images(windows, lanes, columns, images)
    parts = len_parts(folded * columns, lanes, itemsize)
    outputs = images // folded * math.prod(w.out_size for w in rows)
    sums = alive * outputs * last.size * parts * math.prod(jnp.broadcast_shapes(*lanes))
    return sums, folded * columns / parts


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
    images = cached_images(x.shape[0], image_bytes(x, g))

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
    images, columns = summed_at_once(windows, x.shape[0], image_bytes(x, g))
    if columns < windows[-1].out_size:
        x, windows = with_padding(x, windows)
    elif images == x.shape[0]:
        return block_gradients(windows, lanes, x, g)
    return looped_gradients(windows, lanes, x, g, images, columns)


def summed_at_once(windows: Sequence[Window], batch: Any, each_bytes: int) -> tuple[Any, int]:
    """Images and output columns that are summed over at a time, an image of x and g taking `each_bytes`."""
    images, outputs = cached_images(batch, each_bytes), windows[-1].out_size
    if outputs <= MAX_COLUMNS:
        return images, outputs
    sizes = range(BLOCK_COLUMNS, BLOCK_COLUMNS // 2, -1)
    return images, next((n for n in sizes if outputs % n == 0), BLOCK_COLUMNS)


def image_bytes(x: Array, g: Array) -> int:
    """Bytes of one image of both."""
    return sum(math.prod(a.shape[1:]) * a.dtype.itemsize for a in (x, g))


def cached_images(batch: Any, each_bytes: int) -> Any:
    """How many images at a time to sum over, so that every row of taps finds them in cache."""
    if not isinstance(batch, int) or jax.default_backend() != "cpu":
        return batch
    if batch * each_bytes <= WHOLE_BYTES:
        return batch
    most = max(1, CACHED_BYTES // each_bytes)
    return next(n for n in range(min(most, batch), 0, -1) if batch % n == 0)


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


def tap_leads(windows: Sequence[Window]) -> list[Tap]:
    """All taps on the axes before the last: one for every row."""
    return list(all_taps([w.size for w in windows[:-1]]))


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


def len_parts(columns: int, lanes: Lanes, itemsize: int) -> int:
    """Into how many partial sums the columns of a row of taps go."""
    return max(2, -(-columns // column_terms(lanes, itemsize)))


def column_terms(lanes: Lanes, itemsize: int) -> int:
    """Terms of one fused sum over columns, which the L1 cache holds."""
    values = [math.prod(shape) for shape in lanes]
    as_many = math.prod(jnp.broadcast_shapes(*lanes)) == max(values)
    least = LEAST_COLUMN_TERMS if as_many else LEAST_PRODUCT_TERMS
    return min(MAX_COLUMN_TERMS, max(least, min(cached_terms(size * itemsize) for size in values)))


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

    A barrier keeps XLA from pulling their sums into what follows; where none holds, they are joined along the
    last axis.
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
