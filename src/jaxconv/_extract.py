"""Patches for users: `extract_patches`, `fold_patches`, and lax's `conv_general_dilated_patches`."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from . import _layout
from ._dtypes import as_dtype
from ._extend import extend, fold_extension
from ._front import as_array, context, flatten_batch, hand_derived
from ._pool_argmax import check_sizes
from ._pool_call import Geometry, check_window_shape, make_geometry
from ._problem import Shape, check_string_padding
from ._unfold import dilate, fold, fold_by_hand, unfold, unfold_by_hand
from ._window import as_ints, dilated, or_ones


def extract_patches(
    inputs: Any,
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    autodiff: str = "custom",
) -> Array:
    """What every window reads, as channels: PyTorch's `unfold`, of any rank, stride and dilation.

        y[n, m, (c, k)] = inputs[n, m s + k d - lo, c]                                         (T2, T5)

    A convolution is a matrix product over these patches (im2col: Chellapilla et al. 2006); `conv` needs no
    copy of them. The derivative is `fold_patches`.

    Args:
      inputs: `[*batch, *S, C]` of any dtype.
      window_shape: K, one size per spatial axis; its length is the spatial rank.
      strides: moves of the window, an int or one per axis; None is 1.
      padding: a name that `conv` knows, an int, or one int or (lo, hi) pair per axis.
      window_dilation: distance of neighbouring taps, an int or one per axis; None is 1.
      autodiff: "custom" for the hand-derived reverse rule, "jax" for JAX's own derivatives.

    Returns:
      `[*batch, *M, C prod(K)]`, channel by channel, each channel's taps in row-major order, as lax's
      `conv_general_dilated_patches` and PyTorch's `unfold`; `.reshape(*batch, *M, C, *K)` takes them apart.

    Raises:
      ValueError: sizes or padding that do not fit.
      TypeError: options that are not static.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.extract_patches(jnp.arange(5).reshape(5, 1), (3,), 2)
      Array([[0, 1, 2],
             [2, 3, 4]], dtype=int32)
    """
    given = dict(
        inputs=inputs, window_shape=window_shape, strides=strides, padding=padding,
        window_dilation=window_dilation,
    )  # fmt: skip
    with context("extract_patches", **given):
        x = as_array(inputs, "inputs", 1)
        geometry = make_geometry(x.shape, window_shape, strides, padding, window_dilation, False)
        by_hand = hand_derived(autodiff)
    return _extract(geometry, by_hand, x)


def fold_patches(
    patches: Any,
    output_shape: Sequence[int],
    window_shape: Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Any = "VALID",
    *,
    window_dilation: int | Sequence[int] | None = None,
    autodiff: str = "custom",
) -> Array:
    """The adjoint of `extract_patches`: each entry is added to the sample it was read from; PyTorch's `fold`.

        y[n, i, c] = sum of patches[n, m, (c, k)] over  m s + k d - lo = i                     (T8, T9)

    Where windows overlap their entries add up; `fold_patches(extract_patches(ones))` counts them.

    Args:
      patches: `[*batch, *M, C prod(K)]`, in the order of `extract_patches`.
      output_shape: the spatial sizes S of what the patches came from; M must follow from it.
      window_shape, strides, padding, window_dilation, autodiff: those of `extract_patches`.

    Returns:
      `[*batch, *S, C]` of patches' dtype; bfloat16 and float16 are summed in float32.

    Raises:
      ValueError, TypeError: as `extract_patches`, and where patches does not have that call's shape.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.fold_patches(jnp.ones((3, 2)), (4,), (2,))[:, 0]
      Array([1., 2., 2., 1.], dtype=float32)
    """
    given = dict(
        patches=patches, output_shape=output_shape, window_shape=window_shape, strides=strides,
        padding=padding, window_dilation=window_dilation,
    )  # fmt: skip
    with context("fold_patches", **given):
        taps = check_window_shape(window_shape)
        rank = len(taps)
        sizes = check_sizes(output_shape, "output_shape", minimum=0)
        if len(sizes) != rank:
            raise ValueError(
                f"`output_shape` must have one size per axis of `window_shape` ({rank}), got {sizes}; "
                "it holds the spatial sizes only"
            )
        patches = as_array(patches, "patches", rank + 1)
        if not jnp.issubdtype(patches.dtype, jnp.number):
            raise TypeError(f"`patches` must be numbers, got {patches.dtype}; cast it with .astype")
        batch = patches.shape[: patches.ndim - rank - 1]
        channels, rest = divmod(patches.shape[-1], math.prod(taps))
        geometry = make_geometry((*batch, *sizes, channels), taps, strides, padding, window_dilation, False)
        wanted = (*batch, *(w.out_size for w in geometry.windows), channels * math.prod(taps) + rest)
        if rest or patches.shape != wanted:
            raise ValueError(
                f"`patches` must be what extract_patches makes of spatial sizes {sizes}, shape "
                f"{(*wanted[:-1], f'C * {math.prod(taps)}')}, got {patches.shape}"
            )
        by_hand = hand_derived(autodiff)
    return _fold(geometry, by_hand, patches)


def conv_general_dilated_patches(
    lhs: Any,
    filter_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    autodiff: str = "custom",
) -> Array:
    """`jax.lax.conv_general_dilated_patches` with the same arguments and meaning, any layout.

    The equation is that of `extract_patches` (T2, T5); nothing is multiplied.

    Args:
      lhs: the input, n + 2 axes in the order that `dimension_numbers` names.
      filter_shape: n sizes.
      window_strides, padding, lhs_dilation, rhs_dilation: as in `conv_general_dilated`.
      dimension_numbers: as in `conv_general_dilated`; of the kernel's letters only the spatial order counts.
      precision: taken for lax's sake; copies are exact.
      preferred_element_type: dtype of the result, or None for lhs's.
      autodiff: as in `extract_patches`.

    Returns:
      lhs's layout for the output, with C prod(filter_shape) features, channel by channel.

    Raises:
      ValueError, TypeError: as `extract_patches`.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> jaxconv.conv_general_dilated_patches(jnp.ones((8, 3, 32, 32)), (3, 3), (1, 1), "SAME").shape
      (8, 27, 32, 32)
    """
    given = dict(
        lhs=lhs, filter_shape=filter_shape, window_strides=window_strides, padding=padding,
        lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation, dimension_numbers=dimension_numbers,
    )  # fmt: skip
    with context("conv_general_dilated_patches", **given):
        lhs = as_array(lhs, "lhs", 2)
        layout = _layout.parse(dimension_numbers, lhs.ndim, lhs.ndim, _layout.channels_first(lhs.ndim - 2))
        shape = tuple(lhs.shape[i] for i in layout.lhs)
        base, geometry = dilated_geometry(
            shape, filter_shape, window_strides, padding, lhs_dilation, rhs_dilation
        )
        preferred = lhs.dtype if preferred_element_type is None else preferred_element_type
        dtype = jax.dtypes.canonicalize_dtype(as_dtype(preferred, "preferred_element_type"))
        general = General(layout, base, geometry, hand_derived(autodiff), dtype.name)
    return _extract_general(general, lhs)


@dataclasses.dataclass(frozen=True, slots=True)
class General:
    """Everything static about `conv_general_dilated_patches`."""

    layout: _layout.Layout
    base: Shape
    geometry: Geometry
    by_hand: bool
    dtype: str


def dilated_geometry(
    shape: Shape, filter_shape: Any, strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any
) -> tuple[Shape, Geometry]:
    """The input's dilation, and the windows over the dilated input of canonical `shape`."""
    rank = len(shape) - 2
    base = or_ones(lhs_dilation, rank, "lhs_dilation")
    check_string_padding(padding, base)
    sizes = tuple(dilated(n, b) for n, b in zip(shape[1:-1], base, strict=True))
    taps = as_ints(filter_shape, rank, "filter_shape", minimum=1)
    strides = as_ints(strides, rank, "window_strides", minimum=1)
    dilation = or_ones(rhs_dilation, rank, "rhs_dilation")
    if rank:
        return base, make_geometry((shape[0], *sizes, shape[-1]), taps, strides, padding, dilation, False)
    return base, Geometry((), ())


@functools.partial(jax.jit, static_argnums=(0, 1))
def _extract(geometry: Geometry, by_hand: bool, x: Array) -> Array:
    rank = len(geometry.windows)
    batch = x.shape[: x.ndim - rank - 1]
    p = patches_of(geometry, by_hand, x.reshape(flatten_batch(x.shape, rank)))
    return p.reshape(*batch, *p.shape[1 : rank + 1], math.prod(p.shape[rank + 1 :]))


@functools.partial(jax.jit, static_argnums=0)
def _extract_general(general: General, x: Array) -> Array:
    x = dilate(x.transpose(general.layout.lhs), general.base)
    rank = len(general.base)
    p = patches_of(general.geometry, general.by_hand, x).astype(general.dtype)
    p = p.reshape(*p.shape[: rank + 1], math.prod(p.shape[rank + 1 :]))
    return p.transpose(general.layout.out)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _fold(geometry: Geometry, by_hand: bool, patches: Array) -> Array:
    windows, extension = geometry.windows, geometry.extension
    rank, taps = len(windows), [w.size for w in windows]
    batch = patches.shape[: patches.ndim - rank - 1]
    channels = patches.shape[-1] // math.prod(taps)
    p = patches.reshape(*flatten_batch(patches.shape, rank)[: rank + 1], channels, *taps)
    x = (fold_by_hand if by_hand else fold)(windows, p)
    x = x if extension is None else fold_extension(x, extension)
    return x.reshape(*batch, *x.shape[1:])


def patches_of(geometry: Geometry, by_hand: bool, x: Array) -> Array:
    """x `[N, *S, C]` as `[N, *M, C, *K]`."""
    x = x if geometry.extension is None else extend(x, geometry.extension)
    return (unfold_by_hand if by_hand else unfold)(geometry.windows, x)
