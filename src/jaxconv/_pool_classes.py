"""Pooling whose outputs fall into classes, each a pooling of its own: adaptive bins, dilated inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from jax import Array

from ._patches import interleave
from ._pool_geometry import Stage, identity_window
from ._window import Window

# Of one axis: outputs r, r + p, r + 2 p, .. are those of window r of p.
Classes: TypeAlias = tuple[Window, ...]


def pool_classes(
    axes: Sequence[Classes], pool: Callable[[Stage, list[Array]], list[Array]], arrays: list[Array]
) -> list[Array]:
    """Arrays `[N, *S, C]` pooled; where an axis has several classes axis by axis, the last first."""
    if all(len(classes) == 1 for classes in axes):
        return pool(tuple(classes[0] for classes in axes), arrays)
    for axis in reversed(range(len(axes))):
        around = [identity_window(n) for n in arrays[0].shape[1:-1]]
        parts = [pool((*around[:axis], window, *around[axis + 1 :]), arrays) for window in axes[axis]]
        size = sum(window.out_size for window in axes[axis])
        arrays = [interleave(list(each), axis + 1, size) for each in zip(*parts, strict=True)]
    return arrays


def phase_windows(window: Window) -> Classes:
    """The classes of an axis whose input has gaps: no value that fills them is ever read (T9)."""
    if window.base_dilation == 1:
        return (window,)
    if window.out_size == 0:
        return (blind_window(window.in_size, 0),)
    sizes = [
        len(range(phase.out_start, window.out_size, phase.out_step)) for phase in window.phases()
    ]  # fmt: skip
    phases = zip(window.phases(), sizes, strict=True)
    return tuple(phase.window or blind_window(window.in_size, size) for phase, size in phases)


def blind_window(in_size: int, out_size: int) -> Window:
    """A window that sees padding alone."""
    return Window(in_size, 1, lo=out_size, hi=-in_size)
