"""Squared error against cross-entropy (T10) on the same network.

`python -m experiments.loss.run --help`; the README beside this file holds the results.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np
import optax
from jax import Array
from matplotlib.figure import Figure

from experiments.common import lenet, mnist, step
from experiments.common.command import Options, Report, main, markdown
from experiments.common.plots import COLORS, band, panels, tidy
from experiments.common.training import Loss, Recipe, Trainer

QUESTION = "What should the loss be: squared error or cross-entropy?"
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
PROBED = 500  # digits


def squared_error_of_softmax(y: Array, labels: Array) -> Array:
    """E = 1/2 sum_p (t_p - softmax(y)_p)^2: its gradient carries the softmax's own slope, as T10's g'."""
    return lenet.mse(jax.nn.softmax(y), labels)


LOSSES: dict[str, Loss] = {
    "cross-entropy of softmax": lenet.cross_entropy,
    "squared error": lenet.mse,
    "squared error of softmax": squared_error_of_softmax,
}


def network(params: lenet.Params, x: Array) -> Array:
    return lenet.forward(params, x, lenet.operators())


def output_gradient(loss: Loss, y: Array, labels: np.ndarray) -> float:
    """Mean norm of dE/dy [10] over the digits that outputs y [N, 10] read wrongly."""
    gradient = len(labels) * np.asarray(jax.grad(loss)(y, labels))
    wrong = np.asarray(y.argmax(axis=-1)) != labels
    return float(np.linalg.norm(gradient[wrong], axis=-1).mean())


def experiment(options: Options) -> Report:
    train, test = mnist.load(None, quick=options.quick)
    epochs = options.choose(3, 1)
    runs, probe, outputs = [], train.first(PROBED), jax.jit(network)
    for name, loss in list(LOSSES.items())[: options.choose(3, 2)]:
        for rate in options.choose(RATES, RATES[2:3]):
            recipe = Recipe(epochs, loss=loss, rate=rate, optimizer=optax.sgd, cosine=False)
            trainer = Trainer(network, train, test, recipe)
            for seed in range(options.seeds):
                params = lenet.init(seed)
                start = output_gradient(loss, outputs(params, step.scale(probe.images)), probe.labels)
                fitted = trainer.fit(params, seed)
                accuracies = [float(np.mean(trainer.predict(params, test.images) == test.labels))]
                run = {"loss": name, "rate": rate, "seed": seed, "gradient_at_start": start}
                runs.append(run | {"accuracies": accuracies + fitted.accuracies})
    results = {"epochs": epochs, "steps": epochs * (len(train.labels) // recipe.batch_size), "runs": runs}
    return Report(results, {"accuracy": accuracy_figure(results)})


def accuracies(results: dict[str, Any], loss: str, rate: float) -> np.ndarray:
    """[seeds, epochs + 1]"""
    return np.array([r["accuracies"] for r in results["runs"] if (r["loss"], r["rate"]) == (loss, rate)])


def losses_and_rates(results: dict[str, Any]) -> tuple[list[str], list[float]]:
    pairs = [(r["loss"], r["rate"]) for r in results["runs"]]
    return list(dict.fromkeys(p[0] for p in pairs)), list(dict.fromkeys(p[1] for p in pairs))


def best_rate(results: dict[str, Any], loss: str) -> float:
    _, rates = losses_and_rates(results)
    return max(rates, key=lambda rate: accuracies(results, loss, rate)[:, -1].mean())


def table(results: dict[str, Any]) -> str:
    losses, rates = losses_and_rates(results)
    rows = []
    for loss in losses:
        runs = [accuracies(results, loss, rate)[:, -1] for rate in rates]
        slope = np.mean([r["gradient_at_start"] for r in results["runs"] if r["loss"] == loss])
        rows.append(
            (loss, *(f"{r.mean():.3f} ({r.min():.3f} to {r.max():.3f})" for r in runs), f"{slope:.2f}")
        )
    return markdown(("loss", *(f"η = {rate:g}" for rate in rates), "norm of dE/dy at the start"), rows)


def accuracy_figure(results: dict[str, Any]) -> Figure:
    figure, ((left, right),) = panels("LeNet-5 by gradient descent, w ← w − η dE/dw", 2)
    losses, rates = losses_and_rates(results)
    for color, loss in zip(COLORS, losses, strict=False):
        last = np.stack([accuracies(results, loss, rate)[:, -1] for rate in rates], axis=1)
        band(left, rates, 100 * (1 - last), color, loss, marker=".")
        rate = best_rate(results, loss)
        curve = 100 * (1 - accuracies(results, loss, rate))
        band(right, np.arange(curve.shape[1]), curve, color, f"{loss}, η = {rate:g}", marker=".")
    left.set(xscale="log", xlabel="learning rate η", title=f"after {results['epochs']} epochs", yscale="log")
    right.set(xlabel="epoch", title="by epoch, each at its best rate", yscale="log")
    right.set_xticks(range(results["epochs"] + 1))
    for axes in (left, right):
        axes.set_ylabel("held-out digits read wrongly (%)")
        tidy(axes)
    return figure


if __name__ == "__main__":
    sys.exit(main("loss", QUESTION, experiment, table))
