"""The JAX side of the benchmark: each workload's passes as functions of `(x, kernel, cotangent)`.

`lax` and jaxconv go through the very same code; only the four operations of `Operations` differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import jaxconv
from jaxconv._workload import ConvWorkload, PoolWorkload, StepWorkload, Workload
from nets import NETS, Net

SPATIAL_LETTERS = {1: "H", 2: "HW", 3: "DHW"}
Passes = Callable[..., Any]


@dataclass(frozen=True)
class Operations:
    """What a network needs from a library, with lax's argument order."""

    conv: Callable[..., jax.Array]
    conv_transpose: Callable[..., jax.Array]
    max_pool: Callable[..., jax.Array]
    avg_pool: Callable[..., jax.Array]


def _lax_max_pool(x: jax.Array, window: Any, strides: Any, padding: Any) -> jax.Array:
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
    )


def _lax_avg_pool(x: jax.Array, window: Any, strides: Any, padding: Any) -> jax.Array:
    total = lax.reduce_window(x, 0.0, lax.add, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0)))
    taps = 1
    for size in window:
        taps *= size
    return total / taps


LAX = Operations(lax.conv_general_dilated, lax.conv_transpose, _lax_max_pool, _lax_avg_pool)


def jaxconv_operations(algorithm: str | Mapping[str, str] = "auto") -> Operations:
    """jaxconv's operations with the convolutions' `algorithm` fixed."""
    return Operations(
        lambda *a, **k: jaxconv.conv_general_dilated(*a, algorithm=algorithm, **k),
        lambda *a, **k: jaxconv.conv_transpose(*a, algorithm=algorithm, **k),
        lambda *a: jaxconv.max_pool(*a),
        lambda *a: jaxconv.avg_pool(*a),
    )


def dimension_numbers(rank: int, layout: str) -> tuple[str, str, str]:
    """Letters of input, kernel and output."""
    letters = SPATIAL_LETTERS[rank]
    if layout == "channels_last":
        return f"N{letters}C", f"{letters}IO", f"N{letters}C"
    return f"NC{letters}", f"OI{letters}", f"NC{letters}"


def _apply_conv(workload: ConvWorkload, ops: Operations) -> Callable[..., jax.Array]:
    numbers = dimension_numbers(len(workload.spatial), workload.layout)
    if workload.kind == "transposed":
        return lambda x, w: ops.conv_transpose(
            x,
            w,
            workload.strides,
            workload.padding,
            rhs_dilation=workload.dilation,
            dimension_numbers=numbers,
        )

    def once(x: jax.Array, w: jax.Array) -> jax.Array:
        return ops.conv(
            x,
            w,
            workload.strides,
            workload.padding,
            rhs_dilation=workload.dilation,
            dimension_numbers=numbers,
            feature_group_count=workload.groups,
        )

    if workload.kind == "loop":
        return lambda x, w: lax.fori_loop(0, workload.repeats, lambda _, y: once(y, w), x)
    return once


def _apply_pool(workload: PoolWorkload, ops: Operations) -> Callable[..., jax.Array]:
    pool = ops.max_pool if workload.operation == "max" else ops.avg_pool
    return lambda x, _: pool(x, workload.window, workload.strides, workload.padding)


def pass_function(workload: ConvWorkload | PoolWorkload, name: str, ops: Operations) -> Passes:
    """The pass as a function of `(x, kernel, cotangent)`; a pool ignores the kernel."""
    if isinstance(workload, PoolWorkload):
        apply = _apply_pool(workload, ops)
    else:
        apply = _apply_conv(workload, ops)
    if name == "forward":
        return lambda x, w, g: apply(x, w)
    if name == "input_grad":
        return lambda x, w, g: jax.vjp(lambda x: apply(x, w), x)[1](g)[0]

    def kernel_grad(x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        return jax.vjp(lambda w: apply(x, w), w)[1](g)[0]

    if isinstance(workload, ConvWorkload) and workload.kind == "per_example":
        return lambda x, w, g: jax.vmap(lambda x, g: kernel_grad(x[None], w, g[None]))(x, g)
    return kernel_grad


def step_function(net: Net, ops: Operations, learning_rate: float) -> Passes:
    """`(parameters, images, labels) -> parameters`: plain SGD on the mean cross-entropy."""

    def loss(parameters: dict[str, jax.Array], images: jax.Array, labels: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(net.apply(parameters, images, ops))
        return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], axis=1))

    def step(parameters: dict[str, jax.Array], images: jax.Array, labels: jax.Array) -> Any:
        gradients = jax.grad(loss)(parameters, images, labels)
        return jax.tree.map(lambda p, g: p - learning_rate * g, parameters, gradients)

    return step


@dataclass(frozen=True)
class Compiled:
    """A compiled function, the text of the program it came from, and what compiling it cost."""

    call: Callable[..., Any]
    program: str
    compile_ms: float
    temp_bytes: int


def compile_pass(
    workload: Workload,
    name: str,
    ops: Operations,
    arguments: tuple[Any, ...],
    rate: float,
    options: Mapping[str, int] | None = None,
) -> Compiled:
    """Trace, lower and compile under the clock, with nothing remembered from an earlier trace."""
    if isinstance(workload, StepWorkload):
        function = step_function(NETS[workload.name], ops, rate)
    else:
        function = pass_function(workload, name, ops)
    jax.clear_caches()
    start = time.perf_counter()
    lowered = jax.jit(function, compiler_options=dict(options or {})).lower(*arguments)
    compiled = lowered.compile()
    compile_ms = (time.perf_counter() - start) * 1e3
    memory: Any = compiled.memory_analysis()
    return Compiled(compiled, lowered.as_text(), compile_ms, memory.temp_size_in_bytes)
