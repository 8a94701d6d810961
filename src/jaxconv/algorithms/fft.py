"""FFT: each frequency on its own, so that a large kernel costs no more than a small one.

By the convolution theorem (Mathieu, Henaff and LeCun 2014, arXiv:1312.5851, for networks) the three passes
are one matrix product per frequency f, over channels or over the batch. With F the transform over L samples,
L at least the padded input, and F~ its mirror image, F~[a] = conj F[conj a], which reads a backwards:

    F[y]  = F[x] F~[w]      F[dx] = F[g] F[w]^T      F[dw] = F[x]^T F~[g]                  (T5, T8, T7)

L holds every sum whole, so nothing wraps around. Strides spread g, and dilation the kernel, by zeros that
cost nothing here. Complex products are real ones of twice the size: (a + ib)(c + id) is [a, b] times
[[c, d], [-d, c]].

Cost: C O multiply-adds of complex numbers an input sample, whatever the kernel, and transforms that grow
with log L. Memory: x and y at every frequency, and of the kernel a block of channels at a time. Error: that
of the sum of a whole map. A NaN or an infinity reaches all outputs of its image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

from .._contract import contract
from .._dtypes import is_highest
from .._loops import map_in_loop
from .._patches import crop_to_input, pad_to_windows
from .._problem import ConvProblem, Pass, accumulator
from ._blocks import block_limit
from ._record import Algorithm

# The transform has fast steps for these factors.
FACTORS = (2, 3, 5)
MAX_RANK = 3
# Frequencies of the channels that are transformed at a time: all 64 of 25 x 25 taps on 28 x 28 took 1.8 to
# 2.7 times as long as 4 MB of them, 16 of 33 x 33 on 64 x 64 0.7 to 1.1 times, and 7 to 15 times the bytes of
# x, w and y where blocks take 1.6 to 3.3 (2026-11-29, AMD EPYC Zen 4).
BLOCK_BYTES = 4 << 20


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    rows = as_rows(signal_frequencies(problem, by_group(problem, pad_to_windows(x, problem.windows))))

    def outputs(w: Array) -> Array:
        y = signals(problem, multiply(problem, rows, kernel_frequencies(problem, w, mirrored=True)))
        stops = [(window.out_size - 1) * window.stride + 1 for window in problem.windows]
        return lax.slice(y, [0] * y.ndim, [y.shape[0], *stops, *y.shape[-2:]], [1, *problem.strides, 1, 1])

    y = in_channel_blocks(problem, outputs, by_group(problem, w))
    return y.reshape(*y.shape[:-2], -1)


def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    g = spread(g, 1, problem.strides)
    rows = as_rows(signal_frequencies(problem, by_group(problem, g)))

    def inputs(w: Array) -> Array:
        dx = signals(problem, multiply(problem, rows, kernel_frequencies(problem, w)))
        stops = [window.reach for window in problem.windows]
        return lax.slice(dx, [0] * dx.ndim, [dx.shape[0], *stops, *dx.shape[-2:]])

    dx = in_channel_blocks(problem, inputs, jnp.swapaxes(by_group(problem, w), -3, -1))
    return crop_to_input(problem, dx.reshape(*dx.shape[:-2], -1))


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    xf = signal_frequencies(problem, by_group(problem, pad_to_windows(x, problem.windows)))
    rows = as_rows(jnp.swapaxes(xf, 2, 3))

    def kernels(g: Array) -> Array:
        gf = signal_frequencies(problem, spread(g, 1, problem.strides), mirrored=True)
        dw = inverse(problem, multiply(problem, rows, gf).transpose(2, 1, 3, 0))
        stops = [*dw.shape[:3], *(w.extent for w in problem.windows)]
        dw = lax.slice(dw, [0] * dw.ndim, stops, [1, 1, 1, *(w.dilation for w in problem.windows)])
        return dw.transpose(*range(3, dw.ndim), 0, 1, 2)

    return in_channel_blocks(problem, kernels, by_group(problem, g)).reshape(problem.kernel_shape)


def by_group(problem: ConvProblem, a: Array) -> Array:
    """`[..., G C'] -> [..., G, C']`."""
    return a.reshape(*a.shape[:-1], problem.groups, -1)


def in_channel_blocks(problem: ConvProblem, function: Callable[[Array], Array], a: Array) -> Array:
    """`function` of blocks of a's channels, its last axis, side by side on the last axis of the result.

    The frequencies of a block, and its products, stay in cache.
    """
    *lead, channels = a.shape
    sized = problem.sized()
    meets = max(sized.batch, *problem.channels_per_group) * problem.groups  # what a channel is multiplied by
    channel_bytes = math.prod(transform_sizes(problem)) * meets * 4
    block = largest_divisor(channels, block_limit(BLOCK_BYTES, sized.io_bytes()) // channel_bytes)
    if block == channels:
        return function(a)
    blocks = jnp.moveaxis(a.reshape(*lead, channels // block, block), -2, 0)
    out = jnp.moveaxis(map_in_loop(function, blocks), 0, -2)
    return out.reshape(*out.shape[:-2], channels)


def largest_divisor(size: int, most: int) -> int:
    """The largest divisor up to `most`, or 1."""
    return next((n for n in range(min(size, most), 1, -1) if size % n == 0), 1)


def signal_frequencies(problem: ConvProblem, a: Array, mirrored: bool = False) -> Array:
    """`[N, *S, G, C']` -> `[F, G, N, C']`, one entry a frequency."""
    a = a.transpose(0, a.ndim - 2, a.ndim - 1, *range(1, a.ndim - 2))
    return transform(problem, a, mirrored).transpose(3, 1, 0, 2)


def signals(problem: ConvProblem, a: Array) -> Array:
    """`[F, G, N, C']` -> `[N, *L, G, C']`, the inverse of `signal_frequencies`."""
    a = inverse(problem, a.transpose(2, 1, 3, 0))
    return a.transpose(0, *range(3, a.ndim), 1, 2)


def kernel_frequencies(problem: ConvProblem, w: Array, mirrored: bool = False) -> Array:
    """`[*K, I, G, J]` -> `[F, G, I, J]`."""
    w = spread(w, 0, [window.dilation for window in problem.windows])
    w = w.transpose(w.ndim - 3, w.ndim - 2, w.ndim - 1, *range(w.ndim - 3))
    return transform(problem, w, mirrored).transpose(3, 1, 0, 2)


def transform(problem: ConvProblem, a: Array, mirrored: bool) -> Array:
    """The frequencies of the axes after the third, joined into one: half of them tell all about real data."""
    a = a.astype(accumulator(problem))
    sizes = transform_sizes(problem)
    pads = [(0, 0, 0)] * 3 + [(0, size - n, 0) for n, size in zip(a.shape[3:], sizes, strict=True)]
    a = lax.pad(a, jnp.zeros((), a.dtype), pads)
    if jnp.iscomplexobj(a):
        f = jnp.conj(lax.fft(jnp.conj(a), "fft", sizes)) if mirrored else lax.fft(a, "fft", sizes)
    else:
        f = lax.fft(a, "rfft", sizes)
        f = jnp.conj(f) if mirrored else f
    return f.reshape(*f.shape[:3], -1)


def inverse(problem: ConvProblem, f: Array) -> Array:
    """`[A, B, C, F]` -> `[A, B, C, *L]`, the inverse of `transform`."""
    sizes = transform_sizes(problem)
    if jnp.issubdtype(accumulator(problem), jnp.complexfloating):
        return lax.fft(f.reshape(*f.shape[:3], *sizes), "ifft", sizes)
    return lax.fft(f.reshape(*f.shape[:3], *sizes[:-1], sizes[-1] // 2 + 1), "irfft", sizes)


def as_rows(a: Array) -> Array:
    """Complex `[F, G, I, K]` as real `[F, G, I, 2 K]`, which `multiply` takes."""
    return lax.concatenate([jnp.real(a), jnp.imag(a)], 3)


def multiply(problem: ConvProblem, rows: Array, b: Array) -> Array:
    """Complex matrix products `[F, G, I, K] [F, G, K, J] -> [F, G, I, J]` by real ones."""
    real, imag = jnp.real(b), jnp.imag(b)
    columns = lax.concatenate(
        [lax.concatenate([real, imag], 3), lax.concatenate([lax.neg(imag), real], 3)], 2
    )
    real_problem = problem.with_dtypes(
        x_dtype=rows.dtype.name, w_dtype=rows.dtype.name, y_dtype=rows.dtype.name
    )
    product = contract(real_problem, rows, columns, (((3,), (2,)), ((0, 1), (0, 1))))
    return lax.complex(*jnp.split(product, 2, 3))


def spread(a: Array, first_axis: int, steps: Sequence[int]) -> Array:
    """`steps - 1` zeros between neighbours on consecutive axes from `first_axis` on."""
    pads = [(0, 0, 0)] * a.ndim
    pads[first_axis : first_axis + len(steps)] = [(0, 0, step - 1) for step in steps]
    return lax.pad(a, jnp.zeros((), a.dtype), pads)


def transform_sizes(problem: ConvProblem) -> tuple[int, ...]:
    """L: for each axis the first product of small factors that holds the padded input, if only of nothing."""
    return tuple(fast_size(max(1, w.reach)) for w in problem.windows)


def count_values(problem: ConvProblem) -> tuple[int, int]:
    """Real values that a pass transforms: of the signals, and of the kernel."""
    points = math.prod(transform_sizes(problem))
    signals = problem.batch * (problem.in_channels + problem.out_channels)
    return points * signals, points * math.prod(problem.kernel_shape[-2:])


def spectrum_products(problem: ConvProblem) -> int:
    """Real multiply-adds at all frequencies: four for a complex one, at half of the points."""
    cin, cout = problem.channels_per_group
    return 2 * math.prod(transform_sizes(problem)) * problem.batch * cin * cout * problem.groups


def fast_size(least: int) -> int:
    size = least
    while not is_fast(size):
        size += 1
    return size


def is_fast(size: int) -> bool:
    for factor in FACTORS:
        while size % factor == 0:
            size //= factor
    return size == 1


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Floating-point or complex data on one to three axes."""
    del pass_
    if not 1 <= problem.rank <= MAX_RANK:
        return f"it transforms one to {MAX_RANK} spatial axes, got {problem.rank}"
    if jnp.issubdtype(accumulator(problem), jnp.integer):
        return "its sines and cosines are fractions, which integers cannot hold"
    if is_highest(problem.precision):
        return "its error is that of a whole map's sum, against precision=HIGHEST"
    return None


ALGORITHM = Algorithm("fft", supports, forward, kernel_grad, input_grad)
