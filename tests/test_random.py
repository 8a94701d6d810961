"""Random geometry: every option at once, every algorithm, all three passes against the oracle."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from cases import ALGORITHM_NAMES, Case, expected, operands, reduction, run_all
from tolerance import assert_close


@st.composite
def problems(draw: st.DrawFn, ranks: tuple[int, int] = (0, 3)) -> Case:
    """Small problems with at least one output; batch and channels from 1, pads down to -2."""
    rank = draw(st.integers(*ranks))
    groups, batch_groups = draw(st.sampled_from([(1, 1)] * 3 + [(2, 1), (3, 1), (1, 2)]))
    largest = {0: 1, 1: 9, 2: 6, 3: 4}[rank]
    axes = [draw(_axis(largest)) for _ in range(rank)]
    sizes, taps, strides, in_dilation, k_dilation, pads = (
        tuple(column) for column in (zip(*axes, strict=True) if axes else [()] * 6)
    )
    per_group_in, per_group_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    batch = batch_groups * draw(st.integers(1, 2))
    return Case(
        "random",
        (batch, *sizes, per_group_in * groups),
        (*taps, per_group_in, per_group_out * groups * batch_groups),
        pads,
        strides,
        in_dilation,
        k_dilation,
        groups,
        batch_groups,
    )


@st.composite
def _axis(draw: st.DrawFn, largest: int) -> tuple[int, int, int, int, int, tuple[int, int]]:
    size, taps = draw(st.integers(1, largest)), draw(st.integers(1, 4))
    stride, in_dilation, k_dilation = (draw(st.sampled_from([1, 1, 2, 3])) for _ in range(3))
    lo = draw(st.integers(-2, 4))
    extent = (taps - 1) * k_dilation + 1
    dilated = (size - 1) * in_dilation + 1
    least = max(extent - dilated - lo, -2)
    return size, taps, stride, in_dilation, k_dilation, (lo, draw(st.integers(least, least + 4)))


@st.composite
def friendly(draw: st.DrawFn) -> Case:
    """Undilated, stride 1, square kernels: where the special algorithms live."""
    taps = draw(st.sampled_from([3, 3, 5]))
    channels = draw(st.integers(1, 4))
    depthwise = draw(st.booleans())
    lo, hi = draw(st.integers(-1, taps)), draw(st.integers(-1, taps))
    height, width = draw(st.integers(taps + 2, 12)), draw(st.integers(taps + 2, 12))
    return Case(
        "friendly",
        (draw(st.integers(1, 2)), height, width, channels),
        (taps, taps, 1 if depthwise else channels, channels if depthwise else 3),
        ((lo, hi), (hi, lo)),
        groups=channels if depthwise else 1,
    )


def check(case: Case, algorithm: str) -> None:
    arrays = case.data()
    for which, got in run_all(case, algorithm)[0].items():
        wanted = expected(case, which, *operands(which, *arrays))
        assert_close(got, wanted, reduction=reduction(case, which), algorithm=algorithm)


by_algorithm = pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)


def check_examples(algorithm: str, problem: st.SearchStrategy[Case], share: int) -> None:
    """Problems of the algorithm's own; the profile's number of examples over `share`."""

    @seed(zlib.crc32(algorithm.encode()))
    @settings(max_examples=settings().max_examples // share, derandomize=False)
    @given(problem)
    def run(case: Case) -> None:
        check(case, algorithm)

    run()


@by_algorithm
def test_any_geometry(algorithm: str) -> None:
    check_examples(algorithm, problems(), 4)


@by_algorithm
def test_friendly_geometry(algorithm: str) -> None:
    check_examples(algorithm, friendly(), 6)
