"""Fractional max pooling: windows at pseudo-random distances, so that a size shrinks by any factor."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._front import as_array, context, flatten_batch
from ._pool_argmax import check_sizes, read
from ._pool_call import as_inputs, check_window_shape
from ._pool_geometry import Shape
from ._pool_linear import accumulator


def fractional_max_pool(
    inputs: Any,
    window_shape: Sequence[int],
    output_shape: Sequence[int],
    key: Any = None,
    *,
    samples: Any = None,
) -> Array:
    """The largest value under windows at pseudo-random distances of about (n - k) / (o - 1).

        y[*b, i, c] = max_{0 <= j < k} inputs[*b, start_i + j, c],
        start_i = floor((i + u) a) - floor(u a), a = (n - k) / (o - 1), the last n - k                   (T11)

    with u, uniform on [0, 1), drawn for every example, channel and axis: Graham, arXiv:1412.6071, as PyTorch
    computes it. The gradient goes to the winner, the first in row-major order; JAX differentiates in either
    mode. The windows are not known before u is, so that winners are gathered: it is slower than `max_pool`.

    Args:
      inputs: `[*batch, *S, C]`, floats.
      window_shape: sizes k of the window, one per spatial axis.
      output_shape: sizes o of the result, with o + k - 1 <= n.
      key: a JAX random key from which u is drawn; or else
      samples: u itself, `[*batch, C, rank]`, an entry for every spatial axis in inputs' order
        (PyTorch's begin with the width in 2-D).

    Returns:
      `[*batch, *output_shape, C]` of inputs' dtype.

    Raises:
      ValueError: sizes that do not fit, or both or neither of key and samples.
      TypeError: inputs that are no floats, or sizes that are not static.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxconv
      >>> x = jnp.ones((8, 32, 32, 16))
      >>> jaxconv.fractional_max_pool(x, (2, 2), (23, 23), jax.random.key(0)).shape
      (8, 23, 23, 16)
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, output_shape=output_shape, key=key, samples=samples
    )
    with context("fractional_max_pool", **given):
        x = as_inputs(inputs, "f")
        window = check_window_shape(window_shape)
        outputs = check_sizes(output_shape, "output_shape", minimum=1)
        check_fit(x.shape, window, outputs)
        shape = (*x.shape[: x.ndim - len(window) - 1], x.shape[-1], len(window))
        if (key is None) == (samples is None):
            raise ValueError(
                "`key` or `samples` must be given, and not both; for example key=jax.random.key(0)"
            )
        if samples is None:
            samples = jax.random.uniform(key, shape, jnp.float32)
        samples = as_array(samples, "samples", 1)
        if samples.shape != shape:
            raise ValueError(
                "`samples` must have one entry for every example, channel and spatial axis, shape "
                f"{shape}, got {samples.shape}"
            )
    return _fractional(window, outputs, x, samples)


def check_fit(shape: Shape, window: Shape, outputs: Shape) -> None:
    """Neighbouring windows must differ in their start."""
    if len(window) != len(outputs):
        raise ValueError(
            f"`output_shape` must have as many entries as `window_shape`, {len(window)}, got {outputs}"
        )
    if len(shape) < len(window) + 1:
        raise ValueError(
            f"`inputs` must have {len(window)} spatial axes, as many as `window_shape`, and a channel axis "
            f"last, got shape {tuple(shape)}; add the missing axes, or give a shorter window"
        )
    sizes = shape[len(shape) - len(window) - 1 : -1]
    if any(o + k - 1 > n for n, k, o in zip(sizes, window, outputs, strict=True)):
        raise ValueError(
            f"`output_shape` must leave room for the windows, output + window - 1 <= input, got {outputs} + "
            f"{window} - 1 for spatial sizes {tuple(sizes)}; give smaller outputs or windows"
        )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _fractional(window: Shape, outputs: Shape, x: Array, samples: Array) -> Array:
    rank = len(window)
    batch, space, channels = x.shape[: x.ndim - rank - 1], x.shape[x.ndim - rank - 1 : -1], x.shape[-1]
    flat = x.reshape(flatten_batch(x.shape, rank))
    samples = lax.stop_gradient(samples).reshape(flat.shape[0], channels, rank)
    positions = _positions(window, outputs, lax.stop_gradient(flat), samples)
    # Where windows overlap a sample's gradients add up: in float32, if they are narrower.
    plane = flat.reshape(flat.shape[0], math.prod(space), channels).astype(accumulator(x.dtype))
    y = read(plane, positions.reshape(flat.shape[0], math.prod(outputs), channels))
    return y.reshape(*batch, *outputs, channels).astype(x.dtype)


def _positions(window: Shape, outputs: Shape, x: Array, samples: Array) -> Array:
    """Where the winners are in their planes, `[N, *outputs, C]`: axis by axis, the last first."""
    space = x.shape[1:-1]
    plane = lax.iota(jnp.int32, math.prod(space)).reshape(1, *space, 1)
    positions = jnp.broadcast_to(plane, x.shape)
    for axis in reversed(range(len(window))):
        first = _starts(space[axis], window[axis], outputs[axis], samples[..., axis])
        others = [a for a in range(1, x.ndim - 1) if a != axis + 1]
        first = lax.expand_dims(first, others)
        best, found = _taken(x, positions, first, axis + 1)
        for tap in range(1, window[axis]):
            candidate, place = _taken(x, positions, first + jnp.int32(tap), axis + 1)
            wins = (candidate > best) | (jnp.isnan(candidate) & ~jnp.isnan(best))
            best, found = jnp.where(wins, candidate, best), jnp.where(wins, place, found)
        x, positions = best, found
    return positions


def _starts(size: int, window: int, outputs: int, u: Array) -> Array:
    """First samples of the windows of one axis, int32 `[N, outputs, C]` from u `[N, C]`."""
    last = jnp.full((u.shape[0], 1, u.shape[1]), size - window, jnp.int32)
    if outputs == 1:
        return last
    pace = jnp.asarray((size - window) / (outputs - 1), u.dtype)
    u = lax.expand_dims(u, [1])
    steps = lax.broadcasted_iota(u.dtype, (1, outputs - 1, 1), 1)
    starts = jnp.floor((steps + u) * pace) - jnp.floor(u * pace)
    return lax.concatenate([starts.astype(jnp.int32), last], 1)


def _taken(x: Array, positions: Array, index: Array, axis: int) -> tuple[Array, Array]:
    values = jnp.take_along_axis(x, index, axis, mode="clip")
    return values, jnp.take_along_axis(positions, index, axis, mode="clip")
