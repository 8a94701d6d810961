"""Pooling geometry on integers against brute force: taps, diagonals, ceil_mode, counts, long windows."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

import oracle_pool
from jaxconv._pool_geometry import (
    MOST_TAPS,
    Stage,
    axis_chains,
    ceil_hi,
    counts,
    diagonals,
    first_real_taps,
    live_taps,
    reach,
    separate_taps,
    stages,
)
from jaxconv._window import Window


def random_windows(count: int) -> list[Window]:
    rng = np.random.default_rng(11)
    windows = []
    while len(windows) < count:
        n, k, s, d = (int(v) for v in rng.integers((1, 1, 1, 1), (12, 6, 6, 4)))
        lo, hi = (int(v) for v in rng.integers(-3, 8, 2))
        if n + lo + hi >= 0:
            windows.append(Window(n, k, s, d, 1, lo, hi))
    return windows


WINDOWS = random_windows(400)


def meetings(w: Window) -> list[tuple[int, int, int]]:
    """All (output, tap, sample) of the window."""
    starts = range(-w.lo, w.in_size + w.hi - w.extent + 1, w.stride)
    return [
        (m, k, start + k * w.dilation)
        for m, start in enumerate(starts)
        for k in range(w.size)
        if 0 <= start + k * w.dilation < w.in_size
    ]


def test_the_sample_holds_the_hard_cases() -> None:
    assert any(w.out_size == 0 for w in WINDOWS)
    assert any(w.lo >= w.extent and w.out_size for w in WINDOWS)
    assert any(w.lo < 0 and w.hi < 0 and w.out_size > 1 for w in WINDOWS)
    assert any(w.stride > w.extent and w.out_size > 1 for w in WINDOWS)


def test_reach_is_where_a_tap_meets_samples() -> None:
    for w in WINDOWS:
        found = []
        for k in range(w.size):
            r = reach(w, k)
            outputs = range(r.first, r.last)
            found += [(m, k, r.start + t * w.stride) for t, m in enumerate(outputs)]
        assert sorted(found) == sorted(meetings(w)), w


def test_live_taps_are_those_that_meet_a_sample() -> None:
    for a, b in itertools.pairwise(WINDOWS[:60]):
        taps = itertools.product(range(a.size), range(b.size))
        met = {k for _, k, _ in meetings(a)}, {k for _, k, _ in meetings(b)}
        expected = [(n, t) for n, t in enumerate(taps) if t[0] in met[0] and t[1] in met[1]]
        assert list(live_taps((a, b))) == expected


def test_diagonals_hold_every_meeting_once() -> None:
    for w in WINDOWS:
        found = []
        for d in diagonals(w):
            for q, (r, k) in itertools.product(range(w.in_size), enumerate(d.taps)):
                sample, output = q * w.stride + r, q - d.offset
                if k >= 0 and sample < w.in_size and 0 <= output < w.out_size:
                    found.append((output, k, sample))
        assert sorted(found) == sorted(meetings(w)), w


def test_first_real_taps() -> None:
    for w in WINDOWS:
        firsts = first_real_taps(w)
        for m in range(w.out_size):
            taps = [k for output, k, _ in meetings(w) if output == m]
            assert not taps or firsts[m] == min(taps), w


@pytest.mark.parametrize("include_pad", [True, False])
def test_counts_and_ceil_mode(include_pad: bool) -> None:
    for w in WINDOWS:
        for ceil in (False, True):
            window = w
            if ceil:
                hi = ceil_hi(w)
                window = Window(w.in_size, w.size, w.stride, w.dilation, 1, w.lo, hi)
            axis = oracle_pool.Axis(w.in_size, w.size, w.stride, w.dilation, w.lo, w.hi, ceil)
            assert window.out_size == len(axis.starts), w
            expected = [axis.count(m, include_pad) for m in range(window.out_size)]
            assert list(counts(window, w.hi, include_pad)) == expected, w


LONG = [
    Window(200, size, stride, dilation, 1, lo, 9)
    for size in (33, 37, 64, 97, 101)
    for stride in (1, 2, 6, size)
    for dilation in (1, 2)
    for lo in (0, 7)
] + [Window(size, size) for size in (47, 1023, 1031, 5000)]


def read_by(chain: list[Window]) -> list[Counter[int]]:
    """How often each output of the chain reads each sample."""
    table: list[Counter[int]] = []
    for w in reversed(chain):
        taps: dict[int, Counter[int]] = {m: Counter() for m in range(w.out_size)}
        for m, _, i in meetings(w):
            taps[m][i] += 1
        rows = [taps[m] for m in range(w.out_size)]
        if not table:
            table = rows
            continue
        later, table = table, []
        for row in later:
            read: Counter[int] = Counter()
            for output, times in row.items():
                for sample, count in rows[output].items():
                    read[sample] += times * count
            table.append(read)
    return table


@pytest.mark.parametrize("overlapping", [True, False])
def test_long_axes_in_steps_read_the_same_samples(overlapping: bool) -> None:
    for w in LONG:
        chains = axis_chains(w, overlapping)
        assert all(part.size <= MOST_TAPS for chain in chains for part in chain), w
        assert len(chains) == 1 or not overlapping
        assert sum(part.size for chain in chains for part in chain) <= 6 * math.isqrt(w.size), w
        assert all(chain[0].in_size == w.in_size for chain in chains)
        if w.size > 1000:
            continue
        expected = read_by([w])
        read = [read_by(chain) for chain in chains]
        for m in range(w.out_size):
            total = sum((table[m] for table in read), Counter())
            assert set(total) == set(expected[m]), (w, m)
            assert overlapping or total == expected[m], (w, m)


def test_axes_are_separate_where_that_is_fewer_taps() -> None:
    def passes(size: int, stride: int, rank: int = 2) -> list[Stage]:
        windows = [Window(40, size, stride)] * rank
        return [s for chains in stages(windows, False) for chain in chains for s in chain]

    assert len(passes(2, 2)) == len(passes(3, 2)) == len(passes(2, 1)) == 1
    assert len(passes(3, 1)) == len(passes(5, 2)) == 2
    assert len(passes(3, 1, rank=3)) == 3
    assert separate_taps([Window(40, 3, 2), Window(40, 3, 2)]) == 3 + 2 * (3 + 2)
    pointwise = stages([Window(40, 1), Window(40, 20, 1), Window(40, 3)], True)
    assert len(pointwise) == 2
