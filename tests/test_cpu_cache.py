"""The caches as Linux has them, and what is assumed elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxconv import _cpu_cache

level_bytes = _cpu_cache.level_bytes  # before the suite sets it


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where caches are looked up."""
    monkeypatch.setattr(_cpu_cache, "FOLDER", tmp_path)
    level_bytes.cache_clear()
    yield tmp_path
    level_bytes.cache_clear()


def write(folder: Path, *caches: tuple[str, str]) -> None:
    for i, (kind, size) in enumerate(caches):
        (folder / f"index{i}").mkdir()
        (folder / f"index{i}" / "type").write_text(kind + "\n")
        (folder / f"index{i}" / "size").write_text(size + "\n")


def test_first_and_last_hold_data(folder: Path) -> None:
    write(folder, ("Data", "48K"), ("Instruction", "32K"), ("Unified", "2048K"), ("Unified", "491520K"))
    assert level_bytes() == (48 << 10, 480 << 20)


@pytest.mark.parametrize(
    "caches", [(), (("Data", ""),), (("Unified", "unknown"),), (("Instruction", "64K"),)]
)
def test_without_sizes_they_are_those_of_the_measurements(
    folder: Path, caches: tuple[tuple[str, str], ...]
) -> None:
    write(folder, *caches)
    assert level_bytes() == _cpu_cache.MEASURED_BYTES


@pytest.mark.parametrize(
    ("first", "last", "times"),
    [(16 << 10, 8 << 20, (1, 1)), (32 << 10, 32 << 20, (1, 1)), (48 << 10, 480 << 20, (1.5, 15))],
)
def test_smaller_caches_count_as_those_of_the_measurements(
    monkeypatch: pytest.MonkeyPatch, first: int, last: int, times: tuple[float, float]
) -> None:
    monkeypatch.setattr(_cpu_cache, "level_bytes", lambda: (first, last))
    assert (_cpu_cache.first_level_times(), _cpu_cache.last_level_times()) == times
