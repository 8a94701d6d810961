"""From a pooling call to arrays: options checked and resolved into windows, then one compiled function."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from ._pool_extreme import ExtremePool, extreme_pool
from ._pool_geometry import Shape, ceil_hi
from ._pool_linear import LinearPool, linear_pool, run_linear
from ._window import (
    EXTENSION_MODES,
    ZERO_PADDING_NAMES,
    Window,
    as_int,
    as_ints,
    check_not_negative,
    dilated,
    resolve_padding,
)

Pool: TypeAlias = ExtremePool | LinearPool


@dataclasses.dataclass(frozen=True, slots=True)
class Geometry:
    """The windows of a call, and the padding after the input before ceil_mode added to it."""

    windows: tuple[Window, ...]
    his: tuple[int, ...]


@functools.partial(jax.jit, static_argnums=(0, 1))
def execute(pool: Pool, hand_derived: bool, x: Array) -> Array:
    """The pooling of x `[*batch, *S, C]` as one compiled function."""
    rank = len(pool.windows)
    batch = x.shape[: x.ndim - rank - 1]
    flat = x.reshape(flatten_batch(x.shape, rank))
    if isinstance(pool, ExtremePool):
        y = extreme_pool(pool, hand_derived, flat)
    elif hand_derived and jnp.issubdtype(x.dtype, jnp.inexact):
        y = linear_pool(pool, False, flat)
    else:
        y = run_linear(pool, False, flat)
    return y.reshape(*batch, *y.shape[1:])


def flatten_batch(shape: Sequence[int], rank: int) -> Shape:
    """`[*batch, *S, C]` -> `[N, *S, C]`; no batch axis gives N = 1."""
    axes = len(shape) - rank - 1
    batch: Any = 1
    for size in shape[:axes]:
        batch = batch * size
    return (batch, *shape[axes:])


def make_geometry(
    shape: Sequence[int],
    window_shape: Any,
    strides: Any,
    padding: Any,
    window_dilation: Any,
    ceil_mode: Any,
) -> Geometry:
    """Validate the options of a pooling of `[*batch, *S, C]` and resolve them into one window per axis."""
    sizes = check_window_shape(window_shape)
    rank = len(sizes)
    if len(shape) < rank + 1:
        raise ValueError(
            f"`inputs` must have {rank} spatial axes, as many as `window_shape`, and a channel axis last, "
            f"got shape {tuple(shape)}; add the missing axes, or give a shorter window"
        )
    in_sizes = tuple(shape[len(shape) - rank - 1 : -1])
    strides = as_ints(1 if strides is None else strides, rank, "strides", minimum=1)
    dilation = 1 if window_dilation is None else window_dilation
    dilation = as_ints(dilation, rank, "window_dilation", minimum=1)
    check_flag(ceil_mode, "ceil_mode")
    check_padding_name(padding)
    extents = [dilated(k, d) for k, d in zip(sizes, dilation, strict=True)]
    pads, _ = resolve_padding(padding, in_sizes, extents, strides)
    axes = zip(in_sizes, sizes, strides, dilation, pads, strict=True)
    windows = tuple(Window(n, k, s, d, 1, lo, hi) for n, k, s, d, (lo, hi) in axes)
    check_not_negative(windows)
    his = tuple(w.hi for w in windows)
    if ceil_mode:
        if any(w.lo < 0 or w.hi < 0 for w in windows):
            raise ValueError(
                f"`padding` must not be negative with `ceil_mode`, got {pads}; crop the inputs first"
            )
        windows = tuple(dataclasses.replace(w, hi=ceil_hi(w)) for w in windows)
    return Geometry(windows, his)


def check_window_shape(window_shape: Any) -> Shape:
    """At least one size, each at least 1: their number is the spatial rank, so one int would not say it."""
    if isinstance(window_shape, str) or not hasattr(window_shape, "__iter__"):
        raise TypeError(
            "`window_shape` must be a sequence with one size per spatial axis, "
            f"got {window_shape!r}; for images give (2, 2), say"
        )
    sizes = tuple(window_shape)
    if not sizes:
        raise ValueError(
            "`window_shape` must have at least one entry, got (); its length is the spatial rank"
        )
    return as_ints(sizes, len(sizes), "window_shape", minimum=1)


def check_padding_name(padding: Any) -> None:
    """Pooling pads with what never wins or counts, so the extension modes of convolution do not apply."""
    if isinstance(padding, str) and padding.upper() in EXTENSION_MODES:
        known = ", ".join(ZERO_PADDING_NAMES)
        raise ValueError(
            f"`padding` must be one of {known}, an int, or (lo, hi) pairs for pooling, got {padding!r}; "
            "extend the input with jnp.pad first"
        )


def check_flag(value: Any, name: str) -> None:
    """A Python bool, known at trace time."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")


def check_divisor(divisor: Any) -> int:
    """A divisor of every sum, not zero."""
    divisor = as_int(divisor, "divisor_override")
    if divisor == 0:
        raise ValueError("`divisor_override` must not be 0, got 0; use sum_pool for plain sums")
    return divisor


def is_hand_derived(autodiff: Any) -> bool:
    """Whether `autodiff` asks for the hand-derived reverse rules."""
    if autodiff not in ("custom", "jax"):
        raise ValueError(
            '`autodiff` must be "custom" (hand-derived reverse rules) or "jax" (forward mode too), '
            f"got {autodiff!r}"
        )
    return autodiff == "custom"


def as_array(value: Any, kinds: str) -> Array:
    """`inputs` as a JAX array whose dtype is of one of `kinds`, NumPy's kind letters."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"`inputs` must be an array, got {type(value).__name__}; convert it with jnp.asarray")
    x = jnp.asarray(value)
    names = {
        "b": jnp.bool_,
        "i": jnp.integer,
        "f": jnp.floating,
        "c": jnp.complexfloating,
    }
    if not any(jnp.issubdtype(x.dtype, names[k]) for k in kinds):
        words = {"b": "booleans", "i": "integers", "f": "floats", "c": "complex numbers"}
        raise TypeError(
            f"`inputs` must be {' or '.join(words[k] for k in kinds)}, got {x.dtype}; cast it with .astype"
        )
    return x


@contextlib.contextmanager
def context(function: str, **given: Any) -> Iterator[None]:
    """Append the call's shapes and options, once, to the short messages of the layers below."""
    try:
        yield
    except (ValueError, TypeError) as error:
        options = ", ".join(f"{name}={describe(value)}" for name, value in given.items())
        raise type(error)(f"{error}\n  in {function}({options})") from None


def describe(value: Any) -> str:
    """Arrays as dtype[shape], all else as Python prints it."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)
