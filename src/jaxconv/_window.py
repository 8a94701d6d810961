"""Window geometry: one spatial axis of a convolution or a pooling, as integers.

Every relation between the three index spaces of one axis is the equation

    i * base_dilation + lo = m * stride + k * dilation                                    (*)

with i in [0, in_size) the input, k in [0, size) the tap and m in [0, out_size) the output. A forward pass
solves it for m, an input gradient for i, a kernel gradient for k (DESIGN T2, T8, T7). No arrays, no jax.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Sequence
from typing import Any


def dilated(size: int, dilation: int) -> int:
    """Length of `size` samples with `dilation - 1` holes between neighbours."""
    return max(0, (size - 1) * dilation + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """One residue class of a dilated axis: outputs out_start::out_step meet taps tap_start::tap_step.

    `window` is the dense correlation that computes them; None where no tap meets an input sample.
    """

    out_start: int
    out_step: int
    tap_start: int
    tap_step: int
    window: Window | None


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """One spatial axis: `size` taps, `dilation` apart, move by `stride` over a (dilated, padded) input.

    `lo` and `hi` are the padding on either side of the dilated input; negative values crop it.
    """

    in_size: int
    size: int
    stride: int = 1
    dilation: int = 1
    base_dilation: int = 1
    lo: int = 0
    hi: int = 0

    @property
    def extent(self) -> int:
        """Input samples from the first to the last tap: Ke = (K - 1) d + 1."""
        return dilated(self.size, self.dilation)

    @property
    def dilated_in(self) -> int:
        """Le = (L - 1) b + 1."""
        return dilated(self.in_size, self.base_dilation)

    @property
    def out_size(self) -> int:
        """M = floor((Le + lo + hi - Ke) / s) + 1, never below zero (T2)."""
        return max(0, (self.dilated_in + self.lo + self.hi - self.extent) // self.stride + 1)

    @property
    def reach(self) -> int:
        """Padded input samples that the outputs read, from the first to the last."""
        return (self.out_size - 1) * self.stride + self.extent

    @property
    def is_pointwise(self) -> bool:
        """Whether output m reads input m and nothing else."""
        return self.size == 1 and self.in_size == self.out_size and self.is_unit and self.lo == 0

    @property
    def is_unit(self) -> bool:
        """Whether neither the moves nor the input have gaps."""
        return self.stride == 1 and self.base_dilation == 1

    def exact(self) -> Window:
        """The same window with `hi` cut to what the last output reads, so that no sample is left over.

        A side that crops more than there is leaves nothing but a part of the other side's padding.
        """
        lo = min(max(self.lo, -self.dilated_in), self.reach)
        return dataclasses.replace(self, lo=lo, hi=self.reach - self.dilated_in - lo)

    def outputs_at(self, k: int) -> range:
        """The outputs of a dense window whose tap k falls on the input, not on padding."""
        first = k * self.dilation - self.lo
        start = max(0, -(first // self.stride))
        return range(start, max(start, min(self.out_size, -((first - self.in_size) // self.stride))))

    def inputs_at(self, k: int) -> range:
        """The samples that tap k of a dense window falls on in `outputs_at`."""
        outputs, first = self.outputs_at(k), k * self.dilation - self.lo
        return range(first + outputs.start * self.stride, first + outputs.stop * self.stride, self.stride)

    def meeting_taps(self) -> range:
        """The taps between which all fall that meet a sample in some output, one at least (*).

        Taps before and behind them read padding alone: their weights have no effect, and zero gradients.
        """
        last_move = (self.out_size - 1) * self.stride
        first = min(max(0, -((last_move - self.lo) // self.dilation)), self.size - 1)
        last = min((self.lo + self.dilated_in - 1) // self.dilation, self.size - 1)
        return range(first, max(first, last) + 1)

    def with_taps(self, taps: range) -> Window:
        """The same outputs from some neighbouring taps alone."""
        return dataclasses.replace(
            self,
            size=len(taps),
            dilation=self.dilation if len(taps) > 1 else 1,
            lo=self.lo - taps.start * self.dilation,
            hi=self.hi - (self.size - taps.stop) * self.dilation,
        )

    def meeting_samples(self) -> range:
        """The samples among which are all that meet a tap: a residue class of what divides both steps of (*).

        A dilated input is left to `phases`.
        """
        step = math.gcd(self.stride, self.dilation) if self.base_dilation == 1 else 1
        return range(-self.lo % step, self.in_size, step)

    def with_samples(self, samples: range) -> Window:
        """The same outputs from the `meeting_samples` alone."""
        step = samples.step
        if step == 1:
            return self
        window = Window(len(samples), self.size, self.stride // step, self.dilation // step)
        lo = (self.lo + samples.start) // step
        reach = (self.out_size - 1) * window.stride + window.extent
        return dataclasses.replace(window, lo=lo, hi=reach - window.in_size - lo)

    def padded(self) -> Window:
        """The same outputs of a dense input whose padding is in place."""
        return dataclasses.replace(self, in_size=self.reach, lo=0, hi=0)

    def input_adjoint(self) -> Window:
        """The window that maps output to input: flipped taps, stride and base dilation exchanged (T8, T9)."""
        out_extent = dilated(self.out_size, self.stride)
        return Window(
            in_size=self.out_size,
            size=self.size,
            stride=self.base_dilation,
            dilation=self.dilation,
            base_dilation=self.stride,
            lo=self.extent - 1 - self.lo,
            hi=self.dilated_in - out_extent + self.lo,
        )

    def kernel_adjoint(self) -> Window:
        """The window that maps input to taps, the output playing the kernel (T7, T9)."""
        out_extent = dilated(self.out_size, self.stride)
        return Window(
            in_size=self.in_size,
            size=self.out_size,
            stride=self.dilation,
            dilation=self.stride,
            base_dilation=self.base_dilation,
            lo=self.lo,
            hi=out_extent - self.dilated_in + self.extent - 1 - self.lo,
        )

    def phases(self) -> tuple[Phase, ...]:
        """Split a base dilation b into dense windows, so that no inserted zero is ever multiplied (T9).

        With b dividing both sides of (*), outputs m = r + (b / gcd(s, b)) t and taps
        k = q + (b / gcd(d, b)) u belong together exactly when r s + q d = lo (mod b). For such a pair
        i = (r s + q d - lo) / b + (s / gcd(s, b)) t + (d / gcd(d, b)) u: dense over the undilated input.
        """
        base = self.base_dilation
        out_step = base // math.gcd(self.stride, base)
        tap_step = base // math.gcd(self.dilation, base)
        starts = range(min(out_step, self.out_size))
        return tuple(self._phase(r, out_step, tap_step) for r in starts)

    def _phase(self, r: int, out_step: int, tap_step: int) -> Phase:
        base = self.base_dilation
        for q in range(min(tap_step, self.size)):
            first, remainder = divmod(r * self.stride + q * self.dilation - self.lo, base)
            if remainder:
                continue
            stride = self.stride * out_step // base
            dilation = self.dilation * tap_step // base
            taps = -(-(self.size - q) // tap_step)
            outputs = -(-(self.out_size - r) // out_step)
            reach = (outputs - 1) * stride + dilated(taps, dilation)
            window = Window(self.in_size, taps, stride, dilation, 1, -first, reach - self.in_size + first)
            return Phase(r, out_step, q, tap_step, window)
        return Phase(r, out_step, 0, tap_step, None)


def as_int(value: Any, name: str) -> int:
    """`value` as a Python integer, or a TypeError that says that it must be static."""
    try:
        return operator.index(value)
    except Exception as error:  # a tracer raises jax's own error types; this module imports no jax
        traced = type(error) is not TypeError
        remedy = "mark it static under jit (static_argnames) or close over it" if traced else "give an int"
        got = f"an array of shape {value.shape}" if getattr(value, "ndim", 0) else repr(value)
        raise TypeError(
            f"`{name}` must be made of Python integers known at trace time, got {got}; {remedy}"
        ) from error


def is_sequence(value: Any) -> bool:
    """Whether `value` has entries; arrays and tracers without axes have none, though they have __iter__."""
    return hasattr(value, "__iter__") and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def as_ints(value: Any, rank: int, name: str, minimum: int | None = None) -> tuple[int, ...]:
    """An int for every axis, or one int per axis, as a tuple of `rank` ints."""
    if not is_sequence(value):
        ints = (as_int(value, name),) * rank
    else:
        ints = tuple(as_int(v, name) for v in value)
    if len(ints) != rank:
        raise ValueError(
            f"`{name}` must have one entry per spatial axis ({rank}), got {ints}; "
            "a single int stands for every axis"
        )
    if minimum is not None and any(v < minimum for v in ints):
        raise ValueError(f"`{name}` must be at least {minimum} on every axis, got {ints}")
    return ints


def or_ones(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """lax's optional dilations: None stands for 1 on every axis."""
    return as_ints(1 if value is None else value, rank, name, minimum=1)


def check_not_negative(windows: Sequence[Window]) -> None:
    """Negative padding may crop an axis to nothing, not to less than nothing."""
    for axis, w in enumerate(windows):
        if w.dilated_in + w.lo + w.hi < 0:
            raise ValueError(
                f"`padding` must not crop more than the input holds, got ({w.lo}, {w.hi}) on spatial "
                f"axis {axis} of (dilated) size {w.dilated_in}; crop at most {w.dilated_in} samples"
            )
