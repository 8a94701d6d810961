"""Pooling by any associative function: Flax's `pool` and lax's `reduce_window`, each with a gradient."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._front import as_array, context, hand_derived
from ._padding import ZERO_PADDING_NAMES, resolve_padding
from ._pool_call import make_geometry
from ._pool_classes import phase_windows
from ._pool_extreme import worst
from ._pool_geometry import Shape
from ._pool_reduction import Reducer, Reduction, reduce_arrays
from ._window import Window, as_ints, check_not_negative, dilated, or_ones

SUMS = (lax.add, jnp.add, operator.add)
MAXIMA = (lax.max, jnp.maximum)
MINIMA = (lax.min, jnp.minimum)


def pool(
    inputs: Any,
    init: Any,
    reduce_fn: Reducer,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    ceil_mode: bool = False,
    autodiff: str = "custom",
) -> Any:
    """Any associative reduction under each window, channel by channel: Flax's `pool`, with a gradient.

        y[*b, m, c] = reduce_fn over k of inputs[*b, m s + k d - lo, c]                       (T11, T2)

    All is as in `reduce_window`, with the windows on the spatial axes.

    Args:
      inputs: `[*batch, *S, C]` of any dtype, or a tree of such arrays of one shape.
      init: the identity of reduce_fn, a scalar, or a tree of scalars like inputs; padding holds it.
      reduce_fn: of two scalars, or of two trees of them, as `computation` of `reduce_window`.
      window_shape, strides, padding, window_dilation, ceil_mode, autodiff: as in `max_pool`.

    Returns:
      `[*batch, *M, C]` of inputs' dtype, a tree if inputs is one.

    Raises:
      ValueError, TypeError: as `max_pool` and `reduce_window`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.pool(jnp.arange(1.0, 7.0).reshape(6, 1), 1.0, jnp.multiply, (3,), 3)[:, 0]
      Array([  6., 120.], dtype=float32)
    """
    given = dict(
        inputs=inputs, init=init, reduce_fn=reduce_fn, window_shape=window_shape, strides=strides,
        padding=padding, window_dilation=window_dilation, ceil_mode=ceil_mode,
    )  # fmt: skip
    with context("pool", **given):
        arrays, tree = as_arrays(inputs, "inputs", 1)
        inits = as_inits(init, "init", arrays, tree)
        check_reducer(reduce_fn, "reduce_fn", arrays, tree)
        shape = arrays[0].shape
        geometry = make_geometry(shape, window_shape, strides, padding, window_dilation, ceil_mode)
        by_hand = hand_derived(autodiff)
        kind = monoid(reduce_fn, init, arrays)
    axes = tuple((window,) for window in geometry.windows)
    reduction = Reduction(axes, len(shape) - len(axes) - 1, None if kind else reduce_fn, kind, tree, by_hand)
    return reduce_arrays(reduction, geometry.extension, arrays, inits)


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Reducer,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
    *,
    autodiff: str = "custom",
) -> Any:
    """`lax.reduce_window`, differentiable in reverse whatever the computation and the dilations.

        y[m] = computation over k of operand[(m s + k d - lo) / b]   where b divides           (T11, T2, T9)

    Sums, maxima and minima from their identities have the hand-derived rules of `sum_pool`, `max_pool` and
    `min_pool`; JAX differentiates any other computation. Samples are reduced in row-major order, in groups:
    the computation must be associative, it need not be commutative.

    Args:
      operand: an array of any dtype and layout, or a tree of arrays of one shape.
      init_value: the identity of computation, a scalar, or a tree of scalars like operand. Padding and the
        gaps that base_dilation opens hold it; it is reduced with no window that holds neither.
      computation: of two scalars, or of two trees of them. A named function is compiled once; a lambda made
        anew for every call, every time.
      window_dimensions, window_strides, base_dilation, window_dilation: one entry per axis of operand, or an
        int for all; None is 1.
      padding: as in `max_pool`, one pair per axis of operand; no extension of the input.
      autodiff: as in `max_pool`.

    Returns:
      One entry per window, of operand's dtype; a tree if operand is one.

    Raises:
      ValueError: sizes or padding that do not fit.
      TypeError: a computation whose result is unlike its arguments; options that are not static.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxconv
      >>> x = jnp.array([[1.0, 5.0, 2.0, 4.0]])
      >>> slopes = jax.grad(lambda x: jaxconv.reduce_window(x, 1.0, jax.lax.mul, (1, 2), (1, 2)).sum())
      >>> slopes(x)
      Array([[5., 1., 4., 2.]], dtype=float32)
    """
    given = dict(
        operand=operand, init_value=init_value, computation=computation, window_dimensions=window_dimensions,
        window_strides=window_strides, padding=padding, base_dilation=base_dilation,
        window_dilation=window_dilation,
    )  # fmt: skip
    with context("reduce_window", **given):
        arrays, tree = as_arrays(operand, "operand", 0)
        inits = as_inits(init_value, "init_value", arrays, tree)
        check_reducer(computation, "computation", arrays, tree)
        shape = arrays[0].shape
        windows = make_windows(
            shape, window_dimensions, window_strides, padding, base_dilation, window_dilation
        )
        by_hand = hand_derived(autodiff)
        kind = monoid(computation, init_value, arrays)
    # Untouched axes before and after the others are images and channels.
    moved = [axis for axis, window in enumerate(windows) if not window.is_pointwise]
    first, last = (moved[0], moved[-1] + 1) if moved else (len(shape), len(shape))
    axes = tuple(phase_windows(w) for w in windows[first:last])
    reduction = Reduction(axes, first, None if kind else computation, kind, tree, by_hand)
    return reduce_arrays(reduction, None, arrays, inits)


def as_arrays(value: Any, name: str, least_axes: int) -> tuple[list[Array], Any]:
    """The leaves of a tree as arrays of one shape, and the tree."""
    leaves, tree = jax.tree.flatten(value)
    arrays = [as_array(leaf, name, least_axes) for leaf in leaves]
    if not arrays:
        raise ValueError(f"`{name}` must hold an array, got {value!r}")
    if any(x.shape != arrays[0].shape for x in arrays):
        shapes = ", ".join(str(x.shape) for x in arrays)
        raise ValueError(f"`{name}` must hold arrays of one shape, got {shapes}")
    return arrays, tree


def as_inits(init: Any, name: str, arrays: list[Array], tree: Any) -> list[Array]:
    """A scalar for every array, of its dtype."""
    leaves, found = jax.tree.flatten(init)
    if found != tree:
        raise ValueError(f"`{name}` must be a tree like the arrays', {tree}, got {found}")
    if any(jnp.ndim(leaf) for leaf in leaves):
        shapes = ", ".join(str(jnp.shape(leaf)) for leaf in leaves)
        raise ValueError(f"`{name}` must be a scalar, got shape {shapes}; give the function's identity")
    return [as_scalar(leaf, x.dtype) for leaf, x in zip(leaves, arrays, strict=True)]


def as_scalar(value: Any, dtype: Any) -> Array:
    """The init in the dtype of its array; an infinity as the extreme of a dtype that has none."""
    if not isinstance(value, jax.core.Tracer):
        value = concrete(value, dtype)
    return jnp.asarray(value).astype(dtype)


def concrete(value: Any, dtype: Any) -> Any:
    """A known init, in dtype; Flax gives -inf for integers too, and some 8-bit floats have no infinity."""
    value = np.asarray(value)
    if value.dtype.kind == "f" and np.isinf(value) and dtype.kind != "c":
        value = np.asarray(worst(dtype, minimum=bool(value > 0)))
    return value.astype(dtype)


def check_reducer(function: Any, name: str, arrays: list[Array], tree: Any) -> None:
    """A function whose result is like its arguments."""
    if not callable(function):
        raise TypeError(f"`{name}` must be a function of two scalars, got {function!r}; for example jnp.add")
    scalars = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct((), x.dtype) for x in arrays])
    try:
        result = jax.eval_shape(function, scalars, scalars)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be a function that JAX can trace, got {function!r}; jax.numpy has such "
            "functions, for example jnp.maximum"
        ) from error
    kind = [(x.shape, x.dtype) for x in jax.tree.leaves(result)]
    if jax.tree.structure(result) != tree or kind != [((), x.dtype) for x in arrays]:
        raise TypeError(f"`{name}` must return what it takes, {scalars}, got {result}")


def make_windows(
    shape: Shape, sizes: Any, strides: Any, padding: Any, base_dilation: Any, window_dilation: Any
) -> tuple[Window, ...]:
    """One window for every axis of the operand."""
    rank = len(shape)
    sizes = as_ints(sizes, rank, "window_dimensions", minimum=1)
    strides = or_ones(strides, rank, "window_strides")
    base = or_ones(base_dilation, rank, "base_dilation")
    dilation = or_ones(window_dilation, rank, "window_dilation")
    extents = [dilated(k, d) for k, d in zip(sizes, dilation, strict=True)]
    in_sizes = [dilated(n, b) for n, b in zip(shape, base, strict=True)]
    pads, mode = resolve_padding(padding, in_sizes, extents, strides)
    if mode is not None:
        raise ValueError(
            f"`padding` must hold init_value: one of {', '.join(ZERO_PADDING_NAMES)}, an int, or (lo, hi) "
            f"pairs, got {padding!r}; pool takes it"
        )
    axes = zip(shape, sizes, strides, dilation, base, pads, strict=True)
    windows = tuple(Window(n, k, s, d, b, lo, hi) for n, k, s, d, b, (lo, hi) in axes)
    check_not_negative(windows)
    return windows


def monoid(function: Any, init: Any, arrays: list[Array]) -> str | None:
    """Whether a reduction of one array is a sum, a maximum or a minimum from its identity."""
    if not jax.tree_util.all_leaves([init]) or isinstance(init, jax.core.Tracer) or jnp.ndim(init):
        return None
    dtype = arrays[0].dtype
    if any(function is f for f in SUMS):
        return "sum" if dtype != jnp.bool_ and init == 0 else None
    minimum = any(function is f for f in MINIMA)
    if not minimum and not any(function is f for f in MAXIMA) or dtype.kind == "c":
        return None
    if concrete(init, dtype) != np.asarray(worst(dtype, minimum)).astype(dtype):
        return None
    return "min" if minimum else "max"
