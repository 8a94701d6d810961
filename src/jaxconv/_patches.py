"""The array views that algorithms share: padded inputs, tap slices, phases, flipped kernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._front import varying_alike
from ._problem import ConvProblem
from ._window import Window

Tap: TypeAlias = tuple[int, ...]

# Until 0.10 XLA's CPU backend drops a barrier before it fuses loops of elements, later ones after that.
BARRIERS_HOLD = jax.__version_info__ >= (0, 11)


def zeros(shape: Sequence[Any], dtype: Any, alike: Array) -> Array:
    """Zeros that vary over the devices of a `shard_map` as `alike` does: a loop keeps its carry's kind."""
    return varying_alike(jnp.zeros(shape, dtype), alike)[0]


def pad_or_crop(x: Array, pads: Sequence[tuple[int, int]], value: Array | float = 0) -> Array:
    """Pad the axes after the first by (lo, hi); negative amounts crop.

    XLA's simplifier has folded negative `lax.pad` into wrong results (openxla/xla issue 48715), so cropping
    is a slice and `lax.pad` sees no negative number.
    """
    pads = [(0, 0), *(_within(*pair, n) for pair, n in zip(pads, x.shape[1:], strict=False))]
    pads += [(0, 0)] * (x.ndim - len(pads))
    starts = [min(max(0, -lo), n) for (lo, _), n in zip(pads, x.shape, strict=True)]
    stops = [max(n - max(0, -hi), s) for (_, hi), n, s in zip(pads, x.shape, starts, strict=True)]
    if any(lo < 0 or hi < 0 for lo, hi in pads):
        x = lax.slice(x, starts, stops)
    if any(lo > 0 or hi > 0 for lo, hi in pads):
        config = [(max(0, lo), max(0, hi), 0) for lo, hi in pads]
        x = lax.pad(x, jnp.asarray(value, x.dtype), config)
    return x


def slice_padded(x: Array, starts: Sequence[Array], sizes: Sequence[int], edges: tuple[int, int]) -> Array:
    """`lax.dynamic_slice` of x with `edges` zeros before and after axis 1 (cropped where negative).

    What the slice holds of x is padded and cut to size, and no padded copy of x is made.
    """
    lo, hi = edges
    size = min(sizes[1], x.shape[1])
    wanted = starts[1] - lo
    first = jnp.clip(wanted, 0, x.shape[1] - size)
    held = lax.dynamic_slice(x, [starts[0], first, *starts[2:]], [sizes[0], size, *sizes[2:]])
    held = pad_or_crop(held, [(max(0, lo), max(0, hi))])
    return lax.dynamic_slice_in_dim(held, wanted - first + max(0, lo), sizes[1], 1)


def _within(lo: int, hi: int, size: int) -> tuple[int, int]:
    """The same padding of `size` samples; what a side crops beyond them comes off the other side's."""
    if lo < 0 and lo + size < 0:
        return -size, max(0, hi + lo + size)
    if hi < 0 and hi + size < 0:
        return max(0, lo + hi + size), -size
    return lo, hi


def pad_to_windows(x: Array, windows: Sequence[Window], value: Array | float = 0) -> Array:
    """The dense input with padding in place: exactly the samples that some output reads."""
    exact = [w.exact() for w in windows]
    return pad_or_crop(x, [(w.lo, w.hi) for w in exact], value)


def crop_to_input(problem: ConvProblem, dx: Array) -> Array:
    """The adjoint of `pad_to_windows`: padding cut off, zeros where no output read."""
    exact = [w.exact() for w in problem.windows]
    return pad_or_crop(dx, [(-w.lo, -w.hi) for w in exact])


def all_taps(sizes: Sequence[int]) -> Iterator[Tap]:
    """Tap indices of a kernel in row-major order."""
    return itertools.product(*map(range, sizes))


def tap_slice(x: Array, windows: Sequence[Window], tap: Tap) -> Array:
    """What tap `tap` of every output reads from the padded input: `[N, *M, ...]`."""
    starts = [0] + [k * w.dilation for k, w in zip(tap, windows, strict=True)]
    spans = [(w.out_size - 1) * w.stride + 1 for w in windows]
    stops = [x.shape[0]] + [s + n for s, n in zip(starts[1:], spans, strict=True)]
    strides = [1] + [w.stride for w in windows]
    rest = x.shape[len(starts) :]
    return lax.slice(x, [*starts, *[0] * len(rest)], [*stops, *rest], [*strides, *[1] * len(rest)])


def dynamic_tap_slice(x: Array, windows: Sequence[Window], tap: Sequence[Array]) -> Array:
    """`tap_slice` at an index known only at run time, for loops over the taps of large kernels."""
    starts = [k * w.dilation for k, w in zip(tap, windows, strict=True)]
    spans = [(w.out_size - 1) * w.stride + 1 for w in windows]
    zero = jnp.zeros_like(tap[0])
    block = lax.dynamic_slice(x, [zero, *starts, zero], [x.shape[0], *spans, x.shape[-1]])
    return lax.slice(block, [0] * x.ndim, block.shape, [1, *(w.stride for w in windows), 1])


def cut(x: Array, first_axis: int, ranges: Sequence[range]) -> Array:
    """x at a range on each of the axes from `first_axis` on."""
    sizes = x.shape[first_axis : first_axis + len(ranges)]
    if all(len(r) == n for r, n in zip(ranges, sizes, strict=True)):
        return x
    begin, end, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
    for axis, r in enumerate(ranges, first_axis):
        begin[axis], end[axis], step[axis] = (r.start, r[-1] + 1, r.step) if r else (0, 0, 1)
    return lax.slice(x, begin, end, step)


def restore(x: Array, first_axis: int, ranges: Sequence[range], sizes: Sequence[int]) -> Array:
    """The adjoint of `cut`: zeros elsewhere on axes of `sizes`."""
    if all(len(r) == n for r, n in zip(ranges, sizes, strict=True)):
        return x
    config = [(0, 0, 0)] * x.ndim
    for axis, (r, n) in enumerate(zip(ranges, sizes, strict=True), first_axis):
        config[axis] = (r.start, n - 1 - r[-1], r.step - 1) if r else (0, n, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def gather_blocks(x: Array, first_axis: int, blocks: Sequence[int]) -> Array:
    """`[..., *S, C, ...]` as `[..., *(S / b), *b, C, ...]`, the last b and C on one axis, where they were."""
    *rows, line = blocks
    last = first_axis + len(rows)
    split = [n for size, b in zip(x.shape[first_axis:last], rows, strict=True) for n in (size // b, b)]
    size, channels, *after = x.shape[last:]
    x = x.reshape(*x.shape[:first_axis], *split, size // line, line * channels, *after)
    axes = range(first_axis, last + len(rows))
    order = (*range(first_axis), *axes[::2], axes.stop, *axes[1::2], *range(axes.stop + 1, x.ndim))
    return x.transpose(order)


def space_to_depth(x: Array, first_axis: int, blocks: Sequence[int]) -> Array:
    """`[..., *S, C, ...]` as `[..., *(S / b), B C, ...]`: blocks of b samples, B in all, become channels."""
    x = gather_blocks(x, first_axis, blocks)
    first, last = first_axis + len(blocks), first_axis + 2 * len(blocks)
    return x.reshape(*x.shape[:first], math.prod(x.shape[first:last]), *x.shape[last:])


def depth_to_space(x: Array, first_axis: int, blocks: Sequence[int]) -> Array:
    """The inverse of `space_to_depth`."""
    *rows, line = blocks
    last = first_axis + len(blocks)
    counts, before, (depth, *after) = x.shape[first_axis:last], x.shape[:first_axis], x.shape[last:]
    channels = depth // math.prod(blocks)
    x = x.reshape(*before, *counts, *rows, line * channels, *after)
    pairs = zip(range(first_axis, last - 1), range(last, last + len(rows)), strict=True)
    order = (*(i for pair in pairs for i in pair), last - 1, *range(last + len(rows), x.ndim))
    sizes = (n * b for n, b in zip(counts, blocks, strict=True))
    return x.transpose((*range(first_axis), *order)).reshape(*before, *sizes, channels, *after)


def flip_and_swap(w: Array, groups: int) -> Array:
    """rot180 on every spatial axis, I and O exchanged within each group: `[*K, O/G, C]` (T8)."""
    return swap_channels(lax.rev(w, range(w.ndim - 2)), groups)


def swap_channels(w: Array, groups: int) -> Array:
    """I and O exchanged within each group: `[*K, C/G, O]` as `[*K, O/G, C]`."""
    *sizes, cin, cout = w.shape
    rank = len(sizes)
    w = jnp.swapaxes(w.reshape(*sizes, cin, groups, cout // groups), rank, rank + 2)
    return w.reshape(*sizes, cout // groups, groups * cin)


def sum_tree(terms: list[Array]) -> Array:
    """Pairwise sum: its rounding error grows with log2 of the number of terms."""
    while len(terms) > 1:
        odd = terms[len(terms) // 2 * 2 :]
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + odd
    return terms[0]


def interleave(parts: Sequence[Array], axis: int, size: int) -> Array:
    """The array of length `size` on `axis` whose samples r::len(parts) are `parts[r]`."""
    if len(parts) == 1:
        return parts[0]
    longest = -(-size // len(parts))
    even = [_grow(p, axis, longest) for p in parts]
    stacked = jnp.stack(even, axis + 1)
    shape = (*stacked.shape[:axis], longest * len(parts), *stacked.shape[axis + 2 :])
    return lax.slice_in_dim(stacked.reshape(shape), 0, size, axis=axis)


def _grow(x: Array, axis: int, size: int) -> Array:
    if x.shape[axis] == size:
        return x
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (0, size - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def residues(x: Array, first_axis: int, starts: Sequence[int], steps: Sequence[int]) -> Array:
    """`x[..., start::step, ...]` on consecutive axes from `first_axis` on."""
    begin, step = [0] * x.ndim, [1] * x.ndim
    begin[first_axis : first_axis + len(starts)] = starts
    step[first_axis : first_axis + len(steps)] = steps
    return lax.slice(x, begin, x.shape, step)


def forward_by_phases(
    problem: ConvProblem,
    x: Array,
    w: Array,
    forward: Callable[[ConvProblem, Array, Array], Array],
) -> Array:
    """A forward pass over dilated input as dense passes whose outputs interleave (T9, `Window.phases`)."""
    phases = [window.phases() for window in problem.windows]

    def output(axis: int, chosen: tuple) -> Array:
        if axis < problem.rank:
            parts = [output(axis + 1, (*chosen, phase)) for phase in phases[axis]]
            return interleave(parts, axis + 1, problem.output_size[axis])
        sizes = [
            len(range(p.out_start, n, p.out_step)) for p, n in zip(chosen, problem.output_size, strict=True)
        ]
        if any(p.window is None for p in chosen):
            shape = (x.shape[0], *sizes, problem.out_channels)
            return jnp.zeros(shape, problem.y_dtype)
        taps = residues(w, 0, [p.tap_start for p in chosen], [p.tap_step for p in chosen])
        y = forward(problem.with_windows([p.window for p in chosen]), x, taps)
        return y.astype(problem.y_dtype)

    return output(0, ())


def input_grad_by_phases(
    problem: ConvProblem,
    g: Array,
    w: Array,
    input_grad: Callable[[ConvProblem, Array, Array], Array],
) -> Array:
    """The adjoint of `forward_by_phases`: what each residue class of g adds to the gradient of the input."""
    terms = []
    for chosen in itertools.product(*(window.phases() for window in problem.windows)):
        windows = [phase.window for phase in chosen if phase.window is not None]
        if len(windows) == problem.rank:
            outputs = residues(g, 1, [p.out_start for p in chosen], [p.out_step for p in chosen])
            taps = residues(w, 0, [p.tap_start for p in chosen], [p.tap_step for p in chosen])
            terms.append(input_grad(problem.with_windows(windows), outputs, taps))
    return sum_tree(terms) if terms else jnp.zeros((g.shape[0], *problem.input_shape[1:]), problem.x_dtype)


def kernel_grad_by_phases(
    problem: ConvProblem,
    x: Array,
    g: Array,
    kernel_grad: Callable[[ConvProblem, Array, Array], Array],
) -> Array:
    """A kernel gradient over dilated input: each residue class of outputs fills one class of taps (T7, T9).

    The classes pair one to one, so nothing is added up; taps that never meet a sample get zero.
    """
    phases = [{p.tap_start: p for p in window.phases() if p.window is not None} for window in problem.windows]
    steps = [
        min(window.base_dilation // math.gcd(window.dilation, window.base_dilation), window.size)
        for window in problem.windows
    ]

    def gradient(axis: int, starts: Tap) -> Array:
        if axis < problem.rank:
            parts = [gradient(axis + 1, (*starts, q)) for q in range(steps[axis])]
            return interleave(parts, axis, problem.kernel_size[axis])
        found = [table.get(q) for table, q in zip(phases, starts, strict=True)]
        chosen = [p for p in found if p is not None]
        if len(chosen) < problem.rank:
            ranges = zip(starts, problem.kernel_size, steps, strict=True)
            sizes = [len(range(q, k, step)) for q, k, step in ranges]
            return jnp.zeros((*sizes, *problem.kernel_shape[-2:]), problem.w_dtype)
        outputs = residues(g, 1, [p.out_start for p in chosen], [p.out_step for p in chosen])
        return kernel_grad(problem.with_windows([p.window for p in chosen if p.window]), x, outputs)

    return gradient(0, ())
