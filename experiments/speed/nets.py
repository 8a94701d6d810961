"""Four small networks, each written once for JAX with convolution and pooling left open.

Images are `[N, H, W, C]`, kernels `[K, K, C/groups, O]`, dense weights `[C, O]`. `torch_nets.py`
holds the same architectures for PyTorch over the same parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Parameters: TypeAlias = Mapping[str, Any]

VGG_CHANNELS = (32, 32, 64, 64, 128, 128)
MOBILENET_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1))
CONVNEXT_STAGES = (64, 128, 256)
CONVNEXT_DEPTH = 2
NUMBERS = ("NHWC", "HWIO", "NHWC")


@dataclass(frozen=True)
class Net:
    """Parameter shapes, and logits `[N, classes]` from `(parameters, images, operations)`."""

    shapes: Shapes
    apply: Callable[[Parameters, Any, Any], Any]


def draw(shapes: Shapes, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """He-normal weights; biases zero, scales one."""

    def one(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.ones(shape) if name.endswith("scale") else np.zeros(shape)
        return rng.normal(size=shape) * math.sqrt(2 / math.prod(shape[:-1]))

    return {name: one(name, shape) for name, shape in shapes.items()}


def _conv(p: Parameters, name: str, x: Any, ops: Any, stride: int = 1, groups: int = 1) -> Any:
    """Convolution plus bias; odd kernels keep the map's size, even ones take no padding."""
    w = p[f"{name}_w"]
    pad = (w.shape[0] - 1) // 2 if w.shape[0] % 2 else 0
    y = ops.conv(
        x,
        w,
        (stride, stride),
        ((pad, pad),) * 2,
        dimension_numbers=NUMBERS,
        feature_group_count=groups,
    )
    return y + p[f"{name}_b"]


def _dense(p: Parameters, name: str, x: Any) -> Any:
    return x @ p[f"{name}_w"] + p[f"{name}_b"]


def _halve(x: Any, ops: Any) -> Any:
    return ops.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0)))


def _layer_norm(p: Parameters, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-6) * p[f"{name}_scale"] + p[f"{name}_shift"]


def _lenet(p: Parameters, x: Any, ops: Any) -> Any:
    x = _halve(jax.nn.relu(_conv(p, "conv1", x, ops)), ops)
    x = _halve(jax.nn.relu(_conv(p, "conv2", x, ops)), ops)
    x = x.reshape(x.shape[0], -1)
    x = jax.nn.relu(_dense(p, "dense1", x))
    x = jax.nn.relu(_dense(p, "dense2", x))
    return _dense(p, "dense3", x)


def _vgg_small(p: Parameters, x: Any, ops: Any) -> Any:
    for i in range(len(VGG_CHANNELS)):
        x = jax.nn.relu(_conv(p, f"conv{i}", x, ops))
        if i % 2:
            x = _halve(x, ops)
    return _dense(p, "dense", x.reshape(x.shape[0], -1))


def _mobilenet(p: Parameters, x: Any, ops: Any) -> Any:
    x = jax.nn.relu(_conv(p, "stem", x, ops, stride=2))
    for i, (_, stride) in enumerate(MOBILENET_BLOCKS):
        x = jax.nn.relu(_conv(p, f"depthwise{i}", x, ops, stride, groups=x.shape[-1]))
        x = jax.nn.relu(_conv(p, f"pointwise{i}", x, ops))
    return _dense(p, "dense", x.mean((1, 2)))


def _convnext_block(p: Parameters, name: str, x: Any, ops: Any) -> Any:
    y = _conv(p, f"{name}_depthwise", x, ops, groups=x.shape[-1])
    y = _conv(p, f"{name}_expand", _layer_norm(p, f"{name}_norm", y), ops)
    return x + _conv(p, f"{name}_reduce", jax.nn.gelu(y, approximate=False), ops)


def _convnext(p: Parameters, x: Any, ops: Any) -> Any:
    for i in range(len(CONVNEXT_STAGES)):
        x = _conv(p, f"down{i}", x, ops, stride=2 if i else 4)
        for j in range(CONVNEXT_DEPTH):
            x = _convnext_block(p, f"block{i}{j}", x, ops)
    return _dense(p, "dense", x.mean((1, 2)))


def _layer(name: str, *shape: int) -> Shapes:
    return {f"{name}_w": shape, f"{name}_b": shape[-1:]}


def _lenet_shapes() -> Shapes:
    return {
        **_layer("conv1", 5, 5, 1, 6),
        **_layer("conv2", 5, 5, 6, 16),
        **_layer("dense1", 7 * 7 * 16, 120),
        **_layer("dense2", 120, 84),
        **_layer("dense3", 84, 10),
    }


def _vgg_small_shapes() -> Shapes:
    shapes: Shapes = {}
    for i, (c, o) in enumerate(zip((3, *VGG_CHANNELS), VGG_CHANNELS, strict=False)):
        shapes |= _layer(f"conv{i}", 3, 3, c, o)
    return shapes | _layer("dense", 4 * 4 * VGG_CHANNELS[-1], 10)


def _mobilenet_shapes() -> Shapes:
    channels = 32
    shapes = _layer("stem", 3, 3, 3, channels)
    for i, (out, _) in enumerate(MOBILENET_BLOCKS):
        shapes |= _layer(f"depthwise{i}", 3, 3, 1, channels)
        shapes |= _layer(f"pointwise{i}", 1, 1, channels, out)
        channels = out
    return shapes | _layer("dense", channels, 10)


def _convnext_shapes() -> Shapes:
    shapes: Shapes = {}
    for i, (c, o) in enumerate(zip((3, *CONVNEXT_STAGES), CONVNEXT_STAGES, strict=False)):
        size = 2 if i else 4
        shapes |= _layer(f"down{i}", size, size, c, o)
        for j in range(CONVNEXT_DEPTH):
            name = f"block{i}{j}"
            shapes |= _layer(f"{name}_depthwise", 7, 7, 1, o)
            shapes |= {f"{name}_norm_scale": (o,), f"{name}_norm_shift": (o,)}
            shapes |= _layer(f"{name}_expand", 1, 1, o, 4 * o)
            shapes |= _layer(f"{name}_reduce", 1, 1, 4 * o, o)
    return shapes | _layer("dense", CONVNEXT_STAGES[-1], 10)


NETS: dict[str, Net] = {
    "lenet_step": Net(_lenet_shapes(), _lenet),
    "vgg_small_step": Net(_vgg_small_shapes(), _vgg_small),
    "mobilenet_step": Net(_mobilenet_shapes(), _mobilenet),
    "convnext_step": Net(_convnext_shapes(), _convnext),
}
