"""Errors of single layers: every algorithm and pass against float64, and Winograd by the size of its tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

import jaxconv

ALGORITHMS = ("direct", "gemm", "banded", "winograd", "fft", "depthwise", "grouped", "xla", "outer")
PASSES = ("forward", "input_grad", "kernel_grad")
QUANTILES = np.concatenate([np.linspace(0.01, 0.99, 50), [0.999, 0.9999]])

# x [N, H, W, C], kernel [K, K, C / groups, O], groups. An output sums from 9 to 2,304 products.
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "5x5, 1 to 6 channels": ((4, 28, 28, 1), (5, 5, 1, 6), 1),
    "3x3, 16 channels": ((4, 28, 28, 16), (3, 3, 16, 16), 1),
    "3x3, 256 channels": ((1, 14, 14, 256), (3, 3, 256, 256), 1),
    "1x1, 128 channels": ((1, 28, 28, 128), (1, 1, 128, 128), 1),
    "9x9, 16 channels": ((1, 28, 28, 16), (9, 9, 16, 16), 1),
    "3x3 depthwise": ((1, 28, 28, 64), (3, 3, 1, 64), 64),
    "3x3, 4 groups": ((1, 28, 28, 64), (3, 3, 16, 64), 4),
}
NARROW_CASES = ("3x3, 16 channels", "3x3, 256 channels", "3x3 depthwise", "3x3, 4 groups")


def passes(x: Array, w: Array, g: Array, groups: int, algorithm: str) -> tuple[Array, ...]:
    """The three passes by their public names."""
    options: dict[str, Any] = dict(groups=groups, algorithm=algorithm)
    y = jaxconv.conv(x, w, **options)
    dx = jaxconv.conv_input_gradient(g, w, x.shape, **options)
    dw = jaxconv.conv_kernel_gradient(x, g, w.shape, **options)
    return y, dx, dw


def reference(x: np.ndarray, w: np.ndarray, g: np.ndarray, groups: int) -> tuple[np.ndarray, ...]:
    """The same by lax and JAX's own gradients in float64, from the very numbers that the passes got."""

    def forward(x: Array, w: Array) -> Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=groups
        )

    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, w, g)]
        y, pull = jax.vjp(forward, *wide[:2])
        return tuple(np.asarray(a) for a in (y, *pull(wide[2])))


def operands(case: str, dtype: str, seed: int) -> tuple[Array, Array, Array]:
    """Normal x, kernel and dy of the dtype."""
    x_shape, w_shape, _ = CASES[case]
    rng = np.random.default_rng(seed)
    shapes = (x_shape, w_shape, (*x_shape[:-1], w_shape[-1]))
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def relative_errors(result: Any, exact: np.ndarray) -> np.ndarray:
    """|result - exact| over the root mean square of exact."""
    return np.abs(np.asarray(result, np.float64) - exact).ravel() / np.sqrt(np.mean(exact**2))


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def measure_case(case: str, dtype: str, algorithms: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """One record for each algorithm that can run the case, and pass."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    groups, run = CASES[case][2], jax.jit(passes, static_argnums=(3, 4))
    for seed in range(seeds):
        x, w, g = operands(case, dtype, seed)
        exact = reference(*(np.asarray(a, np.float64) for a in (x, w, g)), groups)
        for algorithm in algorithms:
            try:
                results = run(x, w, g, groups, algorithm)
            except NotImplementedError:  # a named algorithm that has no way to compute this case
                continue
            for name, result, truth in zip(PASSES, results, exact, strict=True):
                found.setdefault((algorithm, name), []).append(relative_errors(result, truth))
    return [
        {
            "case": case, "dtype": dtype, "algorithm": algorithm, "pass": name,
            "rms": rms(np.stack(errors)), "max": float(np.max(errors)),
            "quantiles": np.quantile(np.concatenate(errors), QUANTILES).tolist(),
        }
        for (algorithm, name), errors in found.items()
    ]  # fmt: skip


# The points at which F(m, r) evaluates its polynomials, the usual ones; the last is infinity.
POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2, 4, -4, 1 / 4, -1 / 4)


def vandermonde(products: int, size: int) -> np.ndarray:
    """Values of a polynomial with `size` coefficients at `products` points: [products, size]."""
    at_infinity = np.eye(size)[-1:]
    return np.concatenate([np.vander(POINTS[: products - 1], size, increasing=True), at_infinity])


def tile_transforms(outputs: int, taps: int) -> tuple[np.ndarray, ...]:
    """A^T, G and B^T of F(m, r): polynomial multiplication transposed (Lavin & Gray 2015)."""
    products = outputs + taps - 1
    square = vandermonde(products, products)
    return vandermonde(products, outputs).T, vandermonde(products, taps), np.linalg.inv(square).T


def winograd_tiles(x: np.ndarray, w: np.ndarray, outputs: int) -> np.ndarray:
    """F(m x m, r x r) of tiles x [N, P, P, C] and kernel w [r, r, C, O] in x's dtype: [N, m, m, O]."""
    at, g, bt = (a.astype(x.dtype) for a in tile_transforms(outputs, w.shape[0]))
    v = np.einsum("ip,npqc,jq->ijnc", bt, x, bt, optimize=True)
    u = np.einsum("ia,abco,jb->ijco", g, w, g, optimize=True)
    return np.einsum("mi,ijno,lj->nmlo", at, v @ u, at, optimize=True)


def measure_tiles(sizes: Sequence[int], images: int, channels: int, seeds: int) -> list[dict[str, Any]]:
    """One tile of m x m outputs per image, 3 x 3 kernels, float32: the library's, and any size in NumPy."""
    records = []
    valid = jax.jit(lambda x, w, name: jaxconv.conv(x, w, padding="VALID", algorithm=name), static_argnums=2)
    for outputs in sizes:
        errors: dict[str, list[float]] = {}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=(images, outputs + 2, outputs + 2, channels)).astype(np.float32)
            w = rng.normal(size=(3, 3, channels, channels)).astype(np.float32)
            with jax.enable_x64(True):
                wide = [a.astype(np.float64) for a in (x, w)]
                exact = np.asarray(jaxconv.conv(*wide, padding="VALID", algorithm="direct"))
            results = {"direct": valid(x, w, "direct"), "NumPy": winograd_tiles(x, w, outputs)}
            if outputs <= 4:
                results["jaxconv"] = valid(x, w, "winograd")
            for name, result in results.items():
                errors.setdefault(name, []).append(rms(relative_errors(result, exact)))
        records.append({"outputs": outputs, **errors})
    return records
