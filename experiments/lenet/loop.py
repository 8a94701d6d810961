"""The training loop: a jitted step, an evaluation, and the record of every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike
from tqdm import tqdm

import lenet
from mnist import Digits
from settings import Config, ExperimentError

RECORDED_STEPS = 100
EVALUATION_BATCH = 500
SHOWN_EVERY = 10


class TrainState(NamedTuple):
    """All that a step changes, in one tree."""

    params: lenet.Params
    optimizer: optax.OptState


class Batch(NamedTuple):
    """All that a step is given."""

    images: ArrayLike  # uint8 [B, 28, 28, 1]
    labels: ArrayLike  # int32 [B]
    corners: ArrayLike  # int32 [B, 2], which window of its padded image each digit shows


@dataclass(frozen=True)
class Epoch:
    epoch: int
    train_loss: float  # mean over the epoch's steps, each before its own update
    train_accuracy: float  # likewise, on the shifted digits
    test_accuracy: float  # on the held-out digits, after the epoch
    seconds: float  # training steps and evaluation


@dataclass
class History:
    compile_seconds: float = 0.0
    step_losses: list[float] = field(default_factory=list)  # the first RECORDED_STEPS
    epochs: list[Epoch] = field(default_factory=list)

    def add(self, epoch: int, measured: np.ndarray, test_accuracy: float, seconds: float) -> None:
        """Record an epoch from its steps' [loss, accuracy], [steps, 2]."""
        loss, hits = (float(mean) for mean in measured.mean(axis=0))
        if not math.isfinite(loss):
            raise ExperimentError(f"the training diverged: the loss of epoch {epoch} is {loss}")
        self.epochs.append(Epoch(epoch, loss, hits, test_accuracy, round(seconds, 3)))
        missing = RECORDED_STEPS - len(self.step_losses)
        self.step_losses += measured[:missing, 0].tolist()


Step = Callable[[TrainState, Batch], tuple[TrainState, Array]]
Predict = Callable[[lenet.Params, np.ndarray], np.ndarray]


def make_optimizer(config: Config, total_steps: int) -> optax.GradientTransformation:
    """Adam whose rate falls to zero along a cosine, so that the last epoch is not a lucky one."""
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, total_steps))


def init_state(config: Config, optimizer: optax.GradientTransformation) -> TrainState:
    params = lenet.init(config.seed)
    return TrainState(params, optimizer.init(params))


def scale(images: ArrayLike) -> Array:
    """Bytes 0..255 to 0..1 in JAX's default float: float32, or float64 with JAX_ENABLE_X64=1."""
    return jnp.asarray(images, float) / 255


def shift(x: Array, corners: ArrayLike, max_shift: int) -> Array:
    """Every image of x [N, H, W, C] padded with `max_shift` zeros, then cut to its size at its corner.

    A corner, one of corners [N, 2] from 0 to 2 max_shift, moves its image by max_shift - corner.
    """
    height, width = x.shape[1:3]
    margin = ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0))

    def crop(image: Array, corner: Array) -> Array:
        rows = lax.dynamic_slice_in_dim(image, corner[0], height, axis=0)
        return lax.dynamic_slice_in_dim(rows, corner[1], width, axis=1)

    return jax.vmap(crop)(jnp.pad(x, margin), jnp.asarray(corners))


def make_loss(config: Config, ops: lenet.Operators) -> Callable[..., tuple[Array, Array]]:
    """A function (params, x, labels) -> (loss, accuracy)."""
    measure = lenet.LOSS_FUNCTIONS[config.loss]

    def loss(params: lenet.Params, x: Array, labels: Array) -> tuple[Array, Array]:
        y = lenet.forward(params, x, ops)
        return measure(y, labels), jnp.mean(y.argmax(axis=-1) == labels)

    return loss


def make_step(config: Config, ops: lenet.Operators, optimizer: optax.GradientTransformation) -> Step:
    """A pure function (state, batch) -> (state, [loss, accuracy])."""
    loss_and_gradient = jax.value_and_grad(make_loss(config, ops), has_aux=True)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        x = shift(scale(batch.images), batch.corners, config.max_shift)
        (loss, accuracy), gradient = loss_and_gradient(state.params, x, batch.labels)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, optimizer_state), jnp.stack([loss, accuracy])

    return step


def make_predict(ops: lenet.Operators) -> Predict:
    """A function (params, images) -> predicted labels, int [N]."""

    @jax.jit
    def predict_batch(params: lenet.Params, images: Array) -> Array:
        return lenet.forward(params, scale(images), ops).argmax(axis=-1)

    def predict(params: lenet.Params, images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), EVALUATION_BATCH)
        parts = [predict_batch(params, images[i : i + EVALUATION_BATCH]) for i in starts]
        return np.concatenate(parts)

    return predict


def batches(config: Config, train: Digits, epoch: int) -> Iterator[Batch]:
    """One epoch's full batches; the seed and the epoch alone decide their order and their shifts."""
    rng = np.random.default_rng([config.seed, epoch])
    order = rng.permutation(len(train.labels))
    corners = rng.integers(2 * config.max_shift, size=(len(order), 2), dtype=np.int32, endpoint=True)
    for start in range(0, len(order) - config.batch_size + 1, config.batch_size):
        chosen = order[start : start + config.batch_size]
        yield Batch(train.images[chosen], train.labels[chosen], corners[chosen])


def fit(config: Config, train: Digits, test: Digits, ops: lenet.Operators) -> tuple[TrainState, History]:
    """Train for `config.epochs` epochs behind a progress bar."""
    if config.batch_size > len(train.labels):
        raise ExperimentError(
            f"--batch-size must be at most the {len(train.labels)} training digits, got {config.batch_size}"
        )
    total_steps = config.epochs * (len(train.labels) // config.batch_size)
    optimizer = make_optimizer(config, total_steps)
    state, history, predict = init_state(config, optimizer), History(), make_predict(ops)
    start = time.perf_counter()
    step = compile_step(config, make_step(config, ops, optimizer), state, train)
    accuracy(predict, state.params, test)  # compiles it, so that no epoch's time does
    history.compile_seconds = round(time.perf_counter() - start, 3)
    with tqdm(total=total_steps, unit="step", mininterval=0.5) as bar:
        for epoch in range(1, config.epochs + 1):
            start = time.perf_counter()
            bar.set_description(f"epoch {epoch}/{config.epochs}", refresh=False)
            state, measured = run_epoch(step, state, batches(config, train, epoch), bar)
            test_accuracy = accuracy(predict, state.params, test)
            history.add(epoch, measured, test_accuracy, time.perf_counter() - start)
    return state, history


def compile_step(config: Config, step: Step, state: TrainState, train: Digits) -> Step:
    """The step compiled ahead; an algorithm that cannot run this network says so here."""
    example = next(batches(config, train, epoch=1))
    try:
        return jax.jit(step).lower(state, example).compile()
    except (TypeError, ValueError) as error:
        if config.algorithm == Config.algorithm:
            raise
        raise ExperimentError(f"--algorithm {config.algorithm}: {error}") from error


def run_epoch(
    step: Step, state: TrainState, epoch_batches: Iterator[Batch], bar: tqdm
) -> tuple[TrainState, np.ndarray]:
    """One pass: the state after it, and [loss, accuracy] of every step, [steps, 2]."""
    measured = []
    for batch in epoch_batches:
        state, loss_and_accuracy = step(state, batch)
        measured.append(loss_and_accuracy)
        bar.update()
        # Reading a number waits for the device, so the bar shows only some of them.
        if len(measured) % SHOWN_EVERY == 0:
            loss, hits = (float(value) for value in loss_and_accuracy)
            bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{hits:.3f}", refresh=False)
    return state, np.asarray(jax.device_get(measured), np.float64)


def one_digit(params: lenet.Params, image: np.ndarray, ops: lenet.Operators) -> dict[str, np.ndarray]:
    """Every layer's output for a single image [28, 28, 1], each without its batch axis."""

    @jax.jit
    def see(params: lenet.Params, image: Array) -> dict[str, Array]:
        return lenet.activations(params, scale(image)[None], ops)

    return {layer: np.asarray(array[0]) for layer, array in see(params, image).items()}


def accuracy(predict: Predict, params: lenet.Params, digits: Digits) -> float:
    return float(np.mean(predict(params, digits.images) == digits.labels))
