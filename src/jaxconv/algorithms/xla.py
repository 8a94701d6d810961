"""XLA's own convolution, `lax.conv_general_dilated`: the peer to compare with, and a choice on accelerators.

Its gradient passes are the adjoint convolutions of `Window`, handed to XLA in its own dimension numbers:

    input gradient   strides b, input dilation s, kernel dilation d, flipped kernel with I and O exchanged
    kernel gradient  strides d, input dilation b, kernel dilation s, batch and feature axes exchanged (T8, T7)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .._patches import swap_channels
from .._problem import ConvProblem, Pass, accumulator
from .._window import Window
from ._record import Algorithm


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    numbers = channels_last(problem.rank)
    return _convolution(
        problem, problem.windows, x, w, problem.y_dtype, numbers, feature_group_count=problem.groups
    )


def channels_last(rank: int) -> lax.ConvDimensionNumbers:
    spatial = tuple(range(1, rank + 1))
    return lax.ConvDimensionNumbers(
        (0, rank + 1, *spatial), (rank + 1, rank, *range(rank)), (0, rank + 1, *spatial)
    )


def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    """A forward pass of the adjoint.

    XLA takes a convolution with a kernel that comes out of a reversal for cuDNN's input gradient, which
    multiplies no inserted zeros. The barrier keeps the kernel of a transposed convolution, already flipped,
    from being flipped back.
    """
    w = lax.optimization_barrier(w)
    flipped = lax.rev(swap_channels(w, problem.groups), range(problem.rank))
    return forward(problem.input_adjoint(), g, flipped)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    """x's channels play the batch, the batch plays the channels, g plays the kernel.

    On CPUs XLA convolves other layouts than channels-last in scalar loops, which took 10 to 20 times as long,
    except in the main computation of a program, where it transposes them itself.
    """
    rank = problem.rank
    spatial = tuple(range(1, rank + 1))
    numbers = lax.ConvDimensionNumbers(
        (rank + 1, 0, *spatial), (rank + 1, 0, *spatial), (rank, rank + 1, *range(rank))
    )
    windows = tuple(w.kernel_adjoint() for w in problem.windows)
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        x, g, numbers = jnp.swapaxes(x, 0, -1), jnp.moveaxis(g, 0, -2), channels_last(rank)
    dw = _convolution(problem, windows, x, g, problem.w_dtype, numbers, batch_group_count=problem.groups)
    return jnp.moveaxis(dw, 0, -2) if on_cpu else dw


def _convolution(
    problem: ConvProblem,
    windows: tuple[Window, ...],
    a: Array,
    b: Array,
    dtype: str,
    numbers: lax.ConvDimensionNumbers,
    **groups: Any,
) -> Array:
    acc = accumulator(problem)
    if a.dtype != b.dtype:
        a, b = a.astype(acc), b.astype(acc)
    a, windows = crop(a, windows, numbers.lhs_spec[2:])
    return lax.conv_general_dilated(
        a,
        b,
        [w.stride for w in windows],
        [(w.lo, w.hi) for w in windows],
        [w.base_dilation for w in windows],
        [w.dilation for w in windows],
        numbers,
        precision=problem.precision,
        preferred_element_type=a.dtype if rounds_once(a, dtype) else acc,
        **groups,
    )


def rounds_once(a: Array, dtype: str) -> bool:
    """Whether a result of the operands' own narrow floats is summed in wider ones all the same.

    cuDNN and the TPU's matrix unit do so. Asked for the wide sum instead, XLA widens the operands for cuDNN.
    """
    narrow = a.dtype.name in ("bfloat16", "float16") and a.dtype == jnp.dtype(dtype)
    return narrow and jax.default_backend() != "cpu"


def crop(a: Array, windows: tuple[Window, ...], axes: Sequence[int]) -> tuple[Array, tuple[Window, ...]]:
    """Slice off what negative padding crops: on CPUs XLA reads out of bounds for some (xla issue 48713)."""
    kept = []
    for w, axis in zip(windows, axes, strict=True):
        if min(w.lo, w.hi) < 0 and jax.default_backend() == "cpu":
            w = w.exact()
            if w.base_dilation == 1:
                start, stop = max(0, -w.lo), w.in_size - max(0, -w.hi)
                a = lax.slice_in_dim(a, min(start, w.in_size), max(stop, min(start, w.in_size)), axis=axis)
                w = dataclasses.replace(w, in_size=a.shape[axis], lo=max(0, w.lo), hi=max(0, w.hi))
        kept.append(w)
    return a, tuple(kept)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Every problem."""
    del problem, pass_
    return None


ALGORITHM = Algorithm("xla", supports, forward, kernel_grad, input_grad, takes_dilated_input=True)
