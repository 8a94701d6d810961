"""Labelled images, and how a set of them is divided.

Images stay bytes 0..255 (T13) of shape [N, H, W, C] until a training step scales them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CLASSES = 10  # in every data set here
HELD_BACK_PART = 10
QUICK_TRAIN, QUICK_TEST = 640, 200
SPLIT_SEED = 0  # no split ever moves, whatever the run's own seed


class Labelled(NamedTuple):
    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]

    def first(self, count: int) -> Labelled:
        return Labelled(self.images[:count], self.labels[:count])

    def take(self, indices: np.ndarray) -> Labelled:
        return Labelled(self.images[indices], self.labels[indices])


class Parts(NamedTuple):
    """The images by what they are for; none is in two parts."""

    train: Labelled
    validation: Labelled | None  # to decide when to stop
    test: Labelled  # to judge the result, decides nothing


def shortened(train: Labelled, test: Labelled) -> tuple[Labelled, Labelled]:
    """So few of both that a smoke run takes seconds."""
    return train.first(QUICK_TRAIN), test.first(QUICK_TEST)


def split(data: Labelled, held_out_per_class: int) -> tuple[Labelled, Labelled]:
    """A stratified split: from every class the same number held out, and both parts shuffled."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(data.labels))
    labels = data.labels[order]
    held_out = np.zeros(len(labels), bool)
    for label in range(CLASSES):
        held_out[np.flatnonzero(labels == label)[:held_out_per_class]] = True
    return data.take(order[~held_out]), data.take(order[held_out])


def hold_back(train: Labelled) -> tuple[Labelled, Labelled]:
    """The training images without one in HELD_BACK_PART, and those; always the same ones."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train.labels))
    rest, held_back = np.split(order, [len(order) - len(order) // HELD_BACK_PART])
    return train.take(rest), train.take(held_back)
