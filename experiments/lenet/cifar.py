"""CIFAR-10's binary version: plain bytes, where the Python version's pickles could run any code.

The format (Krizhevsky, "Learning multiple layers of features from tiny images", 2009, and its page):
records of 3,073 bytes, a label and then 32 x 32 values of red, of green and of blue, row by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from images import CLASSES, Labelled
from settings import ExperimentError

SIDE, CHANNELS = 32, 3
RECORD = 1 + CHANNELS * SIDE * SIDE
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
UNPACKED = "cifar-10-batches-bin"  # the folder inside the official archive


def load(folder: Path) -> tuple[Labelled, Labelled]:
    """The training and the test part, images uint8 [N, 32, 32, 3]."""
    if not folder.is_dir():
        raise ExperimentError(f"--data {folder} is not a folder: give the one with CIFAR-10's .bin files")
    if (folder / UNPACKED).is_dir():
        folder = folder / UNPACKED
    batches = [read_batch(folder / name) for name in TRAIN_FILES]
    train = Labelled(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))
    return train, read_batch(folder / TEST_FILE)


def read_batch(path: Path) -> Labelled:
    """The images and labels of one file."""
    if not path.is_file():
        raise ExperimentError(f"no {path.name} in {path.parent}: CIFAR-10's binary version is needed")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read: {error.strerror}") from error
    if not content or len(content) % RECORD:
        raise ExperimentError(
            f"{path} is damaged: it must hold records of {RECORD} bytes, got {len(content)} bytes: "
            "fetch it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int32)
    if labels.max() >= CLASSES:
        raise ExperimentError(f"{path} is damaged: labels must be 0 to {CLASSES - 1}, got {labels.max()}")
    planes = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)
    return Labelled(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)
