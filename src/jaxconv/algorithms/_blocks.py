"""Work in blocks that stay in cache: a few images, or a few rows of one image, at a time.

What an algorithm lays out between reading x and writing y is many times their size. Block by block it is
a few megabytes that never leave the cache, and the peak of memory does not grow with the batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._loops import loop
from .._patches import crop_to_input, pad_or_crop, pad_to_windows, slice_padded, zeros
from .._problem import ConvProblem, accumulator
from ._stages import separately

# What a block may lay out on an accelerator, which large arrays keep busy; it holds gigabytes.
DEVICE_BYTES = 256 << 20
# Channels from which rows of an image are padded when they are read: kernel gradients took 0.79 to 0.97 of
# the time of a padded copy of x (5 shapes of 16 to 96), with one or eight channels 0.96 to 1.18 (5 shapes,
# 2026-11-28, AMD EPYC Zen 4).
ROW_CHANNELS = 16
# Bytes of x and y from which they go block by block where several sums read them in turn, and of such a
# block: depthwise sums took 0.68 of the time (61 random passes, 0.35 to 1.2), from 8 to 16 MB 0.8 to 1.3
# times as long (40 layers; 2026-11-30, AMD EPYC Zen 4, AVX-512, with a last-level cache of 32 MB).
LARGE_BYTES, LARGE_BLOCK_BYTES = 16 << 20, 4 << 20


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A grid over batch and output rows: `images` whole examples, or `rows` of the first axis of one.

    Blocks have their padding in place, whole examples without `padded` are as they come.
    """

    images: int
    rows: int
    grid: tuple[Any, int]
    padded: bool = True

    @property
    def count(self) -> Any:
        return self.grid[0] * self.grid[1]


def block_limit(cache_bytes: int, io_bytes: int) -> int:
    """What a block may lay out: what stays in cache and is in proportion to x, w and y."""
    if jax.default_backend() != "cpu":
        return max(DEVICE_BYTES, io_bytes)
    return min(cache_bytes, io_bytes)


def plan_blocks(problem: ConvProblem, row_bytes: int, block_bytes: int) -> Blocks:
    """Few equal blocks that lay out at most `block_bytes`, one output row taking `row_bytes`.

    The first spatial axis gives the rows. A batch size known only at run time goes image by image.
    """
    rows = problem.output_size[0]
    image_bytes = max(1, rows * row_bytes)
    if image_bytes > block_bytes:
        block_rows = even_part(rows, -(-image_bytes // block_bytes))
        return Blocks(1, block_rows, (problem.batch, -(-rows // block_rows)))
    if not isinstance(problem.batch, int):
        return Blocks(1, rows, (problem.batch, 1))
    images = even_part(problem.batch, -(-problem.batch * image_bytes // block_bytes))
    return Blocks(images, rows, (-(-problem.batch // images), 1))


def plan_images(problem: ConvProblem, image_bytes: int, block_bytes: int) -> Blocks:
    """Few equal blocks of whole examples, not padded, that lay out at most `block_bytes`, or one each."""
    rows, count = problem.output_size[0], -(-problem.sized().batch * image_bytes // block_bytes)
    images = even_part(problem.batch, max(1, count)) if isinstance(problem.batch, int) else 1
    return Blocks(images, rows, (-(-problem.batch // images), 1), padded=False)


def is_large(problem: ConvProblem, times: float = 1) -> bool:
    """Whether no cache of a CPU, so many times that of the measurements, holds x and y from sum to sum."""
    return jax.default_backend() == "cpu" and sum(array_bytes(problem)) > times * LARGE_BYTES


def large_blocks(problem: ConvProblem) -> Blocks:
    """Few equal blocks that do stay in cache."""
    rows = problem.sized().batch * problem.output_size[0]
    return plan_blocks(problem, sum(array_bytes(problem)) // rows, LARGE_BLOCK_BYTES)


def image_blocks(problem: ConvProblem) -> Blocks:
    """Images at a time whose residue classes, copies of x or y, stay in cache, or all of them.

    Classes of x took 0.73 of the time (52 random passes of an x of 16 to 79 MB, 0.34 to 1.16, 2026-11-30, AMD
    EPYC Zen 4, AVX-512).
    """
    strided = any(w.stride > 1 or w.base_dilation > 1 for w in problem.windows)
    if not strided or not is_large(problem):
        return one_block(problem, padded=False)
    return plan_images(problem, sum(array_bytes(problem)) // problem.sized().batch, LARGE_BLOCK_BYTES)


def array_bytes(problem: ConvProblem) -> tuple[int, int]:
    """Bytes of x and of y in the accumulator's dtype."""
    sized, size = problem.sized(), accumulator(problem).itemsize
    return math.prod(sized.input_shape) * size, math.prod(sized.output_shape) * size


def padded_bytes(problem: ConvProblem, itemsize: int) -> int:
    """Bytes of a padded copy of x."""
    problem = problem.sized()
    return problem.batch * math.prod(w.reach for w in problem.windows) * problem.in_channels * itemsize


def one_block(problem: ConvProblem, padded: bool = True) -> Blocks:
    """All of x and y, which may have no spatial axis."""
    rows, *_ = *problem.output_size, 1
    return Blocks(problem.batch, rows, (1, 1), padded)


def even_part(size: int, parts: int) -> int:
    """How long `parts` equal parts are, or more of them, below twice as many, where these overlap less.

    What two blocks compute is lost: 0.96 of the time of the fewest, 0.76 at best (82 passes, 2026-11-28, AMD
    EPYC Zen 4, AVX-512).
    """
    counts = range(min(size, parts), min(size, 2 * parts - 1) + 1)
    return min((-(-size // count) for count in counts), key=lambda length: -(-size // length) * length)


def block_problem(problem: ConvProblem, blocks: Blocks) -> ConvProblem:
    """The problem of one block: padding is in place, and `rows` outputs remain on the first axis."""
    if not blocks.padded:
        return dataclasses.replace(problem, batch=blocks.images)
    first, *others = (w.padded() for w in problem.windows)
    span = (blocks.rows - 1) * first.stride + first.extent
    windows = (dataclasses.replace(first, in_size=span), *others)
    return dataclasses.replace(problem, batch=blocks.images, windows=windows)


def forward_in_blocks(
    problem: ConvProblem,
    blocks: Blocks,
    x: Array,
    step: Callable[[ConvProblem, Array], Array],
) -> Array:
    """y from x and `step(block's problem, block of padded x)`."""
    part = block_problem(problem, blocks)
    if is_one(blocks):
        return step(part, pad_to_windows(x, problem.windows) if blocks.padded else x)
    read = block_reader(problem, blocks, x)

    def write(i: Array, y: Array) -> Array:
        image, row = block_start(problem, blocks, x, i)
        y_block = step(part, read(image, row))
        return lax.dynamic_update_slice(y, y_block.astype(y.dtype), indices(y, image, row))

    y = zeros((x.shape[0], *problem.output_shape[1:]), problem.y_dtype, x)
    return loop(blocks.count, write, y)


def kernel_grad_in_blocks(
    problem: ConvProblem,
    blocks: Blocks,
    x: Array,
    g: Array,
    step: Callable[[ConvProblem, Array, Array], Array],
) -> Array:
    """dw from x and g, summed from `step(block's problem, block of padded x, block of g)`."""
    part = block_problem(problem, blocks)
    if is_one(blocks):
        return step(part, pad_to_windows(x, problem.windows) if blocks.padded else x, g)
    read = block_reader(problem, blocks, x)

    def add(i: Array, dw: Array) -> Array:
        image, row = block_start(problem, blocks, x, i)
        x_block = read(image, row)
        g_block = lax.dynamic_slice(g, indices(g, image, row), (blocks.images, blocks.rows, *g.shape[2:]))
        g_block = mask_overlap(blocks, g_block, i, (image, row), g.shape)
        return dw + step(part, x_block, g_block)

    return loop(blocks.count, add, zeros(problem.kernel_shape, accumulator(problem), x))


def input_grad_in_blocks(
    problem: ConvProblem,
    blocks: Blocks,
    g: Array,
    step: Callable[[ConvProblem, Array], Array],
) -> Array:
    """dx from `step(block's problem, block of g)`, the gradient of the padded input that the block read.

    Whole images share no input, and are cropped one block at a time; rows of them overlap and are added up.
    """
    part = block_problem(problem, blocks)
    if is_one(blocks):
        return crop_to_input(problem, step(part, g))

    def write(i: Array, dx: Array) -> Array:
        image, row = block_start(problem, blocks, g, i)
        dx_block = crop_to_input(problem, step(part, lax.dynamic_slice_in_dim(g, image, blocks.images)))
        return lax.dynamic_update_slice(dx, dx_block, indices(dx, image, row))

    def add(i: Array, dx: Array) -> Array:
        image, row = block_start(problem, blocks, g, i)
        g_block = lax.dynamic_slice(g, indices(g, image, row), (blocks.images, blocks.rows, *g.shape[2:]))
        g_block = mask_overlap(blocks, g_block, i, (image, row), g.shape)
        row = row * problem.windows[0].stride
        dx_block = slice_rows(dx, part, image, row) + step(part, g_block)
        return lax.dynamic_update_slice(dx, dx_block, indices(dx, image, row))

    if blocks.grid[1] == 1:
        shape = (g.shape[0], *problem.input_shape[1:])
        return loop(blocks.count, write, zeros(shape, accumulator(problem), g))
    shape = (g.shape[0], *(w.reach for w in problem.windows), problem.in_channels)
    dx = loop(blocks.count, add, zeros(shape, accumulator(problem), g))
    return crop_to_input(problem, dx)


def is_one(blocks: Blocks) -> bool:
    """Whether there is no loop to run."""
    return isinstance(blocks.count, int) and blocks.count == 1


def block_start(problem: ConvProblem, blocks: Blocks, x: Array, i: Array) -> tuple[Array, Array]:
    """First image and output row of block i. The last blocks reach back, so that all have one shape."""
    image = jnp.minimum(i // blocks.grid[1] * blocks.images, x.shape[0] - blocks.images)
    row = jnp.minimum(i % blocks.grid[1] * blocks.rows, problem.output_size[0] - blocks.rows)
    return image, row


def block_reader(problem: ConvProblem, blocks: Blocks, x: Array) -> Callable[[Array, Array], Array]:
    """A function that gives the padded input of the block that starts at an image and an output row.

    It is padded block by block, in cache: with a padded copy of x in memory passes took 1.1 times as long, up
    to 1.6 (45 passes of whole images, 2026-11-27, AMD EPYC Zen 3). Rows of few channels share such a copy.
    """
    if not blocks.padded:
        return lambda image, row: lax.dynamic_slice_in_dim(x, image, blocks.images)
    part = block_problem(problem, blocks)
    first, *others = ((w.lo, w.hi) for w in (window.exact() for window in problem.windows))
    stride, size = problem.windows[0].stride, part.windows[0].in_size
    is_thin = blocks.grid[1] > 1 and x.shape[-1] < ROW_CHANNELS
    if is_thin or not any(lo or hi for lo, hi in (first, *others)):
        x = pad_to_windows(x, problem.windows)
        return lambda image, row: slice_rows(x, part, image, row * stride)

    def cut(starts: tuple[Array, Array]) -> Array:
        image, row = starts
        if blocks.grid[1] == 1:
            return pad_to_windows(lax.dynamic_slice_in_dim(x, image, blocks.images), problem.windows)
        sizes = (blocks.images, size, *x.shape[2:])
        rows = slice_padded(x, indices(x, image, row * stride), sizes, first)
        return pad_or_crop(rows, [(0, 0), *others])

    return lambda image, row: separately(cut, (image, row))


def slice_rows(x: Array, part: ConvProblem, image: Array, row: Array) -> Array:
    """The padded input that a block reads."""
    sizes = (part.batch, part.windows[0].in_size, *x.shape[2:])
    return lax.dynamic_slice(x, indices(x, image, row), sizes)


def indices(x: Array, image: Array, row: Array) -> tuple[Array, ...]:
    return (image, row, *(jnp.zeros_like(image) for _ in range(x.ndim - 2)))


def mask_overlap(
    blocks: Blocks, g: Array, i: Array, start: tuple[Array, Array], whole: tuple[int, ...]
) -> Array:
    """Zero what an earlier block has already summed, where the last block on an axis reaches back."""
    firsts = (i // blocks.grid[1] * blocks.images, i % blocks.grid[1] * blocks.rows)
    for axis, size in enumerate((blocks.images, blocks.rows)):
        if size > 1 and whole[axis] % size:
            index = start[axis] + lax.broadcasted_iota(i.dtype, g.shape, axis)
            g = jnp.where(index >= firsts[axis], g, jnp.zeros_like(g))
    return g
