"""Sizes of transposed convolution: every library's padding as pads of the dilated input.

A transposed convolution is a correlation over the input with s - 1 zeros between neighbours, padded by
(lo, hi). With (i - 1) s + 1 dilated samples and taps over Ke samples its output has

    (i - 1) s + 1 + lo + hi - Ke + 1

samples. What lax, Keras, PyTorch, Haiku and Flax call padding, output padding and output shape all comes
down to a choice of lo and hi here. No arrays, no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ._padding import EXTENSION_MODES, Extension, Pads, resolve_padding, same_pads
from ._window import as_ints, dilated


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What decides the sizes on all axes: inputs, extents Ke of the kernel, strides and dilations."""

    sizes: Sequence[int]
    extents: Sequence[int]
    strides: Sequence[int]
    dilation: Sequence[int]

    @property
    def rank(self) -> int:
        return len(self.extents)

    def outputs(self, pads: Pads) -> tuple[int, ...]:
        """The output's size under `pads` of the dilated input."""
        axes = zip(self.sizes, self.extents, self.strides, pads, strict=True)
        return tuple(dilated(i, s) + lo + hi - e + 1 for i, e, s, (lo, hi) in axes)


def transposed_pads(
    geometry: Geometry,
    padding: Any,
    consistent: bool,
    output_padding: Any,
    output_shape: Any,
    flipped: bool,
) -> tuple[Pads, Extension | None]:
    """(lo, hi) of the dilated input, and what the output folds back if the padding is not of zeros."""
    if output_padding is not None and output_shape is not None:
        raise ValueError("`output_padding` and `output_shape` must not both be given; each sets the size")
    name = padding.upper() if isinstance(padding, str) else None
    check_name(padding, geometry.strides)
    extra = check_output_padding(output_padding, geometry)
    if output_shape is not None:
        output_shape = as_ints(output_shape, geometry.rank, "output_shape", minimum=0)
    if name in EXTENSION_MODES:
        return extended_pads(geometry, EXTENSION_MODES[name], extra, output_shape, flipped)
    if name in ("SAME", "VALID") and output_shape is not None:
        return pads_for_output(geometry, name, output_shape), None
    if name in ("SAME", "VALID"):
        named = zip(geometry.extents, geometry.strides, extra or [None] * geometry.rank, strict=True)
        return tuple(_named_pads(name, *axis) for axis in named), None
    pads, _ = resolve_padding(padding, geometry.sizes, geometry.extents, geometry.strides)
    if consistent:
        pads = tuple((e - 1 - lo, e - 1 - hi) for e, (lo, hi) in zip(geometry.extents, pads, strict=True))
    if output_shape is not None:
        extra = missing_outputs(geometry, pads, output_shape)
    if extra is not None:
        pads = tuple((lo, hi + more) for (lo, hi), more in zip(pads, extra, strict=True))
    return pads, None


def check_name(padding: Any, strides: Sequence[int]) -> None:
    """Names that say how large the output is; SAME_LOWER only where it is lax's."""
    known = ("SAME", "VALID", *EXTENSION_MODES)
    if not isinstance(padding, str) or padding.upper() in known:
        return
    if padding.upper() != "SAME_LOWER" or max(strides, default=1) > 1:
        names = ", ".join(f'"{name}"' for name in known)
        raise ValueError(
            f'`padding` must be {names} or (lo, hi) pairs ("SAME_LOWER" with strides of 1), '
            f"got {padding!r} with strides {tuple(strides)}; give the pads"
        )


def check_output_padding(output_padding: Any, geometry: Geometry) -> tuple[int, ...] | None:
    """PyTorch's rule: what the stride leaves undecided is less than a stride, or than a dilation."""
    if output_padding is None:
        return None
    extra = as_ints(output_padding, geometry.rank, "output_padding", minimum=0)
    for more, s, d in zip(extra, geometry.strides, geometry.dilation, strict=True):
        if more >= max(s, d):
            raise ValueError(
                f"`output_padding` must be less than the stride or the kernel dilation, got {extra} with "
                f"strides {tuple(geometry.strides)} and dilation {tuple(geometry.dilation)}; "
                "pad the result with jnp.pad for more"
            )
    return extra


def missing_outputs(geometry: Geometry, pads: Pads, output_shape: Sequence[int]) -> tuple[int, ...]:
    """The output padding that reaches `output_shape`: a strided convolution maps s sizes to one (T2)."""
    least = geometry.outputs(pads)
    extra = tuple(size - n for size, n in zip(output_shape, least, strict=True))
    if any(more < 0 or more >= s for more, s in zip(extra, geometry.strides, strict=True)):
        most = tuple(n + s - 1 for n, s in zip(least, geometry.strides, strict=True))
        raise ValueError(
            f"`output_shape` must lie between {least} and {most} with these pads and strides, "
            f"got {tuple(output_shape)}; it holds the spatial sizes only"
        )
    return extra


def pads_for_output(geometry: Geometry, name: str, output_shape: Sequence[int]) -> Pads:
    """The adjoint of a convolution with `padding=name` over an input of `output_shape`, as in Haiku."""
    pads = []
    for i, e, s, size in zip(geometry.sizes, geometry.extents, geometry.strides, output_shape, strict=True):
        total = same_pads(size, e, s) if name == "SAME" else 0
        if max(0, (size + total - e) // s + 1) != i:
            raise ValueError(
                f"`output_shape` must be a size that a {name} convolution maps to the input's "
                f"{tuple(geometry.sizes)}, got {tuple(output_shape)} with strides {tuple(geometry.strides)}"
            )
        lo = e - 1 - total // 2
        pads.append((lo, size + e - 1 - dilated(i, s) - lo))
    return tuple(pads)


def extended_pads(
    geometry: Geometry,
    mode: str,
    extra: Sequence[int] | None,
    output_shape: Sequence[int] | None,
    flipped: bool,
) -> tuple[Pads, Extension]:
    """The adjoint of a convolution whose input is extended by its own values: windows beyond fold back.

    The whole transposed convolution is computed and what lies outside the output is added to the samples
    that the extension would have copied. It is placed as Flax's `ConvTranspose(padding="CIRCULAR")` does.
    """
    if extra is not None:
        raise ValueError(
            f"`output_padding` must be None with padding in mode {mode!r}, got {tuple(extra)}; "
            "give `output_shape`"
        )
    axes = zip(geometry.sizes, geometry.strides, strict=True)
    sizes = tuple(i * s for i, s in axes) if output_shape is None else tuple(output_shape)
    for i, s, size in zip(geometry.sizes, geometry.strides, sizes, strict=True):
        if -(-size // s) != i:
            raise ValueError(
                f"`output_shape` must be of ceil(size / stride) = {tuple(geometry.sizes)}, got {sizes} "
                f"with strides {tuple(geometry.strides)}"
            )
    folds, pads = [], []
    for i, e, s, size in zip(geometry.sizes, geometry.extents, geometry.strides, sizes, strict=True):
        overlap = max(e - s, 0)
        lo = (overlap + 1) // 2 if flipped else overlap // 2
        folds.append((lo, e - 1 - lo))
        pads.append((e - 1, size + e - 1 - dilated(i, s)))
    return tuple(pads), Extension(sizes, tuple(folds), mode)


def _named_pads(name: str, extent: int, stride: int, extra: int | None) -> tuple[int, int]:
    """SAME: output = input * stride. VALID: whole windows, and no fewer than `stride` samples an input.

    With output padding both have Keras' sizes: (i - 1) s + Ke mod 2 + extra, and (i - 1) s + Ke + extra.
    """
    if name == "VALID":
        lo = extent - 1
        return lo, extent - 1 + (max(stride - extent, 0) if extra is None else extra)
    total = extent + stride - 2 if extra is None else extent + extent % 2 - 2 + extra
    lo = min(extent - 1, -(-total // 2))
    return lo, total - lo
