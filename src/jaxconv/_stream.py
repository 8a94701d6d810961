"""Streaming: a causal convolution over a signal that comes in chunks, the past carried along as state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ._conv import conv
from ._dtypes import as_dtype
from ._front import as_array, context
from ._gradients import check_input_shape
from ._window import as_ints, dilated


def conv_stream(
    x: Any,
    kernel: Any,
    state: Any = None,
    bias: Any = None,
    *,
    strides: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> tuple[Array, Array]:
    """One chunk of a causal 1-D convolution: its outputs, and the state for the next chunk.

        y[n, m, o] = sum_k sum_c x[n, m s + k d - (Ke - 1), c] kernel[k, c, o] + bias[o]            (T2, T5)

    where x before the chunk is the state. Chunk by chunk the outputs are those of
    `conv(whole, kernel, padding="CAUSAL")`, whatever the lengths of the chunks, one sample included; both
    results have gradients, so a loop over chunks can be trained. Depthwise with `groups=C`.

    Args:
      x: `[*batch, T, C]`, the chunk; T must be a multiple of the stride.
      kernel: `[K, C / groups, O]`, of x's dtype.
      state: `[*batch, Ke - 1, C]` of x's dtype, the last samples before the chunk, Ke = (K - 1) d + 1; None
        at the start of a signal, or `conv_stream_state`, which are zeros.
      bias: `[O]` or None.
      strides, kernel_dilation, groups, precision, preferred_element_type, algorithm, autodiff: as in `conv`.

    Returns:
      (`[*batch, T / s, O]`, the next state `[*batch, Ke - 1, C]`).

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`; a chunk or a state of the wrong size.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, kernel = jnp.arange(6.0).reshape(6, 1), jnp.ones((3, 1, 1))
      >>> first, state = jaxconv.conv_stream(x[:4], kernel)
      >>> second, state = jaxconv.conv_stream(x[4:], kernel, state)
      >>> second[:, 0], state[:, 0]
      (Array([ 9., 12.], dtype=float32), Array([4., 5.], dtype=float32))
    """
    given = dict(
        x=x, kernel=kernel, state=state, bias=bias, strides=strides, kernel_dilation=kernel_dilation,
        groups=groups,
    )  # fmt: skip
    with context("conv_stream", **given):
        kernel = as_array(kernel, "kernel", 3)
        if kernel.ndim != 3:
            raise ValueError(
                f"`kernel` must be [K, C / groups, O], got shape {kernel.shape}; time is one axis"
            )
        x = as_array(x, "x", 2)
        (stride,) = as_ints(strides, 1, "strides", minimum=1)
        (dilation,) = as_ints(kernel_dilation, 1, "kernel_dilation", minimum=1)
        if x.shape[-2] % stride:
            raise ValueError(
                f"`x` must have a multiple of {stride} samples, the stride, got {x.shape[-2]}; "
                "keep the rest for the next chunk"
            )
        past = state_shape(x.shape, kernel.shape, dilation)
        state = jnp.zeros(past, x.dtype) if state is None else as_array(state, "state", 2)
        if state.shape != past or state.dtype != x.dtype:
            raise ValueError(
                f"`state` must be {x.dtype}{list(past)}, the Ke - 1 last samples, got "
                f"{state.dtype}{list(state.shape)}; begin with None"
            )
    signal = lax.concatenate([state, x], x.ndim - 2)
    y = conv(
        signal, kernel, bias, strides=stride, padding="VALID", kernel_dilation=dilation, groups=groups,
        precision=precision, preferred_element_type=preferred_element_type, algorithm=algorithm,
        autodiff=autodiff,
    )  # fmt: skip
    return y, lax.slice_in_dim(signal, x.shape[-2], signal.shape[-2], axis=x.ndim - 2)


def conv_stream_state(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    dtype: Any = None,
    *,
    kernel_dilation: int | Sequence[int] = 1,
) -> Array:
    """The state of `conv_stream` at the start of a signal: zeros, the causal padding (T3).

    Args:
      input_shape: `[*batch, T, C]`, the shape of any chunk.
      kernel_shape: `[K, C / groups, O]`.
      dtype: the chunks' dtype; None is JAX's default float.
      kernel_dilation: as in `conv_stream`.

    Returns:
      `[*batch, (K - 1) d, C]`.

    Raises:
      ValueError, TypeError: shapes of the wrong length.

    Examples:
      >>> import jaxconv
      >>> jaxconv.conv_stream_state((8, 1, 16), (4, 1, 16)).shape
      (8, 3, 16)
    """
    with context("conv_stream_state", input_shape=input_shape, kernel_shape=kernel_shape):
        shape = check_input_shape(input_shape, 1, "input_shape")
        taps = as_ints(kernel_shape, 3, "kernel_shape", minimum=0)
        dtype = None if dtype is None else as_dtype(dtype, "dtype")
        (dilation,) = as_ints(kernel_dilation, 1, "kernel_dilation", minimum=1)
    return jnp.zeros(state_shape(shape, taps, dilation), dtype)


def state_shape(shape: Sequence[int], kernel_shape: Sequence[int], dilation: int) -> tuple[int, ...]:
    """`[*batch, Ke - 1, C]`."""
    return (*shape[:-2], max(0, dilated(kernel_shape[0], dilation) - 1), shape[-1])
