"""Pooling by its definition, in plain NumPy loops and float64: the reference of the pooling suites.

Arrays are `[N, *S, C]`. On one axis output m starts at sample `m * stride - lo` and reads every
`dilation`-th sample from there. Nothing here pads an array or imports JAX.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Index = tuple[int, ...]


class Axis(NamedTuple):
    """One spatial axis; `ceil` counts outputs as PyTorch's ceil_mode does."""

    size: int
    taps: int
    stride: int = 1
    dilation: int = 1
    lo: int = 0
    hi: int = 0
    ceil: bool = False

    @property
    def starts(self) -> list[int]:
        """First sample of every window, negative in the padding before the input."""
        slack = self.stride - 1 if self.ceil else 0
        reach = (self.taps - 1) * self.dilation + 1
        last = self.size + self.hi + slack - reach
        starts = list(range(-self.lo, last + 1, self.stride))
        if self.ceil and starts and starts[-1] >= self.size:
            starts.pop()
        return starts

    def window(self, output: int) -> list[int]:
        start = self.starts[output]
        return [start + k * self.dilation for k in range(self.taps)]

    def count(self, output: int, include_pad: bool) -> int:
        """Taps on samples or, with `include_pad`, on the padding that was asked for."""
        window = self.window(output)
        if include_pad:
            return sum(i < self.size + self.hi for i in window)
        return sum(0 <= i < min(self.size, self.size + self.hi) for i in window)


def out_sizes(axes: Sequence[Axis]) -> Index:
    return tuple(len(a.starts) for a in axes)


def outputs(axes: Sequence[Axis]) -> Iterator[Index]:
    return itertools.product(*(range(n) for n in out_sizes(axes)))


def samples(axes: Sequence[Axis], output: Index) -> list[Index]:
    """The samples under a window, row-major; padding is left out."""
    windows = [a.window(m) for a, m in zip(axes, output, strict=True)]
    return [
        position
        for position in itertools.product(*windows)
        if all(0 <= i < a.size for i, a in zip(position, axes, strict=True))
    ]


def empty_output(x: Array, axes: Sequence[Axis], fill: Any, dtype: Any) -> Array:
    return np.full((x.shape[0], *out_sizes(axes), x.shape[-1]), fill, dtype)


def total(x: Array, axes: Sequence[Axis]) -> Array:
    """Sum under each window."""
    y = empty_output(x, axes, 0, np.result_type(x.dtype, np.float64))
    for m in outputs(axes):
        for i in samples(axes, m):
            y[:, *m] += x[:, *i]
    return y


def total_adjoint(dy: Array, axes: Sequence[Axis]) -> Array:
    """The transpose of `total`."""
    shape = (dy.shape[0], *(a.size for a in axes), dy.shape[-1])
    dx = np.zeros(shape, np.result_type(dy.dtype, np.float64))
    for m in outputs(axes):
        for i in samples(axes, m):
            dx[:, *i] += dy[:, *m]
    return dx


def counts(axes: Sequence[Axis], include_pad: bool) -> Array:
    """Divisors of the average, `[1, *M, 1]`; 1 where a window has nothing to count."""
    table = np.ones((1, *out_sizes(axes), 1))
    for m in outputs(axes):
        count = np.prod([a.count(k, include_pad) for a, k in zip(axes, m, strict=True)])
        table[:, *m] = max(1, count)
    return table


def winners(x: Array, axes: Sequence[Axis], minimum: bool = False) -> dict[Index, Index]:
    """(n, *m, c) -> the sample that wins: the first NaN, else the first extreme one."""
    won: dict[Index, Index] = {}
    for n, m, c in itertools.product(range(x.shape[0]), outputs(axes), range(x.shape[-1])):
        best: Index | None = None
        for i in samples(axes, m):
            value, record = x[n, *i, c], None if best is None else x[n, *best, c]
            if record is None or (value != value and record == record):
                best = i
            elif value < record if minimum else value > record:
                best = i
        if best is not None:
            won[(n, *m, c)] = best
    return won


def extreme(x: Array, axes: Sequence[Axis], fill: Any, minimum: bool = False) -> Array:
    """Largest or smallest value under each window, `fill` where there is none."""
    y = empty_output(x, axes, fill, x.dtype)
    for (n, *m, c), i in winners(x, axes, minimum).items():
        y[n, *m, c] = x[n, *i, c]
    return y


def routed(x: Array, dy: Array, axes: Sequence[Axis], minimum: bool = False) -> Array:
    """Gradient of `extreme`: each output's dy goes to its winner."""
    dx = np.zeros(x.shape)
    for (n, *m, c), i in winners(x, axes, minimum).items():
        dx[n, *i, c] += dy[n, *m, c]
    return dx


def collected(x: Array, a: Array, axes: Sequence[Axis], minimum: bool = False) -> Array:
    """The transpose of `routed` in dy: of `a` each output's winner."""
    y = empty_output(x, axes, 0, np.float64)
    for (n, *m, c), i in winners(x, axes, minimum).items():
        y[n, *m, c] = a[n, *i, c]
    return y


def positions(x: Array, axes: Sequence[Axis]) -> Array:
    """Row-major position of each winner in its plane, -1 where there is none."""
    found = empty_output(x, axes, -1, np.int64)
    sizes = tuple(a.size for a in axes)
    for (n, *m, c), i in winners(x, axes).items():
        found[n, *m, c] = np.ravel_multi_index(i, sizes)
    return found


def unpooled(values: Array, where: Array, sizes: Sequence[int]) -> Array:
    """Values at their positions, 0 elsewhere; positions outside are dropped."""
    y = np.zeros((values.shape[0], *sizes, values.shape[-1]))
    for n, *m, c in np.ndindex(*values.shape):
        position = where[n, *m, c]
        if 0 <= position < np.prod(sizes):
            y[n, *np.unravel_index(position, sizes), c] = values[n, *m, c]
    return y


def bins(size: int, count: int) -> list[range]:
    """The samples of each adaptive bin."""
    return [
        range(int(np.floor(i * size / count)), int(np.ceil((i + 1) * size / count))) for i in range(count)
    ]


def adaptive(x: Array, outputs: Sequence[int], reduce: Any) -> Array:
    """`reduce` of the samples of every bin."""
    y = np.zeros((x.shape[0], *outputs, x.shape[-1]))
    table = [bins(n, o) for n, o in zip(x.shape[1:-1], outputs, strict=True)]
    for m in np.ndindex(*outputs):
        block = x[:, *np.ix_(*(axis[i] for axis, i in zip(table, m, strict=True)))]
        y[:, *m] = reduce(block, axis=tuple(range(1, x.ndim - 1)))
    return y


def adaptive_mean_adjoint(dy: Array, sizes: Sequence[int]) -> Array:
    """The transpose of the adaptive mean."""
    dx = np.zeros((dy.shape[0], *sizes, dy.shape[-1]))
    outputs = dy.shape[1:-1]
    table = [bins(n, o) for n, o in zip(sizes, outputs, strict=True)]
    for m in np.ndindex(*outputs):
        covered = list(itertools.product(*(axis[i] for axis, i in zip(table, m, strict=True))))
        for i in covered:
            dx[:, *i] += dy[:, *m] / len(covered)
    return dx


def power_sum(x: Array, axes: Sequence[Axis], p: float) -> Array:
    """The Lp norm under each window."""
    return total(np.abs(x) ** p, axes) ** (1 / p)


def folded(x: Array, axes: Sequence[Axis], reduce: Any, init: Any) -> Array:
    """Samples under each window reduced one after the other, in row-major order."""
    y = empty_output(x, axes, init, x.dtype)
    for m in outputs(axes):
        for i in samples(axes, m):
            y[:, *m] = reduce(y[:, *m], x[:, *i])
    return y


def fractional_starts(size: int, window: int, count: int, u: float) -> list[int]:
    """First samples of fractional windows, Graham's pseudo-random sequence."""
    if count == 1:
        return [size - window]
    pace = (size - window) / (count - 1)
    return [int((i + u) * pace) - int(u * pace) for i in range(count - 1)] + [size - window]
