"""The last-level cache of the CPU at hand: how much of x and y it holds from one sum to the next."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

# The cache beside which limits in bytes were measured: two cores of an AMD EPYC Zen 4.
MEASURED_BYTES = 32 << 20
# Where Linux describes the caches of the first core.
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@functools.cache
def last_level_bytes() -> int:
    """Bytes of the largest cache of the first core, as Linux has them; elsewhere MEASURED_BYTES."""
    sizes = []
    for file in CACHES.glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(file.read_text().strip().removesuffix("K")) << 10)
    return max(sizes, default=MEASURED_BYTES)


def cache_times() -> float:
    """How many times MEASURED_BYTES the cache at hand is; 1 if it is smaller, where nothing was measured."""
    return max(1, last_level_bytes() / MEASURED_BYTES)
