"""What the figures ran on: description, rate of XLA's own matrix product, bandwidth of a copy."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv._plans import cpu_model
from measure import Task

# Rows, depth and columns: large and square, then two layers' patches, then a pointwise layer.
DOT_SHAPES = ((2048, 2048, 2048), (6272, 576, 64), (6272, 1152, 128), (25088, 64, 256))
COPY_BYTES = 1 << 28
SAMPLES = 5
# Flags of Linux for vector units, the widest first.
VECTORS = (("avx512f", "AVX-512"), ("avx2", "AVX2"))
# What of the environment changes the figures.
ENVIRONMENT = ("GLIBC_TUNABLES", "XLA_FLAGS")
PACKAGES = ("jaxconv", "jax", "jaxlib", "numpy", "torch")


def processor() -> str:
    """The model that the system gives, and its widest vectors where it tells."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    return " ".join([cpu_model(), *[name for flag, name in VECTORS if flag in flags][:1]])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def command(arguments: Sequence[str]) -> str:
    """The command line with its environment, absolute paths cut to their last part."""
    settings = [f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ]
    words = [Path(a).name if os.path.isabs(a) else a for a in arguments]
    return shlex.join([*settings, "python", "experiments/speed/run.py", *words])


def describe(arguments: Sequence[str]) -> dict[str, Any]:
    """Everything a reader needs to place the figures."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": command(arguments),
        "processor": processor(),
        "cores": cores(),
        "device": str(jax.devices()[0].device_kind),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def _median_s(function: Any, *arguments: Any) -> float:
    compiled = jax.jit(function).lower(*arguments).compile()
    task = Task("", lambda: compiled(*arguments), jax.block_until_ready)
    task.once()
    return median(task.once()[1] for _ in range(SAMPLES))


def dot_gflops(shape: tuple[int, int, int], dtype: str) -> float:
    """Rate of one `dot_general` in GFLOP/s."""
    rows, depth, columns = shape
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == "float64"):
        a = jnp.asarray(rng.normal(size=(rows, depth)).astype(dtype))
        b = jnp.asarray(rng.normal(size=(depth, columns)).astype(dtype))
        return 2e-9 * rows * depth * columns / _median_s(jnp.dot, a, b)


def copy_gbytes() -> float:
    """Bytes read and written per second by an elementwise operation on more than caches hold."""
    x = jnp.zeros(COPY_BYTES // 4, jnp.float32)
    return 2e-9 * COPY_BYTES / _median_s(lambda x: x + 1, x)


def roofline(dtypes: Sequence[str]) -> dict[str, Any]:
    """Matrix product rates by dtype and shape, and the copy bandwidth."""
    rates = {
        dtype: {"x".join(map(str, s)): round(dot_gflops(s, dtype), 1) for s in DOT_SHAPES} for dtype in dtypes
    }
    return {"dot_gflop_per_s": rates, "copy_gbyte_per_s": round(copy_gbytes(), 1)}


def least_ms(flops: int, io_bytes: int, dtype: str, roof: dict[str, Any]) -> float:
    """Time under the roof: fastest matrix product or copy bandwidth, whichever takes longer."""
    rate = max(roof["dot_gflop_per_s"][dtype].values())
    return 1e-6 * max(flops / rate, io_bytes / roof["copy_gbyte_per_s"])
