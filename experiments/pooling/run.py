"""Max, average and Lp pooling and strided convolution: accuracy, time and robustness to shifts (T11).

`python -m experiments.pooling.run --help`; the README beside this file holds the results.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
from jax import Array
from matplotlib.figure import Figure

import jaxconv
from experiments.common import lenet, mnist
from experiments.common.command import Options, Report, main, markdown
from experiments.common.plots import COLORS, band, panels, tidy
from experiments.common.training import Network, Recipe, Trainer

QUESTION = "Which pooling learns best, and which bears shifted digits?"
LARGEST_SHIFT = 7  # pixels; MNIST leaves a border of four around every digit


def same(x: Array) -> Array:
    return x


def halving(pool: Any, **options: Any) -> lenet.Operators:
    """LeNet with `pool` over windows of 2 x 2, stride 2, in both places."""
    return lenet.operators()._replace(max_pool=partial(pool, window_shape=(2, 2), strides=(2, 2), **options))


# Without pooling, convolutions of stride 2 leave maps of the same sizes: 14 x 14, then 5 x 5.
ARMS: dict[str, lenet.Operators] = {
    "max": halving(jaxconv.max_pool),
    "average": halving(jaxconv.avg_pool),
    "L2": halving(jaxconv.lp_pool, p=2),
    "L4": halving(jaxconv.lp_pool, p=4),
    "strided convolution": lenet.Operators(partial(jaxconv.conv, strides=2), same),
}


def network(operators: lenet.Operators) -> Network:
    return lambda params, x: lenet.forward(params, x, operators)


def shifted(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Images [N, H, W, 1] moved down and right, black where nothing comes in."""
    n = LARGEST_SHIFT
    padded = np.pad(images, ((0, 0), (n, n), (n, n), (0, 0)))
    height, width = images.shape[1:3]
    return padded[:, n - rows : n - rows + height, n - columns : n - columns + width]


def robustness(trainer: Trainer, params: Any) -> dict[str, list[float]]:
    """Accuracy, and agreement with the digit in its place, by shift; means of four directions."""
    test = trainer.test
    still = trainer.predict(params, test.images)
    accuracies, agreements = [], []
    for d in range(LARGEST_SHIFT + 1):
        directions = ((d, 0), (-d, 0), (0, d), (0, -d)) if d else ((0, 0),)
        read = [trainer.predict(params, shifted(test.images, *direction)) for direction in directions]
        accuracies.append(float(np.mean([r == test.labels for r in read])))
        agreements.append(float(np.mean([r == still for r in read])))
    return {"accuracies": accuracies, "agreements": agreements}


def experiment(options: Options) -> Report:
    train, test = mnist.load(None, quick=options.quick)
    recipe = Recipe(epochs=options.choose(5, 1), max_shift=0)
    runs: list[dict[str, Any]] = []
    trainers = {arm: Trainer(network(operators), train, test, recipe) for arm, operators in ARMS.items()}
    # Seeds outside, so that a slow minute of the machine hits every arm's time.
    for seed in range(options.seeds):
        for arm in list(trainers)[:: options.choose(1, 4)]:
            trainer = trainers[arm]
            fitted = trainer.fit(lenet.init(seed), seed)
            ms = 1e3 * fitted.seconds / len(fitted.losses)
            runs.append({"arm": arm, "seed": seed, "step_ms": ms, **robustness(trainer, fitted.params)})
    results = {"epochs": recipe.epochs, "runs": runs}
    return Report(results, {"shifts": shifts_figure(results)})


def collect(results: dict[str, Any], arm: str, key: str) -> np.ndarray:
    """[seeds, ...]"""
    return np.array([run[key] for run in results["runs"] if run["arm"] == arm])


def arms(results: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(run["arm"] for run in results["runs"]))


def table(results: dict[str, Any]) -> str:
    rows = []
    for arm in arms(results):
        accuracy = collect(results, arm, "accuracies")
        spread = f"{accuracy[:, 0].mean():.3f} ({accuracy[:, 0].min():.3f} to {accuracy[:, 0].max():.3f})"
        shifts = [f"{accuracy[:, d].mean():.3f}" for d in (1, 2, 3, 4)]
        rows.append((arm, spread, *shifts, f"{np.median(collect(results, arm, 'step_ms')):.1f}"))
    header = ("pooling", "accuracy in place", *(f"{d} px" for d in (1, 2, 3, 4)), "step (ms)")
    return markdown(header, rows)


def shifts_figure(results: dict[str, Any]) -> Figure:
    figure, ((left, right),) = panels("LeNet-5 trained on centred digits, read after a shift", 2)
    for color, arm in zip(COLORS, arms(results), strict=False):
        for axes, key in ((left, "accuracies"), (right, "agreements")):
            runs = 100 * collect(results, arm, key)
            band(axes, np.arange(runs.shape[1]), runs, color, arm, marker=".")
    left.set(ylabel="held-out digits read rightly (%)")
    right.set(ylabel="read as they were before the shift (%)")
    for axes in (left, right):
        axes.set_xlabel("shift (pixels, mean of four directions)")
        tidy(axes)
    return figure


if __name__ == "__main__":
    sys.exit(main("pooling", QUESTION, experiment, table))
