"""Lp pooling: the norm of the samples under each window."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ._front import context, hand_derived
from ._pool_call import as_inputs, check_flag, execute, make_geometry
from ._pool_extreme import ExtremePool
from ._pool_geometry import counts
from ._pool_linear import LinearPool, accumulator, divisor_of
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

    Examples:
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
    return execute(LpPool(geometry.windows, power, signed, divisor), by_hand, x, geometry.extension)


def check_power(p: Any, signed: bool) -> float:
    """p as a Python number above 0."""
    if isinstance(p, bool) or not isinstance(p, numbers.Real):
        raise TypeError(f"`p` must be a Python number, got {p!r}")
    power = float(p)
    if not power > 0:
        raise ValueError(f"`p` must be above 0, got {p}")
    if signed and math.isinf(power):
        raise ValueError("`p` must be finite with `signed`, got inf; use max_pool")
    return power


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
