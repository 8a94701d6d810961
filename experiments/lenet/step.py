"""One training step and one evaluation as pure functions, and the batches they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

import lenet
from datasets import DATASETS
from images import Labelled
from schedule import SCHEDULES
from settings import Config

EVALUATION_BATCH = 500


class TrainState(NamedTuple):
    """All that a step changes, in one tree."""

    params: lenet.Params
    optimizer: optax.OptState


class Snapshot(NamedTuple):
    """All arrays that a resumed run needs."""

    train: TrainState
    chosen: lenet.Params  # of the best epoch that has ended, by `History.chosen_epoch`


class Batch(NamedTuple):
    """All that a step is given."""

    images: ArrayLike  # uint8 [B, H, W, C]
    labels: ArrayLike  # int32 [B]
    corners: ArrayLike  # int32 [B, 2], which window of its padded image each shows


Step = Callable[[TrainState, Batch], tuple[TrainState, Array]]
Predict = Callable[[lenet.Params, np.ndarray], np.ndarray]


def make_optimizer(config: Config, total_steps: int) -> optax.GradientTransformation:
    return optax.adam(SCHEDULES[config.schedule](config.learning_rate, total_steps))


def init_state(config: Config, optimizer: optax.GradientTransformation) -> Snapshot:
    params = lenet.init(config.seed, DATASETS[config.dataset].channels)
    return Snapshot(TrainState(params, optimizer.init(params)), params)


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
    """A function (params, images) -> outputs y [N, 10]."""

    @jax.jit
    def predict_batch(params: lenet.Params, images: Array) -> Array:
        return lenet.forward(params, scale(images), ops)

    def predict(params: lenet.Params, images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), EVALUATION_BATCH)
        parts = [predict_batch(params, images[i : i + EVALUATION_BATCH]) for i in starts]
        return np.concatenate(parts)

    return predict


def batches(config: Config, train: Labelled, epoch: int, first: int = 0) -> Iterator[Batch]:
    """One epoch's full batches, without its `first` ones.

    The seed and the epoch alone decide their order and their shifts: nothing of what came before.
    """
    rng = np.random.default_rng([config.seed, epoch])
    order = rng.permutation(len(train.labels))
    corners = rng.integers(2 * config.max_shift, size=(len(order), 2), dtype=np.int32, endpoint=True)
    for start in range(first * config.batch_size, len(order) - config.batch_size + 1, config.batch_size):
        chosen = order[start : start + config.batch_size]
        yield Batch(train.images[chosen], train.labels[chosen], corners[chosen])


def one_image(params: lenet.Params, image: np.ndarray, ops: lenet.Operators) -> dict[str, np.ndarray]:
    """Every layer's output for a single image [H, W, C], each without its batch axis."""

    @jax.jit
    def see(params: lenet.Params, image: Array) -> dict[str, Array]:
        return lenet.activations(params, scale(image)[None], ops)

    return {layer: np.asarray(array[0]) for layer, array in see(params, image).items()}


def accuracy(y: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(y.argmax(axis=-1) == labels))
