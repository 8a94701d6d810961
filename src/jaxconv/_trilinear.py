"""The one differentiable, batchable operation: a pass of a problem, and the derivative rule of all passes.

T(x, w, g) = <conv(x, w), g> is linear in each of its slots, and each pass is T with one slot open:

    FORWARD(x, w)        [n, c] [c, o] -> [n, o]
    INPUT_GRAD(g, w)     [n, o] [c, o] -> [n, c]        (T8)
    KERNEL_GRAD(x, g)    [n, c] [n, o] -> [c, o]        (T7)

Put a cotangent c into the open slot and open one of the other two: the derivative of any pass is the other
two passes on the same problem, so the rule below closes under every order of reverse mode.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
from jax import Array, lax
from jax.custom_batching import custom_vmap

from ._loops import map_in_loop
from ._problem import ConvProblem, Pass
from ._select import Policy, choose

# pass -> ((pass of the first gradient, its operands), (pass of the second gradient, its operands)),
# where "c" is the cotangent and "a", "b" the operands of the pass that is differentiated.
DERIVATIVES = {
    Pass.FORWARD: ((Pass.INPUT_GRAD, "cb"), (Pass.KERNEL_GRAD, "ac")),
    Pass.INPUT_GRAD: ((Pass.FORWARD, "cb"), (Pass.KERNEL_GRAD, "ca")),
    Pass.KERNEL_GRAD: ((Pass.INPUT_GRAD, "bc"), (Pass.FORWARD, "ac")),
}


def run(problem: ConvProblem, pass_: Pass, policy: Policy, a: Array, b: Array) -> Array:
    """The pass by the chosen algorithm; JAX differentiates it through the lax primitives."""
    algorithm, _ = choose(problem, pass_, policy)
    return algorithm.run(problem, pass_, a, b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def trilinear(problem: ConvProblem, pass_: Pass, policy: Policy, a: Array, b: Array) -> Array:
    """The pass with the hand-derived reverse rule and batching rule."""
    return _batchable(problem, pass_, policy)(a, b)


def _trilinear_fwd(
    problem: ConvProblem, pass_: Pass, policy: Policy, a: Array, b: Array
) -> tuple[Array, tuple[Array, Array]]:
    return trilinear(problem, pass_, policy, a, b), (a, b)


def _trilinear_bwd(
    problem: ConvProblem, pass_: Pass, policy: Policy, residuals: tuple[Array, Array], cotangent: Array
) -> tuple[Array, ...]:
    # A gradient that nobody asks for is dead code, which jit removes.
    operands = dict(zip("abc", (*residuals, cotangent), strict=True))
    return tuple(
        trilinear(problem, gradient, policy, *(operands[name] for name in names))
        for gradient, names in DERIVATIVES[pass_]
    )


trilinear.defvjp(_trilinear_fwd, _trilinear_bwd)


@functools.lru_cache(maxsize=4096)
def _batchable(problem: ConvProblem, pass_: Pass, policy: Policy) -> Callable[[Array, Array], Array]:
    """The pass as a function that `vmap` maps by the rules below."""
    single = functools.partial(run, problem, pass_, policy)
    mapped = custom_vmap(single)

    @mapped.def_vmap
    def rule(axis_size: int, in_batched: list[bool], a: Array, b: Array) -> tuple[Array, bool]:
        a_batched, b_batched = in_batched
        if pass_ is not Pass.KERNEL_GRAD and a_batched and not b_batched:
            folded = dataclasses.replace(problem, batch=axis_size * problem.batch)
            out = _batchable(folded, pass_, policy)(a.reshape(folded.batch, *a.shape[2:]), b)
            return out.reshape(axis_size, problem.batch, *out.shape[1:]), True
        if policy.platform != "cpu":
            axes = (0 if a_batched else None, 0 if b_batched else None)
            return jax.vmap(single, axes)(a, b), True
        # One example after another keeps compile time and workspace independent of the batch.
        return _one_by_one(_batchable(problem, pass_, policy), in_batched, a, b), True

    return mapped


def _one_by_one(function: Callable[[Array, Array], Array], batched: list[bool], a: Array, b: Array) -> Array:
    """`function` mapped over the first axes of the `batched` operands, in a loop."""
    over_a, over_b = batched

    def step(slices: tuple[Array | None, Array | None]) -> Array:
        one_a, one_b = slices
        return function(
            a if one_a is None else one_a.reshape(a.shape[1:]),
            b if one_b is None else one_b.reshape(b.shape[1:]),
        )

    return map_in_loop(step, (_in_place(a) if over_a else None, _in_place(b) if over_b else None))


def _in_place(stack: Array) -> Array:
    """A stack of examples without their batch axis of size 1, if that is what they have.

    XLA lays that axis out anew for a loop, and so copies the whole stack; without it examples are read where
    they are.
    """
    return lax.squeeze(stack, (1,)) if stack.shape[1] == 1 else stack
