"""The last-level cache as Linux has it, and what is assumed elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxconv import _cpu_cache

last_level_bytes = _cpu_cache.last_level_bytes  # before the suite sets it


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sizes of caches are looked up."""
    monkeypatch.setattr(_cpu_cache, "CACHES", tmp_path)
    last_level_bytes.cache_clear()
    yield tmp_path
    last_level_bytes.cache_clear()


def write(folder: Path, *sizes: str) -> None:
    for i, size in enumerate(sizes):
        (folder / f"index{i}").mkdir()
        (folder / f"index{i}" / "size").write_text(size)


def test_the_largest_counts(folder: Path) -> None:
    write(folder, "48K\n", "64K\n", "2048K\n", "491520K\n")
    assert last_level_bytes() == 480 << 20


@pytest.mark.parametrize("sizes", [(), ("",), ("unknown\n",)])
def test_without_sizes_it_is_that_of_the_measurements(folder: Path, sizes: tuple[str, ...]) -> None:
    write(folder, *sizes)
    assert last_level_bytes() == _cpu_cache.MEASURED_BYTES


@pytest.mark.parametrize(("size", "times"), [(8 << 20, 1), (32 << 20, 1), (480 << 20, 15)])
def test_smaller_caches_count_as_that_of_the_measurements(
    monkeypatch: pytest.MonkeyPatch, size: int, times: float
) -> None:
    monkeypatch.setattr(_cpu_cache, "last_level_bytes", lambda: size)
    assert _cpu_cache.cache_times() == times
