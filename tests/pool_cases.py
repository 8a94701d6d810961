"""Pooling problems that several suites share: named ones and random ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from oracle_pool import Array, Axis


@dataclass(frozen=True)
class PoolCase:
    """One geometry, with the keyword arguments that ask for it."""

    name: str
    axes: tuple[Axis, ...]
    batch: int = 2
    channels: int = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch, *(a.size for a in self.axes), self.channels)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "window_shape": tuple(a.taps for a in self.axes),
            "strides": tuple(a.stride for a in self.axes),
            "padding": tuple((a.lo, a.hi) for a in self.axes),
            "window_dilation": tuple(a.dilation for a in self.axes),
            "ceil_mode": self.axes[0].ceil,
        }

    def normal(self, seed: int = 0, dtype: Any = np.float64) -> Array:
        return np.random.default_rng(seed).standard_normal(self.shape).astype(dtype)

    def ties(self, seed: int = 0, levels: int = 3) -> Array:
        """Few values, so that most windows hold their extreme more than once."""
        return np.random.default_rng(seed).integers(0, levels, self.shape).astype(np.float64)

    def __str__(self) -> str:
        return self.name


def both(name: str, *options: Any, sizes: tuple[int, int] = (7, 8), **kw: Any) -> PoolCase:
    """The same window on two axes."""
    return PoolCase(name, tuple(Axis(n, *options, **kw) for n in sizes))


CASES = [
    both("halving", 2, 2),
    both("halving_left_over", 2, 2, sizes=(7, 5)),
    both("overlapping", 3, 2, lo=1, hi=1),
    both("sliding", 3, 1, lo=1, hi=1),
    both("gaps_between_windows", 2, 3),
    both("dilated", 3, 1, 2, lo=2, hi=1),
    both("dilated_strided", 2, 3, 2, lo=1, hi=2),
    both("cropping", 2, 2, lo=-1, hi=-2),
    both("wide_padding", 2, 1, lo=3, hi=4, sizes=(3, 4)),
    both("ceil", 3, 2, ceil=True, sizes=(8, 6)),
    both("ceil_padded", 3, 2, lo=1, hi=1, ceil=True, sizes=(8, 6)),
    both("ceil_drops_the_last", 2, 3, lo=1, hi=1, ceil=True, sizes=(7, 4)),
    both("whole_input", 7, sizes=(7, 7)),
    both("too_large_window", 9),
    PoolCase("line", (Axis(11, 4, 3, 1, 2, 1),)),
    PoolCase("unlike_axes", (Axis(6, 1), Axis(9, 4, 2, 1, 1, 0))),
    PoolCase("volume", (Axis(4, 2, 2), Axis(5, 3, 1, 1, 1, 1), Axis(6, 2, 1, 2)), channels=2),
    # Past the taps of one pass: axes in turn, and long axes in steps whose parts may not fit.
    PoolCase("large_sliding", (Axis(14, 9, 1, 1, 4, 4), Axis(13, 7, 1, 1, 3, 3)), 1, 2),
    PoolCase("large_strided", (Axis(20, 9, 6, 1, 2, 1), Axis(17, 8, 4, 1, 3, 3)), 1, 2),
    PoolCase("long", (Axis(90, 36, 1, 1, 5, 7),), 1, 2),
    PoolCase("long_prime_strided", (Axis(120, 37, 5, 1, 3, 9),), 1, 2),
    PoolCase("long_prime_dilated", (Axis(95, 41, 2, 2, 8, 3),), 1, 2),
    PoolCase("long_whole", (Axis(67, 67, 1),), 2, 2),
    PoolCase("empty_axis", (Axis(0, 2, 1, 1, 1, 2), Axis(4, 2, 2))),
    PoolCase("empty_batch", (Axis(4, 2, 2), Axis(4, 2, 2)), batch=0),
    PoolCase("no_channels", (Axis(4, 2, 2), Axis(4, 2, 2)), channels=0),
]  # fmt: skip


@st.composite
def random_cases(draw: st.DrawFn) -> PoolCase:
    """Small problems of one to three axes, with pads that may crop and windows that may not fit."""
    rank = draw(st.integers(1, 3))
    most = (12, 7, 4)[rank - 1]
    ceil = draw(st.booleans())
    axes = []
    for _ in range(rank):
        size = draw(st.integers(1, most))
        least = 0 if ceil else -1
        lo, hi = draw(st.integers(least, 3)), draw(st.integers(least, 3))
        if size + lo + hi < 0:
            lo = 0
        axes.append(
            Axis(
                size,
                draw(st.integers(1, 4)),
                draw(st.integers(1, 4)),
                draw(st.integers(1, 3)),
                lo,
                hi,
                ceil,
            )
        )
    return PoolCase("random", tuple(axes), draw(st.integers(1, 2)), draw(st.integers(1, 2)))
