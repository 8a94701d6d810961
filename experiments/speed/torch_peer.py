"""The PyTorch side: the same passes in channels_last on all of the machine's threads.

Where PyTorch has two good ways to compute a pass, both are built and the caller keeps the faster one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

from jaxconv._workload import ConvWorkload, StepWorkload, Workload
from machine import cores
from torch_nets import sgd_step
from torch_tensors import channels_last, channels_second, kernel_back, to_kernel

Thunk: TypeAlias = Callable[[], Any]
Reader: TypeAlias = Callable[[Any], Any]

torch.set_num_threads(cores())


def _geometry(workload: ConvWorkload) -> tuple[Any, ...]:
    """Strides, padding, dilation, transposed, output padding and groups in PyTorch's terms."""
    lows = [lo for lo, _ in workload.padding]
    extra = [hi - lo for lo, hi in workload.padding]
    transposed = workload.kind == "transposed"
    if transposed:
        reach = zip(workload.dilation, workload.kernel, lows, strict=True)
        lows = [d * (k - 1) - lo for d, k, lo in reach]
    elif any(extra):
        raise ValueError(f"PyTorch needs the same padding on both sides, got {workload.padding}")
    return (workload.strides, lows, workload.dilation, transposed, extra, workload.groups)


def _kernel_grad(workload: ConvWorkload, x: Any, w: Any, g: Any) -> torch.Tensor:
    geometry, mask = _geometry(workload), [False, True, False]
    if x.dtype == torch.float64:
        # oneDNN has no float64, and without it one output channel in channels_last memory is refused.
        x, w, g = (t.contiguous() for t in (x, w, g))
    return torch.ops.aten.convolution_backward(g, x, w, None, *geometry, mask)[1]


def _conv_pass(workload: ConvWorkload, name: str, x: Any, w: Any, g: Any) -> Thunk:
    if name == "kernel_grad":
        return lambda: _kernel_grad(workload, x, w, g)
    geometry = _geometry(workload)
    if name == "input_grad":
        mask = [True, False, False]
        return lambda: torch.ops.aten.convolution_backward(g, x, w, None, *geometry, mask)[0]

    def forward() -> torch.Tensor:
        y = x
        for _ in range(workload.repeats):
            y = torch.ops.aten.convolution(y, w, None, *geometry)
        return y

    return forward


def _per_example(workload: ConvWorkload, x: Any, w: Any, g: Any) -> list[Thunk]:
    """Example by example, or all at once with an example for each group."""
    n = workload.batch
    examples = [(x[i : i + 1], g[i : i + 1]) for i in range(n)]
    flat_x, flat_g = (t.contiguous().view(1, -1, *t.shape[2:]) for t in (x, g))
    wide = w.contiguous().repeat(n, *[1] * (w.ndim - 1))
    grouped = dataclasses.replace(workload, groups=n)
    return [
        lambda: torch.stack([_kernel_grad(workload, xi, w, gi) for xi, gi in examples]),
        lambda: _kernel_grad(grouped, flat_x, wide, flat_g).view(n, *w.shape),
    ]


def _max_pool_pass(window: tuple[Any, ...], name: str, x: Any, g: Any) -> Thunk:
    if name == "forward":
        return lambda: torch.nn.functional.max_pool2d(x, *window)
    forward = torch.ops.aten.max_pool2d_with_indices
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    return lambda: backward(g, x, *window, [1, 1], False, forward(x, *window)[1])


def _avg_pool_pass(window: tuple[Any, ...], name: str, x: Any, g: Any) -> Thunk:
    ceil_mode, count_include_pad, divisor = False, True, None
    options = (*window, ceil_mode, count_include_pad, divisor)
    if name == "forward":
        return lambda: torch.ops.aten.avg_pool2d(x, *options)
    return lambda: torch.ops.aten.avg_pool2d_backward(g, x, *options)


def _without_grad(run: Thunk) -> Thunk:
    def call() -> Any:
        with torch.inference_mode():
            return run()

    return call


def _conv_ways(
    workload: ConvWorkload, name: str, arguments: tuple[Any, ...], device: str
) -> list[tuple[Thunk, Reader]]:
    transposed = workload.kind == "transposed"
    x, w, g = arguments
    x, g = channels_second(x, device), channels_second(g, device)
    w = to_kernel(w, transposed, device)
    if workload.kind == "per_example":
        runs = _per_example(workload, x, w, g)
        return [(_without_grad(r), lambda k: np.stack([kernel_back(i) for i in k])) for r in runs]
    run = _without_grad(_conv_pass(workload, name, x, w, g))
    if name == "kernel_grad":
        return [(run, lambda kernel: kernel_back(kernel, transposed))]
    return [(run, channels_last)]


def _as_image(
    workload: ConvWorkload, name: str, arguments: tuple[Any, ...], device: str
) -> list[tuple[Thunk, Reader]]:
    """A 1-D convolution as a 2-D one of height 1, which has a channels_last layout in memory."""
    image = dataclasses.replace(
        workload,
        spatial=(1, *workload.spatial),
        kernel=(1, *workload.kernel),
        strides=(1, *workload.strides),
        dilation=(1, *workload.dilation),
        padding=((0, 0), *workload.padding),
    )
    x, w, g = arguments
    ways = _conv_ways(image, name, (x[:, None], w[None], g[:, None]), device)
    axis = 0 if name == "kernel_grad" else 1

    def flat(back: Reader) -> Reader:
        return lambda result: np.squeeze(back(result), axis)

    return [(run, flat(back)) for run, back in ways]


def build(
    workload: Workload, name: str, arguments: tuple[Any, ...], rate: float, device: str = "cpu"
) -> list[tuple[Thunk, Reader]]:
    """Functions that run the pass, each with one that brings its result to JAX's layout."""
    if isinstance(workload, StepWorkload):
        return [sgd_step(workload.name, *arguments, rate, device)]
    if isinstance(workload, ConvWorkload):
        ways = _conv_ways(workload, name, arguments, device)
        if len(workload.spatial) == 1:
            ways += _as_image(workload, name, arguments, device)
        return ways
    x, _, g = arguments
    window = (workload.window, workload.strides, [lo for lo, _ in workload.padding])
    make = _max_pool_pass if workload.operation == "max" else _avg_pool_pass
    run = make(window, name, channels_second(x, device), channels_second(g, device))
    return [(_without_grad(run), channels_last)]
