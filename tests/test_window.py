"""One-axis geometry against brute force: sizes, the two adjoints, the phases, padding names."""

import dataclasses

import numpy as np
import pytest

import oracle
from jaxconv._padding import resolve_padding
from jaxconv._window import Window


def random_windows(count: int) -> list[Window]:
    """Windows of every kind that lax accepts, empty outputs and negative pads included."""
    rng = np.random.default_rng(334)
    windows = []
    while len(windows) < count:
        in_size, size, stride, dilation, base = (int(v) for v in rng.integers(1, (9, 5, 5, 4, 5)))
        lo, hi = (int(v) for v in rng.integers(-3, 7, 2))
        window = Window(in_size, size, stride, dilation, base, lo, hi)
        if oracle.dilated(in_size, base) + lo + hi >= 0:
            windows.append(window)
    return windows


WINDOWS = random_windows(500)
Meetings = list[tuple[int, int, int]]


def axis_of(window: Window) -> oracle.Axis:
    pads = (window.lo, window.hi)
    return oracle.Axis(
        window.in_size, window.size, window.stride, pads, window.base_dilation, window.dilation
    )


def meetings(window: Window) -> Meetings:
    return sorted(axis_of(window).meetings())


def test_the_sample_holds_the_hard_cases() -> None:
    assert any(w.out_size == 0 for w in WINDOWS)
    assert any(w.lo < 0 < w.out_size and w.base_dilation > 1 and w.stride > 1 for w in WINDOWS)
    assert any(w.hi < 0 < w.out_size for w in WINDOWS)
    assert any(w.input_adjoint().lo < 0 < w.out_size for w in WINDOWS)


def test_out_size_counts_the_places_where_the_taps_fit() -> None:
    for window in WINDOWS:
        length = oracle.dilated(window.in_size, window.base_dilation) + window.lo + window.hi
        reach = oracle.dilated(window.size, window.dilation)
        places = [p for p in range(0, length, window.stride) if p + reach <= length]
        assert window.out_size == len(places), window


def test_input_adjoint_maps_outputs_to_inputs_through_flipped_taps() -> None:
    for window in WINDOWS:
        adjoint = window.input_adjoint()
        assert adjoint.out_size == window.in_size, window
        mirrored = sorted((m, window.size - 1 - k, i) for i, k, m in meetings(window))
        assert meetings(adjoint) == mirrored, window


def test_kernel_adjoint_maps_inputs_to_taps_with_outputs_as_kernel() -> None:
    for window in WINDOWS:
        if window.out_size == 0:
            continue
        adjoint = window.kernel_adjoint()
        assert adjoint.out_size == window.size, window
        assert meetings(adjoint) == sorted((i, m, k) for i, k, m in meetings(window)), window


def test_exact_keeps_every_meeting_and_leaves_nothing_over() -> None:
    for window in WINDOWS:
        if window.out_size == 0:
            continue
        exact = window.exact()
        assert exact == dataclasses.replace(window, lo=exact.lo, hi=exact.hi)
        assert (exact.lo == window.lo and exact.hi <= window.hi) or not meetings(window)
        assert min(exact.lo, exact.hi) >= -window.dilated_in, window
        assert meetings(exact) == meetings(window), window
        assert dataclasses.replace(exact, hi=exact.hi - 1).out_size == window.out_size - 1


def test_all_that_meets_is_between_the_meeting_taps() -> None:
    """Without the others outputs and meetings are the same, taps counted from the first that is left."""
    for window in WINDOWS:
        taps = window.meeting_taps()
        assert 0 <= taps.start < taps.stop <= window.size
        fewer = window.with_taps(taps)
        assert fewer.out_size == window.out_size, window
        met = sorted((i, taps.start + k, m) for i, k, m in meetings(fewer))
        assert met == meetings(window), window
    assert any(len(w.meeting_taps()) < w.size and meetings(w) for w in WINDOWS)


def test_all_that_meets_is_among_the_meeting_samples() -> None:
    for window in WINDOWS:
        samples = window.meeting_samples()
        fewer = window.with_samples(samples)
        assert fewer.in_size == len(samples)
        assert fewer.out_size == window.out_size, window
        assert sorted((samples[i], k, m) for i, k, m in meetings(fewer)) == meetings(window), window
    assert any(w.with_samples(w.meeting_samples()) != w and meetings(w) for w in WINDOWS)


def test_samples_and_outputs_of_a_tap_are_those_that_meet() -> None:
    for window in WINDOWS:
        if window.base_dilation > 1:
            continue
        for k in range(window.size):
            met = sorted((m, i) for i, tap, m in meetings(window) if tap == k)
            assert list(zip(window.outputs_at(k), window.inputs_at(k), strict=True)) == met, window


def test_phases_are_dense_and_make_up_the_window() -> None:
    for window in WINDOWS:
        outputs: list[int] = []
        met: Meetings = []
        for phase in window.phases():
            outputs += range(window.out_size)[phase.out_start :: phase.out_step]
            if phase.window is None:
                continue
            assert phase.window.base_dilation == 1
            met += (
                (i, phase.tap_start + k * phase.tap_step, phase.out_start + m * phase.out_step)
                for i, k, m in meetings(phase.window)
            )
        assert sorted(outputs) == list(range(window.out_size)), window
        assert sorted(met) == meetings(window), window


@pytest.mark.parametrize("name", ["VALID", "SAME", "SAME_LOWER", "FULL", "CAUSAL", "REVERSE_CAUSAL"])
def test_named_zero_padding(name: str) -> None:
    for size in range(1, 9):
        for taps in range(1, 5):
            for stride, dilation in ((1, 1), (1, 2), (2, 1), (3, 2), (5, 1)):
                expected = oracle.resolve_padding(name, (size,), (taps,), (stride,), (dilation,))
                extent = oracle.dilated(taps, dilation)
                got, mode = resolve_padding(name, (size,), (extent,), (stride,))
                assert (got, mode) == (expected, None)


def test_same_keeps_the_size_and_causal_looks_only_back() -> None:
    """T3 and the meaning of CAUSAL, stated on meetings rather than on pads."""
    for taps in range(1, 6):
        ((lo, hi),), _ = resolve_padding("SAME", (9,), (taps,), (1,))
        assert Window(9, taps, lo=lo, hi=hi).out_size == 9
        ((lo, hi),), _ = resolve_padding("CAUSAL", (9,), (taps,), (1,))
        causal = Window(9, taps, lo=lo, hi=hi)
        assert causal.out_size == 9
        assert all(i <= m for i, _, m in meetings(causal))
