"""Transposed convolution: the input-gradient pass, exposed under lax's name and signature."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jax import Array

from . import _layout
from ._call import execute, layout_call
from ._front import as_array, context
from ._problem import Pass, Shape, make_problem
from ._transpose_padding import Geometry, transposed_pads
from ._window import as_int, as_ints, dilated, or_ones


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: Any,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
    *,
    groups: int = 1,
    output_padding: int | Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """`jax.lax.conv_transpose` with the same arguments and meaning: the input gradient as a layer.

        y[n, i, c] = sum_k sum_o x[n, m, o] w[k, c, o]   over  m s + k d - lo = i              (T8, T9)

    which is a correlation over the input with s - 1 zeros between neighbours; no such zero is multiplied.
    See Dumoulin and Visin, arXiv:1603.07285, section 4.

    Args:
      lhs: the input, n + 2 axes in the order that `dimension_numbers` names.
      rhs: the kernel, n + 2 axes, of lhs's dtype. With G groups its I holds C / G channels of lhs; with
        transpose_kernel its I holds O / G channels of the output and its O those of lhs, as PyTorch's.
      strides: n ints, samples of output from one input to the next.
      padding: "SAME" (output = input * stride), "VALID", "SAME_LOWER" (strides of 1 only), "CIRCULAR",
        "REFLECT", "SYMMETRIC", "EDGE" (output = input * stride; windows that reach beyond it are folded
        back, placed as Flax's ConvTranspose does), or n (lo, hi) pairs that pad the dilated input.
      rhs_dilation: n ints, distance of neighbouring taps.
      dimension_numbers: None for channels last (NHWC, HWIO, NHWC with two spatial axes), three strings or
        a `lax.ConvDimensionNumbers`.
      transpose_kernel: take rhs as the kernel of the forward convolution whose gradient this is: its
        spatial axes are flipped and its I and O exchanged. Keras and PyTorch mean this.
      precision, preferred_element_type: as in `conv`.
      use_consistent_padding: (lo, hi) pairs are those of the forward convolution, as in PyTorch; they
        take away from the output.
      groups: channels split into so many independent transposed convolutions.
      output_padding: samples added at the end of each axis, fewer than the stride or the dilation. With
        pairs as PyTorch: consistent padding p gives (i - 1) s - 2 p + Ke + output_padding. With names as
        Keras: "VALID" gives (i - 1) s + Ke + output_padding, "SAME" (i - 1) s + Ke mod 2 + output_padding.
      output_shape: the output's spatial sizes, in place of output_padding. With names it must be a size
        that such a convolution maps to lhs's, as in Haiku; with pairs as PyTorch's output_size.
      algorithm, autodiff: as in `conv`.

    Returns:
      The transposed convolution, its axes in the order that `dimension_numbers` names.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, w = jnp.ones((8, 7, 7, 16)), jnp.ones((3, 3, 16, 4))
      >>> jaxconv.conv_transpose(x, w, (2, 2), "SAME").shape
      (8, 14, 14, 4)
    """
    given = dict(
        lhs=lhs, rhs=rhs, strides=strides, padding=padding, rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers, transpose_kernel=transpose_kernel,
        use_consistent_padding=use_consistent_padding, groups=groups, output_padding=output_padding,
        output_shape=output_shape,
    )  # fmt: skip
    with context("conv_transpose", **given):
        lhs, rhs = as_array(lhs, "lhs", 2), as_array(rhs, "rhs", 2)
        layout = _layout.parse(dimension_numbers, lhs.ndim, rhs.ndim, _layout.channels_last(lhs.ndim - 2))
        input_shape = tuple(lhs.shape[i] for i in layout.lhs)
        kernel_shape = tuple(rhs.shape[i] for i in layout.rhs)
        rank, groups = layout.rank, as_int(groups, "groups")
        strides = as_ints(strides, rank, "strides", minimum=1)
        dilation = or_ones(rhs_dilation, rank, "rhs_dilation")
        extents = [dilated(k, d) for k, d in zip(kernel_shape[:-2], dilation, strict=True)]
        geometry = Geometry(input_shape[1:-1], extents, strides, dilation)
        pads, extension = transposed_pads(
            geometry, padding, use_consistent_padding, output_padding, output_shape, transpose_kernel
        )
        forward = swapped if transpose_kernel else unswapped
        forward_shape = forward(kernel_shape, input_shape[-1], groups)
        problem, _ = make_problem(
            input_shape, forward_shape, lhs.dtype, rhs.dtype, padding=pads,
            input_dilation=strides, kernel_dilation=dilation, groups=groups, precision=precision,
            preferred_element_type=preferred_element_type,
        )  # fmt: skip
        # The forward convolution whose input gradient this is: its input is our output.
        problem = problem.input_adjoint()
        call = layout_call(
            problem, extension, Pass.INPUT_GRAD, layout, input_shape, kernel_shape, algorithm, autodiff
        )
        call = dataclasses.replace(call, flip_kernel=not transpose_kernel)
    return execute(call, lhs, rhs)


def unswapped(kernel_shape: Shape, channels: int, groups: int) -> Shape:
    """`[*K, C / G, O]` as it is; where G does not divide C, that is said later."""
    cin = kernel_shape[-2]
    if groups > 0 and channels % groups == 0 and cin * groups != channels:
        raise ValueError(
            f"`rhs` must have lhs features / groups = {channels} / {groups} input features, got {cin}; the "
            "kernel of the convolution that is transposed goes with transpose_kernel=True"
        )
    return kernel_shape


def swapped(kernel_shape: Shape, channels: int, groups: int) -> Shape:
    """`[*K, O / G, C]` of the forward convolution as `[*K, C / G, O]`."""
    *sizes, cout, cin = kernel_shape
    if cin != channels:
        raise ValueError(
            f"`rhs` must have lhs's {channels} features as its output features with transpose_kernel, "
            f"got {cin}; its I and O are those of the convolution that is transposed"
        )
    return (*sizes, cin // max(groups, 1), cout * groups)
