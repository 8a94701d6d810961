"""The record of a run: every epoch finished, and the steps of the one under way."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from settings import Config, ExperimentError

RECORDED_STEPS = 100


@dataclass(frozen=True)
class Epoch:
    epoch: int
    train_loss: float  # mean over the epoch's steps, each before its own update
    train_accuracy: float  # likewise, on the shifted images
    test_accuracy: float  # on the held-out images, after the epoch
    validation_loss: float | None  # on the images held back for --early-stop, after the epoch
    learning_rate: float  # of its last step
    seconds: float  # training steps and evaluation


@dataclass
class History:
    compile_seconds: float = 0.0  # of the process that ends the run
    step_losses: list[float] = field(default_factory=list)  # the first RECORDED_STEPS
    epochs: list[Epoch] = field(default_factory=list)
    # The epoch under way: [loss, accuracy] of each of its steps, and the seconds it has taken.
    measured: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    resumed_at: list[int] = field(default_factory=list)  # steps done when a process took over

    @property
    def epoch(self) -> int:
        """The number of the epoch under way."""
        return len(self.epochs) + 1

    @property
    def chosen_epoch(self) -> int:
        """The epoch whose parameters count: of the lowest validation loss, else the last that ended."""
        losses = [epoch.validation_loss for epoch in self.epochs]
        watched = [loss for loss in losses if loss is not None]
        return losses.index(min(watched)) + 1 if watched else len(losses)

    def finished(self, config: Config) -> bool:
        ended = len(self.epochs)
        stalled = config.early_stop is not None and ended - self.chosen_epoch >= config.early_stop
        return stalled or ended >= config.epochs

    def end_epoch(self, test_accuracy: float, validation_loss: float | None, rate: float) -> None:
        """Turn the steps measured into the record of an epoch."""
        measured = np.array(self.measured)  # [steps, 2]
        loss, hits = (float(mean) for mean in measured.mean(axis=0))
        for value in (loss, validation_loss or 0.0):
            if not math.isfinite(value):
                raise ExperimentError(f"the training diverged: the loss of epoch {self.epoch} is {value}")
        missing = RECORDED_STEPS - len(self.step_losses)
        self.step_losses += measured[:missing, 0].tolist()
        seconds = round(self.seconds, 3)
        self.epochs.append(Epoch(self.epoch, loss, hits, test_accuracy, validation_loss, rate, seconds))
        self.measured, self.seconds = [], 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> History:
        """The inverse of `to_json`; JSON keeps every bit of a float."""
        return History(**content | {"epochs": [Epoch(**epoch) for epoch in content["epochs"]]})
