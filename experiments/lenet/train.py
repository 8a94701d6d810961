"""Train LeNet-5 on real MNIST digits: `python experiments/lenet/train.py --help`.

The README beside this file holds the question, the options and the measured results.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict
from functools import partial

import checkpoint
import figures
import history
import lenet
import loop
import mnist
import outputs
import step
from settings import Config, ExperimentError, parse


def run(config: Config) -> str:
    """One whole experiment: digits, training, results; returns the line that sums it up."""
    start = time.perf_counter()
    outputs.prepare(config.out)
    train, test = mnist.load(config.data, quick=config.quick)
    ops = lenet.operators(config.peer, config.algorithm)
    identity = checkpoint.identity(config, train, test)
    with closing(checkpoint.Checkpoints(config, identity)) as checkpoints:
        state, record = loop.fit(config, train, test, ops, checkpoints)
    wall_seconds = round(time.perf_counter() - start, 3)
    metrics = _metrics(config, state.params, record, len(train.labels), len(test.labels))
    outputs.write_json(config.out / "metrics.json", metrics | {"wall_seconds": wall_seconds})
    outputs.write_params(config.out / "parameters.npz", state.params)
    _write_figures(config, state.params, record, test, ops)
    return (
        f"test accuracy {record.epochs[-1].test_accuracy:.3f} after {config.epochs} epochs "
        f"in {wall_seconds:.1f} s; results in {config.out}"
    )


def _metrics(
    config: Config, params: lenet.Params, record: history.History, n_train: int, n_test: int
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
        "test_accuracy": record.epochs[-1].test_accuracy,
        "compile_seconds": record.compile_seconds,
        "train_seconds": round(sum(epoch.seconds for epoch in record.epochs), 3),
        "epochs": [asdict(epoch) for epoch in record.epochs],
        "step_losses": record.step_losses,
        "resumed_at_steps": record.resumed_at,
    }


def _write_figures(
    config: Config,
    params: lenet.Params,
    record: history.History,
    test: mnist.Digits,
    ops: lenet.Operators,
) -> None:
    predicted = step.make_predict(ops)(params, test.images)
    maps = step.one_digit(params, test.images[0], ops)
    for name, figure in {
        "loss": figures.curves(record.epochs, config.loss),
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
    except KeyboardInterrupt:
        print("train.py: interrupted: --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
