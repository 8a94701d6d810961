"""True convolution against cross-correlation (T1), trained from mirrored initial kernels.

`python -m experiments.flip.run --help`; the README beside this file holds the results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

import jaxconv
from experiments.common import lenet, mnist
from experiments.common.command import Options, Report, main, markdown
from experiments.common.plots import COLORS, panels, smooth, tidy
from experiments.common.training import Fit, Network, Recipe, Trainer

QUESTION = "Does it matter whether a convolution flips its kernel?"
LAYERS = ("C1", "C3")


def correlation(x: Array, kernel: Array, bias: Array, *, padding: str) -> Array:
    """jaxconv's `conv`: no flip."""
    return jaxconv.conv(x, kernel, bias, padding=padding)


def true_convolution(x: Array, kernel: Array, bias: Array, *, padding: str) -> Array:
    """x * w = x (x) rot180(w)."""
    return jaxconv.conv(x, mirror(kernel), bias, padding=padding)


def by_spectra(x: Array, kernel: Array, bias: Array, *, padding: str) -> Array:
    """True convolution by its theorem, which knows no flip: the product of two spectra."""
    size, taps = x.shape[1], kernel.shape[0]
    length = size + taps - 1
    spectrum = jnp.einsum(
        "nhwc,hwco->nhwo",
        jnp.fft.rfft2(x, (length, length), axes=(1, 2)),
        jnp.fft.rfft2(kernel, (length, length), axes=(0, 1)),
    )
    full = jnp.fft.irfft2(spectrum, (length, length), axes=(1, 2))
    first, count = (taps // 2, size) if padding == "SAME" else (taps - 1, size - taps + 1)
    return full[:, first : first + count, first : first + count] + bias


def mirror(kernel: Any) -> Any:
    """rot180 of a kernel [kh, kw, C, O]."""
    return kernel[::-1, ::-1]


def mirrored(params: lenet.Params) -> lenet.Params:
    """LeNet's parameters with the kernels of both convolutions turned by 180 degrees."""
    return {n: p | {"kernel": mirror(p["kernel"])} if n in LAYERS else p for n, p in params.items()}


def lit(params: lenet.Params) -> lenet.Params:
    """With biases of 0.1: from 0, a digit's black border sits on the corner of ReLU, and rounding decides."""
    return {name: p | {"bias": p["bias"] + 0.1} for name, p in params.items()}


# What is trained, with which operator, and whether from mirrored kernels.
ARMS: dict[str, tuple[Callable[..., Array], bool]] = {
    "correlation": (correlation, False),
    "convolution, mirrored start": (true_convolution, True),
    "convolution by spectra, mirrored start": (by_spectra, True),
    "convolution, same start": (true_convolution, False),
}


def network(conv: Callable[..., Array]) -> Network:
    operators = lenet.operators()._replace(conv=conv)
    return lambda params, x: lenet.forward(params, x, operators)


def compare(reference: Fit, other: Fit, turned: bool) -> dict[str, float]:
    """How far a run's losses and kernels are from the correlation's."""
    gaps = []
    for layer in LAYERS:
        ours, theirs = (np.asarray(f.params[layer]["kernel"]) for f in (reference, other))
        gaps.append(float(np.abs(ours - (mirror(theirs) if turned else theirs)).max() / np.abs(ours).max()))
    losses = np.abs(other.losses - reference.losses) / reference.losses
    return {"loss": float(losses.max()), "kernel": max(gaps), "accuracy": other.accuracies[-1]}


def experiment(options: Options) -> Report:
    train, test = mnist.load(None, quick=options.quick)
    recipe = Recipe(epochs=options.choose(2, 1))
    runs: list[dict[str, Any]] = []
    shown: dict[str, Fit] = {}
    for dtype in options.choose(("float64", "float32"), ("float64",)):
        with jax.enable_x64(dtype == "float64"):
            trainers = {
                arm: Trainer(network(ARMS[arm][0]), train, test, recipe)
                for arm in list(ARMS)[: options.choose(4, 2)]
            }
            for seed in range(options.seeds):
                fits = train_arms(trainers, seed)
                shown = shown or fits
                for arm, fitted in fits.items():
                    gaps = compare(fits["correlation"], fitted, ARMS[arm][1])
                    runs.append({"dtype": dtype, "seed": seed, "arm": arm, **gaps})
    results = {"epochs": recipe.epochs, "steps": len(shown["correlation"].losses), "runs": runs}
    return Report(results, {"kernels": kernels_figure(shown), "losses": losses_figure(shown)})


def train_arms(trainers: dict[str, Trainer], seed: int) -> dict[str, Fit]:
    """Every arm from the same start, mirrored where the arm asks for it."""
    start = lit(lenet.init(seed))
    return {
        arm: trainer.fit(mirrored(start) if ARMS[arm][1] else start, seed)
        for arm, trainer in trainers.items()
    }


def table(results: dict[str, Any]) -> str:
    """Differences from the correlation, one number per seed."""
    rows = []
    for dtype, arm in dict.fromkeys((r["dtype"], r["arm"]) for r in results["runs"]):
        runs = [r for r in results["runs"] if (r["dtype"], r["arm"]) == (dtype, arm)]
        gaps = [", ".join(f"{r[key]:.0e}" for r in runs) for key in ("loss", "kernel")]
        accuracies = ", ".join(f"{r['accuracy']:.3f}" for r in runs)
        rows.append((dtype, arm, *gaps, accuracies))
    header = ("dtype", "trained", "largest difference of a loss", "of a kernel", "accuracy")
    return markdown(header, rows)


def kernels_figure(fits: dict[str, Fit]) -> Figure:
    """The six filters of C1 in each run."""
    figure, axes = panels("C1's six 5 × 5 filters after training, float64, seed 0", 1, len(fits), (7.0, 1.45))
    for ax, (arm, fitted) in zip(axes[:, 0], fits.items(), strict=True):
        kernel = np.asarray(fitted.params["C1"]["kernel"])[..., 0, :].transpose(2, 0, 1)  # [6, 5, 5]
        peak = np.abs(kernel).max()
        row = np.hstack(np.pad(kernel, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan))[:, :-1]
        shown = ax.imshow(row, cmap="RdBu_r", vmin=-peak, vmax=peak)
        ax.set(xticks=[], yticks=[])
        ax.set_title(arm, fontsize=10, loc="left")
        ax.spines[:].set_visible(False)
        figure.colorbar(shown, ax=ax, label="weight")
    return figure


def losses_figure(fits: dict[str, Fit]) -> Figure:
    figure, ((left, right),) = panels("Training from mirrored kernels, float64, seed 0", 2)
    reference = fits["correlation"].losses
    steps = np.arange(1, len(reference) + 1)
    for color, (arm, fitted) in zip(COLORS, fits.items(), strict=False):
        style = {"color": color, "label": arm, "linestyle": "--" if "mirrored" in arm else "-"}
        width = min(10, len(steps))
        left.plot(steps[width - 1 :], smooth(fitted.losses, width), **style)
        gap = np.abs(fitted.losses - reference) / reference
        if gap.any():
            right.plot(steps, np.maximum(gap, 1e-17), linewidth=0.8, **style)
    left.set(xlabel="step", ylabel="cross-entropy, mean of 10 steps (nats)")
    right.set(xlabel="step", ylabel="relative difference of the loss", yscale="log")
    tidy(left)
    tidy(right)
    return figure


if __name__ == "__main__":
    sys.exit(main("flip", QUESTION, experiment, table))
