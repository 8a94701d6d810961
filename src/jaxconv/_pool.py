"""Pooling, channels last: the front doors of max, min, average and sum.

`inputs` is `[*batch, *S, C]` with any number of batch axes; the spatial rank is `len(window_shape)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax import Array

from ._front import context, hand_derived
from ._pool_call import as_averaged, as_inputs, check_divisor, check_flag, execute, make_geometry
from ._pool_extreme import ExtremePool
from ._pool_geometry import counts
from ._pool_linear import LinearPool, divisor_of


def max_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
    autodiff: str = "custom",
) -> Array:
    """The largest value under each window, channel by channel.

        y[*b, m, c] = max_k inputs[*b, m s + k d - lo, c]                                     (T11, T2)

    The gradient goes to the winner alone, the first in row-major order among equals. A NaN under the window
    wins, and the first of them takes the gradient. Padding never wins over a sample, be it -inf. See
    Ranzato et al., CVPR 2007, for max pooling in learned features.

    Args:
      inputs: `[*batch, *S, C]`, booleans, integers or floats.
      window_shape: sizes of the window, one per spatial axis.
      strides: moves of the window, an int or one per axis; None is 1, as in Flax.
      padding: "VALID", "SAME", "SAME_LOWER", "FULL", "CAUSAL", "REVERSE_CAUSAL", an int for every side, or
        one int or (lo, hi) pair per axis; negative amounts crop. It holds the dtype's lowest value.
        "CIRCULAR", "REFLECT", "SYMMETRIC" and "EDGE" extend the input by ((Ke - 1) // 2, Ke // 2) of its own
        samples instead.
      window_dilation: distance of neighbouring taps; None is 1.
      ceil_mode: round the output size up, PyTorch's and ONNX's way: a last window that would start in the
        padding after the input is dropped.
      autodiff: "custom" for the hand-derived reverse rules, "jax" for JAX's own derivatives (forward mode,
        `jax.hessian`), with the same winners.

    Returns:
      `[*batch, *M, C]` of inputs' dtype, M = floor((L + lo + hi - Ke) / stride) + 1, Ke = (K - 1) d + 1.

    Raises:
      ValueError: sizes or padding that do not fit; an unknown name.
      TypeError: complex inputs, a window that is one int, or options that are not static.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.max_pool(jnp.arange(16.0).reshape(4, 4, 1), (2, 2), strides=2)[..., 0]
      Array([[ 5.,  7.],
             [13., 15.]], dtype=float32)
    """
    return _extreme(
        "max_pool", False, inputs, window_shape, strides, padding, window_dilation, ceil_mode, autodiff
    )


def min_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
    autodiff: str = "custom",
) -> Array:
    """The smallest value under each window, channel by channel.

        y[*b, m, c] = min_k inputs[*b, m s + k d - lo, c]                                     (T11, T2)

    All is as in `max_pool` with the order reversed; padding holds the dtype's highest value.

    Args:
      inputs, window_shape, strides, padding, window_dilation, ceil_mode, autodiff: as in `max_pool`.

    Returns:
      `[*batch, *M, C]` of inputs' dtype.

    Raises:
      ValueError, TypeError: as `max_pool`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.min_pool(jnp.arange(6).reshape(6, 1), (3,), strides=3)[:, 0]
      Array([0, 3], dtype=int32)
    """
    return _extreme(
        "min_pool", True, inputs, window_shape, strides, padding, window_dilation, ceil_mode, autodiff
    )


def avg_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    count_include_pad: bool = True,
    *,
    divisor_override: int | None = None,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
    autodiff: str = "custom",
) -> Array:
    """The mean under each window, channel by channel.

        y[*b, m, c] = sum_k inputs[*b, m s + k d - lo, c] / count[m]                          (T11, T2)

    The gradient spreads evenly: each sample under a window gets 1 / count of the window's gradient. Counts
    are exact integers; bfloat16 and float16 are summed in float32 and rounded once. See LeCun et al., Proc.
    IEEE 86(11), 1998, for averages as the sub-sampling of a convolutional network.

    Args:
      inputs: `[*batch, *S, C]`, integers, floats or complex numbers.
      count_include_pad: whether padding counts in the divisor. What ceil_mode adds never counts. Without it,
        a window that covers padding alone has mean 0.
      divisor_override: divide by this integer instead of the count.
      window_shape, strides, padding, window_dilation, ceil_mode, autodiff: as in `max_pool`; padding holds 0.

    Returns:
      `[*batch, *M, C]` of inputs' dtype; of JAX's default float for integers, as `jnp.mean`.

    Raises:
      ValueError, TypeError: as `max_pool`; a divisor of 0.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x = jnp.ones((1, 4, 4, 3))
      >>> jaxconv.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False).min()
      Array(1., dtype=float32)
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding,
        window_dilation=window_dilation, ceil_mode=ceil_mode,
    )  # fmt: skip
    flags = dict(count_include_pad=count_include_pad, divisor_override=divisor_override)
    with context("avg_pool", **given, **flags):
        x = as_inputs(inputs, "ifc")
        check_flag(count_include_pad, "count_include_pad")
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, ceil_mode)
        if divisor_override is None:
            axes = zip(geometry.windows, geometry.his, strict=True)
            divisor = divisor_of([counts(w, hi, count_include_pad) for w, hi in axes])
        else:
            divisor = check_divisor(divisor_override)
        by_hand = hand_derived(autodiff)
    return execute(LinearPool(geometry.windows, divisor), by_hand, as_averaged(x), geometry.extension)


def sum_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
    autodiff: str = "custom",
) -> Array:
    """The sum under each window, channel by channel.

        y[*b, m, c] = sum_k inputs[*b, m s + k d - lo, c]                                     (T11, T2)

    Args:
      inputs: `[*batch, *S, C]`, integers, floats or complex numbers. Integers wrap around in their own dtype,
        as lax's do; bfloat16 and float16 are summed in float32 and rounded once.
      window_shape, strides, padding, window_dilation, ceil_mode, autodiff: as in `max_pool`; padding holds 0.

    Returns:
      `[*batch, *M, C]` of inputs' dtype.

    Raises:
      ValueError, TypeError: as `max_pool`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.sum_pool(jnp.ones((5, 1)), (3,), padding="SAME")[:, 0]
      Array([2., 3., 3., 3., 2.], dtype=float32)
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding,
        window_dilation=window_dilation, ceil_mode=ceil_mode,
    )  # fmt: skip
    with context("sum_pool", **given):
        x = as_inputs(inputs, "ifc")
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, ceil_mode)
        by_hand = hand_derived(autodiff)
    return execute(LinearPool(geometry.windows), by_hand, x, geometry.extension)


def _extreme(
    function: str,
    minimum: bool,
    inputs: Any,
    window_shape: Any,
    strides: Any,
    padding: Any,
    window_dilation: Any,
    ceil_mode: Any,
    autodiff: Any,
) -> Array:
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding,
        window_dilation=window_dilation, ceil_mode=ceil_mode,
    )  # fmt: skip
    with context(function, **given):
        x = as_inputs(inputs, "bif")
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, ceil_mode)
        by_hand = hand_derived(autodiff)
    return execute(ExtremePool(geometry.windows, minimum), by_hand, x, geometry.extension)
