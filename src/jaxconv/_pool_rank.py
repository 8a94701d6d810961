"""Rank filters: of the samples under each window the one of a given rank, and the median.

The gradient of an order statistic is that of the maximum (T11): with the winner k*[n, m, c] fixed,

    y[n, m, c] = x[n, m s + k* d - lo, c]        dx = the sum of what dy sends to each window's winner

Both are linear and each is the other's derivative. Patches are sorted one example after another.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._front import context, hand_derived
from ._pool_call import Pool, as_inputs, execute, make_geometry
from ._pool_extreme import ExtremePool, worst
from ._unfold import fold, unfold
from ._window import Window, as_int


def rank_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    rank: int,
    window_dilation: int | Sequence[int] | None = None,
    autodiff: str = "custom",
) -> Array:
    """The sample of a given rank under each window, channel by channel: SciPy's `rank_filter`.

        y[*b, m, c] = sort_k(inputs[*b, m s + k d - lo, c])[rank]                             (T11, T2)

    Rank 0 is `min_pool`, rank -1 `max_pool`. The gradient goes to the chosen sample alone, the first in
    row-major order among equals; a NaN under the window is chosen before all else. Padding takes no part:
    a window at the border ranks the samples that it has. See Huang, Yang and Tang, IEEE Trans. ASSP 27(1),
    1979, for the filters. The patches of one example are held at a time, prod(K) times its result.

    Args:
      inputs, window_shape, strides, padding, window_dilation, autodiff: as in `max_pool`; zero padding is no
        padding here, SciPy's borders are "SYMMETRIC" (its default, reflect), "REFLECT" (its mirror), "EDGE"
        (nearest) and "CIRCULAR" (wrap), for odd sizes.
      rank: from 0, the smallest, to prod(K) - 1, or from -1, the largest, down to -prod(K). At a border with
        fewer samples than that the last, or the first, is taken.

    Returns:
      `[*batch, *M, C]` of inputs' dtype; 0 for a window on padding alone, except that the two extremes are
      those of `min_pool` and `max_pool`.

    Raises:
      ValueError, TypeError: as `max_pool`; a rank that the window does not have.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x = jnp.array([3, 9, 1, 4, 7]).reshape(5, 1)
      >>> jaxconv.rank_pool(x, (3,), rank=-2)[:, 0]
      Array([3, 4, 4], dtype=int32)
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding, rank=rank,
        window_dilation=window_dilation,
    )  # fmt: skip
    with context("rank_pool", **given):
        x = as_inputs(inputs, "bif")
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, False)
        pool = by_rank(geometry.windows, as_int(rank, "rank"))
        by_hand = hand_derived(autodiff)
    return execute(pool, by_hand, x, geometry.extension)


def median_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    autodiff: str = "custom",
) -> Array:
    """The median under each window, channel by channel: SciPy's `median_filter`.

        y[*b, m, c] = sort_k(inputs[*b, m s + k d - lo, c])[(count[m] - 1) // 2]              (T11, T2)

    Of an even number of samples it is the lower of the two in the middle, as `torch.median` has it; NumPy
    takes their mean, SciPy the upper one. It is a sample, and the gradient goes there, as in `rank_pool`. See
    Tukey, "Exploratory Data Analysis" (1977), for medians as smoothers.

    Args:
      inputs, window_shape, strides, padding, window_dilation, autodiff: as in `rank_pool`. At a border the
        median is that of the count[m] samples there.

    Returns:
      `[*batch, *M, C]` of inputs' dtype; 0 for a window on padding alone.

    Raises:
      ValueError, TypeError: as `max_pool`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x = jnp.array([3.0, 90.0, 1.0, 4.0, 7.0]).reshape(5, 1)
      >>> jaxconv.median_pool(x, (3,), padding="SAME")[:, 0]
      Array([3., 3., 4., 4., 4.], dtype=float32)
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding,
        window_dilation=window_dilation,
    )  # fmt: skip
    with context("median_pool", **given):
        x = as_inputs(inputs, "bif")
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, False)
        by_hand = hand_derived(autodiff)
    return execute(RankPool(geometry.windows, None), by_hand, x, geometry.extension)


def by_rank(windows: tuple[Window, ...], rank: int) -> Pool:
    """The pooling of one rank; the extremes have a faster one."""
    taps = math.prod(w.size for w in windows)
    if not -taps <= rank < taps:
        raise ValueError(f"`rank` must be from {-taps} to {taps - 1} for a window of {taps} taps, got {rank}")
    if rank in (0, -taps, -1, taps - 1) and taps > 1:
        return ExtremePool(windows, minimum=rank in (0, -taps))
    return RankPool(windows, rank)


@dataclasses.dataclass(frozen=True, slots=True)
class RankPool:
    """The sample of `rank` over `windows`, or the lower median for None."""

    windows: tuple[Window, ...]
    rank: int | None

    def apply(self, x: Array, by_hand: bool) -> Array:
        """x `[N, *S, C]` pooled."""
        windows, there = self.windows, samples_under(self.windows)
        winners = each(lambda x: winners_of(patches(windows, x), there, self.rank), lax.stop_gradient(x))
        y = (_chosen if by_hand else chosen)(windows, winners, x)
        return jnp.where(there.any(-1), y, jnp.zeros((), y.dtype))


def each(function: Callable[..., Array], *stacks: Array) -> Array:
    """`function` of one example after another, each a batch of one: patches of a single example are held."""
    return lax.map(lambda one: function(*(a[None] for a in one))[0], stacks)


def patches(windows: tuple[Window, ...], x: Array) -> Array:
    """`[N, *M, C, prod(K)]`."""
    p = unfold(windows, x)
    spatial = len(windows)
    return p.reshape(*p.shape[: spatial + 2], math.prod(p.shape[spatial + 2 :]))


def samples_under(windows: tuple[Window, ...]) -> Array:
    """Which taps lie on samples and not on padding: `[1, *M, 1, prod(K)]`."""
    rank = len(windows)
    there = jnp.ones((1,) * (2 * rank + 2), bool)
    for axis, w in enumerate(windows):
        output = lax.broadcasted_iota(jnp.int32, (w.out_size, w.size), 0)
        tap = lax.broadcasted_iota(jnp.int32, (w.out_size, w.size), 1)
        sample = output * w.stride + tap * w.dilation - w.lo
        mine = {1 + axis, 2 + rank + axis}
        there &= lax.expand_dims(
            (sample >= 0) & (sample < w.in_size), [a for a in range(there.ndim) if a not in mine]
        )
    return there.reshape(*there.shape[: rank + 2], math.prod(w.size for w in windows))


def winners_of(p: Array, there: Array, rank: int | None) -> Array:
    """The number of the tap of `rank`, int32 `[N, *M, C]`: of equal taps the first, of NaNs too."""
    count = there.sum(-1, keepdims=True, dtype=jnp.int32)
    if rank is None:
        place = (count - 1) // 2
    else:
        place = jnp.minimum(rank, count - 1) if rank >= 0 else count + rank
    # Padding sorts behind every sample, and NaNs behind that, wherever they are found first.
    filled = jnp.where(there, p, jnp.asarray(worst(p.dtype, minimum=True), p.dtype))
    place = jnp.broadcast_to(jnp.maximum(place, 0), (*p.shape[:-1], 1))
    value = jnp.take_along_axis(lax.sort(filled, dimension=-1), place, -1, mode="clip")
    wins = there & (p == value)
    if jnp.issubdtype(p.dtype, jnp.inexact):
        nan = there & jnp.isnan(p)
        wins = jnp.where(nan.any(-1, keepdims=True), nan, wins)
    return jnp.argmax(wins, -1).astype(jnp.int32)


def chosen(windows: tuple[Window, ...], winners: Array, x: Array) -> Array:
    """Of x `[N, *S, C]` each window's winning tap: `[N, *M, C]`."""

    def one(winners: Array, x: Array) -> Array:
        return jnp.take_along_axis(patches(windows, x), winners[..., None], -1, mode="clip")[..., 0]

    return each(one, winners, x)


def placed(windows: tuple[Window, ...], winners: Array, dy: Array) -> Array:
    """dy `[N, *M, C]` added to each window's winning sample: `[N, *S, C]`."""
    sizes = tuple(w.size for w in windows)

    def one(winners: Array, dy: Array) -> Array:
        number = lax.broadcasted_iota(jnp.int32, (*dy.shape, math.prod(sizes)), dy.ndim)
        p = jnp.where(number == winners[..., None], dy[..., None], jnp.zeros((), dy.dtype))
        return fold(windows, p.reshape(*dy.shape, *sizes))

    return each(one, winners, dy)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chosen(windows: tuple[Window, ...], winners: Array, x: Array) -> Array:
    return chosen(windows, winners, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _placed(windows: tuple[Window, ...], winners: Array, dy: Array) -> Array:
    return placed(windows, winners, dy)


_chosen.defvjp(
    lambda windows, winners, x: (_chosen(windows, winners, x), winners),
    lambda windows, winners, dy: (None, _placed(windows, winners, dy)),
)
_placed.defvjp(
    lambda windows, winners, dy: (_placed(windows, winners, dy), winners),
    lambda windows, winners, dx: (None, _chosen(windows, winners, dx)),
)
