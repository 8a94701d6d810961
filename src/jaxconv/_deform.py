"""Deformable convolution: every tap reads where an offset moves it, between samples by interpolation.

With a = m s + k d - lo + offset the place that a tap reads, f = a - floor(a), b the 2^r corners of a cell,

    p = sum_b w_b x[floor(a) + b]         w_b = prod_j (f_j if b_j else 1 - f_j)
    dx[floor(a) + b] += w_b dp            da_j = sum_b (dw_b / df_j) sum_c x[floor(a) + b, c] dp[c]

and samples outside of the input are 0.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._contract import contract
from ._conv import check_bias
from ._dtypes import sum_dtype
from ._extend import extend
from ._front import as_array, context, flatten_batch, hand_derived, varying_alike
from ._padding import Extension
from ._problem import ConvProblem, Shape, make_problem


def deform_conv(
    x: Any,
    offset: Any,
    kernel: Any,
    bias: Any = None,
    *,
    mask: Any = None,
    strides: int | Sequence[int] = 1,
    padding: Any = "SAME",
    kernel_dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: Any = None,
    autodiff: str = "custom",
) -> Array:
    """Deformable convolution: each output moves its taps, and may weigh them.

        y[n, m, o] = sum_k sum_c mask[n, m, k] x[n, m s + k d - lo + offset[n, m, k], c] kernel[k, c, o]  (T5)

    plus bias[o]. Between samples x is interpolated, bilinearly for images; outside it is 0. Offsets of 0
    and a mask of 1 give `conv`. See Dai et al., ICCV 2017, and Zhu et al., CVPR 2019, for the mask; it is
    what `torchvision.ops.deform_conv2d` and ONNX's DeformConv compute, of any rank. The samples of all taps
    are held at once, prod(K) times the input's memory at stride 1.

    Args:
      x: `[*batch, *S, C]`, floats.
      offset: `[*batch, *M, D prod(K) rank]`, in samples: for each of D offset groups, which split the
        channels, for each tap in row-major order, one entry per spatial axis.
      kernel: `[*K, C / groups, O]`, of x's dtype.
      bias: `[O]` or None.
      mask: `[*batch, *M, D prod(K)]`, in offset's order, or None for 1.
      strides, padding, kernel_dilation, groups, precision: as in `conv`.
      autodiff: "custom" for the hand-derived reverse rule, "jax" for JAX's own derivatives.

    Returns:
      `[*batch, *M, O]`.

    Raises:
      ValueError, TypeError: as `conv`; offsets or a mask of another shape, or that are no floats.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> x, offset = jnp.ones((8, 28, 28, 3)), jnp.zeros((8, 28, 28, 3 * 3 * 2))
      >>> jaxconv.deform_conv(x, offset, jnp.ones((3, 3, 3, 6))).shape
      (8, 28, 28, 6)
    """
    options = dict(
        strides=strides, padding=padding, kernel_dilation=kernel_dilation, groups=groups, precision=precision
    )
    with context("deform_conv", x=x, offset=offset, kernel=kernel, bias=bias, mask=mask, **options):
        kernel = as_array(kernel, "kernel", 3)
        rank = kernel.ndim - 2
        x, offset = as_floats(x, "x", rank + 1), as_floats(offset, "offset", rank + 1)
        problem, extension = make_problem(
            flatten_batch(x.shape, rank), kernel.shape, x.dtype, kernel.dtype, **options
        )
        outputs = (*x.shape[: x.ndim - rank - 1], *problem.output_size)
        parts = offset_groups(offset.shape, outputs, problem)
        if mask is not None:
            mask = as_floats(mask, "mask", rank + 1)
            check_mask(mask.shape, (*outputs, parts * problem.taps))
        bias = check_bias(bias, problem)
        deform = Deform(problem, extension, parts, hand_derived(autodiff))
    return _deform_conv(deform, x, offset, mask, kernel, bias)


@dataclasses.dataclass(frozen=True, slots=True)
class Deform:
    """Everything static about a deformable convolution; `problem` is the one that does not move."""

    problem: ConvProblem
    extension: Extension | None
    parts: int
    by_hand: bool


def as_floats(value: Any, name: str, least_axes: int) -> Array:
    """An array of real floats: places between samples need them."""
    value = as_array(value, name, least_axes)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be floats, got {value.dtype}; cast it with .astype")
    return value


def offset_groups(got: Shape, outputs: Shape, problem: ConvProblem) -> int:
    """D, which `offset`'s last axis says."""
    entries = problem.taps * problem.rank
    parts = got[-1] // entries
    if tuple(got) != (*outputs, parts * entries) or parts < 1 or problem.in_channels % parts:
        raise ValueError(
            f"`offset` must have shape {(*outputs, f'D * {entries}')} with D dividing the "
            f"{problem.in_channels} channels of `x`, got {tuple(got)}"
        )
    return parts


def check_mask(got: Shape, wanted: Shape) -> None:
    if tuple(got) != wanted:
        raise ValueError(f"`mask` must have one entry for each tap, shape {wanted}, got {tuple(got)}")


@functools.partial(jax.jit, static_argnums=0)
def _deform_conv(
    deform: Deform, x: Array, offset: Array, mask: Array | None, kernel: Array, bias: Array | None
) -> Array:
    problem = deform.problem
    rank, n, taps, parts = problem.rank, problem.batch, problem.taps, deform.parts
    batch, outputs = x.shape[: x.ndim - rank - 1], math.prod(problem.output_size)
    x = x.reshape(flatten_batch(x.shape, rank))
    x = x if deform.extension is None else extend(x, deform.extension)
    acc = sum_dtype(x.dtype)
    sizes = x.shape[1:-1]
    plane = x.reshape(n, math.prod(sizes), parts, x.shape[-1] // parts).astype(acc)
    # [N, Q, D, K, r] -> [N, Q K, D, r]
    at = offset.reshape(n, outputs, parts, taps, rank).astype(acc) + places(problem, acc)[None, :, None]
    at = at.swapaxes(2, 3).reshape(n, outputs * taps, parts, rank)
    p = (sample_by_hand if deform.by_hand else sample)(sizes, *varying_alike(plane, at))
    if mask is not None:
        weights = mask.reshape(n, outputs, parts, taps).astype(acc).swapaxes(2, 3)
        p = p * weights.reshape(n, outputs * taps, parts, 1)
    y = multiply(problem, p.reshape(n, outputs, taps, x.shape[-1]), kernel)
    if bias is not None:
        y = y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)
    return y.reshape(*batch, *problem.output_size, problem.out_channels)


def places(problem: ConvProblem, dtype: Any) -> Array:
    """Where the taps lie before they move: `[Q, K, r]`."""
    rank = problem.rank
    axes = []
    for axis, w in enumerate(problem.windows):
        shape = (*problem.output_size, *problem.kernel_size)
        output = lax.broadcasted_iota(jnp.int32, shape, axis)
        tap = lax.broadcasted_iota(jnp.int32, shape, rank + axis)
        axes.append(output * w.stride + tap * w.dilation - w.lo)
    return jnp.stack(axes, -1).reshape(math.prod(problem.output_size), problem.taps, rank).astype(dtype)


def multiply(problem: ConvProblem, p: Array, kernel: Array) -> Array:
    """Samples `[N, Q, K, C]` times the kernel, group by group: `[N, Q, O]`."""
    groups = problem.groups
    cin, cout = problem.channels_per_group
    p = p.reshape(*p.shape[:3], groups, cin)
    w = kernel.reshape(problem.taps, cin, groups, cout).astype(p.dtype)
    y = contract(problem, p, w, (((2, 4), (0, 1)), ((3,), (2,))))
    y = jnp.moveaxis(y, 0, 2).reshape(*p.shape[:2], problem.out_channels)
    return y.astype(problem.y_dtype)


def sample(sizes: Shape, x: Array, at: Array) -> Array:
    """x `[N, P, D, C/D]` of spatial `sizes` at places `[N, Q, D, r]`: `[N, Q, D, C/D]`."""
    y = jnp.zeros((*at.shape[:-1], x.shape[-1]), x.dtype)
    for bits in itertools.product((0, 1), repeat=len(sizes)):
        index, factors = corner(sizes, at, bits)
        y = y + math.prod(factors[1:], start=factors[0])[..., None] * read(x, index)
    return y


def corner(sizes: Shape, at: Array, bits: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """A corner of every place's cell: its flat index, past the end if outside, and its weight's factors."""
    low = jnp.floor(at)
    index = jnp.zeros(at.shape[:-1], jnp.int32)
    inside, factors = jnp.ones(at.shape[:-1], bool), []
    for axis, (size, bit) in enumerate(zip(sizes, bits, strict=True)):
        part = at[..., axis] - low[..., axis]
        factors.append(part if bit else 1 - part)
        cell = jnp.clip(low[..., axis], -2, size).astype(jnp.int32) + jnp.int32(bit)
        inside &= (cell >= 0) & (cell < size)
        index = index * jnp.int32(size) + cell
    return jnp.where(inside, index, jnp.int32(math.prod(sizes))), factors


def read(x: Array, index: Array) -> Array:
    """Of x `[N, P, D, C/D]` the rows at `[N, Q, D]`, 0 past the end."""
    return x.at[rows(index)].get(mode="fill", fill_value=0)


def rows(index: Array) -> tuple[Array, Array, Array]:
    n, _, d = index.shape
    shape = (n, 1, d)
    return lax.broadcasted_iota(jnp.int32, shape, 0), index, lax.broadcasted_iota(jnp.int32, shape, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def sample_by_hand(sizes: Shape, x: Array, at: Array) -> Array:
    """`sample` with the hand-derived reverse rule."""
    return sample(sizes, x, at)


def _sample_bwd(sizes: Shape, kept: tuple[Array, Array], dp: Array) -> tuple[Array, Array]:
    x, at = kept
    dx = jnp.zeros_like(x)
    slopes = [jnp.zeros(at.shape[:-1], at.dtype) for _ in sizes]
    for bits in itertools.product((0, 1), repeat=len(sizes)):
        index, factors = corner(sizes, at, bits)
        weight = math.prod(factors[1:], start=factors[0])
        dx = dx.at[rows(index)].add(weight[..., None] * dp, mode="drop")
        along = jnp.sum(read(x, index) * dp, -1)
        for axis, bit in enumerate(bits):
            others = math.prod(factors[:axis] + factors[axis + 1 :], start=along)
            slopes[axis] = slopes[axis] + (others if bit else -others)
    return dx, jnp.stack(slopes, -1)


sample_by_hand.defvjp(lambda sizes, x, at: (sample_by_hand(sizes, x, at), (x, at)), _sample_bwd)
