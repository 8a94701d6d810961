"""`conv_stream`: chunk by chunk it is the causal convolution of the whole signal."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxconv


@given(
    st.lists(st.sampled_from([0, 1, 3]), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
)
def test_any_cut_gives_the_whole(chunks: Any, taps: int, dilation: int, stride: int, groups: int) -> None:
    """Chunk lengths decide nothing but the cost; one quick algorithm stands for all."""
    rng = np.random.default_rng(0)
    lengths = [stride * n for n in chunks]
    x = rng.integers(-9, 9, (2, sum(lengths), 4)).astype(float)
    w = rng.integers(-9, 9, (taps, 4 // groups, 8)).astype(float)
    options: dict[str, Any] = {"strides": stride, "kernel_dilation": dilation, "groups": groups}
    options["algorithm"] = "direct"
    wanted = jaxconv.conv(x, w, padding="CAUSAL", **options)
    state, parts, start = None, [], 0
    for length in lengths:
        y, state = jaxconv.conv_stream(x[:, start : start + length], w, state, **options)
        assert y.shape == (2, length // stride, 8)
        parts.append(y)
        start += length
    np.testing.assert_allclose(jnp.concatenate(parts, 1), wanted, atol=1e-9)
    past = (taps - 1) * dilation
    padded = np.concatenate([np.zeros((2, past, 4)), x], 1)
    np.testing.assert_array_equal(state, padded[:, padded.shape[1] - past :])


def test_sample_by_sample_in_a_scan_with_gradients() -> None:
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s) for s in [(3, 12, 4), (4, 1, 4), (4,)])
    start = jaxconv.conv_stream_state((3, 1, 4), w.shape, x.dtype)

    def streamed(w: jax.Array, b: jax.Array) -> jax.Array:
        def step(state: jax.Array, sample: jax.Array) -> tuple[jax.Array, jax.Array]:
            y, state = jaxconv.conv_stream(sample[:, None], w, state, b, groups=4)
            return state, y[:, 0]

        return jnp.swapaxes(lax.scan(step, start, jnp.swapaxes(x, 0, 1))[1], 0, 1)

    def whole(w: jax.Array, b: jax.Array) -> jax.Array:
        return jaxconv.conv(x, w, b, padding="CAUSAL", groups=4)

    np.testing.assert_allclose(streamed(w, b), whole(w, b), atol=1e-12)
    got = jax.grad(lambda *a: jnp.sin(streamed(*a)).sum(), (0, 1))(w, b)
    wanted = jax.grad(lambda *a: jnp.sin(whole(*a)).sum(), (0, 1))(w, b)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_the_step_compiles_once() -> None:
    w = jnp.ones((3, 2, 2))
    step = jax.jit(lambda x, state: jaxconv.conv_stream(x, w, state))
    state = jaxconv.conv_stream_state((1, 1, 2), w.shape)
    for _ in range(3):
        _, state = step(jnp.ones((1, 1, 2)), state)
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": 2}, "multiple of 2"),
        ({"state": jnp.zeros((1, 3, 2))}, "Ke - 1 last samples"),
        ({"state": jnp.zeros((1, 2, 2), jnp.bfloat16)}, "begin with None"),
        ({"kernel": jnp.ones((3, 3, 2, 2))}, "time is one axis"),
        ({"kernel_dilation": 0}, "at least 1"),
    ],
)
def test_wrong_chunks_and_states(arguments: dict[str, Any], message: str) -> None:
    given = {"kernel": jnp.ones((3, 2, 2), jnp.float32), **arguments}
    with pytest.raises(ValueError, match=message):
        jaxconv.conv_stream(jnp.ones((1, 5, 2), jnp.float32), **given)


def test_a_state_of_no_signal() -> None:
    with pytest.raises(ValueError, match="input_shape"):
        jaxconv.conv_stream_state((3,), (3, 1, 1))
