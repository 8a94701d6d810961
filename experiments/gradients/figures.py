"""Figures of the errors: their distributions, their growth, and training."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.common.plots import COLORS, band, panels, smooth, tidy
from experiments.common.training import Fit
from experiments.gradients.layers import ALGORITHMS, CASES, PASSES, QUANTILES
from experiments.gradients.networks import COMPARED

PAINT = dict(zip(ALGORITHMS, COLORS, strict=True))
EPSILON = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
RELATIVE = "error / rms of the exact result"


def distributions(records: list[dict[str, Any]]) -> Figure:
    """Cumulative distributions by case (rows) and pass (columns), float32."""
    return _distributions(records, ("float32",), (1e-10, 1e-5), "Errors in float32")


def narrow(records: list[dict[str, Any]]) -> Figure:
    """The same in the narrow dtypes, where the algorithms' lines lie on each other."""
    title = "Errors in float16 (curves on the left) and bfloat16 (on the right)"
    return _distributions(records, ("bfloat16", "float16"), (1e-7, 1e-1), title)


def _distributions(
    records: list[dict[str, Any]], dtypes: tuple[str, ...], limits: tuple[float, float], title: str
) -> Figure:
    cases = list(dict.fromkeys(r["case"] for r in records if r["dtype"] in dtypes))
    figure, axes = panels(f"{title} against float64, every element", 3, len(cases), (4.2, 2.5))
    for row, case in zip(axes, cases, strict=True):
        for ax, name in zip(row, PASSES, strict=True):
            for r in records:
                if (r["case"], r["pass"]) == (case, name) and r["dtype"] in dtypes:
                    label = r["algorithm"] if r["dtype"] == dtypes[0] else ""
                    values, color = np.maximum(r["quantiles"], 1e-12), PAINT[r["algorithm"]]
                    ax.plot(values, 100 * QUANTILES, color=color, label=label, linewidth=1.3)
            ax.set(xscale="log", xlim=limits, xlabel=RELATIVE, ylabel="elements below (%)")
            ax.set_title(f"{case}, {name.replace('_', ' ')}", fontsize=10)
            tidy(ax)
    return figure


def sizes(records: list[dict[str, Any]]) -> Figure:
    """Root mean square errors in units of the dtype's epsilon, by case and pass."""
    dtypes = list(dict.fromkeys(r["dtype"] for r in records))
    figure, axes = panels("Root mean square error by dtype, algorithm and case", len(dtypes), 1, (5.0, 4.4))
    for ax, dtype in zip(axes[0], dtypes, strict=True):
        cases = [case for case in CASES if any((r["case"], r["dtype"]) == (case, dtype) for r in records)]
        for algorithm in ALGORITHMS:
            rows = [r for r in records if (r["dtype"], r["algorithm"]) == (dtype, algorithm)]
            if rows:
                place = [cases.index(r["case"]) + 0.25 * (PASSES.index(r["pass"]) - 1) for r in rows]
                error = [r["rms"] / EPSILON[dtype] for r in rows]
                ax.plot(place, error, "o", color=PAINT[algorithm], label=algorithm, alpha=0.7, markersize=5)
        ax.set_xticks(range(len(cases)), cases, rotation=35, ha="right", fontsize=8)
        ax.set(yscale="log", ylim=(0.1, 3000), ylabel=f"rms error / exact rms, in ε = {EPSILON[dtype]:.1e}")
        ax.set_title(f"{dtype}; in each case forward, input, kernel gradient", fontsize=10)
        tidy(ax)
    return figure


def winograd(tiles: list[dict[str, Any]], depth: list[dict[str, Any]]) -> Figure:
    """Winograd's error over direct's by tile, and every algorithm's by depth."""
    figure, ((left, middle, right),) = panels("Growth of the error in float32", 3)
    for name, label, marker in (("NumPy", "F(m × m, 3 × 3) in NumPy", "s"), ("jaxconv", "jaxconv", "o")):
        rows = [r for r in tiles if name in r]
        ratios = np.array([np.array(r[name]) / np.array(r["direct"]) for r in rows]).T
        color = PAINT["winograd"] if name == "jaxconv" else COLORS[5]
        band(left, [r["outputs"] for r in rows], ratios, color, label, marker=marker)
    left.set(yscale="log", xlabel="outputs of a tile, m per axis", ylabel="rms error over direct's")
    for record in depth:
        color, name = PAINT[record["algorithm"]], record["algorithm"]
        layers = np.arange(1, len(record["output"][0]) + 1)
        band(middle, layers, np.array(record["output"]), color, name)
        for run in record["kernel_grad"]:
            right.plot(layers, run, color=color, linewidth=1)
    middle.set(yscale="log", ylim=(2e-8, None), xlabel="layer", ylabel="rms " + RELATIVE)
    middle.set_title("outputs, from the first layer on")
    right.set(
        yscale="log",
        xlabel="layer",
        ylabel="rms " + RELATIVE,
        title="kernel gradients, from the last layer back\n(a line per seed, colours as on the left)",
    )
    for ax in (left, middle, right):
        tidy(ax)
    return figure


def training(fits: dict[str, list[Fit]]) -> Figure:
    """Loss by step, and how far each algorithm's loss is from float64's."""
    figure, ((left, right),) = panels("Training a network of four 3 × 3 convolutions", 2)
    exact = np.stack([f.losses for f in fits["float64"]])
    steps = np.arange(1, exact.shape[1] + 1)
    width = 20
    for label in ("float64", *COMPARED):
        if label not in fits:
            continue
        losses = np.stack([f.losses for f in fits[label]])
        color = PAINT.get(label, "black")
        band(left, steps[width - 1 :], smooth(losses, width), color, label, linewidth=1)
        if label != "float64":
            gap = np.maximum(np.abs(losses - exact) / exact, 1e-9)
            right.plot(steps, np.median(gap, axis=0), color=color, label=label, linewidth=0.8)
    left.set(xlabel="step", ylabel=f"cross-entropy, mean of {width} steps (nats)", yscale="log")
    right.set(xlabel="step", ylabel="relative difference from float64's loss", yscale="log")
    right.set_title("median over the seeds", fontsize=10)
    for ax in (left, right):
        tidy(ax)
    return figure
