"""From a pooling call to arrays: options checked and resolved into windows, then one compiled function."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ._extend import extend
from ._front import as_array, explicit_spec, flatten_batch, with_auto_axes
from ._padding import Extension, check_extension, resolve_padding
from ._pool_geometry import Shape, ceil_hi
from ._window import Window, as_int, as_ints, check_not_negative, dilated

KINDS = {
    "b": (jnp.bool_, "booleans"),
    "i": (jnp.integer, "integers"),
    "f": (jnp.floating, "floats"),
    "c": (jnp.complexfloating, "complex numbers"),
}


class Pool(Protocol):
    """Everything static about a pooling, and the pooling itself."""

    @property
    def windows(self) -> tuple[Any, ...]:
        """One entry per spatial axis."""

    def apply(self, x: Array, hand_derived: bool) -> Any:
        """x `[N, *S, C]` pooled, an array `[N, *M, C]` or several."""


@dataclasses.dataclass(frozen=True, slots=True)
class Geometry:
    """The windows of a call, the padding after the input before ceil_mode added to it, and the extension.

    The windows of an extended input are those over the extension, whose copies count as samples.
    """

    windows: tuple[Window, ...]
    his: tuple[int, ...]
    extension: Extension | None = None


def execute(pool: Pool, hand_derived: bool, x: Array, extension: Extension | None = None) -> Any:
    """The pooling of x `[*batch, *S, C]`, an array or several, as one compiled function.

    Where a mesh with explicit axes splits the batch or the channels, it splits those of the result.
    """
    spec = explicit_spec(x)
    if spec is None:
        return run_pool(pool, hand_derived, x, extension)
    rank = len(pool.windows)
    kept = (*spec[: x.ndim - rank - 1], *[None] * rank, spec[-1])
    return with_auto_axes(lambda x: run_pool(pool, hand_derived, x, extension), kept, x)


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def run_pool(pool: Pool, hand_derived: bool, x: Array, extension: Extension | None = None) -> Any:
    """`execute` on an array that no mesh splits explicitly."""
    rank = len(pool.windows)
    batch = x.shape[: x.ndim - rank - 1]
    x = x.reshape(flatten_batch(x.shape, rank))
    results = pool.apply(x if extension is None else extend(x, extension), hand_derived)
    return jax.tree.map(lambda y: y.reshape(*batch, *y.shape[1:]), results)


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
    extents = [dilated(k, d) for k, d in zip(sizes, dilation, strict=True)]
    pads, mode = resolve_padding(padding, in_sizes, extents, strides)
    extension = None
    if mode is not None:
        extension = check_extension(Extension(in_sizes, pads, mode))
        in_sizes = tuple(n + lo + hi for n, (lo, hi) in zip(in_sizes, pads, strict=True))
        pads = ((0, 0),) * rank
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
    return Geometry(windows, his, extension)


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


def check_flag(value: Any, name: str) -> None:
    """A bool, Python's or NumPy's, known at trace time."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")


def check_divisor(divisor: Any) -> int:
    """A divisor of every sum, not zero."""
    divisor = as_int(divisor, "divisor_override")
    if divisor == 0:
        raise ValueError("`divisor_override` must not be 0, got 0; use sum_pool for plain sums")
    return divisor


def as_inputs(value: Any, kinds: str) -> Array:
    """`inputs` as a JAX array whose dtype is of one of `kinds`: b, i, f or c as NumPy's kind letters."""
    x = as_array(value, "inputs", 1)
    chosen = [KINDS[letter] for letter in kinds]
    if not any(jnp.issubdtype(x.dtype, kind) for kind, _ in chosen):
        words = " or ".join(name for _, name in chosen)
        raise TypeError(f"`inputs` must be {words}, got {x.dtype}; cast it with .astype")
    return x


def as_averaged(x: Array) -> Array:
    """Integers in the float dtype of their mean."""
    return x.astype(jax.eval_shape(jnp.mean, x).dtype) if jnp.issubdtype(x.dtype, jnp.integer) else x
