"""Padding with the input's own values (circular, reflecting, symmetric, edge), and its adjoint."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ._padding import Extension


def extend(x: Array, extension: Extension) -> Array:
    """Pad the spatial axes of `[N, *S, C]` with the input's own values, in one of NumPy's modes."""
    for axis, (lo, hi) in enumerate(extension.pads, start=1):
        runs = _runs(x.shape[axis], lo, hi, extension.mode)
        pieces = [_piece(x, axis, run) for run in runs]
        x = pieces[0] if len(pieces) == 1 else lax.concatenate(pieces, axis)
    return x


def _runs(size: int, lo: int, hi: int, mode: str) -> list[tuple[int, int, int]]:
    """The extension's source indices as (first, length, step) runs, step being -1, 0 or 1."""
    source = np.pad(np.arange(size), (lo, hi), mode=mode)  # type: ignore[call-overload]
    runs: list[tuple[int, int, int]] = []
    for index in source.tolist():
        if runs:
            first, length, step = runs[-1]
            previous = first + (length - 1) * step
            if length == 1 or index - previous == step:
                if abs(index - previous) <= 1:
                    runs[-1] = (first, length + 1, index - previous)
                    continue
        runs.append((index, 1, 1))
    return runs


def _piece(x: Array, axis: int, run: tuple[int, int, int]) -> Array:
    first, length, step = run
    if step == 0:
        sample = lax.slice_in_dim(x, first, first + 1, axis=axis)
        shape = list(x.shape)
        shape[axis] = length
        return jnp.broadcast_to(sample, shape)
    last = first + (length - 1) * step
    piece = lax.slice_in_dim(x, min(first, last), max(first, last) + 1, axis=axis)
    return lax.rev(piece, (axis,)) if step < 0 else piece


def fold_extension(x: Array, extension: Extension) -> Array:
    """The adjoint of `extend`: each copied sample is added to the sample that it was copied from."""
    axes = zip(extension.sizes, extension.pads, strict=True)
    for axis, (size, (lo, hi)) in enumerate(axes, start=1):
        total = jnp.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
        position = 0
        for first, length, step in _runs(size, lo, hi, extension.mode):
            piece = lax.slice_in_dim(x, position, position + length, axis=axis)
            position += length
            start = min(first, first + (length - 1) * step)
            if step == 0:
                piece = jnp.sum(piece, axis, keepdims=True)
            elif step < 0:
                piece = lax.rev(piece, (axis,))
            config = [(0, 0, 0)] * x.ndim
            config[axis] = (start, size - start - piece.shape[axis], 0)
            piece = lax.pad(piece, jnp.zeros((), x.dtype), config)
            total = total + piece
        x = total
    return x
