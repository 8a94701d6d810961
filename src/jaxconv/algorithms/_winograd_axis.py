"""Toom-Cook bilinear algorithms of one spatial axis, in exact arithmetic. No arrays, no jax.

F(m, r) computes m outputs of an r-tap correlation with P = m + r - 1 products instead of m r:

    y = A [(G w) . (B x)]        A [m, P], G [P, r], B [P, m + r - 1]

The products are those of two polynomials at P - 1 points and at infinity (Toom 1963, Cook 1966; Winograd
1980 proves P minimal), read as a correlation by transposition. With N(t) = prod_j (t - p_j):

    A[i, j] = p_j^i    G[j, k] = p_j^k / prod_{l != j} (p_j - p_l)    B[j, :] = coefficients of N / (t - p_j)

and for infinity A = e_{m-1}, G = e_{r-1}, B = coefficients of N. An axis with stride s or input dilation b
is s or b such algorithms side by side (its phases), so its matrices are block-diagonal up to a permutation.
So is an axis of more taps than there are points for: pieces of its kernel, each with samples of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from .._window import Window

Matrix: TypeAlias = tuple[tuple[Fraction, ...], ...]

# Points by number of products. Pairs +-a near 1 keep powers small both ways: found by search over small
# fractions for the least error in float32, after Barabasz et al. 2018 (arXiv:1803.10986). Error over that of
# a plain sum in two dimensions: 1.2 for 4 products, 2.5 for 5, 2.9 for 6; 7.6 for 6 at 0, +-1, +-2.
POINTS = {
    1: (),
    2: ("0",),
    3: ("0", "1"),
    4: ("0", "1", "-1"),
    5: ("0", "3/4", "-3/4", "2"),
    6: ("0", "2/3", "-2/3", "3/2", "-3/2"),
}
MAX_PRODUCTS = max(POINTS)
# Taps of one algorithm where an axis has too many for its points: that leaves products for three outputs.
PIECE_TAPS = 4


def toom_cook(outputs: int, taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """A, G and B of F(outputs, taps); with one output or one tap, the plain products."""
    m, r = outputs, taps
    if r == 1:
        return identity(m), column([Fraction(1)] * m), identity(m)
    if m == 1:
        return ((Fraction(1),) * r,), identity(r), identity(r)
    points = [Fraction(p) for p in POINTS[m + r - 1]]
    others = [[q for q in points if q != p] for p in points]
    a = tuple((*(p**i for p in points), Fraction(i == m - 1)) for i in range(m))
    weights = [product_at(p, rest) for p, rest in zip(points, others, strict=True)]
    g = [tuple(p**k / weight for k in range(r)) for p, weight in zip(points, weights, strict=True)]
    b = [(*monic(rest), Fraction(0)) for rest in others]
    return a, (*g, tuple(Fraction(k == r - 1) for k in range(r))), (*b, monic(points))


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def identity(size: int) -> Matrix:
    return tuple(tuple(Fraction(i == j) for j in range(size)) for i in range(size))


def column(values: Sequence[Fraction]) -> Matrix:
    return tuple((v,) for v in values)


def product_at(point: Fraction, roots: Sequence[Fraction]) -> Fraction:
    """prod (point - root)."""
    value = Fraction(1)
    for root in roots:
        value *= point - root
    return value


def monic(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of prod (t - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [root * c for c in coefficients] + [Fraction(0)]
        coefficients = [s - c for s, c in zip(shifted, scaled, strict=True)]
    return tuple(coefficients)


class AxisPhase(NamedTuple):
    """An F(len(rows), len(taps)) inside a tile: which outputs, taps and samples of the tile it joins."""

    rows: range
    taps: range
    samples: range


class View(NamedTuple):
    """How tiles read an axis: sample k of tile t lies at `first + (t step + k) dilation + residue`.

    `matrix` maps the samples of a tile to its products. The residue classes of a dilated axis are undilated
    axes, interleaved.
    """

    matrix: Matrix
    first: int
    step: int
    dilation: int

    @property
    def tile_axes(self) -> int:
        """Axes of an array that number the tiles: T, and D residue classes if dilated."""
        return 1 if self.dilation == 1 else 2

    @property
    def overhang(self) -> int:
        """Whole steps that a tile's samples reach beyond its own step."""
        return max(0, -(-len(self.matrix[0]) // self.step) - 1)


@dataclasses.dataclass(frozen=True, slots=True)
class AxisTransform:
    """The tiles of one axis, their bilinear algorithm (A, G, B), and the samples that they read and write."""

    a: Matrix
    g: Matrix
    b: Matrix
    tiles: int
    dilation: int
    in_step: int
    out_step: int
    first: int

    @property
    def products(self) -> int:
        return len(self.g)

    @property
    def input_view(self) -> View:
        return View(self.b, self.first, self.in_step, self.dilation)

    @property
    def output_view(self) -> View:
        return View(transposed(self.a), 0, self.out_step, self.dilation)


def axis_phases(window: Window, outputs: int) -> Iterator[AxisPhase]:
    """The dense correlations inside a tile of `outputs` outputs per phase.

    With lo = -(first b + shift) the window's equation reads (i - first) b = m s + k d + shift.
    """
    base, stride = window.base_dilation, window.stride
    shift = -window.lo % base
    for row in range(base):
        for phase in range(min(stride, window.size)):
            tap = phase if base == 1 else -(row + shift) % base
            if tap >= window.size:
                continue
            start = (row * stride + tap + shift) // base
            for taps in tap_pieces(range(tap, window.size, stride * base)):
                samples = range(start, start + stride * (outputs + len(taps) - 1), stride)
                yield AxisPhase(range(row, base * outputs, base), taps, samples)
                start += stride * len(taps)


def tap_pieces(taps: range) -> list[range]:
    """The taps of a phase as they are, or in nearly equal pieces, whose correlations are added up."""
    count = 1 if len(taps) < MAX_PRODUCTS else -(-len(taps) // PIECE_TAPS)
    bounds = [len(taps) * i // count for i in range(count + 1)]
    return [taps[lo:hi] for lo, hi in itertools.pairwise(bounds)]


@functools.lru_cache(maxsize=1024)
def axis_transform(window: Window, outputs: int) -> AxisTransform:
    """The algorithm with `outputs` outputs per tile and phase; one of stride, dilations may exceed 1."""
    out_step, dilation = outputs * window.base_dilation, window.dilation
    phases = list(axis_phases(window, outputs))
    span = max(p.samples[-1] for p in phases) + 1
    a: list[list[Fraction]] = [[] for _ in range(out_step)]
    g, b = [], []
    for phase in phases:
        block_a, block_g, block_b = toom_cook(outputs, len(phase.taps))
        g += [spread(row, phase.taps, window.size) for row in block_g]
        b += [spread(row, phase.samples, span) for row in block_b]
        for i, row in enumerate(a):
            own = block_a[phase.rows.index(i)] if i in phase.rows else (Fraction(0),) * len(block_g)
            row.extend(own)
    return AxisTransform(
        a=tuple(map(tuple, a)),
        g=tuple(g),
        b=tuple(b),
        tiles=-(-window.out_size // (out_step * dilation)),
        dilation=dilation,
        in_step=outputs * window.stride,
        out_step=out_step,
        first=-window.lo // window.base_dilation,
    )


def spread(values: Sequence[Fraction], places: range, size: int) -> tuple[Fraction, ...]:
    """A row of `size` zeros with `values` at `places`."""
    table = dict(zip(places, values, strict=True))
    return tuple(table.get(i, Fraction(0)) for i in range(size))
