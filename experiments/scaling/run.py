"""Time and memory of each pass against batch, image side, channels and kernel side, beside lax.

`python -m experiments.scaling.run --help`; the README beside this file holds the results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from matplotlib.figure import Figure

import jaxconv
from experiments.common.command import Options, Report, main, markdown
from experiments.common.plots import COLORS, panels, tidy
from machine import least_ms, roofline
from measure import Task, interleave

QUESTION = "How do time and memory grow with batch, image, channels and kernel?"
PASSES = ("forward", "input_grad", "kernel_grad")
BASE = {"batch": 8, "side": 32, "channels": 32, "kernel": 3}
SWEEPS = {
    "batch": (1, 4, 16, 32, 64),
    "side": (8, 16, 32, 64, 128),
    "channels": (4, 16, 64, 128, 256),
    "kernel": (1, 3, 5, 7, 11),
}
UNITS = {
    "batch": "images in the batch",
    "side": "side of the image (pixels)",
    "channels": "channels in and out",
    "kernel": "side of the kernel (taps)",
}
FITTED = 3  # the largest sizes of a sweep, whose slope is the exponent
BUDGET_S = 0.25


def shapes(size: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    n, side, c, k = (size[name] for name in BASE)
    return (n, side, side, c), (k, k, c, c)


def lax_conv(x: Array, w: Array) -> Array:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def functions(conv: Callable[[Array, Array], Array]) -> dict[str, Callable[[Array, Array, Array], Array]]:
    """The three passes of (x, w, dy); under jit only the asked gradient is computed."""
    return {
        "forward": lambda x, w, g: conv(x, w),
        "input_grad": lambda x, w, g: jax.vjp(lambda x: conv(x, w), x)[1](g)[0],
        "kernel_grad": lambda x, w, g: jax.vjp(lambda w: conv(x, w), w)[1](g)[0],
    }


PEERS = {"jaxconv": functions(jaxconv.conv), "lax": functions(lax_conv)}


def measure(sweep: str, value: int, rounds: int, roof: dict[str, Any]) -> list[dict[str, Any]]:
    """One size: every pass of both peers, timed in turns."""
    x_shape, w_shape = shapes(BASE | {sweep: value})
    rng = np.random.default_rng(0)
    draw = (jnp.asarray(rng.normal(size=s).astype(np.float32)) for s in (x_shape, w_shape, x_shape))
    operands = tuple(draw)
    plan = {p.pass_.value: p for p in jaxconv.explain(x_shape, w_shape).passes}
    records, tasks = [], []
    for name in PASSES:
        for peer, run in PEERS.items():
            compiled = jax.jit(run[name]).lower(*operands).compile()
            task = Task(f"{peer} {name}", lambda f=compiled: f(*operands), jax.block_until_ready)
            task.once()
            tasks.append(task)
            records.append({
                "sweep": sweep, "value": value, "pass": name, "peer": peer,
                "algorithm": plan[name].algorithm if peer == "jaxconv" else "lax",
                "temporary_bytes": int(compiled.memory_analysis().temp_size_in_bytes),
                "least_ms": least_ms(plan[name].flops, plan[name].io_bytes, "float32", roof),
            })  # fmt: skip
    interleave(tasks, rounds, BUDGET_S)
    for record, task in zip(records, tasks, strict=True):
        record["ms"] = min(task.samples_ms)  # the machine is shared, and disturbance only adds
    return records


def experiment(options: Options) -> Report:
    roof = options.choose(roofline, quick_roofline)(("float32",))
    records = []
    for sweep, values in options.choose(SWEEPS, {"batch": (1, 2)}).items():
        for value in values:
            records += measure(sweep, value, options.seeds, roof)
    results = {"base": BASE, "roofline": roof, "records": records}
    return Report(results, {"time": time_figure(results), "memory": memory_figure(results)})


def quick_roofline(dtypes: tuple[str, ...]) -> dict[str, Any]:
    """Made-up rates: a smoke run has no time to measure them."""
    return {"dot_gflop_per_s": {dtype: {"made up": 100.0} for dtype in dtypes}, "copy_gbyte_per_s": 10.0}


def series(
    results: dict[str, Any], sweep: str, name: str, peer: str, key: str
) -> tuple[list[int], list[float]]:
    """Sizes of a sweep and one quantity of a pass at each."""
    chosen = [r for r in results["records"] if (r["sweep"], r["pass"], r["peer"]) == (sweep, name, peer)]
    return [r["value"] for r in chosen], [r[key] for r in chosen]


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope in logarithms over the largest sizes; at least one byte, of which the logarithm is known."""
    logs = np.log(sizes[-FITTED:]), np.log(np.maximum(values[-FITTED:], 1))
    return float(np.polyfit(*logs, 1)[0])


def fitted_ms(results: dict[str, Any], sweep: str, name: str, peer: str) -> float:
    sizes, ms = series(results, sweep, name, peer, "ms")
    return exponent(sizes, [1e6 * v for v in ms])


def sweeps(results: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(r["sweep"] for r in results["records"]))


def table(results: dict[str, Any]) -> str:
    rows = []
    for sweep in sweeps(results):
        for name in PASSES:
            sizes, ours = series(results, sweep, name, "jaxconv", "ms")
            theirs, least = (series(results, sweep, name, "lax", key)[1] for key in ("ms", "least_ms"))
            bound = exponent(sizes, [1e6 * v for v in least])
            exponents = (f"{fitted_ms(results, sweep, name, peer):.2f}" for peer in PEERS)
            memory = (
                f"{series(results, sweep, name, peer, 'temporary_bytes')[1][-1] / 1e6:.1f}" for peer in PEERS
            )
            last = (f"{ours[-1]:.2f}", f"{theirs[-1]:.2f}", f"{least[-1]:.2f}")
            size = f"{sweep} to {sizes[-1]}"
            rows.append((size, name.replace("_", " "), *exponents, f"{bound:.2f}", *last, *memory))
    header = (
        "sweep",
        "pass",
        "exponent jaxconv",
        "lax",
        "roofline",
        "ms at the end jaxconv",
        "lax",
        "roofline",
    )
    return markdown((*header, "temporary MB jaxconv", "lax"), rows)


def time_figure(results: dict[str, Any]) -> Figure:
    names = sweeps(results)
    figure, axes = panels("Time of each pass, float32", len(names), len(PASSES), (4.2, 3.0))
    for row, name in zip(axes, PASSES, strict=True):
        for ax, sweep in zip(row, names, strict=True):
            for color, peer in zip(COLORS, PEERS, strict=False):
                sizes, ms = series(results, sweep, name, peer, "ms")
                label = f"{peer}, exponent {fitted_ms(results, sweep, name, peer):.2f}"
                ax.plot(sizes, ms, color=color, marker=".", label=label)
            ax.plot(*series(results, sweep, name, "lax", "least_ms"), ":", color="black", label="roofline")
            finish(ax, sweep, f"{name.replace('_', ' ')} (ms)")
    return figure


def memory_figure(results: dict[str, Any]) -> Figure:
    names = sweeps(results)
    figure, axes = panels("Temporary memory of each pass, float32", len(names), len(PASSES), (4.2, 3.0))
    for row, name in zip(axes, PASSES, strict=True):
        for ax, sweep in zip(row, names, strict=True):
            for color, peer in zip(COLORS, PEERS, strict=False):
                sizes, used = series(results, sweep, name, peer, "temporary_bytes")
                ax.plot(sizes, np.maximum(used, 1e2) / 1e6, color=color, marker=".", label=peer)
            finish(ax, sweep, f"{name.replace('_', ' ')} (MB, at least 0.0001)")
    return figure


def finish(ax: Any, sweep: str, label: str) -> None:
    ax.set(xscale="log", yscale="log", xlabel=UNITS[sweep], ylabel=label)
    ax.set_xticks(SWEEPS[sweep], [str(v) for v in SWEEPS[sweep]])
    ax.minorticks_off()
    tidy(ax)


if __name__ == "__main__":
    sys.exit(main("scaling", QUESTION, experiment, table, seeds=5))
