"""What an algorithm is, and how its passes cover every problem.

forward      [n, c] [c, o] -> [n, o]     at every tap
input_grad   [n, o] [c, o] -> [n, c]     a forward pass with the flipped kernel (T8)
kernel_grad  [n, c] [n, o] -> [c, o]     at every tap (T7)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from jax import Array

from .._patches import flip_and_swap, forward_by_phases, kernel_grad_by_phases, zeros
from .._problem import ConvProblem, Pass
from ._blocks import image_blocks, kernel_grad_in_blocks, one_block
from ._stages import apart

# Phases with more taps together are not fused with their interleaving: 25 took 2 to 4 times as long in one
# sum, where 9 took half (2026-11-26, depthwise gradients with strides of 2, AMD EPYC Zen 4).
MAX_FUSED_TAPS = 16

PassFunction: TypeAlias = Callable[[ConvProblem, Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One way to compute the three passes.

    `forward(problem, x, w)` and `kernel_grad(problem, x, g)` get dense problems with no empty array;
    `input_grad(problem, g, w)` may be left out. With `takes_dilated_input` the passes get every problem.
    With `phases_in_blocks` the phases of a large kernel gradient take a few images at a time: 0.71 of the
    time, and a fifth of the memory (43 random passes, 0.33 to 1.33; 2026-11-30, AMD EPYC Zen 4, AVX-512).
    Groups that take turns are left alone: two took 2.7 times as long.
    `supports` gives None, or the reason why the algorithm cannot run a pass.
    """

    name: str
    supports: Callable[[ConvProblem, Pass], str | None]
    forward: PassFunction
    kernel_grad: PassFunction
    input_grad: PassFunction | None = None
    takes_dilated_input: bool = False
    phases_in_blocks: Callable[[ConvProblem], bool] = lambda problem: False

    def run(self, problem: ConvProblem, pass_: Pass, a: Array, b: Array) -> Array:
        """The pass's result in its own dtype; (a, b) is (x, w), (g, w) or (x, g)."""
        if problem.is_empty:
            result = problem.result(pass_)
            return zeros(result.shape, result.dtype, a)
        return compute(self, problem, pass_, a, b)

    def dense_or_phases(
        self, problem: ConvProblem, a: Array, b: Array, function: PassFunction, by_phases: Callable
    ) -> Array:
        if problem.is_dense or self.takes_dilated_input:
            return function(problem, a, b)
        if problem.taps > MAX_FUSED_TAPS:
            function = apart(function, static_argnums=(0,))
        return by_phases(problem, a, b, function)

    def kernel_grad_of(self, problem: ConvProblem, x: Array, g: Array) -> Array:
        def step(part: ConvProblem, x: Array, g: Array) -> Array:
            return self.dense_or_phases(part, x, g, self.kernel_grad, kernel_grad_by_phases)

        by_images = self.phases_in_blocks(problem) and not problem.is_dense
        blocks = image_blocks(problem) if by_images else one_block(problem, padded=False)
        return kernel_grad_in_blocks(problem, blocks, x, g, step)


def _compute(algorithm: Algorithm, problem: ConvProblem, pass_: Pass, a: Array, b: Array) -> Array:
    if pass_ is Pass.KERNEL_GRAD:
        dw = algorithm.kernel_grad_of(problem, a, b)
        return dw.astype(problem.w_dtype)
    if pass_ is Pass.FORWARD:
        y = algorithm.dense_or_phases(problem, a, b, algorithm.forward, forward_by_phases)
        return y.astype(problem.y_dtype)
    if algorithm.input_grad is not None and (problem.is_dense or algorithm.takes_dilated_input):
        return algorithm.input_grad(problem, a, b).astype(problem.x_dtype)
    adjoint = problem.input_adjoint()
    # One forward pass for both is traced and compiled once: 0.94 of the compile time of MobileNet's step.
    run = compute if adjoint == problem else _compute
    return run(algorithm, adjoint, Pass.FORWARD, a, flip_and_swap(b, problem.groups))


# XLA would fuse a pass that ends in an elementwise sum into all its readers, and compute it in each.
compute = apart(_compute, static_argnums=(0, 1, 2))
