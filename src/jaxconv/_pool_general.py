"""Pooling by other reductions: the Lp norm, and any associative function."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._front import context, flatten_batch, hand_derived
from ._pool_call import as_inputs, check_flag, execute, make_geometry
from ._pool_extreme import ExtremePool
from ._pool_geometry import Stage, counts, live_taps, stages
from ._pool_linear import LinearPool, accumulator, divisor_of
from ._pool_taps import fence, tap
from ._window import Window


def lp_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    p: float = 2,
    signed: bool = False,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
    autodiff: str = "custom",
) -> Array:
    """The Lp norm under each window, channel by channel.

        y[*b, m, c] = (sum_k |inputs[*b, m s + k d - lo, c]|^p)^(1 / p)                      (T11, T2)

    It lies between the sum (p = 1) and the maximum (p = infinity) of absolute values. The gradient of a
    window of zeros is 0. See Sermanet, Chintala and LeCun, arXiv:1204.3968.

    Args:
      inputs: `[*batch, *S, C]`, floats. bfloat16 and float16 are summed in float32 and rounded once.
      p: above 0, `math.inf` included.
      signed: powers keep their sign, as in PyTorch's `lp_pool`: (sum x^p)^(1 / p), NaN where an odd sum is
        negative, and a window that ceil_mode cuts off is scaled up to its full size.
      window_shape, strides, padding, window_dilation, ceil_mode, autodiff: as in `max_pool`; padding holds 0.

    Returns:
      `[*batch, *M, C]` of inputs' dtype.

    Raises:
      ValueError, TypeError: as `max_pool`; a p that is not above 0.

    Example:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.lp_pool(jnp.array([[3.0], [-4.0]]), (2,))
      Array([[5.]], dtype=float32)
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding,
        window_dilation=window_dilation, ceil_mode=ceil_mode, p=p, signed=signed,
    )  # fmt: skip
    with context("lp_pool", **given):
        x = as_inputs(inputs, "f")
        check_flag(signed, "signed")
        power = check_power(p, signed)
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, ceil_mode)
        by_hand = hand_derived(autodiff)
        axes = zip(geometry.windows, geometry.his, strict=True)
        divisor = divisor_of([counts(w, hi, include_pad=True) for w, hi in axes]) if signed else 1
    return execute(LpPool(geometry.windows, power, signed, divisor), by_hand, x)


def pool(
    inputs: Any,
    init: Any,
    reduce_fn: Callable[[Array, Array], Array],
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Any associative reduction under each window, channel by channel: Flax's `pool`, with a gradient.

        y[*b, m, c] = reduce_fn over k of inputs[*b, m s + k d - lo, c]                       (T11, T2)

    The samples are reduced in row-major order, in groups: reduce_fn must be associative, it need not be
    commutative. JAX differentiates through it, in either mode and at any order. `max_pool`, `min_pool` and
    `sum_pool` have rules of their own and are faster.

    Args:
      inputs: `[*batch, *S, C]` of any dtype.
      init: the identity of reduce_fn, a scalar; padding holds it.
      reduce_fn: of two arrays of one shape, elementwise. A named function is compiled once; a lambda made
        anew for every call, every time.
      window_shape, strides, padding, window_dilation, ceil_mode: as in `max_pool`.

    Returns:
      `[*batch, *M, C]` of inputs' dtype.

    Raises:
      ValueError, TypeError: as `max_pool`; an init that is no scalar, a reduce_fn that is no function.

    Example:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.pool(jnp.arange(1.0, 7.0).reshape(6, 1), 1.0, jnp.multiply, (3,), 3)[:, 0]
      Array([  6., 120.], dtype=float32)
    """
    given = dict(
        inputs=inputs, init=init, reduce_fn=reduce_fn, window_shape=window_shape, strides=strides,
        padding=padding, window_dilation=window_dilation, ceil_mode=ceil_mode,
    )  # fmt: skip
    with context("pool", **given):
        x = as_inputs(inputs, "bifc")
        if not callable(reduce_fn):
            raise TypeError(
                f"`reduce_fn` must be a function of two arrays, got {reduce_fn!r}; for example jnp.add"
            )
        if jnp.ndim(init):
            raise ValueError(
                f"`init` must be a scalar, got shape {jnp.shape(init)}; give reduce_fn's identity"
            )
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, ceil_mode)
    return _reduced(geometry.windows, reduce_fn, x, jnp.asarray(init, x.dtype))


def check_power(p: Any, signed: bool) -> float:
    """p as a Python number above 0."""
    if isinstance(p, bool) or not isinstance(p, (int, float)):
        raise TypeError(f"`p` must be a Python number, got {p!r}")
    if not p > 0:
        raise ValueError(f"`p` must be above 0, got {p}")
    if signed and math.isinf(p):
        raise ValueError("`p` must be finite with `signed`, got inf; use max_pool")
    return p


@dataclasses.dataclass(frozen=True, slots=True)
class LpPool:
    """The Lp norm over `windows`; `signed` powers keep their sign, and sums scale by taps / divisor."""

    windows: tuple[Window, ...]
    p: float
    signed: bool
    divisor: int | tuple[tuple[int, ...], ...]

    def apply(self, x: Array, by_hand: bool) -> Array:
        """x `[N, *S, C]` pooled."""
        dtype = x.dtype
        x = x.astype(accumulator(dtype))
        if math.isinf(self.p):
            largest = ExtremePool(self.windows).apply(_magnitude(x), by_hand)
            return lax.max(largest, jnp.zeros_like(largest)).astype(dtype)
        powers = _power(x if self.signed else _magnitude(x), self.p)
        total = LinearPool(self.windows, self.divisor).apply(powers, by_hand)
        if self.signed:
            total = total * math.prod(w.size for w in self.windows)
        return _power(total, 1 / self.p).astype(dtype)


def _magnitude(x: Array) -> Array:
    """|x|, with gradient 0 at 0, as PyTorch has it."""
    return x * lax.sign(x)


def _power(x: Array, exponent: float) -> Array:
    """x^exponent, with gradient 0 at 0, where that of an exponent below 1 would be infinite."""
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    there = x != 0
    filled = jnp.where(there, x, jnp.ones_like(x))
    powered = lax.sqrt(filled) if exponent == 0.5 else lax.pow(filled, jnp.asarray(exponent, x.dtype))
    return jnp.where(there, powered, jnp.zeros_like(x))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _reduced(windows: Stage, reduce_fn: Callable[[Array, Array], Array], x: Array, init: Array) -> Array:
    rank = len(windows)
    batch = x.shape[: x.ndim - rank - 1]
    y = x.reshape(flatten_batch(x.shape, rank))
    for chains in stages(windows, overlapping=False):
        parts = []
        for chain in chains:
            part = y
            for stage in chain:
                part = _reduce_taps(stage, reduce_fn, part, init)
            parts.append(part)
        y = functools.reduce(reduce_fn, parts)
    return y.reshape(*batch, *y.shape[1:])


def _reduce_taps(stage: Stage, reduce_fn: Callable[[Array, Array], Array], x: Array, init: Array) -> Array:
    taps = [tap(x, stage, index, init) for _, index in live_taps(stage)]
    if not taps:
        return jnp.full((x.shape[0], *(w.out_size for w in stage), x.shape[-1]), init, x.dtype)
    return fence(functools.reduce(reduce_fn, taps))
