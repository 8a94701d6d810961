"""The README's table, what committed results reach of each target: `python experiments/speed/targets.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from report import MOST_TEMP_PER_IO, SLOWEST, Record, geometric_mean, over_lax, ratio, temp_per_io

RESULTS = Path(__file__).parent / "results"
SETS = {
    "the list": "cpu",
    "`fresh`": "fresh",
    "`unseen`": "unseen",
    "`ends`": "ends",
    "`small`": "small",
    "`wide`": "wide",
    "`large`": "large",
}
# Where Winograd runs; the benchmark's own count begins at 2, the limit of the others.
MOST_ERROR = 8.0

Cell: TypeAlias = Callable[[Sequence[Record]], str]


def mean_ratio(peer: str) -> Cell:
    """How many times faster than `peer`, as a geometric mean."""
    return lambda records: f"{geometric_mean(r for record in records if (r := ratio(record, peer))):.2f}"


def count_beyond(read: Callable[[Record], float | None], limit: float) -> Cell:
    """How many figures are beyond a limit, and the largest of all."""

    def cell(records: Sequence[Record]) -> str:
        found = [value for record in records if (value := read(record)) is not None]
        return f"{sum(value > limit for value in found)} ({max(found):.1f})"

    return cell


def over_peer(peer: str) -> Callable[[Record], float | None]:
    """jaxconv's time over that of `peer`."""
    return lambda record: 1 / r if (r := ratio(record, peer)) else None


TARGETS: tuple[tuple[str, Cell], ...] = (
    ("lax / jaxconv, geometric mean: 8", mean_ratio("lax")),
    ("passes above 1.05 times lax's time: 0", count_beyond(over_peer("lax"), SLOWEST["lax"])),
    ("PyTorch / jaxconv, geometric mean: 1.3", mean_ratio("torch")),
    ("passes above 1.5 times PyTorch's time: 0", count_beyond(over_peer("torch"), SLOWEST["torch"])),
    ("temporaries above 3 times x, w and y: 0", count_beyond(temp_per_io, MOST_TEMP_PER_IO)),
    ("errors above 8 times lax's: 0", count_beyond(lambda r: over_lax(r, "error"), MOST_ERROR)),
)


def passes(name: str) -> list[Record]:
    """The float32 passes of single layers and pools in a committed file."""
    records = json.loads((RESULTS / f"{name}.json").read_text())
    return [r for r in records if r["dtype"] == "float32" and r["pass"] != "step"]


def table() -> str:
    """Targets down, sets of layers across."""
    found = {title: passes(name) for title, name in SETS.items()}
    rows = [["target", *(f"{title}, {len(records)} passes" for title, records in found.items())]]
    rows += [["---"] * len(rows[0])]
    rows += [[target, *map(cell, found.values())] for target, cell in TARGETS]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
