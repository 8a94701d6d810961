"""Padding: every accepted form as amounts on both sides of each axis, and the modes that copy samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

from ._window import as_int, is_sequence

Pads: TypeAlias = tuple[tuple[int, int], ...]

# Padding names that extend the input with its own values; all others pad with zeros.
EXTENSION_MODES = {"CIRCULAR": "wrap", "REFLECT": "reflect", "SYMMETRIC": "symmetric", "EDGE": "edge"}
ZERO_PADDING_NAMES = ("VALID", "SAME", "SAME_LOWER", "FULL", "CAUSAL", "REVERSE_CAUSAL")


@dataclasses.dataclass(frozen=True, slots=True)
class Extension:
    """Padding with the input's own values: spatial sizes before it, amounts, and NumPy's name of the mode."""

    sizes: tuple[int, ...]
    pads: Pads
    mode: str


def resolve_padding(
    padding: Any,
    in_sizes: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
) -> tuple[Pads, str | None]:
    """Any accepted padding as (lo, hi) pairs, and the extension mode if the padding is not of zeros.

    `in_sizes` are the sizes of the dilated input. The extension modes pad by ((Ke - 1) // 2, Ke // 2)
    whatever the stride, as Flax does.
    """
    rank = len(in_sizes)
    if isinstance(padding, str):
        name = padding.upper()
        if name in EXTENSION_MODES:
            pads = tuple(((e - 1) // 2, e // 2) for e in map(lambda e: max(e, 1), extents))
            return pads, EXTENSION_MODES[name]
        axes = zip(in_sizes, extents, strides, strict=True)
        return tuple(_named_pads(name, *axis) for axis in axes), None
    if not is_sequence(padding):
        amount = as_int(padding, "padding")
        return ((amount, amount),) * rank, None
    pads = tuple(_pair(entry) for entry in padding)
    if len(pads) != rank:
        raise ValueError(
            f"`padding` must have one (lo, hi) pair per spatial axis ({rank}), got {len(pads)}: {pads}"
        )
    return pads, None


def _named_pads(name: str, in_size: int, extent: int, stride: int) -> tuple[int, int]:
    reach = max(extent - 1, 0)
    if name == "VALID":
        return 0, 0
    if name == "FULL":
        return reach, reach
    if name == "CAUSAL":
        return reach, 0
    if name == "REVERSE_CAUSAL":
        return 0, reach
    if name in ("SAME", "SAME_LOWER"):
        total = same_pads(in_size, extent, stride)
        small, large = total // 2, total - total // 2
        return (small, large) if name == "SAME" else (large, small)
    known = ", ".join((*ZERO_PADDING_NAMES, *EXTENSION_MODES))
    raise ValueError(f"`padding` must be one of {known}, an int, or (lo, hi) pairs, got {name!r}")


def _pair(entry: Any) -> tuple[int, int]:
    if is_sequence(entry):
        pair = tuple(as_int(v, "padding") for v in entry)
        if len(pair) != 2:
            raise ValueError(f"`padding` entries must be an int or a (lo, hi) pair, got {pair}")
        return pair[0], pair[1]
    amount = as_int(entry, "padding")
    return amount, amount


def same_pads(size_in: int, extent: int, stride: int) -> int:
    """Total padding that makes the output ceil(size_in / stride)."""
    out = -(-size_in // stride)
    return max(0, (out - 1) * stride + extent - size_in)


def check_extension(extension: Extension) -> Extension:
    """Copies need something to be copied from."""
    for size, (lo, hi) in zip(extension.sizes, extension.pads, strict=True):
        if size == 0 and lo + hi > 0:
            raise ValueError(
                f"`padding` that extends the input ({extension.mode}) needs samples on every axis, got "
                f'spatial sizes {extension.sizes}; give "VALID" or numbers'
            )
    return extension
