"""Kinds of workloads: one convolution, pooling or training step, by its shapes.

Nothing here imports jax. Spatial tuples are in the order of the axes, channels are counted apart, and
padding is always explicit, so that every library computes the same thing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Pairs: TypeAlias = tuple[tuple[int, int], ...]
PassName: TypeAlias = Literal["forward", "input_grad", "kernel_grad", "step"]

CONV_PASSES: tuple[PassName, ...] = ("forward", "input_grad", "kernel_grad")
POOL_PASSES: tuple[PassName, ...] = ("forward", "input_grad")
FLOAT32 = ("float32",)
THREE_DTYPES = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class ConvWorkload:
    """One convolution: `[N, *S, C]` with `[*K, C/groups, O]`.

    `kind` says how it is used: `"plain"`, `"transposed"` (strides and padding as
    `lax.conv_transpose` reads them), `"loop"` (four in a row inside a `fori_loop`) or
    `"per_example"` (the kernel gradient of each image on its own).
    """

    name: str
    batch: int
    spatial: tuple[int, ...]
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding: Pairs
    kind: Literal["plain", "transposed", "loop", "per_example"] = "plain"
    layout: Literal["channels_last", "channels_first"] = "channels_last"
    passes: tuple[PassName, ...] = CONV_PASSES
    dtypes: tuple[str, ...] = FLOAT32
    tags: frozenset[str] = frozenset({"full"})

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`[N, *S, C]`."""
        return (self.batch, *self.spatial, self.in_channels)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """`[*K, C/groups, O]`."""
        return (*self.kernel, self.in_channels // self.groups, self.out_channels)

    @property
    def output_spatial(self) -> tuple[int, ...]:
        """Spatial sizes of the output."""
        axes = zip(self.spatial, self.kernel, self.strides, self.dilation, self.padding, strict=True)
        if self.kind == "transposed":
            return tuple((n - 1) * s + 1 + sum(p) - d * (k - 1) for n, k, s, d, p in axes)
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, d, p in axes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """`[N, *S', O]`."""
        return (self.batch, *self.output_spatial, self.out_channels)

    @property
    def repeats(self) -> int:
        """How many convolutions one call computes."""
        return 4 if self.kind == "loop" else 1

    @property
    def flops(self) -> int:
        """Multiplications and additions of one pass, no inserted zero counted."""
        positions = self.spatial if self.kind == "transposed" else self.output_spatial
        macs = self.batch * math.prod(positions) * math.prod(self.kernel_shape)
        return 2 * macs * self.repeats

    @property
    def elements(self) -> int:
        """Elements of input, kernel and output together."""
        return sum(math.prod(s) for s in (self.input_shape, self.kernel_shape, self.output_shape))


@dataclass(frozen=True)
class PoolWorkload:
    """One pooling layer over `[N, *S, C]`."""

    name: str
    operation: Literal["max", "avg"]
    batch: int
    spatial: tuple[int, ...]
    channels: int
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Pairs
    passes: tuple[PassName, ...] = POOL_PASSES
    dtypes: tuple[str, ...] = FLOAT32
    tags: frozenset[str] = frozenset({"full"})

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`[N, *S, C]`."""
        return (self.batch, *self.spatial, self.channels)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """`[N, *S', C]`."""
        axes = zip(self.spatial, self.window, self.strides, self.padding, strict=True)
        return (self.batch, *((n + sum(p) - k) // s + 1 for n, k, s, p in axes), self.channels)

    @property
    def flops(self) -> int:
        """One operation for each tap of each window."""
        return math.prod(self.output_shape) * math.prod(self.window)

    @property
    def elements(self) -> int:
        """Elements of input and output together."""
        return math.prod(self.input_shape) + math.prod(self.output_shape)


@dataclass(frozen=True)
class StepWorkload:
    """One training step (forward, backward, plain SGD) of a small network on `[N, H, W, C]`."""

    name: str
    batch: int
    spatial: tuple[int, ...]
    channels: int
    classes: int = 10
    passes: tuple[PassName, ...] = ("step",)
    dtypes: tuple[str, ...] = FLOAT32
    tags: frozenset[str] = frozenset({"full"})

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`[N, H, W, C]`."""
        return (self.batch, *self.spatial, self.channels)


Workload: TypeAlias = ConvWorkload | PoolWorkload | StepWorkload


def conv_workload(
    name: str, batch: int, spatial: tuple[int, ...], channels: tuple[int, int],
    kernel: int | tuple[int, ...], *, stride: int | tuple[int, ...] = 1, dilation: int = 1,
    groups: int = 1, padding: int | Pairs | None = None, tags: str = "full", **options: object,
) -> ConvWorkload:  # fmt: skip
    """A workload from short arguments; padding defaults to d(k-1)/2 on both sides."""
    rank = len(spatial)
    kernels = (kernel,) * rank if isinstance(kernel, int) else kernel
    strides = (stride,) * rank if isinstance(stride, int) else stride
    if padding is None:
        pairs: Pairs = tuple((dilation * (k - 1) // 2,) * 2 for k in kernels)
    else:
        pairs = ((padding, padding),) * rank if isinstance(padding, int) else padding
    return ConvWorkload(
        name, batch, spatial, *channels, kernels, strides, (dilation,) * rank, groups, pairs,
        tags=frozenset(tags.split()), **options,  # type: ignore[arg-type]
    )  # fmt: skip
