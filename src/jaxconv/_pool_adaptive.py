"""Adaptive and global pooling: the result's size is given, and the windows follow from it.

PyTorch's bins: output i of o covers the samples from floor(i n / o) to ceil((i + 1) n / o) of n. Outputs r,
r + p, r + 2 p, .., with p = o / gcd(n, o), have windows of one size at equal distances: a pooling of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jax import Array

from ._front import context, hand_derived
from ._pool_argmax import check_sizes
from ._pool_call import as_averaged, as_inputs, check_flag, execute
from ._pool_classes import Classes, pool_classes
from ._pool_extreme import ExtremePool
from ._pool_geometry import Shape, Stage
from ._pool_linear import LinearPool, accumulator
from ._window import Window


def adaptive_avg_pool(inputs: Any, output_shape: Sequence[int], *, autodiff: str = "custom") -> Array:
    """The mean over `output_shape` bins that cover the input evenly, channel by channel.

        y[*b, i, c] = mean of inputs[*b, j, c] over floor(i n / o) <= j < ceil((i + 1) n / o)     (T11)

    Args:
      inputs: `[*batch, *S, C]`, integers, floats or complex numbers.
      output_shape: the spatial sizes of the result; their number is the spatial rank. They may exceed the
        input's: bins then repeat samples.
      autodiff: as in `max_pool`.

    Returns:
      `[*batch, *output_shape, C]`, of a dtype as `avg_pool`'s.

    Raises:
      ValueError: sizes that do not fit, or an input without samples.
      TypeError: inputs of another kind, or sizes that are not static.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.adaptive_avg_pool(jnp.arange(5.0).reshape(5, 1), (2,))[:, 0]
      Array([1., 3.], dtype=float32)
    """
    with context("adaptive_avg_pool", inputs=inputs, output_shape=output_shape):
        x = as_inputs(inputs, "ifc")
        pool = AdaptivePool(make_bins(x.shape, output_shape), mean=True)
        by_hand = hand_derived(autodiff)
    return execute(pool, by_hand, as_averaged(x))


def adaptive_max_pool(inputs: Any, output_shape: Sequence[int], *, autodiff: str = "custom") -> Array:
    """The maximum over `output_shape` bins that cover the input evenly, channel by channel.

        y[*b, i, c] = max of inputs[*b, j, c] over floor(i n / o) <= j < ceil((i + 1) n / o)      (T11)

    Args:
      inputs: `[*batch, *S, C]`, booleans, integers or floats.
      output_shape, autodiff: as in `adaptive_avg_pool`.

    Returns:
      `[*batch, *output_shape, C]` of inputs' dtype.

    Raises:
      ValueError, TypeError: as `adaptive_avg_pool`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.adaptive_max_pool(jnp.arange(5.0).reshape(5, 1), (2,))[:, 0]
      Array([2., 4.], dtype=float32)
    """
    with context("adaptive_max_pool", inputs=inputs, output_shape=output_shape):
        x = as_inputs(inputs, "bif")
        pool = AdaptivePool(make_bins(x.shape, output_shape), mean=False)
        by_hand = hand_derived(autodiff)
    return execute(pool, by_hand, x)


def global_avg_pool(inputs: Any, *, keepdims: bool = False, autodiff: str = "custom") -> Array:
    """The mean of every channel over all spatial axes: those between the first, the batch, and the last.

        y[n, c] = mean_i inputs[n, i, c]                                                          (T11)

    See Lin, Chen and Yan, arXiv:1312.4400, who end a network with it.

    Args:
      inputs: `[N, *S, C]`, integers, floats or complex numbers.
      keepdims: keep the spatial axes, with size 1.
      autodiff: as in `max_pool`.

    Returns:
      `[N, C]`, or `[N, 1, .., 1, C]`, of a dtype as `avg_pool`'s.

    Raises:
      ValueError: fewer than three axes, or an input without samples.
      TypeError: inputs of another kind.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.global_avg_pool(jnp.ones((8, 7, 7, 512))).shape
      (8, 512)
    """
    with context("global_avg_pool", inputs=inputs, keepdims=keepdims):
        x = as_inputs(inputs, "ifc")
        windows = make_global(x.shape, keepdims)
        by_hand = hand_derived(autodiff)
    pool = LinearPool(windows, math.prod(w.size for w in windows))
    return _squeezed(execute(pool, by_hand, as_averaged(x)), keepdims)


def global_max_pool(inputs: Any, *, keepdims: bool = False, autodiff: str = "custom") -> Array:
    """The maximum of every channel over all spatial axes: those between the first, the batch, and the last.

        y[n, c] = max_i inputs[n, i, c]                                                           (T11)

    Args:
      inputs: `[N, *S, C]`, booleans, integers or floats.
      keepdims, autodiff: as in `global_avg_pool`.

    Returns:
      `[N, C]`, or `[N, 1, .., 1, C]`, of inputs' dtype.

    Raises:
      ValueError, TypeError: as `global_avg_pool`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.global_max_pool(jnp.ones((8, 7, 7, 512)), keepdims=True).shape
      (8, 1, 1, 512)
    """
    with context("global_max_pool", inputs=inputs, keepdims=keepdims):
        x = as_inputs(inputs, "bif")
        windows = make_global(x.shape, keepdims)
        by_hand = hand_derived(autodiff)
    return _squeezed(execute(ExtremePool(windows), by_hand, x), keepdims)


@dataclasses.dataclass(frozen=True, slots=True)
class AdaptivePool:
    """For each axis the windows whose results, interleaved, are the output."""

    windows: tuple[Classes, ...]
    mean: bool

    def apply(self, x: Array, by_hand: bool) -> Array:
        """x `[N, *S, C]` pooled."""
        dtype = x.dtype
        if self.mean:
            x = x.astype(accumulator(dtype))
        (y,) = pool_classes(self.windows, lambda windows, a: [self._pool(windows, a[0], by_hand)], [x])
        return y.astype(dtype)

    def _pool(self, windows: Stage, x: Array, by_hand: bool) -> Array:
        if self.mean:
            pool = LinearPool(windows, math.prod(w.size for w in windows))
            return pool.apply(x, by_hand)
        return ExtremePool(windows).apply(x, by_hand)


def make_bins(shape: Shape, output_shape: Any) -> tuple[Classes, ...]:
    """The windows of each axis, one for each class of outputs."""
    outputs = check_sizes(output_shape, "output_shape", minimum=1)
    if len(shape) < len(outputs) + 1:
        raise ValueError(
            f"`inputs` must have {len(outputs)} spatial axes, as many as `output_shape`, and a channel axis "
            f"last, got shape {tuple(shape)}; add the missing axes, or give fewer sizes"
        )
    sizes = shape[len(shape) - len(outputs) - 1 : -1]
    check_samples(sizes)
    return tuple(axis_bins(n, o) for n, o in zip(sizes, outputs, strict=True))


def axis_bins(size: int, outputs: int) -> Classes:
    """One window for each class of outputs that have bins of one size at equal distances."""
    times = math.gcd(size, outputs)
    stride = size // times
    windows = []
    for r in range(outputs // times):
        start, stop = r * size // outputs, -(-(r + 1) * size // outputs)
        reach = (times - 1) * stride + stop - start
        windows.append(Window(size, stop - start, stride, 1, 1, -start, reach + start - size))
    return tuple(windows)


def make_global(shape: Shape, keepdims: Any) -> tuple[Window, ...]:
    """One window over each spatial axis."""
    check_flag(keepdims, "keepdims")
    if len(shape) < 3:
        raise ValueError(
            f"`inputs` must have a batch, a spatial and a channel axis at least, got shape {tuple(shape)}; "
            "add the missing axes"
        )
    check_samples(shape[1:-1])
    return tuple(Window(n, n) for n in shape[1:-1])


def check_samples(sizes: Sequence[int]) -> None:
    """A bin of nothing has neither mean nor maximum."""
    if 0 in sizes:
        raise ValueError(
            f"`inputs` must have at least one sample on every spatial axis, got spatial sizes {tuple(sizes)}"
        )


def _squeezed(y: Array, keepdims: bool) -> Array:
    return y if keepdims else y.reshape(y.shape[0], y.shape[-1])
