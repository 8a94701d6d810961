"""Element types and precision: what may be multiplied, what sums are kept in, what HIGHEST means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def promote(a: Any, b: Any) -> jnp.dtype:
    """JAX's common dtype of two, also where the user has made implicit promotion an error."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(a, b)


def as_dtype(value: Any, name: str) -> jnp.dtype:
    """`value` as a dtype, or a TypeError that names the argument: NumPy's own does not."""
    try:
        return jnp.dtype(value)
    except TypeError:
        raise TypeError(f'`{name}` must be a dtype, got {value!r}; for example "float32"') from None


def kind(dtype: Any) -> int:
    """0 for booleans and integers, 1 for floats, 2 for complex numbers; no cast goes down."""
    return sum(jnp.issubdtype(dtype, k) for k in (jnp.inexact, jnp.complexfloating))


def sum_dtype(widest: jnp.dtype) -> jnp.dtype:
    """float32 for sums of narrower floats, 32 bits for sums of narrower integers."""
    if widest.itemsize >= 4:
        return widest
    if jnp.issubdtype(widest, jnp.floating):
        return jnp.dtype("float32")
    return jnp.dtype("uint32" if jnp.issubdtype(widest, jnp.unsignedinteger) else "int32")


def check_dtypes(x_dtype: Any, w_dtype: Any, preferred: Any) -> tuple[str, str, str]:
    """Names of the input's, kernel's and output's dtypes."""
    x, w = jnp.dtype(x_dtype), jnp.dtype(w_dtype)
    if x != w:
        raise TypeError(
            f"`x` and `kernel` must have one dtype, got {x} and {w}; cast one of them with .astype"
        )
    if not jnp.issubdtype(x, jnp.number):
        raise TypeError(f"`x` and `kernel` must be numbers, got {x}; cast them, to int8 or float32 say")
    if preferred is None:
        return x.name, w.name, x.name
    y = jax.dtypes.canonicalize_dtype(as_dtype(preferred, "preferred_element_type"))
    kinds = (jnp.signedinteger, jnp.unsignedinteger, jnp.floating, jnp.complexfloating)
    same_kind = any(jnp.issubdtype(x, k) and jnp.issubdtype(y, k) for k in kinds)
    widened_int = jnp.issubdtype(x, jnp.integer) and jnp.issubdtype(y, jnp.floating)
    if not (same_kind or widened_int):
        raise TypeError(
            f"`preferred_element_type` must be of the inputs' kind, got {y} for {x} inputs; "
            "cast the inputs instead"
        )
    if same_kind and y.itemsize < x.itemsize:
        raise TypeError(
            f"`preferred_element_type` must not be narrower than the inputs, got {y} for {x} inputs; "
            "cast the result instead"
        )
    return x.name, w.name, y.name


def canonical_precision(precision: Any) -> Any:
    """One hashable form of lax's `precision`; None falls back on jax_default_matmul_precision."""
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if precision is None or isinstance(precision, lax.Precision):
        return precision
    if isinstance(precision, (lax.DotAlgorithm, lax.DotAlgorithmPreset)):
        return precision
    if isinstance(precision, str):
        return _precision_by_name(precision)
    if isinstance(precision, Sequence) and len(precision) == 2:
        return tuple(lax.Precision.DEFAULT if p is None else canonical_precision(p) for p in precision)
    raise TypeError(
        "`precision` must be None, a name, a lax.Precision, a pair of them or a lax.DotAlgorithmPreset, "
        f"got {precision!r}"
    )


def _precision_by_name(name: str) -> Any:
    for kind in (lax.Precision, lax.DotAlgorithmPreset):
        for convert in (kind, kind.__getitem__):
            try:
                return convert(name)
            except (ValueError, KeyError):
                continue
    raise ValueError(
        f"`precision` must be one of {', '.join(p.name.lower() for p in lax.Precision)} or the name of a "
        f"lax.DotAlgorithmPreset, got {name!r}"
    )


def is_highest(precision: Any) -> bool:
    """Whether the caller asked for the most exact arithmetic, which rules Winograd and FFT out."""
    parts = precision if isinstance(precision, tuple) else (precision,)
    return lax.Precision.HIGHEST in parts
