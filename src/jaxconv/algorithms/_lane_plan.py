"""How kernel gradients on lanes are cut into sums: images, columns and terms at once. No arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .._cpu_cache import last_level_times
from .._patches import Tap, all_taps
from .._window import Window
from ._lane_sums import cached_terms

# The shapes that the channels of x and of g take.
Lanes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

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
# of taps that read whole batches in turn took 1.3 to 2.5 times as long (2026-11-26, AMD EPYC Zen 4). Where x
# and g share lanes and all rows together read at most the third, these took 0.6 of the time (25 layers, 0.45
# to 1.0; lines and groups of more products 1.0 and 1.1, 2026-11-30).
WHOLE_BYTES, CACHED_BYTES, READ_BYTES = 10 << 20, 3 << 20, 40 << 20
# A larger last-level cache holds more of the third, so many times at most: 0.68 of the time (13 layers of 16
# to 42 MB beside one of 480 MB, 0.38 to 1.07, the same day, Intel Xeon).
MOST_TIMES = 3
# Terms of all rows together that are written out: compile time grows with every one, to half a second.
MAX_UNROLLED_TERMS = 384


def is_unrolled(windows: Sequence[Window]) -> bool:
    """Whether all rows of taps can be written out, or a kernel gradient has to loop over them."""
    *rows, last = windows
    columns = last.out_size if last.out_size <= MAX_COLUMNS else BLOCK_COLUMNS
    return columns * math.prod(w.size for w in rows) <= MAX_UNROLLED_TERMS


def tap_leads(windows: Sequence[Window]) -> list[Tap]:
    """All taps on the axes before the last: one for every row."""
    return list(all_taps([w.size for w in windows[:-1]]))


def summed_at_once(
    windows: Sequence[Window], lanes: Lanes, batch: Any, each_bytes: Sequence[int]
) -> tuple[Any, int]:
    """Images and output columns that are summed over at a time, one of x and of g taking `each_bytes`."""
    *rows, last = windows
    share = rows and lanes[0] == lanes[1] and isinstance(batch, int)
    most = READ_BYTES * min(MOST_TIMES, last_level_times())
    in_cache = share and batch * bytes_read(windows, each_bytes) <= most
    images = batch if in_cache else cached_images(batch, sum(each_bytes))
    if last.out_size <= MAX_COLUMNS:
        return images, last.out_size
    sizes = range(BLOCK_COLUMNS, BLOCK_COLUMNS // 2, -1)
    return images, next((n for n in sizes if last.out_size % n == 0), BLOCK_COLUMNS)


def bytes_read(windows: Sequence[Window], each_bytes: Sequence[int]) -> int:
    """What all rows of taps read of an x and a g of `each_bytes`."""
    x_bytes, g_bytes = each_bytes
    strides = math.prod(w.stride for w in windows[:-1])
    return len(tap_leads(windows)) * (x_bytes // strides + g_bytes)


def cached_images(batch: Any, each_bytes: int) -> Any:
    """How many images at a time to sum over, so that every row of taps finds them in cache."""
    if not isinstance(batch, int) or jax.default_backend() != "cpu":
        return batch
    if batch * each_bytes <= WHOLE_BYTES:
        return batch
    most = max(1, CACHED_BYTES // each_bytes)
    return next(n for n in range(min(most, batch), 0, -1) if batch % n == 0)


def folded_images(windows: Sequence[Window], lanes: Lanes, columns: int, batch: int) -> int:
    """How many blocks of images to sum over like columns, so that narrow outputs leave few partial sums."""
    if not isinstance(batch, int):
        return 1
    share = lanes[0] == lanes[1] and math.prod(lanes[0]) >= SHARED_LANES
    folded = FEW_FOLDED_COLUMNS if share else FOLDED_COLUMNS
    most = min(folded, MAX_UNROLLED_TERMS // len(tap_leads(windows))) // columns
    return next(n for n in range(max(1, most), 0, -1) if batch % n == 0)


def len_parts(columns: int, lanes: Lanes, itemsize: int) -> int:
    """Into how many partial sums the columns of a row of taps go."""
    return max(2, -(-columns // column_terms(lanes, itemsize)))


def column_terms(lanes: Lanes, itemsize: int) -> int:
    """Terms of one fused sum over columns, which the L1 cache holds."""
    values = [math.prod(shape) for shape in lanes]
    as_many = math.prod(jnp.broadcast_shapes(*lanes)) == max(values)
    least = LEAST_COLUMN_TERMS if as_many else LEAST_PRODUCT_TERMS
    return min(MAX_COLUMN_TERMS, max(least, min(cached_terms(size * itemsize) for size in values)))


def count_sums(windows: Sequence[Window], batch: int, lanes: Lanes, itemsize: int) -> tuple[int, float]:
    """Values of the partial sums that are alive at once, and products that each holds.

    These are the sums of a row of taps, in a loop over images or columns those of all rows.
    """
    *rows, last = windows
    sizes = math.prod(w.in_size for w in windows), math.prod(w.out_size for w in windows)
    values = [size * math.prod(shape) for size, shape in zip(sizes, lanes, strict=True)]
    images, columns = summed_at_once(windows, lanes, batch, [v * itemsize for v in values])
    alive = 1 if (images, columns) == (batch, last.out_size) else len(tap_leads(windows))
    folded = folded_images(windows, lanes, columns, images)
    parts = len_parts(folded * columns, lanes, itemsize)
    outputs = images // folded * math.prod(w.out_size for w in rows)
    sums = alive * outputs * last.size * parts * math.prod(jnp.broadcast_shapes(*lanes))
    return sums, folded * columns / parts
