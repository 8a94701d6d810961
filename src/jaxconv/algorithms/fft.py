"""FFT: each frequency on its own, so that a large kernel costs no more than a small one.

By the convolution theorem (Mathieu, Henaff and LeCun 2014, arXiv:1312.5851, for networks) the three passes
are one matrix product per frequency f, over channels or over the batch. With F the transform over L samples,
L at least the padded input, and F~ its mirror image, F~[a] = conj F[conj a], which reads a backwards:

    F[y]  = F[x] F~[w]      F[dx] = F[g] F[w]^T      F[dw] = F[x]^T F~[g]                  (T5, T8, T7)

L holds every sum whole, so nothing wraps around. Strides spread g, and dilation the kernel, by zeros that
cost nothing here. Complex products are real ones of twice the size: (a + ib)(c + id) is [a, b] times
[[c, d], [-d, c]].

Cost: C O multiply-adds of complex numbers an input sample, whatever the kernel, and transforms that grow
with log L. Memory: the kernel at every frequency, C O L. Error: that of the sum of a whole map. A NaN or an
infinity reaches all outputs of its image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from .._contract import contract
from .._dtypes import is_highest
from .._patches import crop_to_input, pad_to_windows
from .._problem import ConvProblem, Pass, accumulator
from ._record import Algorithm

# The transform has fast steps for these factors.
FACTORS = (2, 3, 5)
MAX_RANK = 3


def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    xf = signal_frequencies(problem, pad_to_windows(x, problem.windows))
    y = signals(problem, multiply(problem, xf, kernel_frequencies(problem, w, mirrored=True)))
    stops = [(w.out_size - 1) * w.stride + 1 for w in problem.windows]
    starts = [0] * y.ndim
    return lax.slice(y, starts, [y.shape[0], *stops, y.shape[-1]], [1, *problem.strides, 1])


def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    gf = signal_frequencies(problem, spread(g, 1, problem.strides))
    wf = jnp.swapaxes(kernel_frequencies(problem, w), 2, 3)
    dx = signals(problem, multiply(problem, gf, wf))
    stops = [dx.shape[0], *(w.reach for w in problem.windows), dx.shape[-1]]
    return crop_to_input(problem, lax.slice(dx, [0] * dx.ndim, stops))


def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    xf = signal_frequencies(problem, pad_to_windows(x, problem.windows))
    gf = signal_frequencies(problem, spread(g, 1, problem.strides), mirrored=True)
    products = multiply(problem, jnp.swapaxes(xf, 2, 3), gf)
    dw = inverse(problem, products.transpose(2, 1, 3, 0))
    windows = problem.windows
    stops, steps = [w.extent for w in windows], [w.dilation for w in windows]
    dw = lax.slice(dw, [0] * dw.ndim, [*dw.shape[:3], *stops], [1, 1, 1, *steps])
    return dw.transpose(*range(3, dw.ndim), 0, 1, 2).reshape(problem.kernel_shape)


def signal_frequencies(problem: ConvProblem, a: Array, mirrored: bool = False) -> Array:
    """`[N, *S, G C']` -> `[F, G, N, C']`, one entry a frequency."""
    a = a.reshape(*a.shape[:-1], problem.groups, -1)
    a = a.transpose(0, a.ndim - 2, a.ndim - 1, *range(1, a.ndim - 2))
    return transform(problem, a, mirrored).transpose(3, 1, 0, 2)


def signals(problem: ConvProblem, a: Array) -> Array:
    """`[F, G, N, C']` -> `[N, *L, G C']`, the inverse of `signal_frequencies`."""
    a = inverse(problem, a.transpose(2, 1, 3, 0))
    a = a.transpose(0, *range(3, a.ndim), 1, 2)
    return a.reshape(*a.shape[:-2], -1)


def kernel_frequencies(problem: ConvProblem, w: Array, mirrored: bool = False) -> Array:
    """`[*K, C/G, O]` -> `[F, G, C/G, O/G]`."""
    w = spread(w, 0, [window.dilation for window in problem.windows])
    w = w.reshape(*w.shape[:-1], problem.groups, -1)
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


def multiply(problem: ConvProblem, a: Array, b: Array) -> Array:
    """Complex matrix products `[F, G, I, K] [F, G, K, J] -> [F, G, I, J]` by real ones."""
    rows = lax.concatenate([jnp.real(a), jnp.imag(a)], 3)
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
