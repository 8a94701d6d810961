"""The front doors: `conv`, channels last, and `conv_general_dilated`, lax's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from . import _layout
from ._call import channels_last_call, execute, layout_call, run_call
from ._dtypes import kind
from ._front import as_array, context, flatten_batch
from ._problem import ConvProblem, Pass, Shape, make_problem
from ._window import as_int, as_ints, or_ones


def conv(
    x: Any,
    kernel: Any,
    bias: Any = None,
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
    """Convolution of deep learning, channels last: a correlation with a kernel that every position shares.

        y[n, m, o] = sum_k sum_c x[n, m s + k d - lo, c] kernel[k, c, o] + bias[o]            (T1, T5, T6)

    The kernel is not flipped; `convolve` flips it. Gradients are the hand-derived T7 and T8 at every
    order of reverse mode. See Dumoulin and Visin, arXiv:1603.07285, for the arithmetic of sizes.

    Args:
      x: `[*batch, *S, C]`; any number of batch axes, none included.
      kernel: `[*K, C / groups, O]`, of x's dtype; its spatial rank is the operation's.
      bias: `[O]` or None.
      strides: moves of the window, an int or one per axis.
      padding: "VALID", "SAME", "SAME_LOWER", "FULL" (Ke - 1 on both sides), "CAUSAL" (Ke - 1 before),
        "REVERSE_CAUSAL" (Ke - 1 after), an int for every side, or one int or (lo, hi) pair per axis; negative
        amounts crop. "CIRCULAR", "REFLECT" (the end is not repeated), "SYMMETRIC" (it is) and "EDGE" extend
        the input by its own values, (Ke - 1) // 2 before and Ke // 2 after, whatever the stride.
        Ke = (K - 1) kernel_dilation + 1.
      input_dilation: distance of neighbouring inputs; names of padding need 1.
      kernel_dilation: distance of neighbouring taps.
      groups: channels split into so many independent convolutions.
      precision: as in `jax.lax.dot_general`. HIGHEST excludes Winograd and FFT.
      preferred_element_type: dtype of the output, at least as wide as the inputs'.
      algorithm: "auto", the name of an algorithm, or a dict with keys among "forward", "input_grad" and
        "kernel_grad". See `explain`.
      autodiff: "custom" for the hand-derived reverse rules, "jax" for JAX's own derivatives of the lax
        primitives (forward mode, `jax.hessian`).

    Returns:
      `[*batch, *M, O]`, M = floor((Le + lo + hi - Ke) / stride) + 1 on each axis (T2).

    Raises:
      ValueError: sizes, groups or padding that do not fit; an unknown name.
      TypeError: operands of two dtypes, or options that are not static.
      NotImplementedError: a named algorithm that cannot run this problem; the message says why.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x = jnp.ones((8, 28, 28, 1))
      >>> jaxconv.conv(x, jnp.ones((5, 5, 1, 6)), jnp.zeros(6), strides=2).shape
      (8, 14, 14, 6)
    """
    options = dict(
        strides=strides, padding=padding, input_dilation=input_dilation,
        kernel_dilation=kernel_dilation, groups=groups, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip
    with context("conv", x=x, kernel=kernel, bias=bias, **options):
        kernel = as_array(kernel, "kernel", 2)
        rank = kernel.ndim - 2
        x = as_array(x, "x", rank + 1)
        problem, extension = make_problem(
            flatten_batch(x.shape, rank), kernel.shape, x.dtype, kernel.dtype, **options
        )
        bias = check_bias(bias, problem)
        shape = (*x.shape[: x.ndim - rank - 1], *problem.output_shape[1:])
        call = channels_last_call(
            problem, extension, Pass.FORWARD, x.shape, kernel.shape, shape, algorithm, autodiff
        )
    return execute(call, x, kernel, bias)


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    *,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """`jax.lax.conv_general_dilated` with the same arguments and meaning, computed by jaxconv.

    It goes where lax's goes: `flax.nnx.Conv(conv_general_dilated=jaxconv.conv_general_dilated)`. The
    equations are those of `conv` (T1, T2, T5, T9).

    Args:
      lhs: the input, n + 2 axes in the order that `dimension_numbers` names.
      rhs: the kernel, n + 2 axes, of lhs's dtype. Of booleans the result is whether any product is true, or
        with a preferred_element_type how many are.
      window_strides: n ints.
      padding: a name that `conv` knows, or n (lo, hi) pairs; names need undilated input.
      lhs_dilation: n ints; outputs of a transposed convolution are 1 / lhs_dilation apart.
      rhs_dilation: n ints, distance of neighbouring taps.
      dimension_numbers: None for (NCHW, OIHW, NCHW) with n spatial axes, three strings, or a
        `lax.ConvDimensionNumbers`.
      feature_group_count: groups of lhs features, each with its own rhs output features.
      batch_group_count: groups of the lhs batch, each with its own rhs output features.
      precision, preferred_element_type: as in `conv`.
      out_sharding: sharding of the result under explicit mesh axes.
      algorithm, autodiff: as in `conv`.

    Returns:
      The convolution, its axes in the order that `dimension_numbers` names.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, w = jnp.ones((8, 3, 32, 32)), jnp.ones((16, 3, 3, 3))
      >>> jaxconv.conv_general_dilated(x, w, (2, 2), "SAME").shape
      (8, 16, 16, 16)
    """
    given = dict(
        lhs=lhs, rhs=rhs, window_strides=window_strides, padding=padding, lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count, batch_group_count=batch_group_count,
    )  # fmt: skip
    with context("conv_general_dilated", **given):
        lhs, rhs, logical = counted(as_array(lhs, "lhs", 2), as_array(rhs, "rhs", 2))
        layout = _layout.parse(dimension_numbers, lhs.ndim, rhs.ndim, _layout.channels_first(lhs.ndim - 2))
        input_shape = tuple(lhs.shape[i] for i in layout.lhs)
        kernel_shape = tuple(rhs.shape[i] for i in layout.rhs)
        groups, batch_groups = check_group_counts(
            feature_group_count, batch_group_count, input_shape, kernel_shape
        )
        problem, extension = make_problem(
            grouped_input_shape(input_shape, batch_groups), kernel_shape, lhs.dtype, rhs.dtype,
            strides=as_ints(window_strides, layout.rank, "window_strides", 1),
            padding=padding,
            input_dilation=or_ones(lhs_dilation, layout.rank, "lhs_dilation"),
            kernel_dilation=or_ones(rhs_dilation, layout.rank, "rhs_dilation"),
            groups=groups * batch_groups, precision=precision,
            preferred_element_type=preferred_element_type,
        )  # fmt: skip
        call = layout_call(
            problem, extension, Pass.FORWARD, layout, input_shape, kernel_shape,
            algorithm, autodiff, batch_groups,
        )  # fmt: skip
    if out_sharding is None:
        y = execute(call, lhs, rhs)
    else:
        # Inside, the mesh axes are the compiler's to use; only the result's sharding is the caller's.
        inner = jax.sharding.auto_axes(lambda a, b: run_call(call, a, b), out_sharding=out_sharding)
        y = inner(lhs, rhs)
    return y != 0 if logical and preferred_element_type is None else y


def counted(lhs: Array, rhs: Array) -> tuple[Array, Array, bool]:
    """Booleans as integers, and whether they were: lax's sum of products is then whether any is true."""
    logical = lhs.dtype == rhs.dtype == jnp.bool_
    return (lhs.astype(jnp.int32), rhs.astype(jnp.int32), True) if logical else (lhs, rhs, False)


def grouped_input_shape(shape: Shape, batch_groups: int) -> Shape:
    """The input's shape once batch groups are feature groups."""
    batch, *space, channels = shape
    return (batch // batch_groups, *space, channels * batch_groups)


def check_group_counts(feature: Any, batch: Any, input_shape: Shape, kernel_shape: Shape) -> tuple[int, int]:
    """lax's rules for its two kinds of groups."""
    feature, batch = as_int(feature, "feature_group_count"), as_int(batch, "batch_group_count")
    for name, count in (("feature_group_count", feature), ("batch_group_count", batch)):
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}")
    if feature > 1 and batch > 1:
        raise ValueError(
            "`feature_group_count` and `batch_group_count` must not both exceed 1, "
            f"got {feature} and {batch}; map one of them with jax.vmap"
        )
    if batch > 1 and input_shape[0] % batch:
        raise ValueError(f"`batch_group_count` must divide the batch, got {batch} groups of {input_shape[0]}")
    for name, count in (("feature_group_count", feature), ("batch_group_count", batch)):
        if kernel_shape[-1] % count:
            raise ValueError(
                f"`{name}` must divide the kernel's output channels, got {count} groups of {kernel_shape[-1]}"
            )
    if input_shape[-1] != feature * kernel_shape[-2]:
        raise ValueError(
            f"`rhs` must have lhs features / feature_group_count = {input_shape[-1]} / {feature} input "
            f"features, got {kernel_shape[-2]}; `dimension_numbers` says which axes these are, channels "
            "first where it is None"
        )
    return feature, batch


def check_bias(bias: Any, problem: ConvProblem) -> Array | None:
    """The bias as an array of `[O]` that the output's dtype can hold."""
    if bias is None:
        return None
    bias = as_array(bias, "bias", 1)
    if bias.shape != (problem.out_channels,):
        raise ValueError(
            f"`bias` must have one entry per output channel, shape ({problem.out_channels},), "
            f"got {bias.shape}"
        )
    check_bias_kind(bias, problem)
    return bias


def check_bias_kind(bias: Array, problem: ConvProblem) -> None:
    """The bias is cast to the output's dtype, which must not drop fractions or imaginary parts."""
    if kind(bias.dtype) > kind(problem.y_dtype):
        raise TypeError(
            f"`bias` must be of the output's kind, {problem.y_dtype}, got {bias.dtype}; "
            "cast it, or ask for another `preferred_element_type`"
        )
