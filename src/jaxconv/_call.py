"""From a validated call to arrays: one compiled function, to canonical layout, through the pass, and back."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ._extend import extend, fold_extension
from ._front import explicit_spec, flatten_batch, hand_derived, varying_alike, with_auto_axes
from ._layout import Layout
from ._padding import Extension
from ._patches import cut, flip_and_swap, restore
from ._problem import ConvProblem, Pass, Shape
from ._select import Policy, choose, make_policy
from ._trilinear import run, trilinear


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """Everything static about one call.

    Operands are transposed by `order_*`, then reshaped to `shape_*`; the result is transposed by
    `order_out` after a reshape to `shape_out`.
    """

    problem: ConvProblem
    pass_: Pass
    policy: Policy
    hand_derived: bool
    order_a: Shape
    order_b: Shape
    order_out: Shape
    shape_a: Shape
    shape_b: Shape
    shape_out: Shape
    batch_groups: int = 1
    extension: Extension | None = None
    flip_kernel: bool = False


def channels_last_call(
    problem: ConvProblem,
    extension: Extension | None,
    pass_: Pass,
    shape_a: Shape,
    shape_b: Shape,
    shape_out: Shape,
    algorithm: Any,
    autodiff: Any,
) -> Call:
    """A Call on channels-last operands whose batch axes are flattened."""
    policy = make_policy(algorithm)
    choose(problem.core(), pass_, policy)
    rank = problem.rank
    return Call(
        problem,
        pass_,
        policy,
        hand_derived(autodiff),
        order_a=identity(len(shape_a)),
        order_b=identity(len(shape_b)),
        order_out=identity(len(shape_out)),
        shape_a=flatten_batch(shape_a, rank),
        shape_b=flatten_batch(shape_b, rank) if pass_ is Pass.KERNEL_GRAD else shape_b,
        shape_out=shape_out,
        extension=extension,
    )


def layout_call(
    problem: ConvProblem,
    extension: Extension | None,
    pass_: Pass,
    layout: Layout,
    shape_a: Shape,
    shape_b: Shape,
    algorithm: Any,
    autodiff: Any,
    batch_groups: int = 1,
) -> Call:
    """A Call on operands in any layout; `shape_a` and `shape_b` are canonical."""
    policy = make_policy(algorithm)
    choose(problem.core(), pass_, policy)
    shape_out = problem.result(pass_).shape
    if extension is not None and pass_ is Pass.INPUT_GRAD:
        shape_out = (shape_out[0], *extension.sizes, shape_out[-1])
    return Call(
        problem,
        pass_,
        policy,
        hand_derived(autodiff),
        order_a=layout.lhs,
        order_b=layout.rhs,
        order_out=layout.out,
        shape_a=shape_a,
        shape_b=shape_b,
        shape_out=shape_out,
        batch_groups=batch_groups,
        extension=extension,
    )


def execute(call: Call, a: Array, b: Array, bias: Array | None = None) -> Array:
    """The call's pass on its operands in the user's layout, as one compiled function.

    Where a mesh with explicit axes splits the batch, it splits that of the result, as with lax.
    """
    spec = explicit_spec(a)
    if spec is None:
        return run_call(call, a, b, bias)
    return with_auto_axes(functools.partial(run_call, call), result_spec(call, spec), a, b, bias)


def result_spec(call: Call, spec: tuple[Any, ...]) -> tuple[Any, ...]:
    """The result's batch axes split as those of `a`; a kernel gradient, a sum over them, not at all."""
    if call.pass_ is Pass.KERNEL_GRAD:
        return ()
    batch = len(call.shape_out) - call.problem.rank - 1
    canonical = [spec[axis] for axis in call.order_a[:batch]] + [None] * (call.problem.rank + 1)
    return tuple(canonical[axis] for axis in call.order_out)


@functools.partial(jax.jit, static_argnums=0)
def run_call(call: Call, a: Array, b: Array, bias: Array | None = None) -> Array:
    """`execute` on operands that no mesh splits explicitly."""
    a = a.transpose(call.order_a).reshape(call.shape_a)
    b = b.transpose(call.order_b).reshape(call.shape_b)
    if call.flip_kernel:
        b = flip_and_swap(b, call.problem.groups)
    if call.batch_groups > 1:
        a = batch_groups_to_channels(a, call.batch_groups)
    extension = call.extension
    if extension is not None and call.pass_ is not Pass.INPUT_GRAD:
        a = extend(a, extension)
    out = run_pass(call, *varying_alike(a, b))
    if extension is not None and call.pass_ is Pass.INPUT_GRAD:
        out = fold_extension(out, extension)
    if bias is not None:
        out = out + jnp.broadcast_to(bias.astype(out.dtype), out.shape)
    return out.reshape(call.shape_out).transpose(call.order_out)


def run_pass(call: Call, a: Array, b: Array) -> Array:
    """The pass of the taps and samples that can meet: others take no part, and have zero gradients."""
    problem, pass_ = call.problem, call.pass_
    taps = problem.meeting_taps()
    samples = problem.with_taps(taps).meeting_samples()
    if pass_ is not Pass.INPUT_GRAD:
        a = cut(a, 1, samples)
    if pass_ is not Pass.KERNEL_GRAD:
        b = cut(b, 0, taps)
    rule = trilinear if call.hand_derived else run
    out = rule(problem.core(), pass_, call.policy, a, b)
    if pass_ is Pass.INPUT_GRAD:
        return restore(out, 1, samples, problem.input_shape[1:-1])
    return restore(out, 0, taps, problem.kernel_size) if pass_ is Pass.KERNEL_GRAD else out


def batch_groups_to_channels(x: Array, groups: int) -> Array:
    """`[B N, *S, C]` -> `[N, *S, B C]`: batch groups are feature groups of a batch B times smaller."""
    batch, *space, channels = x.shape
    x = jnp.moveaxis(x.reshape(groups, batch // groups, *space, channels), 0, -2)
    return x.reshape(batch // groups, *space, groups * channels)


def identity(rank: int) -> tuple[int, ...]:
    """The permutation of a channels-last operand: none."""
    return tuple(range(rank))
