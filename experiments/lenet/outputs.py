"""The output folder: checked before the training, every file whole or absent."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from lenet import Params
from settings import ExperimentError

PACKAGES = ("jaxconv", "jax", "jaxlib", "optax", "orbax-checkpoint", "numpy")


def prepare(folder: Path) -> None:
    """Make the folder and prove that a file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ExperimentError(f"--out {folder} cannot be written: {error.strerror}") from error


def write(path: Path, produce: Callable[[BinaryIO], object]) -> None:
    """Let `produce` fill `path` atomically: a reader sees the old content or all of the new."""
    content = io.BytesIO()
    produce(content)
    # Always the same name, so that what a kill leaves behind goes when the run is resumed.
    draft = path.with_name(f".{path.name}-draft")
    try:
        draft.write_bytes(content.getbuffer())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ExperimentError(f"{path} cannot be written: {error.strerror}") from error


def write_json(path: Path, content: dict[str, object]) -> None:
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write(path, lambda file: file.write(text.encode()))


def write_params(path: Path, params: Params) -> None:
    """One array per entry, named like `C1/kernel`; `np.load` reads it back."""
    arrays: dict[str, Any] = {
        f"{layer}/{name}": np.asarray(array)
        for layer, entries in params.items()
        for name, array in entries.items()
    }
    write(path, lambda file: np.savez_compressed(file, **arrays))


def versions() -> dict[str, str]:
    """The packages and the platform that made the numbers."""
    found = {"python": platform.python_version(), "platform": jax.default_backend()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
