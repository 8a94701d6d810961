"""A stack of convolutions that can be looked into: its maps, and the way back from a map to the pixels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxconv

Params = dict[str, Any]  # "kernels" and "biases" of the convolutions, "head" [features, classes]
HALF = (2, 2)


class Stage(NamedTuple):
    """What one convolution with ReLU and the max pooling behind it leave."""

    maps: Array  # [N, H, W, O], after ReLU
    pooled: Array  # [N, H / 2, W / 2, O]
    winners: Array  # int32, the positions of the pooled values


def init(seed: int, kernels: tuple[tuple[int, ...], ...], features: int, classes: int) -> Params:
    """He-normal kernels [K, K, C, O] and head."""
    rng = np.random.default_rng(seed)
    shapes = (*kernels, (features, classes))
    *weights, head = (rng.normal(scale=math.sqrt(2 / math.prod(s[:-1])), size=s) for s in shapes)
    return {
        "kernels": [jnp.asarray(k, jnp.float32) for k in weights],
        "biases": [jnp.zeros(s[-1]) for s in kernels],
        "head": jnp.asarray(head, jnp.float32),
    }


def stages(params: Params, x: Array) -> list[Stage]:
    """Every layer's record for images x [N, H, W, 1] of 0..1."""
    found, x = [], x - 0.5
    for kernel, bias in zip(params["kernels"], params["biases"], strict=True):
        maps = jax.nn.relu(jaxconv.conv(x, kernel, bias))
        pooled, winners = jaxconv.max_pool_with_argmax(maps, HALF, HALF)
        found.append(Stage(maps, pooled, winners))
        x = pooled
    return found


def features(params: Params, x: Array) -> Array:
    """The last pooled maps, by the plain pooling."""
    x = x - 0.5
    for kernel, bias in zip(params["kernels"], params["biases"], strict=True):
        x = jaxconv.max_pool(jax.nn.relu(jaxconv.conv(x, kernel, bias)), HALF, HALF)
    return x


def read_flat(params: Params, x: Array) -> Array:
    """Outputs [N, classes] of a network for images of one size."""
    return features(params, x).reshape(len(x), -1) @ params["head"]


def read_mean(params: Params, x: Array) -> Array:
    """Outputs [N, classes] of a network for images of any size: the head reads each map's mean."""
    return jaxconv.global_avg_pool(features(params, x)) @ params["head"]


def project(params: Params, found: list[Stage], signal: Array) -> Array:
    """A signal on the last pooled maps of `found` carried back to the pixels (Zeiler & Fergus 2014).

    Each layer is undone in turn: `max_unpool` puts values back where the winners stood, ReLU keeps the
    positive ones, and the convolution's input gradient (T8) spreads them by the same kernel.
    """
    for stage, kernel in zip(found[::-1], params["kernels"][len(found) - 1 :: -1], strict=True):
        signal = jax.nn.relu(jaxconv.max_unpool(signal, stage.winners, stage.maps.shape[1:3]))
        input_shape = (*signal.shape[:3], kernel.shape[2])
        signal = jaxconv.conv_input_gradient(signal, kernel, input_shape)
    return signal


def strongest(pooled: Array, channel: int) -> tuple[int, int]:
    """Row and column where one map of a single image's `pooled` [1, H, W, O] is largest."""
    plane = np.asarray(pooled[0, ..., channel])
    row, column = np.unravel_index(plane.argmax(), plane.shape)
    return int(row), int(column)


def one_hot_signal(pooled: Array, place: tuple[int, int], channel: int) -> Array:
    """The activation at one place of one map of a single image, zero elsewhere: [1, H, W, O]."""
    at = (0, *place, channel)
    return jnp.zeros_like(pooled).at[at].set(pooled[at])


def saliency(read: Any, params: Params, x: Array, labels: Array) -> Array:
    """|d y[label] / d x| for each image: [N, H, W] (Simonyan, Vedaldi & Zisserman 2013)."""

    def chosen(x: Array) -> Array:
        return jnp.take_along_axis(read(params, x), labels[:, None], axis=1).sum()

    return jnp.abs(jax.grad(chosen)(x))[..., 0]
