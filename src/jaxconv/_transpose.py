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
from ._window import Pads, as_ints, dilated, or_ones, resolve_padding


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
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """`jax.lax.conv_transpose` with the same arguments and meaning: the input gradient as a layer.

        y[n, i, c] = sum_k sum_o x[n, m, o] w[k, c, o]   over  m s + k d - lo = i              (T8, T9)

    which is a correlation over the input with s - 1 zeros between neighbours; no such zero is multiplied.
    See Dumoulin and Visin, arXiv:1603.07285, section 4.

    Args:
      lhs: the input, n + 2 axes in the order that `dimension_numbers` names.
      rhs: the kernel, n + 2 axes, of lhs's dtype.
      strides: n ints, samples of output from one input to the next.
      padding: "SAME" (output = input * stride), "VALID", "SAME_LOWER" (strides of 1 only), or n (lo, hi)
        pairs that pad the dilated input.
      rhs_dilation: n ints, distance of neighbouring taps.
      dimension_numbers: None for channels last (NHWC, HWIO, NHWC with two spatial axes), three strings or
        a `lax.ConvDimensionNumbers`.
      transpose_kernel: take rhs as the kernel of the forward convolution whose gradient this is: its
        spatial axes are flipped and its I and O exchanged. Keras and PyTorch mean this.
      precision, preferred_element_type: as in `conv`.
      use_consistent_padding: (lo, hi) pairs are those of the forward convolution, as in PyTorch; they
        take away from the output.
      algorithm, autodiff: as in `conv`.

    Returns:
      The transposed convolution, its axes in the order that `dimension_numbers` names.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`.

    Example:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, w = jnp.ones((8, 7, 7, 16)), jnp.ones((3, 3, 16, 4))
      >>> jaxconv.conv_transpose(x, w, (2, 2), "SAME").shape
      (8, 14, 14, 4)
    """
    given = dict(
        lhs=lhs, rhs=rhs, strides=strides, padding=padding, rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers, transpose_kernel=transpose_kernel,
        use_consistent_padding=use_consistent_padding,
    )  # fmt: skip
    with context("conv_transpose", **given):
        lhs, rhs = as_array(lhs, "lhs", 2), as_array(rhs, "rhs", 2)
        layout = _layout.parse(dimension_numbers, lhs.ndim, rhs.ndim, _layout.channels_last(lhs.ndim - 2))
        input_shape = tuple(lhs.shape[i] for i in layout.lhs)
        *sizes, cin, cout = (rhs.shape[i] for i in layout.rhs)
        if transpose_kernel:
            cin, cout = cout, cin
        rank = layout.rank
        strides = as_ints(strides, rank, "strides", minimum=1)
        dilation = or_ones(rhs_dilation, rank, "rhs_dilation")
        pads = transposed_pads(input_shape, sizes, strides, dilation, padding, use_consistent_padding)
        problem, _ = make_problem(
            input_shape, (*sizes, cin, cout), lhs.dtype, rhs.dtype, padding=pads,
            input_dilation=strides, kernel_dilation=dilation, precision=precision,
            preferred_element_type=preferred_element_type,
        )  # fmt: skip
        # The forward convolution whose input gradient this is: its input is our output.
        problem = problem.input_adjoint()
        call = layout_call(
            problem, None, Pass.INPUT_GRAD, layout, input_shape, tuple(rhs.shape[i] for i in layout.rhs),
            algorithm, autodiff,
        )  # fmt: skip
        call = dataclasses.replace(call, flip_kernel=not transpose_kernel)
    return execute(call, lhs, rhs)


def transposed_pads(
    input_shape: Shape,
    sizes: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: Any,
    consistent: bool,
) -> Pads:
    """(lo, hi) of the dilated input, by lax's rules for transposed convolution."""
    extents = [dilated(k, d) for k, d in zip(sizes, dilation, strict=True)]
    if isinstance(padding, str) and padding.upper() in ("SAME", "VALID"):
        axes = zip(extents, strides, strict=True)
        return tuple(_named_pads(padding.upper(), *axis) for axis in axes)
    if isinstance(padding, str) and (padding.upper() != "SAME_LOWER" or max(strides, default=1) > 1):
        raise ValueError(
            '`padding` must be "SAME", "VALID" or (lo, hi) pairs ("SAME_LOWER" with strides of 1), '
            f"got {padding!r} with strides {tuple(strides)}; give the pads"
        )
    pads, _ = resolve_padding(padding, input_shape[1:-1], extents, strides)
    if not consistent:
        return pads
    return tuple((e - 1 - lo, e - 1 - hi) for e, (lo, hi) in zip(extents, pads, strict=True))


def _named_pads(name: str, extent: int, stride: int) -> tuple[int, int]:
    """SAME: output = input * stride. VALID: whole windows, and no fewer than `stride` samples an input."""
    total = extent + stride - 2
    if name == "VALID":
        lo = extent - 1
        total += max(extent - stride, 0)
    else:
        lo = extent - 1 if stride > extent - 1 else -(-total // 2)
    return lo, total - lo
