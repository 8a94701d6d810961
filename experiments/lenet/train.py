"""Train LeNet-5 on real MNIST digits: `python experiments/lenet/train.py --help`.

The README beside this file holds the question, the options and the measured results.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from functools import partial

import figures
import lenet
import loop
import mnist
import outputs
from settings import Config, ExperimentError, parse


def run(config: Config) -> str:
    """One whole experiment: digits, training, results; returns the line that sums it up."""
    start = time.perf_counter()
    outputs.prepare(config.out)
    train, test = mnist.load(config.data, quick=config.quick)
    ops = lenet.operators(config.peer, config.algorithm)
    state, history = loop.fit(config, train, test, ops)
    wall_seconds = round(time.perf_counter() - start, 3)
    metrics = _metrics(config, state.params, history, len(train.labels), len(test.labels))
    outputs.write_json(config.out / "metrics.json", metrics | {"wall_seconds": wall_seconds})
    outputs.write_params(config.out / "parameters.npz", state.params)
    _write_figures(config, state.params, history, test, ops)
    return (
        f"test accuracy {history.epochs[-1].test_accuracy:.3f} after {config.epochs} epochs "
        f"in {wall_seconds:.1f} s; results in {config.out}"
    )


def _metrics(
    config: Config, params: lenet.Params, history: loop.History, n_train: int, n_test: int
) -> dict[str, object]:
    counts = lenet.parameter_counts(params)
    return {
        "options": config.options(),
        "versions": outputs.versions(),
        "dtype": str(params["output"]["bias"].dtype),
        "train_digits": n_train,
        "test_digits": n_test,
        "parameters": sum(counts.values()),
        "parameters_by_layer": counts,
        "test_accuracy": history.epochs[-1].test_accuracy,
        "compile_seconds": history.compile_seconds,
        "train_seconds": round(sum(epoch.seconds for epoch in history.epochs), 3),
        "epochs": [asdict(epoch) for epoch in history.epochs],
        "step_losses": history.step_losses,
    }


def _write_figures(
    config: Config,
    params: lenet.Params,
    history: loop.History,
    test: mnist.Digits,
    ops: lenet.Operators,
) -> None:
    predicted = loop.make_predict(ops)(params, test.images)
    maps = loop.one_digit(params, test.images[0], ops)
    for name, figure in {
        "loss": figures.curves(history.epochs, config.loss),
        "filters": figures.filters(params),
        "feature_maps": figures.feature_maps(test.images[0], maps),
        "confusion": figures.confusion(test.labels, predicted),
    }.items():
        outputs.write(config.out / f"{name}.png", partial(figure.savefig, format="png"))


def main(arguments: list[str] | None = None) -> int:
    try:
        print(run(parse(arguments)))
    except ExperimentError as error:
        print(f"train.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
