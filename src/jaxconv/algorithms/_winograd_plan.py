"""How Winograd cuts a problem: tiles per axis, and blocks that pass through the cache one after another."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax.numpy as jnp
from jax import Array

from .._problem import ConvProblem, Pass, accumulator, len_meetings
from .._window import Window
from ._winograd_axis import MAX_PRODUCTS, AxisTransform, View, axis_transform, tap_pieces

# Bytes of the planes of one block. Measured over 1 to 16 MB on two cores with 1 MB of L2 each and 32 MB of
# L3: smaller blocks launch more kernels, larger ones leave the cache.
BLOCK_BYTES = {Pass.FORWARD: 8 << 20, Pass.KERNEL_GRAD: 4 << 20}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The tiles of each axis, and a grid of blocks: `images`, `rows` of tiles, `channels` of the output."""

    axes: tuple[AxisTransform, ...]
    images: int
    rows: int
    channels: int
    grid: tuple[int, int, int]

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)

    @property
    def input_views(self) -> tuple[View, ...]:
        return tuple(a.input_view for a in self.axes)

    @property
    def output_views(self) -> tuple[View, ...]:
        return tuple(a.output_view for a in self.axes)

    def place(self, i: Array, row: int, rank: int, last: int | None = None) -> tuple[Array, ...]:
        """Where block i starts in an array `[N, *S, O]` whose rows of tiles are `row` samples high.

        With `last` no block starts behind that sample.
        """
        _, row_blocks, channel_blocks = self.grid
        image = i // (row_blocks * channel_blocks) * self.images
        first = i // channel_blocks % row_blocks * (self.rows * row)
        if last is not None:
            first = jnp.minimum(first, last)
        return (image, first, *(jnp.zeros_like(i),) * (rank - 1), i % channel_blocks * self.channels)


@functools.lru_cache(maxsize=1024)
def make_plan(problem: ConvProblem, pass_: Pass) -> Plan:
    """Blocks whose planes take BLOCK_BYTES at most, or with the kernel's what x, w and y take 2.5 times.

    A forward pass streams tiles past the kernel, or output channels past the tiles, whichever is more; a
    kernel gradient streams tiles, or input channels past the output's tiles.
    """
    axes = tuple(axis_transform(w, tile_outputs(w)) for w in problem.windows)
    kept, streamed, block_bytes = problem.in_channels, problem.out_channels, BLOCK_BYTES[pass_]
    if pass_ is Pass.KERNEL_GRAD:
        kept, streamed = streamed, kept
    first = axes[0]
    row_tiles = math.prod(a.tiles * a.dilation for a in axes) // first.tiles
    tiles = row_tiles * first.tiles * problem.batch
    item = math.prod(a.products for a in axes) * accumulator(problem).itemsize
    if tiles <= streamed:
        channels = divisor(streamed, block_bytes // (item * (kept + tiles)))
        return Plan(axes, problem.batch, first.tiles, channels, (1, 1, streamed // channels))
    block_bytes = min(block_bytes, 5 * problem.io_bytes() // 2 - item * kept * streamed)
    fitting_rows = max(1, block_bytes // (item * (kept + streamed) * row_tiles))
    if fitting_rows >= first.tiles:
        images = divisor(problem.batch, fitting_rows // first.tiles)
        return Plan(axes, images, first.tiles, streamed, (problem.batch // images, 1, 1))
    rows = divisor(first.tiles, fitting_rows)
    if 2 * rows < fitting_rows:
        rows = -(-first.tiles // -(-first.tiles // fitting_rows))
    return Plan(axes, 1, rows, streamed, (problem.batch, -(-first.tiles // rows), 1))


def tile_products(problem: ConvProblem) -> int:
    """Products of a tile, over all axes."""
    return math.prod(axis_transform(w, tile_outputs(w)).products for w in problem.windows)


def count_products(problem: ConvProblem) -> tuple[int, float]:
    """Tiles in the batch, and their products over those of the direct sum."""
    axes = [axis_transform(w, tile_outputs(w)) for w in problem.windows]
    products = math.prod(a.tiles * a.dilation * a.products for a in axes)
    tiles = problem.batch * math.prod(a.tiles * a.dilation for a in axes)
    return tiles, products / max(1, math.prod(map(len_meetings, problem.windows)))


def kernel_rereads(problem: ConvProblem, pass_: Pass) -> float:
    """Bytes of the kernel's planes that blocks of tiles read, or add to, again, over those of the tiles'."""
    problem = problem.one_group()
    if pass_ is Pass.INPUT_GRAD:
        problem, pass_ = problem.input_adjoint(), Pass.FORWARD
    plan, (tiles, _) = make_plan(problem, pass_), count_products(problem)
    again = plan.grid[0] * plan.grid[1] - 1
    cin, cout = problem.in_channels, problem.out_channels
    return again * cin * cout / (tiles * (cin + cout))


def divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that does not exceed `limit`, at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(1, limit))


def tile_outputs(window: Window) -> int:
    """Outputs per tile and phase of one axis: those that cover the axis with the fewest products.

    Phases make the matrices sparse, and larger ones were never faster.
    """
    taps = max(map(len, tap_pieces(range(phase_taps(window)))))
    if taps == 1:
        return 1
    largest = 2 if window.stride * window.base_dilation > 1 else MAX_PRODUCTS - taps + 1

    def products(outputs: int) -> int:
        axis = axis_transform(window, outputs)
        return axis.tiles * axis.products

    return min(range(2, min(largest, 4) + 1), key=products)


def is_in_pieces(problem: ConvProblem) -> bool:
    """Whether some axis has too many taps for one algorithm."""
    return any(len(tap_pieces(range(phase_taps(window)))) > 1 for window in problem.windows)


def phase_taps(window: Window) -> int:
    """Taps of the largest phase."""
    return -(-window.size // (window.stride * window.base_dilation))
