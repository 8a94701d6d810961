"""The option for temporaries: taken by XLA, the same results, and none where memory is pooled anyway.

The setting of the process: no page is fetched anew; nothing changes where it comes late or glibc is missing.
"""

import ctypes
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv import _memory
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


# A network whose step has temporaries of 42 MB, and the page faults of its later steps.
PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp
import jaxconv

def loss(kernel, x):
    return jnp.mean(jnp.tanh(jaxconv.conv(jnp.tanh(jaxconv.conv(x, kernel)), kernel)) ** 2)

kept = sys.argv[1] == "keep" and jaxconv.keep_memory()
step = jax.jit(jax.grad(loss))
operands = jnp.ones((3, 3, 16, 16)), jnp.ones((32, 64, 64, 16))

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step(*operands).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(10)
print(kept, faults(4) / 4)
"""


def steps_faults(word: str) -> tuple[str, float]:
    """What `keep_memory` returned, and the page faults of a step."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, word], check=True, capture_output=True, text=True, timeout=300
    )
    kept, faults = run.stdout.split()
    return kept, float(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has the setting")
def test_a_process_that_keeps_its_memory_fetches_no_page_anew() -> None:
    kept, faults = steps_faults("keep")
    assert kept == "True"
    assert faults < 50
    kept, faults = steps_faults("give back")
    assert kept == "False"
    assert faults > 5000


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A process in which jax has computed nothing; what the call sets in jax."""
    updates: dict[str, Any] = {}
    monkeypatch.setattr(_memory, "_has_client", lambda: False)
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    _memory._keep_memory.cache_clear()
    yield updates
    _memory._keep_memory.cache_clear()


def refuse(parameter: int, value: int) -> int:
    return 0


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(mallopt=refuse)])
def test_without_glibc_nothing_changes(
    library: Any, early: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert not jaxconv.keep_memory()
    assert early == {}


def test_memory_is_kept_once(early: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert [jaxconv.keep_memory(), jaxconv.keep_memory()] == [True, True]
    assert calls == [(-4, 0), (-1, 2**31 - 1)]
    assert early == {"jax_cpu_enable_async_dispatch": False}


def test_a_late_call_is_refused_and_changes_nothing() -> None:
    jnp.ones(3).block_until_ready()
    devices = jax.config.jax_num_cpu_devices
    with pytest.raises(RuntimeError, match="before jax first computes"):
        jaxconv.keep_memory()
    assert jax.config.jax_num_cpu_devices == devices
