"""Sparse connectivity and weight sharing (T12): a dense, a locally connected and a convolutional network.

`python -m experiments.sharing.run --help`; the README beside this file holds the results.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

import jaxconv
from experiments.common import lenet, mnist
from experiments.common.command import Options, Report, main, markdown
from experiments.common.plots import COLORS, band, panels, tidy
from experiments.common.training import Recipe, Trainer, accuracy

QUESTION = "What do sparse connections and shared weights buy?"
STEPS, BATCH = 900, 32
TAPS, STRIDE = 5, 2
MAPS = ((28, 1), (14, 6), (7, 12))  # side and channels of the input and of the two hidden layers

Params = list[dict[str, Array]]
Layer = Callable[[Array, dict[str, Array]], Array]


def dense(x: Array, p: dict[str, Array]) -> Array:
    """Every output sees every input."""
    side, _, maps = p["bias"].shape
    return (x.reshape(len(x), -1) @ p["kernel"]).reshape(len(x), side, side, maps) + p["bias"]


def local(x: Array, p: dict[str, Array]) -> Array:
    """Every output sees 5 x 5 inputs, by weights of its own."""
    return jaxconv.conv_local(x, **p, strides=STRIDE)


def shared(x: Array, p: dict[str, Array]) -> Array:
    """Every output sees 5 x 5 inputs, by the weights of its map."""
    return jaxconv.conv(x, **p, strides=STRIDE)


@dataclass(frozen=True)
class Arm:
    """One kind of layer: its function, and the shapes of its kernel and its bias."""

    layer: Layer
    kernel: Callable[[int, int, int, int], tuple[int, ...]]  # side and channels of the input, of the output
    bias: Callable[[int, int], tuple[int, ...]]


ARMS = {
    "dense": Arm(dense, lambda n, c, m, o: (n * n * c, m * m * o), lambda m, o: (m, m, o)),
    "local": Arm(local, lambda n, c, m, o: (m, m, TAPS, TAPS, c, o), lambda m, o: (m, m, o)),
    "convolution": Arm(shared, lambda n, c, m, o: (TAPS, TAPS, c, o), lambda m, o: (o,)),
}


def init(arm: Arm, seed: int) -> Params:
    """He-normal weights by the inputs that each output sees; a dense layer of ten outputs at the end."""
    rng = np.random.default_rng(seed)
    side, maps = MAPS[-1]
    shapes = [(arm.kernel(*a, *b), arm.bias(*b)) for a, b in zip(MAPS, MAPS[1:], strict=False)]
    seen = [shape[0] if len(shape) == 2 else TAPS * TAPS * shape[-2] for shape, _ in shapes]
    shapes.append(((side * side * maps, lenet.CLASSES), (lenet.CLASSES,)))
    seen.append(side * side * maps)
    return [
        {"kernel": jnp.asarray(rng.normal(scale=math.sqrt(2 / n), size=k), float), "bias": jnp.zeros(b)}
        for (k, b), n in zip(shapes, seen, strict=True)
    ]


def network(arm: Arm) -> Callable[[Params, Array], Array]:
    def forward(params: Params, x: Array) -> Array:
        *hidden, output = params
        for p in hidden:
            x = jax.nn.relu(arm.layer(x, p))
        return x.reshape(len(x), -1) @ output["kernel"] + output["bias"]

    return forward


def connections(arm: str) -> int:
    """Products of one image in the two hidden layers, borders counted as the rest."""
    pairs = list(zip(MAPS, MAPS[1:], strict=False))
    if arm == "dense":
        return sum((n * n * c) * (m * m * o) for (n, c), (m, o) in pairs)
    return sum(TAPS * TAPS * c * m * m * o for (_, c), (m, o) in pairs)


def experiment(options: Options) -> Report:
    train, test = mnist.load(None, quick=options.quick)
    runs: list[dict[str, Any]] = []
    shown: dict[str, Params] = {}
    for count in options.choose((250, 1000, 4000), (640,)):
        part = train.first(count)
        epochs = options.choose(max(1, STEPS // (count // BATCH)), 1)
        recipe = Recipe(epochs, batch_size=BATCH, max_shift=0)
        trainers = {name: Trainer(network(arm), part, test, recipe) for name, arm in ARMS.items()}
        # Seeds outside, so that a slow minute of the machine hits every arm's time.
        for seed in range(options.seeds):
            for name, trainer in trainers.items():
                fitted = trainer.fit(init(ARMS[name], seed), seed)
                shown[name] = fitted.params
                runs.append({
                    "arm": name, "digits": count, "seed": seed, "epochs": epochs,
                    "accuracy": fitted.accuracies[-1],
                    "train_accuracy": accuracy(trainer.predict, fitted.params, part.images, part.labels),
                    "step_ms": 1e3 * fitted.seconds / len(fitted.losses),
                })  # fmt: skip
    arms = {
        name: {
            "parameters": [sum(a.size for a in layer.values()) for layer in params],
            "connections": connections(name),
        }
        for name, params in shown.items()
    }
    results = {"arms": arms, "runs": runs}
    return Report(results, {"accuracy": accuracy_figure(results), "weights": weights_figure(shown)})


def collect(results: dict[str, Any], arm: str, key: str) -> np.ndarray:
    """[seeds, counts of digits]"""
    counts = dict.fromkeys(r["digits"] for r in results["runs"])
    runs = [[r[key] for r in results["runs"] if (r["arm"], r["digits"]) == (arm, n)] for n in counts]
    return np.array(runs).T


def table(results: dict[str, Any]) -> str:
    counts = list(dict.fromkeys(r["digits"] for r in results["runs"]))
    rows = []
    for arm, facts in results["arms"].items():
        runs = collect(results, arm, "accuracy").T
        cells = [f"{r.mean():.3f} ({r.min():.3f} to {r.max():.3f})" for r in runs]
        sizes = (f"{sum(facts['parameters']):,}", f"{facts['connections']:,}")
        rows.append((arm, *sizes, *cells, f"{np.median(collect(results, arm, 'step_ms')):.1f}"))
    header = ("network", "parameters", "products in the hidden layers")
    return markdown((*header, *(f"accuracy from {n:,} digits" for n in counts), "step (ms)"), rows)


def accuracy_figure(results: dict[str, Any]) -> Figure:
    figure, ((left, right),) = panels("The same maps from dense, local and shared weights", 2)
    counts = list(dict.fromkeys(r["digits"] for r in results["runs"]))
    for color, (arm, facts) in zip(COLORS, results["arms"].items(), strict=False):
        errors = 100 * (1 - collect(results, arm, "accuracy"))
        label = f"{arm}, {sum(facts['parameters']):,} parameters"
        band(left, counts, errors, color, label, marker=".")
        sizes = [sum(facts["parameters"])] * len(errors)
        right.plot(sizes, errors[:, -1], "o", color=color, label=arm)
    left.set(xscale="log", xlabel="training digits", ylabel="held-out digits read wrongly (%)")
    left.set_xticks(counts, [f"{n:,}" for n in counts])
    left.minorticks_off()
    right.set(xscale="log", xlabel="parameters", ylabel="held-out digits read wrongly (%)")
    right.set_title(f"{counts[-1]:,} training digits, one dot per seed", fontsize=10)
    for axes in (left, right):
        tidy(axes)
    return figure


def weights_figure(shown: dict[str, Params]) -> Figure:
    """What the first map's outputs see: one dense output, all local kernels, the one shared kernel."""
    side, maps = MAPS[1]
    unit = (side // 2 * side + side // 2) * maps
    kernels = {name: np.asarray(params[0]["kernel"]) for name, params in shown.items()}
    mosaic = np.pad(kernels["local"][..., 0, 0], ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    pictures = {
        "dense: the 28 × 28 weights of one output": kernels["dense"][:, unit].reshape(28, 28),
        "local: 14 × 14 outputs, 5 × 5 weights each": mosaic.transpose(0, 2, 1, 3).reshape(side * 6, -1),
        "convolution: 5 × 5 weights for all outputs": kernels["convolution"][..., 0, 0],
    }
    figure, axes = panels("Weights of the first map of the first layer", 3, size=(4.4, 4.0))
    for ax, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        peak = np.nanmax(np.abs(picture))
        image = ax.imshow(picture, cmap="RdBu_r", vmin=-peak, vmax=peak)
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
        figure.colorbar(image, ax=ax, label="weight", shrink=0.8)
    return figure


if __name__ == "__main__":
    sys.exit(main("sharing", QUESTION, experiment, table))
