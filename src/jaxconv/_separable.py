"""Convolution channel by channel, and its factored form: depthwise, then pointwise."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax import Array

from ._call import Call, channels_last_call, execute
from ._conv import check_bias
from ._front import as_array, context, flatten_batch
from ._problem import Pass, Shape, make_problem


def depthwise_conv(
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: Any = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """Each channel convolved with kernels of its own: `conv` with as many groups as channels.

        y[n, m, c Q + q] = sum_k x[n, m s + k d - lo, c] kernel[k, c, q] + bias[c Q + q]       (T1, T2, T6)

    See Howard et al., arXiv:1704.04861.

    Args:
      x: `[*batch, *S, C]`.
      kernel: `[*K, C, Q]` with Q kernels for each channel, as Keras has it, or `[*K, 1, C Q]`, the grouped
        kernel of lax and Flax; both hold the same numbers in the same order.
      bias: `[C Q]` or None.
      strides, padding, input_dilation, kernel_dilation, precision, preferred_element_type, algorithm,
        autodiff: as in `conv`.

    Returns:
      `[*batch, *M, C Q]`.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.depthwise_conv(jnp.ones((8, 28, 28, 16)), jnp.ones((3, 3, 16, 2)), strides=2).shape
      (8, 14, 14, 32)
    """
    options = dict(
        strides=strides, padding=padding, input_dilation=input_dilation,
        kernel_dilation=kernel_dilation, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip
    with context("depthwise_conv", x=x, kernel=kernel, bias=bias, **options):
        kernel = as_array(kernel, "kernel", 2)
        x = as_array(x, "x", kernel.ndim - 1)
        kernel = grouped_kernel(kernel, x.shape[-1], "kernel")
        call = grouped_call(x.shape, kernel, x.dtype, options, x.shape[-1], algorithm, autodiff)
        bias = check_bias(bias, call.problem)
    return execute(call, x, kernel, bias)


def separable_conv(
    x: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    bias: Any = None,
    *,
    strides: int | Sequence[int] = 1,
    padding: Any = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """A depthwise convolution in space, then a product over channels: as Keras' SeparableConv.

        z = depthwise_conv(x, depthwise_kernel)
        y[n, m, o] = sum_c z[n, m, c] pointwise_kernel[c, o] + bias[o]

    with C Q (prod(K) + O) multiplications a sample in place of the C prod(K) O of a dense kernel (T5, T12);
    its dense kernel is sum_q depthwise_kernel[k, c, q] pointwise_kernel[c Q + q, o]. See Chollet,
    arXiv:1610.02357.

    Args:
      x: `[*batch, *S, C]`.
      depthwise_kernel: `[*K, C, Q]` or `[*K, 1, C Q]`, as in `depthwise_conv`.
      pointwise_kernel: `[C Q, O]`, or `[1, .., 1, C Q, O]` with an axis of size 1 for each spatial axis.
      bias: `[O]` or None.
      strides, padding, input_dilation, kernel_dilation: of the depthwise step, as in `conv`.
      precision, preferred_element_type, autodiff: of both steps, as in `conv`.
      algorithm: of both steps; a name must be able to run both.

    Returns:
      `[*batch, *M, O]`.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, depthwise, pointwise = jnp.ones((8, 28, 28, 16)), jnp.ones((3, 3, 16, 1)), jnp.ones((16, 32))
      >>> jaxconv.separable_conv(x, depthwise, pointwise).shape
      (8, 28, 28, 32)
    """
    options = dict(
        strides=strides, padding=padding, input_dilation=input_dilation,
        kernel_dilation=kernel_dilation, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip
    given = dict(x=x, depthwise_kernel=depthwise_kernel, pointwise_kernel=pointwise_kernel, bias=bias)
    with context("separable_conv", **given, **options):
        depthwise = as_array(depthwise_kernel, "depthwise_kernel", 2)
        rank = depthwise.ndim - 2
        x = as_array(x, "x", rank + 1)
        depthwise = grouped_kernel(depthwise, x.shape[-1], "depthwise_kernel")
        first = grouped_call(x.shape, depthwise, x.dtype, options, x.shape[-1], algorithm, autodiff)
        pointwise = pointwise_matrix(pointwise_kernel, rank, depthwise.shape[-1])
        pointwise = pointwise.reshape(*[1] * rank, *pointwise.shape)
        same = dict(precision=precision, preferred_element_type=preferred_element_type)
        middle = first.problem.result(Pass.FORWARD).dtype
        if preferred_element_type is not None:
            pointwise = pointwise.astype(middle)
        second = grouped_call(first.shape_out, pointwise, middle, same, 1, algorithm, autodiff)
        bias = check_bias(bias, second.problem)
    return _separable(first, second, x, depthwise, pointwise, bias)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _separable(
    first: Call, second: Call, x: Array, depthwise: Array, pointwise: Array, bias: Array | None
) -> Array:
    return execute(second, execute(first, x, depthwise), pointwise, bias)


def grouped_call(
    shape: Shape,
    kernel: Array,
    dtype: Any,
    options: Mapping[str, Any],
    groups: int,
    algorithm: Any,
    autodiff: Any,
) -> Call:
    """A forward call on channels-last operands."""
    rank = kernel.ndim - 2
    problem, extension = make_problem(
        flatten_batch(shape, rank), kernel.shape, dtype, kernel.dtype, groups=groups, **options
    )
    shape_out = (*shape[: len(shape) - rank - 1], *problem.output_shape[1:])
    return channels_last_call(
        problem, extension, Pass.FORWARD, shape, kernel.shape, shape_out, algorithm, autodiff
    )


def grouped_kernel(kernel: Array, channels: int, name: str) -> Array:
    """`[*K, C, Q]` or `[*K, 1, C Q]` as the latter."""
    *sizes, cin, cout = kernel.shape
    if cin == channels:
        return kernel.reshape(*sizes, 1, cin * cout)
    if cin != 1 or cout % max(channels, 1):
        raise ValueError(
            f"`{name}` must be [*K, C, Q] or [*K, 1, C Q] for the input's C = {channels} channels, "
            f"got {tuple(kernel.shape)}"
        )
    return kernel


def pointwise_matrix(kernel: Any, rank: int, channels: int) -> Array:
    """The pointwise kernel as `[C, O]`, whether or not it comes with spatial axes."""
    kernel = as_array(kernel, "pointwise_kernel", 2)
    *sizes, cin, cout = kernel.shape
    if sizes not in ([], [1] * rank) or cin != channels:
        raise ValueError(
            f"`pointwise_kernel` must be [{channels}, O], for the depthwise step's channels, or the same "
            f"with {rank} leading axes of size 1, got {tuple(kernel.shape)}"
        )
    return kernel.reshape(cin, cout)
