"""Dimension-number letters and integers -> permutations to and from the canonical, channels-last order.

Canonical: input `[N, *S, C]`, kernel `[*K, I, O]`, output `[N, *M, O]`. No jax is imported here: lax's
`ConvDimensionNumbers` is recognised by its three fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ._window import as_int, is_sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """`x.transpose(lhs)` and `w.transpose(rhs)` are canonical; `y.transpose(out)` is the user's order."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.rhs) - 2


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `permutation`."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def channels_last(rank: int) -> Layout:
    """The canonical order itself: NHWC, HWIO, NHWC for two spatial axes."""
    identity = tuple(range(rank + 2))
    return Layout(identity, identity, identity)


def channels_first(rank: int) -> Layout:
    """lax's default: NCHW, OIHW, NCHW for two spatial axes."""
    spatial = tuple(range(2, rank + 2))
    return _from_specs((0, 1, *spatial), (0, 1, *spatial), (0, 1, *spatial))


def parse(dimension_numbers: Any, lhs_ndim: int, rhs_ndim: int, default: Layout) -> Layout:
    """A Layout from None, a triple of strings, or integer specs as in `lax.ConvDimensionNumbers`.

    Integer specs are (batch, feature, *spatial) for lhs and out, (out feature, in feature, *spatial) for rhs.
    """
    if lhs_ndim != rhs_ndim:
        raise ValueError(
            f"`lhs` and `rhs` must have the same number of axes, got {lhs_ndim} and {rhs_ndim}; "
            "add a batch axis to a single example"
        )
    if dimension_numbers is None:
        return default
    if hasattr(dimension_numbers, "lhs_spec"):
        d = dimension_numbers
        specs: Any = (d.lhs_spec, d.rhs_spec, d.out_spec)
    else:
        specs = _triple(dimension_numbers)
    if all(isinstance(s, str) for s in specs):
        return _from_letters(specs[0], specs[1], specs[2], lhs_ndim)
    lhs, rhs, out = (_spec(s, lhs_ndim) for s in specs)
    return _from_specs(lhs, rhs, out)


def _triple(dimension_numbers: Any) -> tuple[Any, Any, Any]:
    if isinstance(dimension_numbers, str) or not isinstance(dimension_numbers, Sequence):
        raise TypeError(
            "`dimension_numbers` must be None, three strings or a lax.ConvDimensionNumbers, "
            f"got {dimension_numbers!r}; for example ('NHWC', 'HWIO', 'NHWC')"
        )
    if len(dimension_numbers) != 3:
        raise ValueError(
            "`dimension_numbers` must have three entries (lhs, rhs, out), "
            f"got {len(dimension_numbers)}: {dimension_numbers!r}"
        )
    lhs, rhs, out = dimension_numbers
    return lhs, rhs, out


def _spec(spec: Any, ndim: int) -> tuple[int, ...]:
    if isinstance(spec, str):
        raise TypeError("`dimension_numbers` must be all strings or all integer tuples, got a mixture")
    if not is_sequence(spec):
        raise TypeError(
            f"`dimension_numbers` must be made of strings or integer tuples, got {spec!r}; "
            "for example ('NHWC', 'HWIO', 'NHWC')"
        )
    ints = tuple(as_int(s, "dimension_numbers") for s in spec)
    if sorted(ints) != list(range(ndim)):
        raise ValueError(f"`dimension_numbers` must be permutations of 0..{ndim - 1}, got {ints}")
    return ints


def _from_specs(lhs: tuple[int, ...], rhs: tuple[int, ...], out: tuple[int, ...]) -> Layout:
    return Layout(
        lhs=(lhs[0], *lhs[2:], lhs[1]),
        rhs=(*rhs[2:], rhs[1], rhs[0]),
        out=inverse((out[0], *out[2:], out[1])),
    )


def _from_letters(lhs: str, rhs: str, out: str, ndim: int) -> Layout:
    for name, spec, pair in (("lhs", lhs, "NC"), ("rhs", rhs, "OI"), ("out", out, "NC")):
        if len(spec) != ndim:
            raise ValueError(
                f"`dimension_numbers` must name each of the {ndim} axes of the {name} once, got {spec!r}"
            )
        if len(set(spec)) != ndim:
            raise ValueError(f"`dimension_numbers` must not repeat a letter, got {spec!r} for the {name}")
        if not set(pair) <= set(spec):
            raise ValueError(
                f"`dimension_numbers` for the {name} must contain {pair[0]!r} and {pair[1]!r}, got {spec!r}"
            )
    spatial = [letter for letter in rhs if letter not in "OI"]
    for name, spec in (("lhs", lhs), ("out", out)):
        if set(spec) - set("NC") != set(spatial):
            raise ValueError(
                "`dimension_numbers` must use the same spatial letters everywhere, "
                f"got {spec!r} for the {name} and {rhs!r} for the rhs"
            )

    def order(spec: str, first: str, last: str) -> tuple[int, ...]:
        return (spec.index(first), spec.index(last), *(spec.index(s) for s in spatial))

    return _from_specs(order(lhs, "N", "C"), order(rhs, "O", "I"), order(out, "N", "C"))
