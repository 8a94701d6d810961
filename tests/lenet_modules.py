"""The LeNet experiment's modules, importable for a while, and tiny data sets for it."""

import contextlib
import gzip
import importlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

LENET = Path(__file__).resolve().parents[1] / "experiments" / "lenet"
PACKAGES = ("matplotlib", "mlxtend", "optax", "orbax.checkpoint", "sklearn", "tqdm")
MODULES = (
    "settings",
    "images",
    "idx",
    "mnist",
    "cifar",
    "datasets",
    "schedule",
    "lenet",
    "step",
    "history",
    "log",
    "outputs",
    "checkpoint",
    "loop",
    "figures",
    "train",
)


@contextlib.contextmanager
def lenet_modules() -> Iterator[Any]:
    """The modules by name; scripts side by side, they leave `sys.modules` at the end."""
    sys.path.insert(0, str(LENET))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(str(LENET))
        for name in MODULES:
            sys.modules.pop(name, None)


def noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images uint8 [count, 28, 28] and labels uint8 [count]."""
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx_folder(folder: Path, suffix: str = "", train: int = 64, test: int = 20) -> None:
    for part, count in (("train", train), ("t10k", test)):
        images, labels = noise(count)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            content = idx_bytes(array)
            (folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)


def one_error_line(lab: Any, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command line, which must fail with status 2 and a single line."""
    try:
        status = lab.train.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr()
    assert status == 2 and printed.out == ""
    assert printed.err.startswith("train.py: error: ") and printed.err.count("\n") == 1
    return printed.err
