"""XLA's own convolution, `lax.conv_general_dilated`: the peer to compare with, and a choice on accelerators.

Its gradient passes are the adjoint convolutions of `Window`, handed to XLA in its own dimension numbers:

    input gradient   strides b, input dilation s, kernel dilation d, flipped kernel with I and O exchanged
    kernel gradient  strides d, input dilation b, kernel dilation s, batch and feature axes exchanged (T8, T7)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax import Array, lax

from .._problem import ConvProblem, Pass, accumulator
from .._window import Window
from ._record import Algorithm


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    rank = problem.rank
    spatial = tuple(range(1, rank + 1))
    numbers = lax.ConvDimensionNumbers(
        (0, rank + 1, *spatial), (rank + 1, rank, *range(rank)), (0, rank + 1, *spatial)
    )
    return _convolution(problem, problem.windows, x, w, numbers, feature_group_count=problem.groups)


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    """x's channels play the batch, the batch plays the channels, g plays the kernel."""
    rank = problem.rank
    spatial = tuple(range(1, rank + 1))
    numbers = lax.ConvDimensionNumbers(
        (rank + 1, 0, *spatial), (rank + 1, 0, *spatial), (rank, rank + 1, *range(rank))
    )
    windows = tuple(w.kernel_adjoint() for w in problem.windows)
    return _convolution(problem, windows, x, g, numbers, batch_group_count=problem.groups)


def _convolution(
    problem: ConvProblem,
    windows: tuple[Window, ...],
    a: Array,
    b: Array,
    numbers: lax.ConvDimensionNumbers,
    **groups: Any,
) -> Array:
    acc = accumulator(problem)
    if a.dtype != b.dtype:
        a, b = a.astype(acc), b.astype(acc)
    a, windows = crop(a, tuple(w.exact() for w in windows), numbers.lhs_spec[2:])
    return lax.conv_general_dilated(
        a,
        b,
        [w.stride for w in windows],
        [(w.lo, w.hi) for w in windows],
        [w.base_dilation for w in windows],
        [w.dilation for w in windows],
        numbers,
        precision=problem.precision,
        preferred_element_type=acc,
        **groups,
    )


def crop(a: Array, windows: tuple[Window, ...], axes: Sequence[int]) -> tuple[Array, tuple[Window, ...]]:
    """Slice off what negative padding crops: XLA reads out of bounds for some (openxla/xla issue 48713)."""
    kept = []
    for w, axis in zip(windows, axes, strict=True):
        if w.base_dilation == 1 and min(w.lo, w.hi) < 0:
            start, stop = max(0, -w.lo), w.in_size - max(0, -w.hi)
            a = lax.slice_in_dim(a, min(start, w.in_size), max(stop, min(start, w.in_size)), axis=axis)
            w = dataclasses.replace(w, in_size=a.shape[axis], lo=max(0, w.lo), hi=max(0, w.hi))
        kept.append(w)
    return a, tuple(kept)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Every problem."""
    del problem, pass_
    return None


ALGORITHM = Algorithm("xla", supports, forward, kernel_grad, takes_dilated_input=True)
