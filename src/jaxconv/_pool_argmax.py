"""Max pooling that also says where its winners were, and the unpooling that puts values back there."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._extend import extend
from ._front import as_array, context, flatten_batch, hand_derived
from ._padding import Extension
from ._pool_call import as_inputs, execute, make_geometry
from ._pool_extreme import ExtremePool, collect, extreme, widened
from ._pool_geometry import Shape
from ._window import Window, as_ints


def max_pool_with_argmax(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
    autodiff: str = "custom",
) -> tuple[Array, Array]:
    """`max_pool`, and the position of each winner in its channel's spatial plane.

        y[*b, m, c] = inputs[*b, i, c]   with   indices[*b, m, c] = i, row-major over the plane   (T11)

    The indices are those of PyTorch's `return_indices`; the first of equal winners, and of NaNs.

    Args:
      inputs, window_shape, strides, padding, window_dilation, ceil_mode, autodiff: as in `max_pool`.

    Returns:
      values `[*batch, *M, C]` of inputs' dtype, and indices, int32 of the same shape; -1 for a window on
      padding alone, and the position of the original for a copy that extends the input.

    Raises:
      ValueError, TypeError: as `max_pool`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x = jnp.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0]).reshape(1, 6, 1)
      >>> values, indices = jaxconv.max_pool_with_argmax(x, (2,), strides=2)
      >>> values[0, :, 0], indices[0, :, 0]
      (Array([3., 4., 9.], dtype=float32), Array([0, 2, 5], dtype=int32))
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding,
        window_dilation=window_dilation, ceil_mode=ceil_mode,
    )  # fmt: skip
    with context("max_pool_with_argmax", **given):
        x = as_inputs(inputs, "bif")
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, ceil_mode)
        by_hand = hand_derived(autodiff)
    return execute(ArgmaxPool(geometry.windows, geometry.extension), by_hand, x, geometry.extension)


def max_unpool(values: Any, indices: Any, output_shape: Sequence[int], *, autodiff: str = "custom") -> Array:
    """Values put back where `max_pool_with_argmax` found them, zero elsewhere.

        y[*b, indices[*b, m, c], c] = values[*b, m, c]                                            (T11)

    The gradient of a value is read at its position. Values that share a position, as overlapping windows
    make them, must be equal, as the values of a pooling are: one of them is written. See Zeiler et al.,
    ICCV 2011, for the use of the positions.

    Args:
      values: `[*batch, *M, C]`.
      indices: integers of values' shape, row-major positions in the plane of `output_shape`; those outside
        of it are dropped.
      output_shape: the spatial sizes of the result; their number is the spatial rank.
      autodiff: as in `max_pool`.

    Returns:
      `[*batch, *output_shape, C]` of values' dtype.

    Raises:
      ValueError: shapes that do not fit.
      TypeError: indices that are no integers, or sizes that are not static.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> values, indices = jnp.array([[[3.0], [9.0]]]), jnp.array([[[0], [5]]])
      >>> jaxconv.max_unpool(values, indices, (6,))[0, :, 0]
      Array([3., 0., 0., 0., 0., 9.], dtype=float32)
    """
    with context("max_unpool", values=values, indices=indices, output_shape=output_shape):
        sizes = check_sizes(output_shape, "output_shape", minimum=0)
        values = as_array(values, "values", len(sizes) + 1)
        indices = as_array(indices, "indices", len(sizes) + 1)
        if not jnp.issubdtype(indices.dtype, jnp.integer):
            raise TypeError(f"`indices` must be integers, got {indices.dtype}; cast them with .astype")
        if indices.shape != values.shape:
            raise ValueError(
                f"`indices` must have the shape of `values`, {values.shape}, got {indices.shape}"
            )
        by_hand = hand_derived(autodiff)
    return _unpool(sizes, by_hand, values, indices)


def check_sizes(sizes: Any, name: str, minimum: int) -> Shape:
    """At least one spatial size: their number is the spatial rank, so one int would not say it."""
    if isinstance(sizes, str) or not hasattr(sizes, "__iter__"):
        raise TypeError(
            f"`{name}` must be a sequence with one size per spatial axis, got {sizes!r}; "
            "for images give (7, 7), say"
        )
    if not tuple(sizes):
        raise ValueError(f"`{name}` must have at least one entry, got (); its length is the spatial rank")
    return as_ints(sizes, len(tuple(sizes)), name, minimum=minimum)


@dataclasses.dataclass(frozen=True, slots=True)
class ArgmaxPool:
    """The maximum over `windows` and its position in the input before its extension."""

    windows: tuple[Window, ...]
    extension: Extension | None = None

    def apply(self, x: Array, by_hand: bool) -> tuple[Array, Array]:
        """x `[N, *S, C]` pooled, and the positions of the winners."""
        dtype, extension = x.dtype, self.extension
        space = x.shape[1:-1] if extension is None else extension.sizes
        plane = lax.iota(jnp.int32, math.prod(space)).reshape(1, *space, 1)
        plane = plane if extension is None else extend(plane, extension)
        positions = jnp.broadcast_to(plane, x.shape)
        x = widened(x, minimum=False)
        for stage in ExtremePool(self.windows).stages():
            x, winners = extreme(stage, False, x, by_hand)
            positions = collect(stage, winners, positions, -1)
        return x.astype(dtype), positions


@functools.partial(jax.jit, static_argnums=(0, 1))
def _unpool(sizes: Shape, by_hand: bool, values: Array, indices: Array) -> Array:
    rank = len(sizes)
    batch, channels = values.shape[: values.ndim - rank - 1], values.shape[-1]
    plane = math.prod(sizes)
    # Negative positions would count from the end.
    inside = jnp.where(indices < 0, jnp.asarray(plane, indices.dtype), indices)
    points = (*flatten_batch(values.shape, rank)[:1], math.prod(values.shape[-rank - 1 : -1]), channels)
    rule = scatter if by_hand and jnp.issubdtype(values.dtype, jnp.inexact) else write
    y = rule(plane, values.reshape(points), inside.reshape(points))
    return y.reshape(*batch, *sizes, channels)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scatter(plane: int, values: Array, positions: Array) -> Array:
    """`write` with the hand-derived reverse rule."""
    return write(plane, values, positions)


def _scatter_fwd(plane: int, values: Array, positions: Array) -> tuple[Array, Array]:
    return scatter(plane, values, positions), positions


def _scatter_bwd(plane: int, positions: Array, dy: Array) -> tuple[Array, None]:
    del plane
    return read(dy, positions), None


scatter.defvjp(_scatter_fwd, _scatter_bwd)


def write(plane: int, values: Array, positions: Array) -> Array:
    """`[N, P, C]` that holds values `[N, Q, C]` at their positions and zeros elsewhere."""
    batch, _, channels = values.shape
    n = lax.broadcasted_iota(jnp.int32, (batch, 1, channels), 0)
    c = lax.broadcasted_iota(jnp.int32, (batch, 1, channels), 2)
    empty = jnp.zeros((batch, plane, channels), values.dtype)
    return empty.at[n, positions, c].set(values, mode="drop")


def read(a: Array, positions: Array) -> Array:
    """`[N, Q, C]` of a `[N, P, C]` at positions, 0 where they lie outside."""
    return jnp.take_along_axis(a, positions, axis=1, mode="fill", fill_value=0)
