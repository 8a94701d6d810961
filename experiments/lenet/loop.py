"""The training loop: epochs of steps behind a progress bar, with checkpoints along the way."""

from __future__ import annotations

import time

import jax
from tqdm import tqdm

import lenet
from checkpoint import Checkpoints
from history import History
from images import Labelled, Parts
from log import Log
from schedule import SCHEDULES
from settings import Config, ExperimentError
from step import (
    Predict,
    Snapshot,
    Step,
    TrainState,
    accuracy,
    batches,
    init_state,
    make_optimizer,
    make_step,
)

SHOWN_EVERY = 10


def fit(
    config: Config, parts: Parts, ops: lenet.Operators, predict: Predict, checkpoints: Checkpoints
) -> tuple[lenet.Params, History]:
    """Train from the newest checkpoint, or from the start, until `History.finished`."""
    if config.batch_size > len(parts.train.labels):
        raise ExperimentError(
            f"--batch-size must be at most the {len(parts.train.labels)} training images, "
            f"got {config.batch_size}"
        )
    steps_per_epoch = len(parts.train.labels) // config.batch_size
    total = config.epochs * steps_per_epoch
    optimizer = make_optimizer(config, total)
    start = init_state(config, optimizer)
    snapshot, history = checkpoints.restore(start)
    log = Log(config.out, history.epochs)
    if history.finished(config):
        return snapshot.chosen, history
    clock = time.perf_counter()
    step = compile_step(config, make_step(config, ops, optimizer), start.train, parts.train)
    for part in (parts.validation, parts.test):
        if part is not None:
            predict(start.chosen, part.images)  # compiles it, so that no epoch's time does
    history.compile_seconds = round(time.perf_counter() - clock, 3)
    done = len(history.epochs) * steps_per_epoch + len(history.measured)
    with tqdm(total=total, initial=done, unit="step", mininterval=0.5) as bar:
        run = _Run(config, parts, checkpoints, log, step, predict, bar)
        while not history.finished(config):
            snapshot = run.epoch(snapshot, history)
    return snapshot.chosen, history


def compile_step(config: Config, step: Step, state: TrainState, train: Labelled) -> Step:
    """The step compiled ahead; an algorithm that cannot run this network says so here."""
    example = next(batches(config, train, epoch=1))
    try:
        return jax.jit(step).lower(state, example).compile()
    except (TypeError, ValueError) as error:
        if config.algorithm == Config.algorithm:
            raise
        raise ExperimentError(f"--algorithm {config.algorithm}: {error}") from error


class _Run:
    """What stays the same from epoch to epoch."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        checkpoints: Checkpoints,
        log: Log,
        step: Step,
        predict: Predict,
        bar: tqdm,
    ) -> None:
        self.config, self.parts, self.checkpoints = config, parts, checkpoints
        self.log, self.step, self.predict, self.bar = log, step, predict, bar
        self.rate = SCHEDULES[config.schedule](config.learning_rate, bar.total)

    def epoch(self, snapshot: Snapshot, history: History) -> Snapshot:
        """The rest of the epoch under way, its evaluation and its checkpoint."""
        self.bar.set_description(f"epoch {history.epoch}/{self.config.epochs}", refresh=False)
        state, clock, fresh = snapshot.train, time.perf_counter(), []
        for batch in batches(self.config, self.parts.train, history.epoch, first=len(history.measured)):
            if fresh and self._checkpoint_due():
                clock = _collect(history, fresh, clock)
                self.checkpoints.save(self.bar.n, Snapshot(state, snapshot.chosen), history)
            state, loss_and_accuracy = self.step(state, batch)
            fresh.append(loss_and_accuracy)
            self.bar.update()
            # Reading a number waits for the device, so the bar shows only some of them.
            if len(fresh) % SHOWN_EVERY == 0:
                loss, hits = (float(value) for value in loss_and_accuracy)
                self.bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{hits:.3f}", refresh=False)
        validation_loss, test_accuracy = self._evaluate(state.params)
        _collect(history, fresh, clock)
        history.end_epoch(test_accuracy, validation_loss, float(self.rate(self.bar.n - 1)))
        newest_is_best = history.chosen_epoch == len(history.epochs)
        snapshot = Snapshot(state, state.params if newest_is_best else snapshot.chosen)
        self.checkpoints.save(self.bar.n, snapshot, history, finished=history.finished(self.config))
        self.log.append(history.epochs[-1])
        return snapshot

    def _evaluate(self, params: lenet.Params) -> tuple[float | None, float]:
        """The loss on the images held back, if there are any, and the accuracy on those held out."""
        validation, test = self.parts.validation, self.parts.test
        loss = None
        if validation is not None:
            measure = lenet.LOSS_FUNCTIONS[self.config.loss]
            loss = float(measure(self.predict(params, validation.images), validation.labels))
        return loss, accuracy(self.predict(params, test.images), test.labels)

    def _checkpoint_due(self) -> bool:
        every = self.config.checkpoint_every
        return every > 0 and self.bar.n % every == 0


def _collect(history: History, fresh: list[jax.Array], clock: float) -> float:
    """Move the numbers of the newest steps from the device into the history; the time now."""
    history.measured += [row.tolist() for row in jax.device_get(fresh)]
    fresh.clear()
    now = time.perf_counter()
    history.seconds += now - clock
    return now
