"""Strict JAX for every test: 64-bit types, no silent promotion. Slow tests only when asked for."""

import gc
import os
from collections.abc import Iterator

import jax
import pytest
from hypothesis import settings

from interpreter import HAS_OLD_EMITTERS
from jaxconv import _cpu_cache

# Most of the time goes into compiling small programs that run once, and LLVM's optimizations would double it.
CHEAP = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if HAS_OLD_EMITTERS:
    # The newer ones would double it too. The older ones write a value that is read twice twice, which a pool
    # of many taps takes to gigabytes: such a test calls `interpreter.compiled`.
    CHEAP += " --xla_cpu_use_fusion_emitters=false"

# Every example compiles anew, so the quick suite draws a sixth of them.
settings.register_profile("quick", derandomize=True, deadline=None, database=None, max_examples=16)
settings.register_profile("slow", derandomize=True, deadline=None, database=None, max_examples=100)

# Optax, the layer libraries and the training scripts expect JAX's default promotion rules and 32-bit types.
_DEFAULT_JAX_MODULES = ("test_experiment", "test_benchmark", "test_dropin")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption(
        "--optimized", action="store_true", help="compile as users do, which takes twice as long"
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("slow" if config.getoption("--slow") else "quick")
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA reads them with its first program, and the last of two that contradict each other counts.
    if not config.getoption("--optimized") and CHEAP not in flags:
        os.environ["XLA_FLAGS"] = f"{CHEAP} {flags}"
    # Tracing makes objects by the million, few in cycles, and looking for those takes a tenth of its time.
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # An address in a name differs between the workers, and they refuse to share out such tests.
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"`ids` must not depend on the process, got {unstable[0]}")
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: give --slow to run it")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="module")
def strict_jax(request: pytest.FixtureRequest) -> Iterator[None]:
    """Enable x64 and turn every implicit dtype or rank promotion into an error."""
    if request.module.__name__.rpartition(".")[2].startswith(_DEFAULT_JAX_MODULES):
        yield
        return
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        yield


@pytest.fixture(autouse=True, scope="session")
def measured_caches() -> Iterator[None]:
    """The caches that limits were measured on, whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cpu_cache, "level_bytes", lambda: _cpu_cache.MEASURED_BYTES)
        yield


@pytest.fixture
def large_caches(limits: pytest.MonkeyPatch) -> None:
    """48 KB in the first level and 480 MB in the last."""
    limits.setattr(_cpu_cache, "level_bytes", lambda: (48 << 10, 480 << 20))


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A monkeypatch for the limits of algorithms: a program traced with others is not used again."""
    jax.clear_caches()
    yield monkeypatch
    jax.clear_caches()
