"""What every front door does first: arrays in, errors that say which call they belong to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def as_array(value: Any, name: str, least_axes: int) -> Array:
    """`value` as a JAX array with at least `least_axes` axes."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"`{name}` must be an array, got {type(value).__name__}; convert it with jnp.asarray")
    if len(value.shape) < least_axes:
        raise ValueError(f"`{name}` must have at least {least_axes} axes, got shape {tuple(value.shape)}")
    try:
        return jnp.asarray(value)
    except TypeError as error:
        raise TypeError(
            f"`{name}` must be an array of numbers, got {type(value).__name__} of dtype {value.dtype}; "
            "give numbers as a jax or numpy array"
        ) from error


@contextlib.contextmanager
def context(function: str, **given: Any) -> Iterator[None]:
    """Append the call's shapes and options, once, to the short messages of the layers below."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        options = ", ".join(f"{name}={describe(value)}" for name, value in given.items())
        raise type(error)(f"{error}\n  in {function}({options})") from None


def describe(value: Any) -> str:
    """Arrays as dtype[shape], all else as Python prints it."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)


def hand_derived(autodiff: Any) -> bool:
    """Whether `autodiff` asks for the hand-derived reverse rules."""
    if autodiff not in ("custom", "jax"):
        raise ValueError(
            '`autodiff` must be "custom" (hand-derived reverse rules) or "jax" (forward mode too), '
            f"got {autodiff!r}"
        )
    return autodiff == "custom"


def flatten_batch(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """`[*batch, *S, C]` -> `[N, *S, C]`; no batch axis gives N = 1."""
    axes = len(shape) - rank - 1
    batch: Any = 1
    for size in shape[:axes]:
        batch = batch * size
    return (batch, *shape[axes:])


def varying_alike(*arrays: Array) -> list[Array]:
    """Under `shard_map` the arrays as varying over every mesh axis that one of them varies over.

    A hand-derived rule must give each operand a cotangent of its own kind, and the gradient of a kernel that
    all devices share varies as the inputs do: this cast's transpose adds it up over the devices.
    """
    found = [varying_axes(x) for x in arrays]
    union = frozenset[Any]().union(*found)
    pairs = zip(arrays, found, strict=True)
    return [lax.pcast(x, tuple(union - own), to="varying") if union - own else x for x, own in pairs]


def varying_axes(x: Array) -> frozenset[Any]:
    """The mesh axes of a `shard_map` along which devices hold different values."""
    kind: Any = jax.typeof(x)
    return kind.mat.varying if hasattr(kind, "mat") else getattr(kind, "vma", frozenset())


def explicit_spec(x: Array) -> tuple[Any, ...] | None:
    """How a mesh with explicit axes splits x, one entry for each of its axes; None if it does not."""
    spec = tuple(jax.typeof(x).sharding.spec)
    return None if all(part is None for part in spec) else spec + (None,) * (x.ndim - len(spec))


def with_auto_axes(function: Callable[..., Any], spec: Sequence[Any], *operands: Any) -> Any:
    """`function(*operands)` with the mesh's axes the compiler's to use, and results split by `spec`."""
    return jax.sharding.auto_axes(function, out_sharding=jax.sharding.PartitionSpec(*spec))(*operands)
