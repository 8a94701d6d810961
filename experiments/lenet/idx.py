"""IDX files, the format of MNIST and Fashion-MNIST, plain or compressed."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from images import CLASSES, Labelled
from settings import ExperimentError

SIDE = 28
GZIP_MAGIC = b"\x1f\x8b"


def load(folder: Path) -> tuple[Labelled, Labelled]:
    """The training and the test part, images uint8 [N, 28, 28, 1]."""
    if not folder.is_dir():
        raise ExperimentError(f"--data {folder} is not a folder: give the one with the IDX files")
    return _part(folder, "train"), _part(folder, "t10k")


def _part(folder: Path, part: str) -> Labelled:
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
    return Labelled(images[..., None], labels.astype(np.int32))


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
