"""Space to depth: a pass with strides as one without, in which s neighbouring samples are channels.

With i = s q + r and k = s u + r on every axis, r in [0, s), and zeros behind the last tap,

    x~[q, (r, c)] = x[s q + r - lo, c],    w~[u, (r, c), o] = w[s u + r, c, o]

    y = x~ * w~,    dw~ = x~^T g,    dx~ = g w~^T, added up                              (T5, T7, T8)

are passes of ceil(K / s) taps over s^d C channels, by GEMM (`_products.py`). They copy each sample of x once,
then whole blocks of them; patches copy a sample for each of the (K / s)^d windows that read it.
A dilated input is dx of such a pass, so that forward pass and input gradient change places (T9).
Groups run one after another (`_groups.py`).
Cost: (s ceil(K / s) / K)^d multiply-adds per pair that meets. Error: that of a plain sum.
A NaN or an infinity meets the zeros behind the last tap: it may spread to windows that end up to s - 1
samples before it.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from jax import Array

from .._dtypes import is_highest
from .._patches import depth_to_space, flip_and_swap, gather_blocks, pad_to_windows, space_to_depth
from .._problem import ConvProblem, Pass
from .._window import Window
from . import _products
from ._blocks import forward_in_blocks, image_blocks, input_grad_in_blocks, kernel_grad_in_blocks
from ._groups import group_by_group
from ._products import one_output
from ._record import Algorithm
from ._stages import separately


@group_by_group
def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    if not problem.is_dense:
        return input_grad(problem.input_adjoint(), x, flip_and_swap(w, 1))
    problem, w = whole_blocks(problem), kernel_to_depth(problem, w)

    def step(part: ConvProblem, x: Array) -> Array:
        return _products.forward(in_depth(part), input_to_depth(part, x), w, one_output)

    return forward_in_blocks(problem, image_blocks(problem), x, step)


@group_by_group
def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    if not problem.is_dense:
        return flip_and_swap(kernel_grad(problem.input_adjoint(), g, x), 1)

    def step(part: ConvProblem, x: Array, g: Array) -> Array:
        dw = _products.kernel_grad(in_depth(part), input_to_depth(part, x), g, one_output)
        return depth_to_space(dw, 0, part.strides)

    whole = whole_blocks(problem)
    dw = kernel_grad_in_blocks(whole, image_blocks(whole), x, g, step)
    return dw[tuple(map(slice, problem.kernel_size))]


@group_by_group
def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    if not problem.is_dense:
        return forward(problem.input_adjoint(), g, flip_and_swap(w, 1))
    problem, w = whole_blocks(problem), kernel_to_depth(problem, w)

    def step(part: ConvProblem, g: Array) -> Array:
        return depth_to_space(_products.input_grad(in_depth(part), g, w, one_output), 1, part.strides)

    return input_grad_in_blocks(problem, image_blocks(problem), g, step)


def whole_blocks(problem: ConvProblem) -> ConvProblem:
    """The problem with taps behind the last, as many as fill its block."""

    def fill(window: Window) -> Window:
        more = -window.size % window.stride
        return dataclasses.replace(window, size=window.size + more, hi=window.hi + more)

    return problem.with_windows([fill(w) for w in problem.windows])


def in_depth(problem: ConvProblem) -> ConvProblem:
    """The problem without strides, its padding in place."""

    def window(w: Window) -> Window:
        return Window(w.reach // w.stride, w.size // w.stride, dilation=w.dilation)

    channels = math.prod(problem.strides) * problem.in_channels
    problem = problem.with_windows([window(w) for w in problem.windows])
    return dataclasses.replace(problem, in_channels=channels)


def input_to_depth(problem: ConvProblem, x: Array) -> Array:
    """x~, in memory: all taps read it.

    The copy is by blocks, seen as channels afterwards: a loop over those would divide to find each in its
    block, and passes took 0.9 to 1.5 times as long (six layers, 2026-11-30, Intel Xeon).
    """

    def copy(x: Array) -> Array:
        return gather_blocks(pad_to_windows(x, problem.windows), 1, problem.strides)

    return separately(copy, x).reshape(x.shape[0], *in_depth(problem).input_shape[1:])


def kernel_to_depth(problem: ConvProblem, w: Array) -> Array:
    """w~ from the kernel, its last block filled with zeros."""
    more = [(0, -size % s) for size, s in zip(problem.kernel_size, problem.strides, strict=True)]
    return space_to_depth(jnp.pad(w, [*more, (0, 0), (0, 0)]), 0, problem.strides)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Strides or a dilated input, not both, and an undilated kernel where they are."""
    del pass_
    steps = [max(w.stride, w.base_dilation) for w in problem.windows]
    if max(steps, default=1) == 1:
        return "space_to_depth needs a stride or a dilated input, got neither"
    if max(problem.strides) > 1 and not problem.is_dense:
        return "space_to_depth needs either strides or a dilated input, got both"
    if any(w.dilation > 1 and step > 1 for w, step in zip(problem.windows, steps, strict=True)):
        return f"space_to_depth needs an undilated kernel where it strides, got {problem.kernel_dilation}"
    fills = all(w.size % step == 0 for w, step in zip(problem.windows, steps, strict=True))
    if is_highest(problem.precision) and not fills:
        return "space_to_depth may spread a NaN to neighbouring outputs, which precision=HIGHEST rules out"
    return None


ALGORITHM = Algorithm("space_to_depth", supports, forward, kernel_grad, input_grad, takes_dilated_input=True)
