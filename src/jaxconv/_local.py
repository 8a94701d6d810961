"""Locally connected layers: a convolution whose kernel is another one at every output."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from . import _layout
from ._contract import contract
from ._conv import check_bias_kind
from ._extend import extend
from ._front import as_array, context, flatten_batch, hand_derived
from ._padding import Extension
from ._problem import ConvProblem, Shape, make_problem
from ._unfold import dilate, unfold, unfold_by_hand
from ._window import as_ints, or_ones


def conv_local(
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
    autodiff: str = "custom",
) -> Array:
    """A convolution without weight sharing: every output position has a kernel of its own.

        y[n, m, o] = sum_k sum_c x[n, m s + k d - lo, c] kernel[m, k, c, o] + bias[m, o]        (T5, T12)

    It has prod(M) times the parameters of `conv`, and is equal to it where all kernels are. See LeCun,
    "Generalization and network design strategies" (1989).

    Args:
      x: `[*batch, *S, C]`.
      kernel: `[*M, *K, C / groups, O]`, of x's dtype: first the position of the output, then the tap.
      bias: `[*M, O]`, `[O]` or None.
      strides, padding, input_dilation, kernel_dilation, groups, precision, preferred_element_type: as in
        `conv`; M must follow from them.
      autodiff: "custom" for the hand-derived reverse rule, "jax" for JAX's own derivatives.

    Returns:
      `[*batch, *M, O]`.

    Raises:
      ValueError, TypeError: as `conv`, and where kernel has another number of positions than the output.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.conv_local(jnp.ones((8, 28, 28, 1)), jnp.ones((26, 26, 3, 3, 1, 6)), padding="VALID").shape
      (8, 26, 26, 6)
    """
    options = dict(
        strides=strides, padding=padding, input_dilation=input_dilation,
        kernel_dilation=kernel_dilation, groups=groups, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip
    with context("conv_local", x=x, kernel=kernel, bias=bias, **options):
        kernel = as_array(kernel, "kernel", 4)
        if kernel.ndim % 2:
            raise ValueError(
                f"`kernel` must have an even number of axes, [*M, *K, C / groups, O], got {kernel.shape}"
            )
        rank = kernel.ndim // 2 - 1
        x = as_array(x, "x", rank + 1)
        problem, extension = make_problem(
            flatten_batch(x.shape, rank), kernel.shape[rank:], x.dtype, kernel.dtype, **options
        )
        check_positions(kernel.shape[:rank], problem.output_size)
        if bias is not None:
            bias = as_array(bias, "bias", 1)
            check_local_bias(bias.shape, problem.output_shape[1:])
            check_bias_kind(bias, problem)
        local = Local(problem, extension, hand_derived(autodiff))
    return _conv_local(local, x, kernel, bias)


def conv_general_dilated_local(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    filter_shape: Sequence[int],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
    *,
    autodiff: str = "custom",
) -> Array:
    """`jax.lax.conv_general_dilated_local` with the same arguments and meaning: `conv_local` in any layout.

    The equation is that of `conv_local` (T5, T12).

    Args:
      lhs: the input, n + 2 axes in the order that `dimension_numbers` names.
      rhs: the kernels, n + 2 axes: the spatial ones are the output's, I holds C prod(filter_shape) entries,
        channel by channel as `conv_general_dilated_patches` orders them.
      window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, precision: as in
        `conv_general_dilated`.
      filter_shape: n sizes of the window.
      autodiff: as in `conv_local`.

    Returns:
      The result, its axes in the order that `dimension_numbers` names.

    Raises:
      ValueError, TypeError: as `conv_local`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, w = jnp.ones((8, 3, 6, 6)), jnp.ones((5, 3 * 9, 4, 4))
      >>> jaxconv.conv_general_dilated_local(x, w, (1, 1), "VALID", (3, 3)).shape
      (8, 5, 4, 4)
    """
    given = dict(
        lhs=lhs, rhs=rhs, window_strides=window_strides, padding=padding, filter_shape=filter_shape,
        lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers,
    )  # fmt: skip
    with context("conv_general_dilated_local", **given):
        lhs, rhs = as_array(lhs, "lhs", 2), as_array(rhs, "rhs", 2)
        layout = _layout.parse(dimension_numbers, lhs.ndim, rhs.ndim, _layout.channels_first(lhs.ndim - 2))
        input_shape = tuple(lhs.shape[i] for i in layout.lhs)
        *positions, entries, cout = (rhs.shape[i] for i in layout.rhs)
        sizes = as_ints(filter_shape, layout.rank, "filter_shape", minimum=1)
        if entries != input_shape[-1] * math.prod(sizes):
            raise ValueError(
                f"`rhs` must hold C * prod(filter_shape) = {input_shape[-1]} * {math.prod(sizes)} entries "
                f"for each output, got {entries}"
            )
        problem, extension = make_problem(
            input_shape, (*sizes, input_shape[-1], cout), lhs.dtype, rhs.dtype,
            strides=as_ints(window_strides, layout.rank, "window_strides", 1), padding=padding,
            input_dilation=or_ones(lhs_dilation, layout.rank, "lhs_dilation"),
            kernel_dilation=or_ones(rhs_dilation, layout.rank, "rhs_dilation"), precision=precision,
        )  # fmt: skip
        check_positions(tuple(positions), problem.output_size)
        local = Local(problem, extension, hand_derived(autodiff))
    return _conv_general_local(local, layout, lhs, rhs)


@dataclasses.dataclass(frozen=True, slots=True)
class Local:
    """Everything static about a locally connected call; `problem` is the convolution with shared weights."""

    problem: ConvProblem
    extension: Extension | None
    by_hand: bool


def check_positions(got: Shape, outputs: Shape) -> None:
    """One kernel for every output."""
    if tuple(got) != tuple(outputs):
        raise ValueError(
            f"`kernel` must hold one kernel for each of the {tuple(outputs)} outputs, got {tuple(got)}; "
            "check strides, padding and dilations"
        )


def check_local_bias(got: Shape, output: Shape) -> None:
    if tuple(got) not in (tuple(output), tuple(output[-1:])):
        raise ValueError(
            f"`bias` must have shape {tuple(output)}, one entry per output and channel, or "
            f"{tuple(output[-1:])}, got {tuple(got)}"
        )


@functools.partial(jax.jit, static_argnums=0)
def _conv_local(local: Local, x: Array, kernel: Array, bias: Array | None) -> Array:
    problem = local.problem
    rank = problem.rank
    batch = x.shape[: x.ndim - rank - 1]
    # [*M, *K, C/G, O] -> [*M, C/G, *K, O], the order of patches
    w = jnp.moveaxis(kernel, -2, rank).reshape(*problem.output_size, -1, problem.out_channels)
    y = multiply_patches(local, x.reshape(flatten_batch(x.shape, rank)), w)
    if bias is not None:
        y = y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)
    return y.reshape(*batch, *y.shape[1:])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _conv_general_local(local: Local, layout: _layout.Layout, lhs: Array, rhs: Array) -> Array:
    return multiply_patches(local, lhs.transpose(layout.lhs), rhs.transpose(layout.rhs)).transpose(layout.out)


def multiply_patches(local: Local, x: Array, w: Array) -> Array:
    """x `[N, *S, C]` and w `[*M, (C/G, *K), O]` to y `[N, *M, O]`: one matrix product per output.

    The derivatives of the product are the two that are wanted, dw[m] = p[m]' g[m] and dp[m] = g[m] w[m]', and
    the patches' own is `fold`.
    """
    problem, rank = local.problem, local.problem.rank
    x = x if local.extension is None else extend(x, local.extension)
    x = dilate(x, problem.input_dilation)
    windows = tuple(dataclasses.replace(v, in_size=v.dilated_in, base_dilation=1) for v in problem.windows)
    p = (unfold_by_hand if local.by_hand else unfold)(windows, x)
    groups = problem.groups
    p = p.reshape(*p.shape[: rank + 1], groups, w.shape[rank])
    w = w.reshape(*w.shape[: rank + 1], groups, problem.out_channels // groups)
    places = range(rank)
    numbers = (
        ((rank + 2,), (rank,)),
        ((*range(1, rank + 1), rank + 1), (*places, rank + 1)),
    )
    y = jnp.moveaxis(contract(problem, p, w, numbers), rank + 1, 0)  # [*M, G, N, O/G] -> [N, *M, G, O/G]
    return y.reshape(y.shape[0], *problem.output_size, problem.out_channels).astype(problem.y_dtype)
