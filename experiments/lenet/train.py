"""Train LeNet-5 on small images: `python experiments/lenet/train.py --help`.

The README beside this file holds the question, the options and the measured results.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict
from functools import partial

import numpy as np

import figures
import lenet
import loop
import outputs
from checkpoint import Checkpoints, identity
from datasets import DATASETS, load_parts
from history import History
from images import Labelled, Parts
from settings import Config, ExperimentError, parse
from step import make_predict, one_image


def run(config: Config) -> str:
    """One whole experiment: images, training, results; returns the line that sums it up."""
    start = time.perf_counter()
    outputs.prepare(config.out)
    parts = load_parts(config)
    ops = lenet.operators(config.peer, config.algorithm)
    predict = make_predict(ops)
    with closing(Checkpoints(config, identity(config, parts))) as checkpoints:
        params, history = loop.fit(config, parts, ops, predict, checkpoints)
    wall_seconds = round(time.perf_counter() - start, 3)
    metrics = _metrics(config, params, history, parts)
    outputs.write_json(config.out / "metrics.json", metrics | {"wall_seconds": wall_seconds})
    outputs.write_params(config.out / "parameters.npz", params)
    outputs_of_test = predict(params, parts.test.images)
    _write_figures(config, params, history, parts.test, outputs_of_test, ops)
    stopped = f", stopped after {len(history.epochs)}" if config.early_stop else ""
    return (
        f"test accuracy {metrics['test_accuracy']:.3f} after {history.chosen_epoch} epochs{stopped} "
        f"in {wall_seconds:.1f} s; results in {config.out}"
    )


def _metrics(config: Config, params: lenet.Params, history: History, parts: Parts) -> dict[str, object]:
    counts = lenet.parameter_counts(params)
    return {
        "options": config.options(),
        "versions": outputs.versions(),
        "dtype": str(params["output"]["bias"].dtype),
        "train_images": len(parts.train.labels),
        "validation_images": 0 if parts.validation is None else len(parts.validation.labels),
        "test_images": len(parts.test.labels),
        "parameters": sum(counts.values()),
        "parameters_by_layer": counts,
        "chosen_epoch": history.chosen_epoch,
        "test_accuracy": history.epochs[history.chosen_epoch - 1].test_accuracy,
        "compile_seconds": history.compile_seconds,
        "train_seconds": round(sum(epoch.seconds for epoch in history.epochs), 3),
        "epochs": [asdict(epoch) for epoch in history.epochs],
        "step_losses": history.step_losses,
        "resumed_at_steps": history.resumed_at,
    }


def _write_figures(
    config: Config,
    params: lenet.Params,
    history: History,
    test: Labelled,
    y: np.ndarray,
    ops: lenet.Operators,
) -> None:
    data = DATASETS[config.dataset]
    maps = one_image(params, test.images[0], ops)
    for name, figure in {
        "loss": figures.curves(history.epochs, history.chosen_epoch, config.loss, data),
        "filters": figures.filters(params),
        "feature_maps": figures.feature_maps(test.images[0], maps, data),
        "confusion": figures.confusion(test.labels, y.argmax(axis=-1), data),
    }.items():
        outputs.write(config.out / f"{name}.png", partial(figure.savefig, format="png"))


def main(arguments: list[str] | None = None) -> int:
    try:
        print(run(parse(arguments)))
    except ExperimentError as error:
        print(f"train.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train.py: interrupted: --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
