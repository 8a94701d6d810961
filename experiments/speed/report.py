"""The records as a table, and what they say: ratios, worst cases, regret, noise floor.

`python experiments/speed/report.py RESULTS.json` prints the report of a run whose records were saved.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from machine import least_ms

Record = dict[str, Any]
PEERS = ("lax", "torch")
# The limits of the project's targets; the summary counts the records beyond each.
SLOWEST = {"lax": 1.05, "torch": 1.5}
MOST_TEMP_PER_IO = 3.0
MOST_COMPILE = 1.5
MOST_ERROR = 2.0

HEADER = (
    "case", "pass", "algorithm", "jaxconv", "lax", "torch", "lax/ours", "torch/ours", "spread",
    "error", "err/lax", "compile", "comp/lax", "temp MB", "temp/io", "roof",
)  # fmt: skip
NOTES = """\
Times in ms, medians, (n) of only n samples; spread: interquartile range / median; error: against
float64; temp: XLA's temporaries; roof: share of the roofline, above 100% where an algorithm saves
multiplications or the data stays in the caches."""


def ratio(record: Record, peer: str) -> float | None:
    """How many times faster than `peer` jaxconv is."""
    ours, theirs = record["time_ms"]["jaxconv"], record["time_ms"][peer]
    return theirs / ours if ours and theirs else None


def over_lax(record: Record, key: str) -> float | None:
    """jaxconv's figure over lax's, for `compile_ms`, `temp_bytes` or `error`."""
    ours, theirs = record[key]["jaxconv"], record[key]["lax"]
    return ours / theirs if ours is not None and theirs else None


def temp_per_io(record: Record) -> float | None:
    """Temporary bytes over the bytes of input, kernel and output."""
    temp = record["temp_bytes"]["jaxconv"]
    return None if temp is None else temp / record["io_bytes"]


def geometric_mean(values: Iterable[float]) -> float:
    """exp of the mean log."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value) or 1)))}f}"
    return f"{value:.1e}"


def _times(record: Record, peer: str) -> str:
    text = _number(record["time_ms"][peer])
    rounds = record["repeats"].get(peer)
    return f"{text} ({rounds})" if rounds and rounds < max(record["repeats"].values()) else text


def _row(record: Record, roof: Record) -> list[str]:
    spread, temp = record["spread"]["jaxconv"], record["temp_bytes"]["jaxconv"]
    ours = record["time_ms"]["jaxconv"]
    flops = record["flops"]
    least = None if flops is None else least_ms(flops, record["io_bytes"], record["dtype"], roof)
    dtype = "" if record["dtype"] == "float32" else f" {record['dtype']}"
    chosen = f" = {record['chosen']}" if record["chosen"] else ""
    return [
        record["case"],
        record["pass"] + dtype,
        record["algorithm"] + chosen,
        *(_times(record, peer) for peer in ("jaxconv", *PEERS)),
        *(_number(ratio(record, peer)) for peer in PEERS),
        "-" if spread is None else f"{100 * spread:.0f}%",
        _number(record["error"]["jaxconv"], 2),
        _number(over_lax(record, "error"), 2),
        _number(record["compile_ms"]["jaxconv"]),
        _number(over_lax(record, "compile_ms"), 2),
        _number(None if temp is None else temp / 1e6),
        _number(temp_per_io(record), 2),
        "-" if not ours or least is None else f"{100 * least / ours:.0f}%",
    ]


def table(records: Sequence[Record], roof: Record) -> str:
    """One line for each record, times in ms; `(n)` marks a median of fewer samples."""
    rows = [list(HEADER), *(_row(r, roof) for r in records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    left = 3
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _label(record: Record) -> str:
    return f"{record['case']} {record['pass']}"


def _against(records: Sequence[Record], peer: str) -> list[str]:
    pairs = sorted((r, _label(record)) for record in records if (r := ratio(record, peer)))
    if not pairs:
        return []
    ratios = [value for value, _ in pairs]
    beyond = [f"{label} {1 / v:.2f}" for v, label in pairs if v < 1 / SLOWEST[peer]]
    lines = [
        f"  {peer} / jaxconv: geometric mean {geometric_mean(ratios):.2f}, "
        f"worst {ratios[0]:.2f} ({pairs[0][1]}), best {_number(ratios[-1])} ({pairs[-1][1]})",
        f"    slower than {SLOWEST[peer]} times {peer}: {len(beyond)} of {len(pairs)}"
        + (f": {', '.join(beyond)}" if beyond else ""),
    ]
    by_pass = defaultdict(list)
    for record in records:
        if value := ratio(record, peer):
            by_pass[record["pass"]].append(value)
    means = ", ".join(f"{name} {geometric_mean(v):.2f}" for name, v in by_pass.items())
    return [*lines, f"    by pass: {means}"]


def _costs(records: Sequence[Record], steps: bool) -> list[str]:
    """Largest costs; a step's activations are no part of its io bytes, so lax is its measure."""
    checks = (
        ("temporary bytes / lax's", lambda r: over_lax(r, "temp_bytes"), math.inf)
        if steps
        else ("temporary bytes / io bytes", temp_per_io, MOST_TEMP_PER_IO),
        ("compile time / lax's", lambda r: over_lax(r, "compile_ms"), MOST_COMPILE),
        ("error / lax's", lambda r: over_lax(r, "error"), MOST_ERROR),
    )
    lines = []
    for name, read, limit in checks:
        found = sorted((v, _label(r)) for r in records if (v := read(r)) is not None)
        if found:
            beyond = sum(v > limit for v, _ in found)
            worst, label = found[-1]
            count = "" if limit == math.inf else f", {beyond} above {limit:g}"
            lines.append(f"  {name}: largest {worst:.2f} ({label}){count}")
    return lines


def regrets(records: Sequence[Record]) -> dict[tuple[str, str, str], float]:
    """Time of "auto" over the best algorithm's, for each (case, pass, dtype) with a choice."""
    groups: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for record in records:
        if (time := record["time_ms"]["jaxconv"]) is not None:
            key = (record["case"], record["pass"], record["dtype"])
            groups[key][record["algorithm"]] = time
    return {
        key: times["auto"] / min(times.values())
        for key, times in groups.items()
        if "auto" in times and len(times) > 1
    }


def _regret_lines(records: Sequence[Record]) -> list[str]:
    found = regrets(records)
    if not found:
        return []
    values = list(found.values())
    worst = sorted(found, key=found.__getitem__)[-1]
    return [
        f'Selector\'s regret ("auto" / best algorithm) over {len(values)}: '
        f"geometric mean {geometric_mean(values):.3f}, 95th percentile "
        f"{percentile(values, 0.95):.3f}, worst {found[worst]:.2f} ({' '.join(worst)})"
    ]


def _noise_lines(records: Sequence[Record]) -> list[str]:
    pairs = {
        (r["case"], r["pass"], r["dtype"]): (r["time_ms"]["lax"], r["lax_again_ms"])
        for r in records
        if r["lax_again_ms"]
    }
    if not pairs:
        return []
    off = [max(a / b, b / a) for a, b in pairs.values()]
    return [
        f"Noise floor (lax / lax, one function timed twice) over {len(off)}: median "
        f"{percentile(off, 0.5):.3f}, 95th percentile {percentile(off, 0.95):.3f}, "
        f"worst {max(off):.2f}"
    ]


def _failure_lines(records: Sequence[Record]) -> list[str]:
    found = {
        f"FAILED {_label(r)} {r['dtype']} {name}: {text.splitlines()[0]}"
        for r in records
        for name, text in r["failures"].items()
    }
    return sorted(found)


def _roof_lines(roof: Record) -> list[str]:
    lines = [
        f"dot_general {dtype}, GFLOP/s: " + ", ".join(f"{s} {v:g}" for s, v in rates.items())
        for dtype, rates in roof["dot_gflop_per_s"].items()
    ]
    return [*lines, f"copy bandwidth: {roof['copy_gbyte_per_s']:g} GB/s"]


def summary(records: Sequence[Record]) -> str:
    """Means and worst cases by dtype (layers and whole steps apart), regret, noise, failures."""
    auto = [r for r in records if r["algorithm"] == "auto"] or list(records)
    lines = []
    for dtype in dict.fromkeys(r["dtype"] for r in auto):
        for title, steps in (("layers", False), ("training steps", True)):
            chosen = [r for r in auto if r["dtype"] == dtype and (r["pass"] == "step") == steps]
            found = [line for peer in PEERS for line in _against(chosen, peer)] + _costs(chosen, steps)
            if found:
                lines += [f"{dtype} {title}", *found]
    return "\n".join([*lines, *_regret_lines(records), *_noise_lines(records), *_failure_lines(records)])


def full_report(records: Sequence[Record], roof: Record) -> str:
    """Everything that the benchmark prints at its end."""
    parts = (table(records, roof), NOTES, "\n".join(_roof_lines(roof)), summary(records))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Print the report of saved records.")
    parser.add_argument("records", type=Path, help="what run.py --json wrote, its .meta.json beside it")
    path = parser.parse_args(arguments).records
    meta = path.with_name(path.name + ".meta.json")
    for file in (path, meta):
        if not file.is_file():
            parser.error(f"there is no file {file}; run.py --json PATH writes PATH and PATH.meta.json")
    print(full_report(json.loads(path.read_text()), json.loads(meta.read_text())["roofline"]))


if __name__ == "__main__":
    main()
