"""The data sets by name: two bundled with packages, three read from local files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cifar
import idx
import mnist
from images import CLASSES, Labelled, Parts, hold_back, shortened, split
from settings import Config, ExperimentError

DIGITS_HELD_OUT = 35  # of 174 to 183 in each class
NUMERALS = tuple(str(digit) for digit in range(CLASSES))
GARMENTS = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
)  # fmt: skip
THINGS = ("aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry")


@dataclass(frozen=True)
class DataSet:
    title: str
    noun: str  # what one image shows
    classes: tuple[str, ...]
    channels: int
    files: str | None  # what `--data` names; None for a set that has no files
    read: Callable[[Path], tuple[Labelled, Labelled]] | None
    bundled: Callable[[], tuple[Labelled, Labelled]] | None


def load_parts(config: Config) -> Parts:
    """The images that a run of these options uses."""
    train, test = load(config.dataset, config.data)
    if config.quick:
        train, test = shortened(train, test)
    train, validation = (train, None) if config.early_stop is None else hold_back(train)
    return Parts(train, validation, test)


def load(name: str, folder: Path | None) -> tuple[Labelled, Labelled]:
    """The training images and the held-out ones; `folder` None means the bundled ones."""
    dataset = DATASETS[name]
    if folder is not None:
        if dataset.read is None:
            raise ExperimentError(f"--dataset {name} comes with a package: leave out --data")
        return dataset.read(folder)
    if dataset.bundled is None:
        raise ExperimentError(f"--dataset {name} needs --data, the folder with {dataset.files}")
    return dataset.bundled()


def _sklearn_digits() -> tuple[Labelled, Labelled]:
    """8 x 8 images of 0..16, every pixel made 3 x 3 and the whole framed by 2: 28 x 28 of 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ExperimentError(
            "--dataset digits comes with the package scikit-learn, which is not installed: install it"
        ) from error
    small, labels = load_digits().images, load_digits().target
    bytes_ = np.rint(small * (255 / 16)).astype(np.uint8)
    large = bytes_.repeat(3, axis=1).repeat(3, axis=2)
    framed = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    return split(Labelled(framed[..., None], labels.astype(np.int32)), DIGITS_HELD_OUT)


DATASETS = {
    "mnist": DataSet("MNIST", "digit", NUMERALS, 1, "four IDX files", idx.load, mnist.bundled),
    "fashion-mnist": DataSet("Fashion-MNIST", "garment", GARMENTS, 1, "its four IDX files", idx.load, None),
    "cifar-10": DataSet(
        "CIFAR-10",
        "image",
        THINGS,
        3,
        "data_batch_1.bin to data_batch_5.bin and test_batch.bin",
        cifar.load,
        None,
    ),
    "digits": DataSet("scikit-learn's digits", "digit", NUMERALS, 1, None, None, _sklearn_digits),
}
