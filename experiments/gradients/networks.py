"""Errors of whole networks: their growth with depth, and what training makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

import jaxconv
from experiments.common import lenet, mnist
from experiments.common.training import Fit, Network, Recipe, Trainer
from experiments.gradients.layers import relative_errors, rms

DEPTH, CHANNELS, SIDE = 24, 32, 16
COMPARED = ("direct", "gemm", "winograd", "fft", "xla")
BLOCKS = (
    (1, 8),
    (8, 8),
    (8, 16),
    (16, 16),
)  # channels in and out of 3 x 3 convolutions; pools after each two


def deep(x: Array, kernels: Array, g: Array, algorithm: str) -> tuple[Array, Array]:
    """Outputs of every layer [L, N, H, W, C] and gradients of <last, g> for every kernel [L, 3, 3, C, C]."""

    def run(kernels: Array) -> tuple[Array, Array]:
        def layer(x: Array, w: Array) -> tuple[Array, Array]:
            y = jax.nn.relu(jaxconv.conv(x, w, algorithm=algorithm))
            return y, y

        last, every = lax.scan(layer, x, kernels)
        return jnp.sum(last * g), every

    gradient, every = jax.grad(run, has_aux=True)(kernels)
    return every, gradient


def measure_depth(algorithms: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """By algorithm and layer, root mean square errors in float32 against "direct" in float64."""
    run = jax.jit(deep, static_argnums=3)
    errors: dict[str, list[Any]] = {name: [] for name in algorithms}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, g = (rng.normal(size=(2, SIDE, SIDE, CHANNELS)).astype(np.float32) for _ in range(2))
        scale = math.sqrt(2 / (9 * CHANNELS))
        kernels = rng.normal(scale=scale, size=(DEPTH, 3, 3, CHANNELS, CHANNELS)).astype(np.float32)
        with jax.enable_x64(True):
            wide = (jnp.asarray(a.astype(np.float64)) for a in (x, kernels, g))
            exact = [np.asarray(a) for a in run(*wide, "direct")]
        for name, runs in errors.items():
            results = run(x, kernels, g, name)
            runs.append([layer_errors(*pair) for pair in zip(results, exact, strict=True)])
    return [
        {
            "algorithm": name,
            "output": np.array(runs)[:, 0].tolist(),
            "kernel_grad": np.array(runs)[:, 1].tolist(),
        }
        for name, runs in errors.items()
    ]


def layer_errors(result: Array, exact: np.ndarray) -> list[float]:
    """Root mean square relative error of every layer of [L, ...]."""
    return [rms(relative_errors(a, b)) for a, b in zip(result, exact, strict=True)]


def init(seed: int, blocks: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """He-normal weights for 3 x 3 convolutions and a dense layer of ten outputs."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 3, *channels) for channels in blocks]
    side = mnist.SIDE >> len(blocks) // 2
    shapes.append((side * side * blocks[-1][1], lenet.CLASSES))
    kernels = [rng.normal(scale=math.sqrt(2 / math.prod(s[:-1])), size=s) for s in shapes]
    return {
        "kernels": [jnp.asarray(k, float) for k in kernels],
        "biases": [jnp.full(s[-1], 0.1, float) for s in shapes],
    }


def network(algorithm: str) -> Network:
    def forward(params: dict[str, Any], x: Array) -> Array:
        *layers, (dense, bias) = zip(params["kernels"], params["biases"], strict=True)
        for i, (kernel, offset) in enumerate(layers):
            x = jax.nn.relu(jaxconv.conv(x, kernel, offset, algorithm=algorithm))
            if i % 2:
                x = jaxconv.max_pool(x, (2, 2), (2, 2))
        return x.reshape(len(x), -1) @ dense + bias

    return forward


def measure_training(
    algorithms: Sequence[str], seeds: int, epochs: int, quick: bool
) -> tuple[list[dict[str, Any]], dict[str, list[Fit]]]:
    """Training runs by algorithm in float32, after one in float64."""
    train, test = mnist.load(None, quick=quick)
    blocks = BLOCKS[:2] if quick else BLOCKS
    fits: dict[str, list[Fit]] = {}
    for label in ("float64", *algorithms):
        with jax.enable_x64(label == "float64"):
            chosen = "direct" if label == "float64" else label
            trainer = Trainer(network(chosen), train, test, Recipe(epochs))
            fits[label] = [trainer.fit(init(seed, blocks), seed) for seed in range(seeds)]
    records = [
        {
            "run": label, "seed": seed, "accuracy": fitted.accuracies[-1],
            "last_losses": float(fitted.losses[-50:].mean()),
        }
        for label, runs in fits.items() for seed, fitted in enumerate(runs)
    ]  # fmt: skip
    return records, fits
