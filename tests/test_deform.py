"""Deformable convolution: values by the definition, every gradient, and `conv` where nothing moves."""

import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv

CASES = {
    "image": dict(space=(5, 6), taps=(3, 2), c=4, o=6, groups=2, parts=2, s=(2, 1), d=(1, 2),
                  pads=((1, 1), (2, 0))),
    "line": dict(space=(7,), taps=(3,), c=2, o=3, groups=1, parts=1, s=(1,), d=(1,), pads=((0, 0),)),
    "volume": dict(space=(3, 3, 2), taps=(2, 1, 2), c=2, o=2, groups=1, parts=2, s=(1, 2, 1), d=(1, 1, 1),
                   pads=((1, 0), (0, 0), (1, 1))),
}  # fmt: skip


def arrays(case: Any, scale: float = 1.5) -> list[Any]:
    rng = np.random.default_rng(0)
    axes = zip(case["space"], case["taps"], case["s"], case["d"], case["pads"], strict=True)
    out = [(n + lo + hi - (k - 1) * d - 1) // s + 1 for n, k, s, d, (lo, hi) in axes]
    taps, rank = int(np.prod(case["taps"])), len(case["space"])
    shapes = [
        (2, *case["space"], case["c"]),
        (2, *out, case["parts"] * taps * rank),
        (*case["taps"], case["c"] // case["groups"], case["o"]),
        (case["o"],),
        (2, *out, case["parts"] * taps),
    ]
    x, offset, kernel, bias, mask = (rng.standard_normal(shape) for shape in shapes)
    return [x, scale * offset, kernel, bias, mask]


def interpolated(x: Any, at: Any) -> float:
    """x `[*S]` at a place, by its cell's corners."""
    low, total = np.floor(at).astype(int), 0.0
    for bits in itertools.product((0, 1), repeat=x.ndim):
        index = tuple(low + bits)
        if all(0 <= i < n for i, n in zip(index, x.shape, strict=True)):
            total += x[index] * np.prod([1 - abs(a - i) for a, i in zip(at, index, strict=True)])
    return total


def oracle(case: Any, x: Any, offset: Any, kernel: Any, bias: Any, mask: Any) -> Any:
    rank, taps = len(case["space"]), list(np.ndindex(*case["taps"]))
    y = np.zeros((*offset.shape[:-1], case["o"]))
    cin, cout, share = kernel.shape[-2], case["o"] // case["groups"], case["c"] // case["parts"]
    for n, *m, o in np.ndindex(*y.shape):
        total = bias[o]
        for (number, k), c in itertools.product(enumerate(taps), range(cin)):
            channel = o // cout * cin + c
            entry = channel // share * len(taps) + number
            moved = offset[n, *m, entry * rank : (entry + 1) * rank]
            at = np.array(m) * case["s"] + np.array(k) * case["d"] - [lo for lo, _ in case["pads"]] + moved
            total += mask[n, *m, entry] * interpolated(x[n, ..., channel], at) * kernel[*k, c, o]
        y[n, *m, o] = total
    return y


def call(case: Any, x: Any, offset: Any, kernel: Any, bias: Any, mask: Any, **more: Any) -> jax.Array:
    options = dict(strides=case["s"], padding=case["pads"], kernel_dilation=case["d"], groups=case["groups"])
    return jaxconv.deform_conv(x, offset, kernel, bias, mask=mask, **options, **more)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    case = CASES[name]
    operands = arrays(case)
    expected = oracle(case, *operands)
    dy = np.random.default_rng(1).standard_normal(expected.shape)

    @jax.jit
    def program(dy: Any, *operands: Any) -> Any:
        y, pull_back = jax.vjp(lambda *a: call(case, *a), *operands)
        return y, pull_back(dy), jax.vjp(lambda *a: call(case, *a, autodiff="jax"), *operands)[1](dy)

    y, by_hand, by_jax = program(dy, *operands)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    for ours, theirs in zip(by_hand, by_jax, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
    rng = np.random.default_rng(2)
    for i, gradient in enumerate(by_hand):
        step = 1e-6 * rng.standard_normal(operands[i].shape)
        ahead, behind = (
            oracle(case, *operands[:i], operands[i] + sign * step, *operands[i + 1 :]) for sign in (1, -1)
        )
        slope = (dy * (ahead - behind)).sum() / 2
        np.testing.assert_allclose((np.asarray(gradient) * step).sum(), slope, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR"])
def test_where_nothing_moves_it_is_conv(padding: str) -> None:
    x, _, kernel, bias, _ = arrays(CASES["image"])
    expected = jaxconv.conv(x, kernel, bias, padding=padding, groups=2)
    offset = np.zeros((*expected.shape[:-1], 12))
    y = jaxconv.deform_conv(x, offset, kernel, bias, padding=padding, groups=2)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    one = jaxconv.deform_conv(x[0], offset[0], kernel, bias, padding=padding, groups=2)
    np.testing.assert_allclose(one, expected[0], rtol=1e-12, atol=1e-12)


def test_second_order() -> None:
    case = CASES["line"]
    operands = arrays(case)

    def slope(autodiff: str) -> Any:
        def loss(*a: Any) -> Any:
            return (call(case, *a, autodiff=autodiff) ** 2).sum()

        inner = jax.grad(loss, (0, 1, 2, 4))
        return jax.jit(jax.grad(lambda *a: sum((g**2).sum() for g in inner(*a)), (0, 1, 2, 4)))(*operands)

    for ours, theirs in zip(slope("custom"), slope("jax"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_refusals() -> None:
    x, kernel = jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 4, 2))
    message = "`offset` must have shape (1, 4, 4, 'D * 18') with D dividing the 4 channels of `x`, got"
    for channels in (17, 54):
        with pytest.raises(ValueError, match=re.escape(message)):
            jaxconv.deform_conv(x, jnp.ones((1, 4, 4, channels)), kernel)
