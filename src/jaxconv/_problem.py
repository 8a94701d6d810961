"""ConvProblem: everything about a convolution that shapes and options decide, and all validation of it.

A problem is static, hashable data in canonical, channels-last order; it is the key of every cache. The three
passes are one trilinear form T(x, w, g) = <conv(x, w), g> with one slot left open.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ._dtypes import canonical_precision, check_dtypes, promote, sum_dtype
from ._padding import Extension, check_extension, resolve_padding
from ._window import Window, as_int, as_ints, check_not_negative, dilated

Shape: TypeAlias = tuple[int, ...]


class Pass(enum.Enum):
    """Which slot of T(x, w, g) is open: the output, the input or the kernel."""

    FORWARD = "forward"
    INPUT_GRAD = "input_grad"
    KERNEL_GRAD = "kernel_grad"


@dataclasses.dataclass(frozen=True, slots=True)
class ConvProblem:
    """y[N, *M, O] = conv(x[N, *S, C], w[*K, C/G, O]); a dtype for each of the three arrays."""

    batch: int
    in_channels: int
    out_channels: int
    windows: tuple[Window, ...]
    groups: int = 1
    x_dtype: str = "float32"
    w_dtype: str = "float32"
    y_dtype: str = "float32"
    precision: Any = None

    @property
    def rank(self) -> int:
        return len(self.windows)

    @property
    def input_shape(self) -> Shape:
        return (self.batch, *(w.in_size for w in self.windows), self.in_channels)

    @property
    def kernel_shape(self) -> Shape:
        return (*self.kernel_size, self.in_channels // self.groups, self.out_channels)

    @property
    def output_shape(self) -> Shape:
        return (self.batch, *self.output_size, self.out_channels)

    @property
    def kernel_size(self) -> Shape:
        return tuple(w.size for w in self.windows)

    @property
    def output_size(self) -> Shape:
        return tuple(w.out_size for w in self.windows)

    @property
    def strides(self) -> Shape:
        return tuple(w.stride for w in self.windows)

    @property
    def kernel_dilation(self) -> Shape:
        return tuple(w.dilation for w in self.windows)

    @property
    def input_dilation(self) -> Shape:
        return tuple(w.base_dilation for w in self.windows)

    @property
    def taps(self) -> int:
        return math.prod(self.kernel_size)

    @property
    def channels_per_group(self) -> tuple[int, int]:
        """(C / G, O / G)."""
        return self.in_channels // self.groups, self.out_channels // self.groups

    @property
    def is_dense(self) -> bool:
        """Whether the input is undilated, so that every tap slice is a plain strided slice."""
        return all(w.base_dilation == 1 for w in self.windows)

    @property
    def is_empty(self) -> bool:
        """Whether some array has no element, so that every pass is zeros."""
        sizes = (*self.input_shape, *self.kernel_shape, *self.output_shape)
        return any(isinstance(s, int) and s == 0 for s in sizes)

    def result(self, pass_: Pass) -> jax.ShapeDtypeStruct:
        """Shape and dtype of what `pass_` computes."""
        shape, dtype = {
            Pass.FORWARD: (self.output_shape, self.y_dtype),
            Pass.INPUT_GRAD: (self.input_shape, self.x_dtype),
            Pass.KERNEL_GRAD: (self.kernel_shape, self.w_dtype),
        }[pass_]
        return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))

    def flops(self, pass_: Pass) -> int:
        """Multiplies and adds of the direct sum, the same for every pass: only pairs that meet (*) count."""
        del pass_
        cin, cout = self.channels_per_group
        pairs = math.prod(len_meetings(w) for w in self.windows)
        return 2 * self.batch * pairs * cin * cout * self.groups

    def io_bytes(self) -> int:
        """Bytes of x, w and y together: what any pass must read and write at least once."""
        arrays = (
            (self.input_shape, self.x_dtype),
            (self.kernel_shape, self.w_dtype),
            (self.output_shape, self.y_dtype),
        )
        return sum(math.prod(shape) * jnp.dtype(dtype).itemsize for shape, dtype in arrays)

    def sized(self) -> ConvProblem:
        """The problem itself, or that of one example where the batch is known only at run time."""
        return self if isinstance(self.batch, int) else dataclasses.replace(self, batch=1)

    def input_adjoint(self) -> ConvProblem:
        """The problem whose FORWARD is this INPUT_GRAD, the kernel flipped and with I and O exchanged."""
        return dataclasses.replace(
            self,
            in_channels=self.out_channels,
            out_channels=self.in_channels,
            windows=tuple(w.input_adjoint() for w in self.windows),
            x_dtype=self.y_dtype,
            y_dtype=self.x_dtype,
        )

    def one_group(self) -> ConvProblem:
        """The dense problem of each group."""
        cin, cout = self.channels_per_group
        return dataclasses.replace(self, in_channels=cin, out_channels=cout, groups=1)

    def meeting_taps(self) -> tuple[range, ...]:
        """The taps of each axis that can meet a sample."""
        return tuple(w.meeting_taps() for w in self.windows)

    def with_taps(self, taps: Sequence[range]) -> ConvProblem:
        """The problem of some neighbouring taps alone."""
        return self.with_windows([w.with_taps(t) for w, t in zip(self.windows, taps, strict=True)])

    def meeting_samples(self) -> tuple[range, ...]:
        """The samples of each axis that can meet a tap; all where lanes alone meet, as cheap as to copy them.

        A copy of some took 2.1 to 3.7 times the time of depthwise sums, and 0.04 to 1.4 times that of dense
        passes (21 passes, geometric mean 0.7, 2026-11-30, AMD EPYC Zen 4, AVX-512).
        """
        if self.groups > 1 and min(self.channels_per_group) == 1:
            return tuple(range(w.in_size) for w in self.windows)
        return tuple(w.meeting_samples() for w in self.windows)

    def with_samples(self, samples: Sequence[range]) -> ConvProblem:
        """The problem of the `meeting_samples` alone."""
        return self.with_windows([w.with_samples(r) for w, r in zip(self.windows, samples, strict=True)])

    def core(self) -> ConvProblem:
        """The problem of the taps and samples that can meet, the only ones that take part in any pass."""
        fewer = self.with_taps(self.meeting_taps())
        return fewer.with_samples(fewer.meeting_samples())

    def with_dtypes(self, **changed: Any) -> ConvProblem:
        """The problem with another `x_dtype`, `w_dtype` or `y_dtype`."""
        return dataclasses.replace(self, **changed)

    def with_windows(self, windows: Sequence[Window]) -> ConvProblem:
        return dataclasses.replace(self, windows=tuple(windows))


def len_meetings(window: Window) -> int:
    """How many (output, tap) pairs of one axis meet, counting taps that fall on padding of a dense input."""
    return sum(p.window.size * p.window.out_size for p in window.phases() if p.window is not None)


def accumulator(problem: ConvProblem) -> jnp.dtype:
    """The dtype that the problem's sums are kept in."""
    return sum_dtype(promote(promote(problem.x_dtype, problem.w_dtype), problem.y_dtype))


def make_problem(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    x_dtype: Any,
    w_dtype: Any,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    groups: Any = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> tuple[ConvProblem, Extension | None]:
    """Validate the options of a canonical convolution; return its problem and its extension, if any.

    With an extension the problem's input is the extended one (`_extend.extend` makes it).
    """
    rank = len(kernel_shape) - 2
    strides = as_ints(strides, rank, "strides", minimum=1)
    base = as_ints(input_dilation, rank, "input_dilation", minimum=1)
    dilation = as_ints(kernel_dilation, rank, "kernel_dilation", minimum=1)
    groups = as_int(groups, "groups")
    *_, in_channels = input_shape
    *_, cin, out_channels = kernel_shape
    check_groups(in_channels, cin, out_channels, groups)
    check_string_padding(padding, base)

    in_sizes = tuple(input_shape[1:-1])
    sizes = tuple(kernel_shape[:-2])
    if any(k < 1 for k in sizes):
        raise ValueError(f"`kernel` must have at least one tap on every spatial axis, got sizes {sizes}")
    dilated_sizes = [dilated(n, b) for n, b in zip(in_sizes, base, strict=True)]
    extents = [dilated(k, d) for k, d in zip(sizes, dilation, strict=True)]
    pads, mode = resolve_padding(padding, dilated_sizes, extents, strides)
    extension = None
    if mode is not None:
        extension = check_extension(Extension(in_sizes, pads, mode))
        in_sizes = tuple(n + lo + hi for n, (lo, hi) in zip(in_sizes, pads, strict=True))
        pads = ((0, 0),) * rank
    axes = zip(in_sizes, sizes, strides, dilation, base, pads, strict=True)
    windows = tuple(Window(n, k, s, d, b, lo, hi) for n, k, s, d, b, (lo, hi) in axes)
    check_not_negative(windows)

    x_name, w_name, y_name = check_dtypes(x_dtype, w_dtype, preferred_element_type)
    problem = ConvProblem(
        batch=input_shape[0],
        in_channels=in_channels,
        out_channels=out_channels,
        windows=windows,
        groups=groups,
        x_dtype=x_name,
        w_dtype=w_name,
        y_dtype=y_name,
        precision=canonical_precision(precision),
    )
    return problem, extension


def check_groups(in_channels: int, cin: int, out_channels: int, groups: int) -> None:
    """The kernel holds C / G input channels and O output channels, G dividing both."""
    if groups < 1:
        raise ValueError(f"`groups` must be at least 1, got {groups}")
    if in_channels % groups:
        raise ValueError(
            f"`groups` must divide the input's channels, got {groups} groups of {in_channels} channels"
        )
    if out_channels % groups:
        raise ValueError(
            f"`groups` must divide the kernel's output channels, got {groups} groups of {out_channels}"
        )
    if in_channels // groups != cin:
        raise ValueError(
            f"`kernel` must have channels / groups = {in_channels} / {groups} = {in_channels // groups} "
            f"input channels, got {cin}; inputs are [*batch, *S, C], kernels [*K, C / groups, O]; "
            "conv_general_dilated takes other layouts"
        )


def check_string_padding(padding: Any, base: Sequence[int]) -> None:
    """As lax: a padding name is defined on undilated input only."""
    if isinstance(padding, str) and any(b != 1 for b in base):
        raise ValueError(
            f"`padding` must be an int or (lo, hi) pairs when the input is dilated, got {padding!r} with "
            f"input dilation {tuple(base)}; give the pads, or use conv_transpose"
        )
