"""What a network sees (T14): filters, maps, saliency and deconvolution, of digits and of a photograph.

`python -m experiments.see.run --help`; the README beside this file holds the results.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import mnist, step
from experiments.common.command import Options, Report, main, markdown
from experiments.common.training import Fit, Recipe, Trainer
from experiments.see import figures, pictures, stack

QUESTION = "What does a trained network see?"
PHOTOGRAPH = "coffee"
DIGIT_KERNELS = ((5, 5, 1, 8), (5, 5, 8, 16))
PHOTO_KERNELS = ((9, 9, 1, 12), (5, 5, 12, 24), (3, 3, 24, 32))
QUICK_KERNELS = ((5, 5, 1, 4), (3, 3, 4, 8), (3, 3, 8, 8))
BLANKED = 0.05  # of the pixels


def train_digits(options: Options) -> tuple[list[Fit], Trainer]:
    train, test = mnist.load(None, quick=options.quick)
    trainer = Trainer(stack.read_flat, train, test, Recipe(options.choose(4, 1), max_shift=0))
    starts = [stack.init(seed, DIGIT_KERNELS, 7 * 7 * 16, 10) for seed in range(options.seeds)]
    return [trainer.fit(start, seed) for seed, start in enumerate(starts)], trainer


def train_photographs(options: Options) -> tuple[list[Fit], Trainer]:
    train, test = pictures.patches(*options.choose((400, 100), (40, 20)))
    trainer = Trainer(stack.read_mean, train, test, Recipe(options.choose(6, 1), max_shift=0))
    kernels = options.choose(PHOTO_KERNELS, QUICK_KERNELS)
    starts = [
        stack.init(seed, kernels, kernels[-1][-1], len(pictures.NAMES)) for seed in range(options.seeds)
    ]
    return [trainer.fit(start, seed) for seed, start in enumerate(starts)], trainer


def blanking(trainer: Trainer, params: Any, digits: mnist.Digits, seed: int) -> dict[str, float]:
    """Accuracy once some of each digit's ink takes the background's value, chosen by its saliency or not."""
    x = step.scale(digits.images)
    salient = np.asarray(stack.saliency(stack.read_flat, params, x, jnp.asarray(digits.labels)))
    ink = digits.images[..., 0] > 0
    noise = np.random.default_rng(seed).random(ink.shape)
    orders = {
        "most salient ink": np.where(ink, salient, -1),
        "random ink": np.where(ink, noise, -1),
        "least salient ink": np.where(ink, 1 / (1 + salient), -1),
    }
    count = round(BLANKED * ink[0].size)
    found = {"nothing": float(np.mean(trainer.predict(params, digits.images) == digits.labels))}
    for name, order in orders.items():
        images, flat = digits.images.copy(), order.reshape(len(order), -1)
        chosen = np.argpartition(-flat, count, axis=1)[:, :count]
        np.put_along_axis(images.reshape(len(images), -1), chosen, 0, axis=1)
        found[name] = float(np.mean(trainer.predict(params, images) == digits.labels))
    return found


def experiment(options: Options) -> Report:
    digit_fits, digit_trainer = train_digits(options)
    photo_fits, photo_trainer = train_photographs(options)
    held_out = digit_trainer.test
    runs = [
        {
            "seed": seed, "digits": digit.accuracies[-1], "photographs": photo.accuracies[-1],
            "blanked": blanking(digit_trainer, digit.params, held_out, seed),
        }
        for seed, (digit, photo) in enumerate(zip(digit_fits, photo_fits, strict=True))
    ]  # fmt: skip
    part, params = slice(options.choose(None, 96)), photo_fits[0].params
    photo = pictures.load(PHOTOGRAPH)[part, part]
    x = step.scale(photo[None, :, :, None])
    drawn = {
        "digit_layers": figures.digit_layers(digit_fits[0].params, held_out),
        "digit_ways": figures.digit_ways(digit_fits[0].params, held_out),
        "photo_filters": figures.filters(params),
        "photo_maps": figures.photo_maps(photo, jax.jit(stack.stages)(params, x)),
        "photo_saliency": figures.photo_classes(photo, params, pictures.NAMES, PHOTOGRAPH),
        "photo_deconvolution": figures.photo_deconvolution(photo, params),
    }
    return Report({"runs": runs, "pictures": list(pictures.NAMES)}, drawn)


def table(results: dict[str, Any]) -> str:
    runs = results["runs"]

    def row(label: str, values: list[float]) -> tuple[str, ...]:
        return (label, f"{np.mean(values):.3f}", ", ".join(f"{v:.3f}" for v in values))

    rows = [row("photographs, held-out patches", [r["photographs"] for r in runs])]
    for name in runs[0]["blanked"]:
        rows.append(row(f"digits, blanked: {name}", [r["blanked"][name] for r in runs]))
    return markdown(("accuracy", "mean", "by seed"), rows)


if __name__ == "__main__":
    sys.exit(main("see", QUESTION, experiment, table))
