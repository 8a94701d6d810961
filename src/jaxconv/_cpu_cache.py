"""The caches of the CPU at hand: how much they hold beside those that limits in bytes were measured on."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import jax

# The first and the last level of those: an AMD EPYC Zen 4.
MEASURED_BYTES = 32 << 10, 32 << 20
# How many times that the last level is large: rules that differ were raced beside 32 MB and beside 480.
LARGE_TIMES = 4
# Where Linux describes the caches of the first core.
FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")


@functools.cache
def level_bytes() -> tuple[int, int]:
    """Bytes of the first and the last cache for data, as Linux has them; elsewhere MEASURED_BYTES."""
    sizes = []
    for cache in FOLDER.glob("index*"):
        with contextlib.suppress(OSError, ValueError):
            if (cache / "type").read_text().strip() != "Instruction":
                sizes.append(int((cache / "size").read_text().strip().removesuffix("K")) << 10)
    return (min(sizes), max(sizes)) if sizes else MEASURED_BYTES


def first_level_times() -> float:
    """How many times the measured one the first level is; 1 if it is smaller, where nothing was measured."""
    return max(1, level_bytes()[0] / MEASURED_BYTES[0])


def last_level_times() -> float:
    """The same of the last level."""
    return max(1, level_bytes()[1] / MEASURED_BYTES[1])


def has_large_cache() -> bool:
    """Whether a CPU computes whose last level holds many times larger blocks than the measured one does."""
    return jax.default_backend() == "cpu" and last_level_times() >= LARGE_TIMES
