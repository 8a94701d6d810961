"""How kernel gradients on lanes are cut into sums: where images, columns and terms part."""

import pytest

from jaxconv._window import Window
from jaxconv.algorithms import _lane_plan
from test_depthwise import on_cpu_cache


def windows(size: int, taps: int, stride: int, rank: int) -> list[Window]:
    pad = taps // 2
    return [Window(size, taps, stride, 1, 1, pad, pad)] * rank


def lanes_of(x: int, g: int) -> _lane_plan.Lanes:
    """A multiplier of g / x."""
    return (x, 1), (x, g // x)


@on_cpu_cache
@pytest.mark.parametrize(("channels", "terms"), [(480, 28), (384, 28), (256, 16), (512, 10), (1024, 10)])
def test_columns_that_share_sets_of_the_cache_are_fewer(channels: int, terms: int) -> None:
    assert _lane_plan.column_terms(((channels,), (channels,)), 4) == terms
    assert _lane_plan.column_terms(((channels // 2,), (channels // 2,)), 8) == terms
    outer = (channels // 16, 16, 1), (channels // 16, 1, 16)
    assert _lane_plan.column_terms(outer, 4) == max(16, terms)


@on_cpu_cache
@pytest.mark.usefixtures("large_caches")
@pytest.mark.parametrize(("channels", "terms"), [(384, 28), (256, 24), (512, 12), (1024, 10)])
def test_a_larger_l1_cache_holds_more_columns(channels: int, terms: int) -> None:
    assert _lane_plan.column_terms(((channels,), (channels,)), 4) == terms


@on_cpu_cache
@pytest.mark.parametrize(
    ("batch", "size", "channels", "outputs", "taps", "stride", "rank", "images"),
    [
        (8, 56, 64, 64, 3, 1, 2, 8),  # three rows read 38 MB of 13
        (8, 56, 128, 128, 3, 1, 2, 1),  # 77 MB of 26
        (8, 56, 128, 128, 3, 2, 2, 8),  # a stride halves what a row reads of x: 29 MB of 16
        (8, 112, 64, 64, 3, 2, 2, 1),  # 58 MB of 32
        (8, 56, 64, 64, 7, 1, 2, 1),  # seven rows read 90 MB
        (8, 28, 64, 64, 7, 1, 2, 8),  # 22 MB, of 3
        (8, 56, 32, 96, 3, 1, 2, 1),  # more lanes in g than in x
        (8, 1600, 128, 128, 3, 1, 1, 1),  # a line
        (8, 16, 32, 32, 3, 1, 3, 8),  # nine rows read 75 MB, but of 8 that the cache holds anyway
    ],
)
def test_whole_batches_are_summed_over_where_rows_of_taps_read_little(
    batch: int, size: int, channels: int, outputs: int, taps: int, stride: int, rank: int, images: int
) -> None:
    axes = windows(size, taps, stride, rank)
    lanes = lanes_of(channels, outputs) if channels != outputs else ((channels,), (channels,))
    each = size**rank * channels * 4, axes[0].out_size ** rank * outputs * 4
    assert _lane_plan.summed_at_once(axes, lanes, batch, each)[0] == images


@on_cpu_cache
@pytest.mark.usefixtures("large_caches")
@pytest.mark.parametrize(("batch", "images"), [(13, 13), (14, 1)])  # three rows read 125 and 135 MB
def test_a_large_cache_holds_more_of_what_rows_of_taps_read(batch: int, images: int) -> None:
    each = 56 * 56 * 128 * 4
    lanes = (128,), (128,)
    assert _lane_plan.summed_at_once(windows(56, 3, 1, 2), lanes, batch, (each, each))[0] == images


@pytest.mark.parametrize(("lanes", "images"), [(((16,), (16,)), 4), (((8,), (8,)), 8), (lanes_of(16, 32), 8)])
def test_fewer_columns_of_many_shared_lanes_are_folded(lanes: _lane_plan.Lanes, images: int) -> None:
    assert _lane_plan.folded_images(windows(8, 3, 1, 2), lanes, 8, 16) == images
