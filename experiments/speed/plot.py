"""The ratios as a picture: a row for each case, a mark for each pass, lax and PyTorch side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from report import Record, geometric_mean, ratio

matplotlib.use("Agg")

# Colours of Okabe and Ito, told apart by colour-blind readers too; the shapes say the same again.
MARKS = {
    "forward": ("o", "#0072B2", "forward"),
    "input_grad": ("s", "#E69F00", "input gradient"),
    "kernel_grad": ("^", "#009E73", "kernel gradient"),
    "step": ("D", "#CC79A7", "training step"),
}
PANELS = {"lax": "faster than lax", "torch": "faster than PyTorch"}
WIDTH_IN, ROW_IN, MARGIN_IN = 9.0, 0.21, 1.5


def _draw_panel(axes: Axes, records: Sequence[Record], rows: dict[str, int], peer: str) -> None:
    found = [(record, value) for record in records if (value := ratio(record, peer))]
    for name, (marker, colour, label) in MARKS.items():
        points = [(v, rows[r["case"]]) for r, v in found if r["pass"] == name]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(
                x, y, s=26, marker=marker, color=colour, label=label,
                edgecolors="white", linewidths=0.5, zorder=3,
            )  # fmt: skip
    mean = geometric_mean(value for _, value in found)
    axes.axvline(1, color="black", linewidth=1)
    axes.axvline(mean, color="#555555", linewidth=1, linestyle="--")
    axes.set_title(f"times {PANELS[peer]} (geometric mean {mean:.2g}, dashed)", fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    low, high = min(low, 0.8), max(high, 1.25)
    axes.axvspan(low, 1, color="#D55E00", alpha=0.08, linewidth=0)
    axes.set_xlim(low, high)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="x", rotation=45)
    axes.grid(axis="both", color="#DDDDDD", linewidth=0.5, zorder=0)


def _heading(records: Sequence[Record], meta: dict[str, Any]) -> str:
    versions = meta["versions"]
    on_cpu = meta["device"] == "cpu"
    machine = f"{meta['cores']} cores of {meta['processor']}" if on_cpu else meta["device"]
    jax, torch = versions["jax"], versions["torch"]
    return f"{records[0]['dtype']}, {machine}, jax {jax}, PyTorch {torch or 'not installed'}; shaded: slower"


def draw_ratios(records: Sequence[Record], meta: dict[str, Any], folder: Path) -> Path | None:
    """Write `speedup.png` with the "auto" records in float32; None where no peer was timed."""
    records = [r for r in records if r["algorithm"] == "auto" and r["dtype"] == "float32"]
    peers = [peer for peer in PANELS if any(ratio(r, peer) for r in records)]
    if not peers:
        return None
    cases = list(dict.fromkeys(r["case"] for r in records))
    rows = {case: i for i, case in enumerate(cases)}
    size = (WIDTH_IN, ROW_IN * len(cases) + MARGIN_IN)
    figure, panels = plt.subplots(1, len(peers), sharey=True, squeeze=False, figsize=size)
    for axes, peer in zip(panels[0], peers, strict=True):
        _draw_panel(axes, records, rows, peer)
    first = panels[0][0]
    first.set_yticks(range(len(cases)), cases)
    first.set_ylim(len(cases) - 0.4, -0.6)
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.suptitle(_heading(records, meta), fontsize=9)
    figure.tight_layout(rect=(0, 0.25 / size[1], 1, 1))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "speedup.png"
    figure.savefig(path, dpi=160)
    plt.close(figure)
    return path
