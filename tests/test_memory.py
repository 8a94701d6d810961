"""The option for temporaries: taken by XLA, the same results, and none where memory is pooled anyway."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv._memory import HEAP_BYTES

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(4, 32, 32, 8)).astype(np.float32)


def gradient(kernel: jax.Array, x: jax.Array) -> jax.Array:
    def loss(k: jax.Array) -> jax.Array:
        return jnp.mean(jnp.tanh(jaxconv.conv(jnp.tanh(jaxconv.conv(x, k)), k)) ** 2)

    return jax.grad(loss)(kernel)


def compiled(options: dict[str, int]) -> Any:
    return jax.jit(gradient, compiler_options=options).lower(KERNEL, X).compile()


def test_results_are_the_same_bit_for_bit() -> None:
    heaps = jax.jit(gradient, compiler_options=jaxconv.compiler_options(heap_bytes=1 << 18))
    np.testing.assert_array_equal(heaps(KERNEL, X), jax.jit(gradient)(KERNEL, X))


def test_xla_takes_the_option() -> None:
    """Arrays of one heap cannot lie in another's gaps, so that small heaps take more bytes together."""
    if not jaxconv.compiler_options():
        pytest.skip("CPUs alone have it")
    plain, wide, narrow = (
        compiled(options).memory_analysis().temp_size_in_bytes
        for options in (
            {},
            jaxconv.compiler_options(heap_bytes=2**31 - 1),
            jaxconv.compiler_options(heap_bytes=1 << 18),
        )
    )
    assert plain == wide < narrow


def test_accelerators_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert jaxconv.compiler_options() == {}


def test_the_flag_in_the_documentation_is_the_option() -> None:
    flag = f"XLA_FLAGS=--xla_multiheap_size_constraint_per_heap={HEAP_BYTES}"
    assert flag in str(jaxconv.compiler_options.__doc__)
    assert flag in (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize(
    ("heap_bytes", "error", "words"),
    [
        (16e6, TypeError, "`heap_bytes` must be an int, got 16000000.0"),
        (True, TypeError, "`heap_bytes` must be an int, got True"),
        (0, ValueError, "`heap_bytes` must be from 1 to 2147483647, got 0"),
        (2**31, ValueError, "`heap_bytes` must be from 1 to 2147483647, got 2147483648"),
    ],
)
def test_refusals(heap_bytes: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        jaxconv.compiler_options(heap_bytes=heap_bytes)
