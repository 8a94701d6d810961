"""The training loop: epochs of steps behind a progress bar, with checkpoints along the way."""

from __future__ import annotations

import time

import jax
from tqdm import tqdm

import lenet
from checkpoint import Checkpoints
from history import History
from mnist import Digits
from settings import Config, ExperimentError
from step import (
    Predict,
    Step,
    TrainState,
    accuracy,
    batches,
    init_state,
    make_optimizer,
    make_predict,
    make_step,
)

SHOWN_EVERY = 10


def fit(
    config: Config, train: Digits, test: Digits, ops: lenet.Operators, checkpoints: Checkpoints
) -> tuple[TrainState, History]:
    """Train from the newest checkpoint, or from the start, to the end of `config.epochs` epochs."""
    if config.batch_size > len(train.labels):
        raise ExperimentError(
            f"--batch-size must be at most the {len(train.labels)} training digits, got {config.batch_size}"
        )
    steps_per_epoch = len(train.labels) // config.batch_size
    optimizer = make_optimizer(config, config.epochs * steps_per_epoch)
    start = init_state(config, optimizer)
    state, history = checkpoints.restore(start)
    if finished(config, history):
        return state, history
    clock, predict = time.perf_counter(), make_predict(ops)
    step = compile_step(config, make_step(config, ops, optimizer), start, train)
    accuracy(predict, start.params, test)  # compiles it, so that no epoch's time does
    history.compile_seconds = round(time.perf_counter() - clock, 3)
    done = len(history.epochs) * steps_per_epoch + len(history.measured)
    with tqdm(total=config.epochs * steps_per_epoch, initial=done, unit="step", mininterval=0.5) as bar:
        run = _Run(config, train, test, checkpoints, step, predict, bar)
        while not finished(config, history):
            state = run.epoch(state, history)
    return state, history


def finished(config: Config, history: History) -> bool:
    return len(history.epochs) >= config.epochs


def compile_step(config: Config, step: Step, state: TrainState, train: Digits) -> Step:
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
        train: Digits,
        test: Digits,
        checkpoints: Checkpoints,
        step: Step,
        predict: Predict,
        bar: tqdm,
    ) -> None:
        self.config, self.train, self.test, self.checkpoints = config, train, test, checkpoints
        self.step, self.predict, self.bar = step, predict, bar

    def epoch(self, state: TrainState, history: History) -> TrainState:
        """The rest of the epoch under way, its evaluation and its checkpoint."""
        self.bar.set_description(f"epoch {history.epoch}/{self.config.epochs}", refresh=False)
        clock, fresh = time.perf_counter(), []
        for batch in batches(self.config, self.train, history.epoch, first=len(history.measured)):
            if fresh and self._checkpoint_due():
                clock = _collect(history, fresh, clock)
                self.checkpoints.save(self.bar.n, state, history)
            state, loss_and_accuracy = self.step(state, batch)
            fresh.append(loss_and_accuracy)
            self.bar.update()
            # Reading a number waits for the device, so the bar shows only some of them.
            if len(fresh) % SHOWN_EVERY == 0:
                loss, hits = (float(value) for value in loss_and_accuracy)
                self.bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{hits:.3f}", refresh=False)
        test_accuracy = accuracy(self.predict, state.params, self.test)
        _collect(history, fresh, clock)
        history.end_epoch(test_accuracy)
        self.checkpoints.save(self.bar.n, state, history, finished=finished(self.config, history))
        return state

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
