"""Random configurations of every convolution, and the same in PyTorch: the peers of `test_conv_random`."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv

torch = pytest.importorskip("torch", reason="PyTorch is the peer of this comparison")
F: Any = torch.nn.functional

Rng = np.random.Generator
# Ours and theirs, both of channels-last operands, and the shapes of these.
Case = tuple[Callable[..., Any], Callable[..., Any], list[tuple[int, ...]]]


def first(x: Any) -> Any:
    """`[N, *S, C]` as PyTorch's `[N, C, *S]`."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    return x.movedim(1, -1)


def kernel_first(w: Any) -> Any:
    """`[*K, C, O]` as PyTorch's `[O, C, *K]`, whose own gradient wants it contiguous."""
    return w.movedim((-1, -2), (0, 1)).contiguous()


def geometry(rng: Rng, rank: int) -> tuple[Any, Any, Any, Any, Any]:
    """Sizes, taps, strides, pads and dilation that leave some output."""
    taps = tuple(int(k) for k in rng.integers(1, 4, rank))
    dilation = tuple(int(d) for d in rng.integers(1, 3, rank))
    strides = tuple(int(s) for s in rng.integers(1, 4, rank))
    pads = tuple(int(p) for p in rng.integers(0, 3, rank))
    extents = [(k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True)]
    sizes = tuple(max(1, e - 2 * p) + int(rng.integers(0, 4)) for e, p in zip(extents, pads, strict=True))
    return sizes, taps, strides, pads, dilation


def pairs(pads: Any) -> list[tuple[int, int]]:
    return [(p, p) for p in pads]


def plain(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    g = int(rng.integers(1, 3))
    theirs = getattr(F, f"conv{rank}d")
    return (
        lambda x, w, b: jaxconv.conv(x, w, b, strides=s, padding=pairs(p), kernel_dilation=d, groups=g),
        lambda x, w, b: last(theirs(first(x), kernel_first(w), b, s, p, d, g)),
        [(2, *n, 2 * g), (*k, 2, g), (g,)],
    )


def as_lax(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    theirs = getattr(F, f"conv{rank}d")
    return (
        lambda x, w: jaxconv.conv_general_dilated(x, w, s, pairs(p), None, d),
        lambda x, w: theirs(x, w, None, s, p, d),
        [(2, 2, *n), (3, 2, *k)],
    )


def transposed(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    g = int(rng.integers(1, 3))
    p = tuple(min(q, (e - 1) * r // 2) for q, e, r in zip(p, k, d, strict=True))
    extra = tuple(int(rng.integers(0, max(a, b))) for a, b in zip(s, d, strict=True))
    theirs = getattr(F, f"conv_transpose{rank}d")
    return (
        lambda x, w: jaxconv.conv_transpose(
            x, w, s, pairs(p), d, transpose_kernel=True, use_consistent_padding=True, groups=g,
            output_padding=extra,
        ),
        lambda x, w: last(theirs(first(x), kernel_first(w), None, s, p, extra, g, d)),
        [(2, *n, 2 * g), (*k, 1, 2 * g)],
    )  # fmt: skip


def depthwise(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    theirs = getattr(F, f"conv{rank}d")
    return (
        lambda x, w: jaxconv.depthwise_conv(x, w, strides=s, padding=pairs(p), kernel_dilation=d),
        lambda x, w: last(theirs(first(x), kernel_first(w.flatten(-2).unsqueeze(-2)), None, s, p, d, 2)),
        [(2, *n, 2), (*k, 2, 2)],
    )


def separable(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    theirs = getattr(F, f"conv{rank}d")
    return (
        lambda x, w, v: jaxconv.separable_conv(x, w, v, strides=s, padding=pairs(p), kernel_dilation=d),
        lambda x, w, v: last(
            theirs(first(x), kernel_first(w.flatten(-2).unsqueeze(-2)), None, s, p, d, 2)
        ) @ v,
        [(2, *n, 2), (*k, 2, 2), (4, 3)],
    )  # fmt: skip


def both_gradients(rng: Rng, rank: int) -> Case:
    """The passes by name, joined: both are functions of the cotangent."""
    n, k, s, p, d = geometry(rng, rank)
    options = dict(strides=s, padding=pairs(p), kernel_dilation=d)
    theirs = getattr(F, f"conv{rank}d")
    out = [(i + 2 * q - (t - 1) * r - 1) // a + 1 for i, t, a, q, r in zip(n, k, s, p, d, strict=True)]

    def ours(x: Any, w: Any, dy: Any) -> Any:
        dx = jaxconv.conv_input_gradient(dy, w, x.shape, **options)
        return jnp.concatenate([dx.ravel(), jaxconv.conv_kernel_gradient(x, dy, w.shape, **options).ravel()])

    def peer(x: Any, w: Any, dy: Any) -> Any:
        y = last(theirs(first(x), kernel_first(w), None, s, p, d))
        found = torch.autograd.grad(y, (x, w), dy, create_graph=True)
        return torch.cat([g.reshape(-1) for g in found])

    return ours, peer, [(2, *n, 2), (*k, 2, 3), (2, *out, 3)]


def signals(rng: Rng, rank: int) -> Case:
    """convolve flips the kernel, correlate does not; "full" is padding by K - 1."""
    n = tuple(int(i) for i in rng.integers(2, 6, rank))
    k = tuple(int(rng.integers(1, i + 1)) for i in n)
    full = bool(rng.integers(2))
    mode, pads = ("full", tuple(t - 1 for t in k)) if full else ("valid", (0,) * rank)
    theirs, axes = getattr(F, f"conv{rank}d"), tuple(range(rank))

    def slide(x: Any, w: Any) -> Any:
        return theirs(x[None, None], w[None, None], None, 1, pads)[0, 0]

    return (
        lambda x, w: jaxconv.convolve(x, w, mode) + 2 * jaxconv.correlate(x, w, mode),
        lambda x, w: slide(x, w.flip(axes)) + 2 * slide(x, w),
        [n, k],
    )


def windows(x: Any, taps: Any, strides: Any, pads: Any, dilation: Any, value: float = 0.0) -> Any:
    """`[N, *M, C, *K]` of `[N, *S, C]`."""
    x = F.pad(x, [0, 0, *(q for p in reversed(pads) for q in (p, p))], value=value)
    for axis, (k, s, d) in enumerate(zip(taps, strides, dilation, strict=True), start=1):
        x = x.unfold(axis, (k - 1) * d + 1, s)[..., ::d]
    return x


def patches(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    return (
        lambda x: jaxconv.extract_patches(x, k, s, pairs(p), window_dilation=d) ** 2,
        lambda x: windows(x, k, s, p, d).flatten(-rank - 1) ** 2,
        [(2, *n, 2)],
    )


def folded(rng: Rng, rank: int) -> Case:
    """PyTorch's fold is two-dimensional."""
    n, k, s, p, d = geometry(rng, 2)
    axes = zip(n, k, s, p, d, strict=True)
    out = [(i + 2 * q - (t - 1) * r - 1) // a + 1 for i, t, a, q, r in axes]
    return (
        lambda y: jaxconv.fold_patches(y, n, k, s, pairs(p), window_dilation=d) ** 2,
        lambda y: last(F.fold(first(y).flatten(2), n, k, d, p, s)) ** 2,
        [(2, *out, 2 * math.prod(k))],
    )


def local(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    axes = zip(n, k, s, p, d, strict=True)
    out = [(i + 2 * q - (t - 1) * r - 1) // a + 1 for i, t, a, q, r in axes]

    def peer(x: Any, w: Any) -> Any:
        flat = windows(x, k, s, p, d).flatten(-rank).flatten(1, rank)  # [N, Q, C, K]
        return torch.einsum("nqck,qkco->nqo", flat, w.reshape(math.prod(out), -1, 2, 3)).reshape(-1, *out, 3)

    return (
        lambda x, w: jaxconv.conv_local(x, w, strides=s, padding=pairs(p), kernel_dilation=d),
        peer,
        [(2, *n, 2), (*out, *k, 2, 3)],
    )


def streamed(rng: Rng, rank: int) -> Case:
    """Two chunks of a causal convolution of one axis."""
    k, d, g = (int(i) for i in rng.integers(1, (4, 3, 3)))
    cut, rest = (int(i) for i in rng.integers(1, 5, 2))

    def ours(x: Any, w: Any) -> Any:
        options = dict(kernel_dilation=d, groups=g)
        y, state = jaxconv.conv_stream(x[:, :cut], w, **options)
        return jnp.concatenate([y, jaxconv.conv_stream(x[:, cut:], w, state, **options)[0]], 1)

    def peer(x: Any, w: Any) -> Any:
        return last(F.conv1d(F.pad(first(x), [(k - 1) * d, 0]), kernel_first(w), None, 1, 0, d, g))

    return ours, peer, [(2, cut + rest, 2 * g), (k, 2, 2 * g)]


def deformed(rng: Rng, rank: int) -> Case:
    """Places between samples read by their cell's corners, which are 0 outside."""
    n, k, s, p, d = geometry(rng, 2)
    axes = zip(n, k, s, p, d, strict=True)
    out = [(i + 2 * q - (t - 1) * r - 1) // a + 1 for i, t, a, q, r in axes]
    taps = math.prod(k)

    def peer(x: Any, offset: Any, w: Any, mask: Any) -> Any:
        grid = torch.meshgrid(*(torch.arange(m) for m in (*out, *k)), indexing="ij")
        base = [grid[i] * s[i] + grid[2 + i] * d[i] - p[i] for i in range(2)]
        at = [b + o for b, o in zip(base, offset.reshape(2, *out, *k, 2).unbind(-1), strict=True)]
        read = 0
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            low = [a.detach().floor() for a in at]
            cell = [(f + e).long() for f, e in zip(low, (dy, dx), strict=True)]
            parts = [a - f for a, f in zip(at, low, strict=True)]
            weight = math.prod(q if e else 1 - q for q, e in zip(parts, (dy, dx), strict=True))
            inside = math.prod((c >= 0) & (c < size) for c, size in zip(cell, n, strict=True))
            held = [c.clamp(0, size - 1) for c, size in zip(cell, n, strict=True)]
            batch = torch.arange(2).reshape(2, 1, 1, 1, 1)
            read = read + (weight * inside)[..., None] * x[batch, held[0], held[1]]
        read = read * mask.reshape(2, *out, *k, 1)
        return torch.einsum("nabijc,ijco->nabo", read, w)

    return (
        lambda x, offset, w, mask: jaxconv.deform_conv(
            x, offset, w, mask=mask, strides=s, padding=pairs(p), kernel_dilation=d
        ),
        peer,
        [(2, *n, 2), (2, *out, 2 * taps), (*k, 2, 2), (2, *out, taps)],
    )


def ranked(rng: Rng, rank: int) -> Case:
    """The chosen sample of every window, and the lower median, which is PyTorch's."""
    n, k, s, p, d = geometry(rng, rank)
    p = (0,) * rank
    n = tuple(max(i, (t - 1) * r + 1) for i, t, r in zip(n, k, d, strict=True))
    place = int(rng.integers(0, math.prod(k)))

    def ours(x: Any) -> Any:
        options = dict(strides=s, window_dilation=d)
        return (
            jaxconv.rank_pool(x, k, rank=place, **options) ** 2
            + 3 * jaxconv.median_pool(x, k, **options) ** 2
        )

    def peer(x: Any) -> Any:
        flat = windows(x, k, s, p, d).flatten(-rank)
        return flat.kthvalue(place + 1, -1)[0] ** 2 + 3 * flat.median(-1)[0] ** 2

    return ours, peer, [(2, *n, 2)]


def extremes_of_lax(rng: Rng, rank: int) -> Case:
    n, k, s, p, d = geometry(rng, rank)
    low = [(q, q) for q in p]

    def ours(x: Any) -> Any:
        given = ((1, *k, 1), (1, *s, 1), [(0, 0), *low, (0, 0)], None, (1, *d, 1))
        return (
            jaxconv.reduce_window(x, -jnp.inf, jax.lax.max, *given).clip(-9) ** 2
            + jaxconv.reduce_window(x, 0.0, jax.lax.add, *given) ** 2
        )

    def peer(x: Any) -> Any:
        most = windows(x, k, s, p, d, -9.0).flatten(-rank).amax(-1)
        return most**2 + windows(x, k, s, p, d).flatten(-rank).sum(-1) ** 2

    return ours, peer, [(2, *n, 2)]


OPERATIONS = (
    plain, as_lax, transposed, depthwise, separable, both_gradients, signals, patches, folded, local,
    streamed, deformed, ranked, extremes_of_lax,
)  # fmt: skip
