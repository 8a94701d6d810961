"""The two gradients of `conv` by name: T8 and T7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax import Array, export

from ._call import channels_last_call, execute
from ._front import as_array, context, describe, flatten_batch
from ._problem import Pass, Shape, make_problem
from ._window import as_ints, is_sequence


def conv_input_gradient(
    dy: Any,
    kernel: Any,
    input_shape: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Any = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """Gradient of `conv` with respect to its input: a full convolution with the flipped kernel.

        dx[n, i, c] = sum_k sum_o dy[n, m, o] kernel[k, c, o]   over  m s + k d - lo = i b      (T8, T9)

    Args:
      dy: `[*batch, *M, O]`, the gradient with respect to conv's output.
      kernel: `[*K, C / groups, O]`, of dy's dtype.
      input_shape: `[*batch, *S, C]`, the shape of conv's input; dy's shape must follow from it. Sizes of
        batch axes may be symbolic, under `jax.export`.
      preferred_element_type: dtype of the result.
      strides, padding, input_dilation, kernel_dilation, groups, precision, algorithm, autodiff: those of
        the `conv` that is differentiated.

    Returns:
      `[*batch, *S, C]`.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`, and where dy is not of conv's output shape.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> dy, kernel = jnp.ones((8, 14, 14, 6)), jnp.ones((5, 5, 1, 6))
      >>> jaxconv.conv_input_gradient(dy, kernel, (8, 28, 28, 1), strides=2).shape
      (8, 28, 28, 1)
    """
    options = dict(
        strides=strides, padding=padding, input_dilation=input_dilation,
        kernel_dilation=kernel_dilation, groups=groups, precision=precision,
    )  # fmt: skip
    with context("conv_input_gradient", dy=dy, kernel=kernel, input_shape=input_shape, **options):
        kernel = as_array(kernel, "kernel", 2)
        rank = kernel.ndim - 2
        dy = as_array(dy, "dy", rank + 1)
        shape = check_input_shape(input_shape, rank, "input_shape")
        problem, extension = make_problem(
            flatten_batch(shape, rank), kernel.shape, dy.dtype, kernel.dtype,
            preferred_element_type=preferred_element_type, **options,
        )  # fmt: skip
        # The result of this pass is x's slot: there the preferred dtype goes.
        problem = problem.with_dtypes(x_dtype=problem.y_dtype, y_dtype=dy.dtype.name)
        check_cotangent(dy.shape, (*shape[: len(shape) - rank - 1], *problem.output_shape[1:]))
        call = channels_last_call(
            problem, extension, Pass.INPUT_GRAD, dy.shape, kernel.shape, shape, algorithm, autodiff
        )
    return execute(call, dy, kernel)


def conv_kernel_gradient(
    x: Any,
    dy: Any,
    kernel_shape: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Any = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """Gradient of `conv` with respect to its kernel: a correlation of the input with dy.

        dkernel[k, c, o] = sum_n sum_m x[n, m s + k d - lo, c] dy[n, m, o]                     (T7, T9)

    One weight serves every output, hence the sum over them.

    Args:
      x: `[*batch, *S, C]`, conv's input.
      dy: `[*batch, *M, O]`, the gradient with respect to conv's output, of x's dtype.
      kernel_shape: `[*K, C / groups, O]`.
      preferred_element_type: dtype of the result.
      strides, padding, input_dilation, kernel_dilation, groups, precision, algorithm, autodiff: those of
        the `conv` that is differentiated.

    Returns:
      `[*K, C / groups, O]`.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`, and where dy is not of conv's output shape.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, dy = jnp.ones((8, 28, 28, 1)), jnp.ones((8, 14, 14, 6))
      >>> jaxconv.conv_kernel_gradient(x, dy, (5, 5, 1, 6), strides=2).shape
      (5, 5, 1, 6)
    """
    options = dict(
        strides=strides, padding=padding, input_dilation=input_dilation,
        kernel_dilation=kernel_dilation, groups=groups, precision=precision,
    )  # fmt: skip
    with context("conv_kernel_gradient", x=x, dy=dy, kernel_shape=kernel_shape, **options):
        shape = check_shape(kernel_shape, 2, "kernel_shape")
        rank = len(shape) - 2
        x, dy = as_array(x, "x", rank + 1), as_array(dy, "dy", rank + 1)
        problem, extension = make_problem(
            flatten_batch(x.shape, rank), shape, x.dtype, dy.dtype,
            preferred_element_type=preferred_element_type, **options,
        )  # fmt: skip
        problem = problem.with_dtypes(w_dtype=problem.y_dtype, y_dtype=dy.dtype.name)
        check_cotangent(dy.shape, (*x.shape[: x.ndim - rank - 1], *problem.output_shape[1:]))
        call = channels_last_call(
            problem, extension, Pass.KERNEL_GRAD, x.shape, dy.shape, shape, algorithm, autodiff
        )
    return execute(call, x, dy)


def check_shape(shape: Any, least_axes: int, name: str) -> Shape:
    """A shape given as an argument, as a tuple of ints."""
    if not is_sequence(shape) or getattr(shape, "ndim", 1) > 1:
        raise TypeError(
            f"`{name}` must be a shape, a sequence of ints, got {describe(shape)}; give an array's .shape"
        )
    sizes = as_ints(shape, len(tuple(shape)), name, minimum=0)
    if len(sizes) < least_axes:
        raise ValueError(f"`{name}` must have at least {least_axes} axes, got {sizes}")
    return sizes


def check_input_shape(shape: Any, rank: int, name: str) -> tuple[Any, ...]:
    """`[*batch, *S, C]` given as an argument; `jax.export` may leave the sizes of batch axes open."""
    if not is_sequence(shape):
        return check_shape(shape, rank + 1, name)
    entries = tuple(shape)
    batch = len(entries) - rank - 1
    symbolic = {i: d for i, d in enumerate(entries[: max(batch, 0)]) if export.is_symbolic_dim(d)}
    sizes = check_shape([0 if i in symbolic else d for i, d in enumerate(entries)], rank + 1, name)
    return tuple(symbolic.get(i, size) for i, size in enumerate(sizes))


def check_cotangent(got: Shape, expected: Shape) -> None:
    """dy must have the shape of conv's output."""
    if tuple(got) != tuple(expected):
        raise ValueError(
            f"`dy` must have the shape of conv's output, {tuple(expected)}, got {tuple(got)}; "
            "check strides, padding and dilations"
        )
