"""The error of every algorithm and pass against float64, and whether training notices.

`python -m experiments.gradients.run --help`; the README beside this file holds the results.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from experiments.common.command import Options, Report, main, markdown
from experiments.gradients import figures
from experiments.gradients.layers import (
    ALGORITHMS,
    CASES,
    NARROW_CASES,
    PASSES,
    measure_case,
    measure_tiles,
)
from experiments.gradients.networks import COMPARED, measure_depth, measure_training

QUESTION = "How large are the errors of each algorithm, and does training notice?"


def experiment(options: Options) -> Report:
    cases = [("float32", case) for case in CASES]
    cases += [(dtype, case) for dtype in ("bfloat16", "float16") for case in NARROW_CASES]
    every = options.choose(ALGORITHMS, ("direct", "gemm"))
    compared = options.choose(COMPARED, ("gemm",))
    records = []
    for dtype, case in cases[:: options.choose(1, len(CASES))]:
        records += measure_case(case, dtype, every, options.seeds)
    training, fits = measure_training(compared, options.seeds, options.choose(2, 1), options.quick)
    results = {
        "layers": records,
        "tiles": measure_tiles(options.choose(range(2, 9), (2,)), options.choose(64, 4), 64, options.seeds),
        "depth": measure_depth(compared, options.seeds),
        "training": training,
    }
    drawn = {
        "distributions": figures.distributions(results["layers"]),
        "narrow": figures.narrow(results["layers"]),
        "sizes": figures.sizes(results["layers"]),
        "winograd": figures.winograd(results["tiles"], results["depth"]),
        "training": figures.training(fits),
    }
    return Report(results, drawn)


def table(results: dict[str, Any]) -> str:
    """Four tables: layers, tiles, depth and training."""
    return "\n\n".join(part(results) for part in (layers_table, tiles_table, depth_table, training_table))


def layers_table(results: dict[str, Any]) -> str:
    rows = []
    for algorithm in ALGORITHMS:
        cells = []
        for dtype in ("float32", "bfloat16", "float16"):
            for name in PASSES if dtype == "float32" else (None,):
                errors = [
                    r["rms"]
                    for r in results["layers"]
                    if (r["algorithm"], r["dtype"]) == (algorithm, dtype) and name in (None, r["pass"])
                ]
                cells.append(f"{min(errors):.1e} to {max(errors):.1e}" if errors else "")
        if any(cells):
            rows.append((algorithm, *cells))
    passes = (f"float32 {name.replace('_', ' ')}" for name in PASSES)
    return markdown(("algorithm", *passes, "bfloat16, all passes", "float16, all passes"), rows)


def tiles_table(results: dict[str, Any]) -> str:
    rows = []
    for name, label in (("jaxconv", '`algorithm="winograd"`'), ("NumPy", "any size, in NumPy")):
        cells = [
            f"{np.mean(r[name]) / np.mean(r['direct']):.1f}" if name in r else "" for r in results["tiles"]
        ]
        rows.append((label, *cells))
    return markdown(
        ("error over direct's", *(f"F({r['outputs']}×{r['outputs']}, 3×3)" for r in results["tiles"])), rows
    )


def depth_table(results: dict[str, Any]) -> str:
    rows = []
    for record in results["depth"]:
        outputs, gradients = (np.median(record[key], axis=0) for key in ("output", "kernel_grad"))
        rows.append((record["algorithm"], *(f"{outputs[i]:.1e}" for i in (0, 7, 23)), f"{gradients[0]:.1e}"))
    header = ("algorithm", "output of layer 1", "of layer 8", "of layer 24", "kernel gradient of layer 1")
    return markdown(header, rows)


def training_table(results: dict[str, Any]) -> str:
    rows = []
    for label in dict.fromkeys(r["run"] for r in results["training"]):
        runs = [r for r in results["training"] if r["run"] == label]
        accuracies = ", ".join(f"{r['accuracy']:.3f}" for r in runs)
        rows.append((label, accuracies, ", ".join(f"{r['last_losses']:.4f}" for r in runs)))
    return markdown(("training", "accuracy by seed", "mean loss of the last 50 steps by seed"), rows)


if __name__ == "__main__":
    sys.exit(main("gradients", QUESTION, experiment, table))
