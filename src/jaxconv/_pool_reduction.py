"""A reduction by any associative function, window by window: sums and extremes by their own rules."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from ._extend import extend
from ._front import explicit_spec, with_auto_axes
from ._padding import Extension
from ._pool_classes import Classes, pool_classes
from ._pool_extreme import ExtremePool
from ._pool_geometry import Stage, live_taps, stages
from ._pool_linear import LinearPool
from ._pool_taps import fence, tap

Reducer: TypeAlias = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Reduction:
    """Everything static: the windows of each axis from `first_axis` on, and a function or a monoid's name."""

    axes: tuple[Classes, ...]
    first_axis: int
    function: Reducer | None
    kind: str | None
    tree: Any
    by_hand: bool

    def apply(self, windows: Stage, arrays: list[Array], inits: list[Array]) -> list[Array]:
        """Arrays `[N, *S, C]` reduced under `windows`."""
        if self.kind == "sum":
            return [LinearPool(windows).apply(x, self.by_hand) for x in arrays]
        if self.kind is not None:
            return [ExtremePool(windows, self.kind == "min").apply(x, self.by_hand) for x in arrays]
        function = elementwise(self.function, self.tree, arrays[0].ndim)
        for chains in stages(windows, overlapping=False):
            parts = []
            for chain in chains:
                part = arrays
                for stage in chain:
                    part = _reduce_taps(stage, function, part, inits)
                parts.append(part)
            arrays = functools.reduce(function, parts)
        return arrays


def reduce_arrays(
    reduction: Reduction, extension: Extension | None, arrays: list[Array], inits: list[Array]
) -> Any:
    """The reduction of arrays `[*N, *S, *C]` in one compiled function, split as they are but for S."""
    spec = explicit_spec(arrays[0])
    if spec is None:
        return run_reduction(reduction, extension, arrays, inits)
    first, rank = reduction.first_axis, len(reduction.axes)
    kept = (*spec[:first], *[None] * rank, *spec[first + rank :])
    return with_auto_axes(functools.partial(run_reduction, reduction, extension), kept, arrays, inits)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run_reduction(
    reduction: Reduction, extension: Extension | None, arrays: list[Array], inits: list[Array]
) -> Any:
    """`reduce_arrays` on arrays that no mesh splits explicitly."""
    shape, first = arrays[0].shape, reduction.first_axis
    last = first + len(reduction.axes)
    batch, channels = shape[:first], shape[last:]
    arrays = [x.reshape(math.prod(batch), *shape[first:last], math.prod(channels)) for x in arrays]
    if extension is not None:
        arrays = [extend(x, extension) for x in arrays]
    reduced = pool_classes(reduction.axes, lambda w, a: reduction.apply(w, a, inits), arrays)
    whole = [y.reshape(*batch, *y.shape[1:-1], *channels) for y in reduced]
    return jax.tree.unflatten(reduction.tree, whole)


def elementwise(function: Any, tree: Any, rank: int) -> Callable[[list[Array], list[Array]], list[Array]]:
    """A function of two trees of scalars as one of two lists of arrays."""
    for _ in range(rank):
        function = jax.vmap(function)

    def combine(a: list[Array], b: list[Array]) -> list[Array]:
        return jax.tree.leaves(function(jax.tree.unflatten(tree, a), jax.tree.unflatten(tree, b)))

    return combine


def _reduce_taps(stage: Stage, function: Any, arrays: list[Array], inits: list[Array]) -> list[Array]:
    both = list(zip(arrays, inits, strict=True))
    taps = [[tap(x, stage, index, init) for x, init in both] for _, index in live_taps(stage)]
    if not taps:
        sizes = [w.out_size for w in stage]
        return [jnp.full((x.shape[0], *sizes, x.shape[-1]), init, x.dtype) for x, init in both]
    return [fence(y) for y in functools.reduce(function, taps)]
