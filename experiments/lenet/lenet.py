"""LeNet-5 as pure functions: parameters in, activations out.

After LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proc. IEEE 86 (1998), in the form of today's textbooks: ReLU for the squashing functions, max pooling
for the subsampling, every map of C3 sees every map of S2, and a linear output layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

import jaxconv
from images import CLASSES

Params = dict[str, dict[str, Array]]

C1_SIDE = 28  # of its maps, for every image


def kernel_shapes(channels: int) -> dict[str, tuple[int, ...]]:
    """Kernels are [kh, kw, C, O], dense weights [inputs, outputs]."""
    return {
        "C1": (5, 5, channels, 6),
        "C3": (5, 5, 6, 16),
        "C5": (400, 120),
        "F6": (120, 84),
        "output": (84, CLASSES),
    }


class Operators(NamedTuple):
    """The two operators that the network is made of, so that a peer's can take their place."""

    conv: Callable[..., Array]  # (x, kernel, bias, *, padding) -> y
    max_pool: Callable[[Array], Array]  # 2 x 2 windows, stride 2


def operators(peer: str | None = None, algorithm: str = "auto") -> Operators:
    """jaxconv's operators, or with `peer="lax"` the ones that ship with JAX."""
    if peer == "lax":
        return Operators(_lax_conv, _lax_max_pool)
    return Operators(
        conv=partial(jaxconv.conv, algorithm=algorithm),
        max_pool=partial(jaxconv.max_pool, window_shape=(2, 2), strides=(2, 2)),
    )


def _lax_conv(x: Array, kernel: Array, bias: Array, *, padding: str) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=layout) + bias


def _lax_max_pool(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def init(seed: int, channels: int = 1) -> Params:
    """He et al.'s normal weights (arXiv 1502.01852), made for ReLU, and biases of zero.

    Drawn by NumPy, which starts at once where JAX compiles a generator for every shape.
    """
    rng = np.random.default_rng(seed)
    params = {}
    for layer, shape in kernel_shapes(channels).items():
        inputs_per_output = math.prod(shape[:-1])
        kernel = rng.normal(scale=math.sqrt(2 / inputs_per_output), size=shape)
        params[layer] = {"kernel": jnp.asarray(kernel, float), "bias": jnp.zeros(shape[-1])}
    return params


def activations(params: Params, x: Array, ops: Operators) -> dict[str, Array]:
    """Every layer's output for images x [N, H, H, C], by the layer's name in the 1998 paper.

    C1 pads images of 28 x 28 by two pixels on each side and takes those of 32 x 32 as they are, like
    the paper, whose 28 x 28 digits came with such a frame.

    Each convolution is Z = conv(A_prev, W) + b followed by A = g(Z), equation T6.
    """

    def conv_relu(x: Array, layer: str, padding: str) -> Array:
        return jax.nn.relu(ops.conv(x, **params[layer], padding=padding))

    def dense(x: Array, layer: str) -> Array:
        return x @ params[layer]["kernel"] + params[layer]["bias"]

    # Padding 2 = (5 - 1) / 2 keeps 28 (T3); without it 32 - 5 + 1 = 28 (T2).
    c1 = conv_relu(x, "C1", "SAME" if x.shape[1] == C1_SIDE else "VALID")  # [N, 28, 28, 6]
    s2 = ops.max_pool(c1)  # [N, 14, 14, 6]
    c3 = conv_relu(s2, "C3", "VALID")  # [N, 10, 10, 16]  14 - 5 + 1 = 10 (T2)
    s4 = ops.max_pool(c3)  # [N, 5, 5, 16]
    flat = s4.reshape(len(s4), -1)  # [N, 400]
    c5 = jax.nn.relu(dense(flat, "C5"))  # [N, 120]  a 5 x 5 convolution on 5 x 5 maps is dense
    f6 = jax.nn.relu(dense(c5, "F6"))  # [N, 84]
    output = dense(f6, "output")  # [N, 10]
    return {"C1": c1, "S2": s2, "C3": c3, "S4": s4, "C5": c5, "F6": f6, "output": output}


def forward(params: Params, x: Array, ops: Operators) -> Array:
    """The output layer alone, y [N, 10]."""
    return activations(params, x, ops)["output"]


def cross_entropy(y: Array, labels: Array) -> Array:
    """-log softmax(y)[label], averaged over the batch."""
    return optax.softmax_cross_entropy_with_integer_labels(y, labels).mean()


def mse(y: Array, labels: Array) -> Array:
    """E = 1/2 sum_p (t_p - y_p)^2 with t one-hot (T10), averaged over the batch."""
    t = jax.nn.one_hot(labels, CLASSES)  # [N, 10]
    return optax.l2_loss(y, t).sum(axis=-1).mean()


LOSS_FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "cross-entropy": cross_entropy,
    "mse": mse,
}


def parameter_counts(params: Params) -> dict[str, int]:
    """How many numbers each layer learns; shared kernels keep C1 at 156 (T12)."""
    return {layer: sum(array.size for array in arrays.values()) for layer, arrays in params.items()}
