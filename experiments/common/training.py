"""Training on digits for any pure network: the step, the epochs and the record of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import lenet
import mnist
import step
from settings import Config

Network = Callable[[Any, Array], Array]  # (parameters, images [N, 28, 28, 1] of 0..1) -> outputs [N, 10]
Loss = Callable[[Array, Array], Array]  # (outputs [N, 10], labels [N]) -> a number
EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Recipe:
    """How to train: everything but the network and its data."""

    epochs: int
    loss: Loss = lenet.cross_entropy
    batch_size: int = 32
    rate: float = 2e-3
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.adam
    cosine: bool = True  # the rate falls to zero along a cosine, or stays
    max_shift: int = 2


@dataclass(frozen=True)
class Fit:
    """What a training leaves."""

    params: Any
    losses: np.ndarray  # [steps], each before its own update
    accuracies: list[float]  # on the held-out digits, after each epoch
    seconds: float  # of the steps alone, without compiling them


class Trainer:
    """Trains one network by one recipe; the step is compiled once for all seeds."""

    def __init__(self, network: Network, train: mnist.Digits, test: mnist.Digits, recipe: Recipe) -> None:
        self.train, self.test, self.recipe = train, test, recipe
        steps = recipe.epochs * (len(train.labels) // recipe.batch_size)
        rate = optax.cosine_decay_schedule(recipe.rate, steps) if recipe.cosine else recipe.rate
        self._optimizer = recipe.optimizer(rate)
        self._step = _make_step(network, recipe, self._optimizer)
        self.predict = make_predict(network)

    def fit(self, params: Any, seed: int) -> Fit:
        """Train from `params`; the seed decides the order of the digits and their shifts."""
        recipe = self.recipe
        config = Config(seed=seed, batch_size=recipe.batch_size, max_shift=recipe.max_shift)
        state = self._optimizer.init(params)
        # A step off the clock, its result dropped, so that no epoch's time holds the compilation.
        jax.block_until_ready(self._step(params, state, next(step.batches(config, self.train, 1))))
        losses, accuracies, seconds = [], [], 0.0
        for epoch in range(1, recipe.epochs + 1):
            start = time.perf_counter()
            for batch in step.batches(config, self.train, epoch):
                params, state, loss = self._step(params, state, batch)
                losses.append(loss)
            jax.block_until_ready(params)
            seconds += time.perf_counter() - start
            accuracies.append(accuracy(self.predict, params, self.test.images, self.test.labels))
        return Fit(params, np.asarray(jax.device_get(losses), np.float64), accuracies, seconds)


def _make_step(network: Network, recipe: Recipe, optimizer: optax.GradientTransformation) -> Any:
    def loss(params: Any, x: Array, labels: Array) -> Array:
        return recipe.loss(network(params, x), labels)

    @jax.jit
    def update(params: Any, state: Any, batch: step.Batch) -> tuple[Any, Any, Array]:
        x = step.shift(step.scale(batch.images), batch.corners, recipe.max_shift)
        value, gradient = jax.value_and_grad(loss)(params, x, batch.labels)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    return update


def make_predict(network: Network) -> Callable[[Any, np.ndarray], np.ndarray]:
    """A function (parameters, bytes [N, 28, 28, 1]) -> predicted labels, int [N]."""

    @jax.jit
    def predict_batch(params: Any, images: Array) -> Array:
        return jnp.argmax(network(params, step.scale(images)), axis=-1)

    def predict(params: Any, images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), EVALUATION_BATCH)
        return np.concatenate([predict_batch(params, images[i : i + EVALUATION_BATCH]) for i in starts])

    return predict


def accuracy(
    predict: Callable[..., np.ndarray], params: Any, images: np.ndarray, labels: np.ndarray
) -> float:
    return float(np.mean(predict(params, images) == labels))
