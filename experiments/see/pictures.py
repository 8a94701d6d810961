"""Real photographs that ship inside scikit-image, and patches of them to tell apart."""

from __future__ import annotations

import numpy as np

from mnist import Digits
from settings import ExperimentError

NAMES = ("brick", "grass", "gravel", "coins", "chelsea", "coffee", "rocket", "page")
SIDE = 32
TRAINED_PART = 0.6  # of a picture's width, from the left; the rest is held out


def load(name: str) -> np.ndarray:
    """One photograph as grey bytes [H, W] of mean 128 and deviation 48, so that no level gives it away."""
    try:
        from skimage import data
    except ImportError as error:
        raise ExperimentError(
            "the photographs come with the package scikit-image, which is not installed: install it"
        ) from error
    picture = np.asarray(getattr(data, name)(), np.float64)
    if picture.ndim == 3:
        picture = picture[..., :3] @ [0.299, 0.587, 0.114]
    scaled = 128 + 48 * (picture - picture.mean()) / picture.std()
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def cut(picture: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random patches [count, SIDE, SIDE, 1]."""
    rows, columns = (rng.integers(size - SIDE + 1, size=count) for size in picture.shape)
    return np.stack([picture[i : i + SIDE, j : j + SIDE, None] for i, j in zip(rows, columns, strict=True)])


def patches(train_each: int, test_each: int) -> tuple[Digits, Digits]:
    """Patches labelled by their picture: training ones from the left part, held-out ones from the right."""
    rng = np.random.default_rng(0)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in NAMES:
        picture = load(name)
        edge = int(TRAINED_PART * picture.shape[1])
        parts[0].append(cut(picture[:, :edge], train_each, rng))
        parts[1].append(cut(picture[:, edge:], test_each, rng))
    train, test = (
        Digits(np.concatenate(images), np.repeat(np.arange(len(NAMES), dtype=np.int32), each))
        for images, each in zip(parts, (train_each, test_each), strict=True)
    )
    return train, test
