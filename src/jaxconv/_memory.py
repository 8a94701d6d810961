"""Memory of compiled programs on a CPU, used again: an option for one program, a setting for the process."""

from __future__ import annotations

import ctypes
import functools

import jax

# glibc keeps freed blocks of up to 32 MB for the next call. Of 4, 8, 12, 16 and 24 MB, 12 or 16 gave the
# shortest step of three networks: arrays in small heaps share less memory, and large heaps go back to the
# system more often (2026-11-26, AMD EPYC).
HEAP_BYTES = 16 << 20
# XLA holds the option in 32 bits.
MOST_HEAP_BYTES = 2**31 - 1

# Parameters of glibc's mallopt (malloc.h), and the most that its int holds.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST_TRIM_BYTES = 2**31 - 1
# What jax refuses to set once it has clients.
EARLY_OPTION = "jax_num_cpu_devices"
LATE = (
    "`keep_memory` must be called before jax first computes: its CPU client, which then makes its threads, "
    "is there already; restart the process, in a notebook the kernel, and call it after the imports"
)


def compiler_options(*, heap_bytes: int = HEAP_BYTES) -> dict[str, int]:
    """Options for the `jax.jit` around a training step: a CPU then reuses the memory of its temporaries.

    XLA puts all temporaries of a program, the activations kept for the backward pass among them, into one
    allocation, made anew in every call. One of more than 32 MB glibc takes from the system and gives back
    each time, and each of its pages costs a page fault: a sixth to a third of a step with 100 to 160 MB of
    temporaries. Several heaps of `heap_bytes` stay with the process: all of 55 MB in one network's step,
    three quarters of 161 and a fifth of 101 in two others'. Results are the same bit for bit, the bytes
    nearly so.

    Only the outermost `jax.jit` takes options. Where a framework compiles the step, the environment sets
    them for the whole process: `XLA_FLAGS=--xla_multiheap_size_constraint_per_heap=16777216`. `keep_memory`
    saves all faults without options, where the process may stay as large as it ever was.

    Args:
        heap_bytes: Bytes of one heap, from 1 to 2**31 - 1. A larger array gets a heap of its own, and XLA
            logs a warning for each (`TF_CPP_MIN_LOG_LEVEL=2` silences it).

    Returns:
        Names and values for `compiler_options=`; on GPUs and TPUs, where XLA keeps a pool of memory, none.

    Raises:
        TypeError: `heap_bytes` is not an int.
        ValueError: `heap_bytes` is out of range.

    Examples:
        >>> import jax, jax.numpy as jnp, jaxconv
        >>> def step(kernel, x):
        ...     return kernel - 0.1 * jax.grad(lambda k: (jaxconv.conv(x, k) ** 2).mean())(kernel)
        >>> step = jax.jit(step, compiler_options=jaxconv.compiler_options())
        >>> step(jnp.ones((3, 3, 8, 8)), jnp.ones((2, 16, 16, 8))).shape
        (3, 3, 8, 8)
    """
    if not isinstance(heap_bytes, int) or isinstance(heap_bytes, bool):
        raise TypeError(f"`heap_bytes` must be an int, got {heap_bytes!r}")
    if not 1 <= heap_bytes <= MOST_HEAP_BYTES:
        raise ValueError(f"`heap_bytes` must be from 1 to {MOST_HEAP_BYTES}, got {heap_bytes}")
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_multiheap_size_constraint_per_heap": heap_bytes}


def keep_memory() -> bool:
    """Lets the process keep the memory it frees: no page of a training step on a CPU is then fetched anew.

    XLA allocates the temporaries of a program in every call, and what it returns as well. glibc gets
    allocations of more than 32 MB from the system and gives them back each time; each of their pages costs a
    fault, a sixth to a third of a step with 100 to 160 MB of temporaries. This call makes glibc get none that
    way and give back only above 2 GB (`mallopt`), and makes jax run CPU programs on the thread that calls
    them, for memory of other threads lies in heaps that glibc cuts back all the same. Results are the same
    bit for bit.

    It holds for all that the process does, other libraries too: it stays as large as it ever was, and a
    call of a compiled function returns when its results are there, so that Python prepares no next batch
    meanwhile. `compiler_options` is for one program. GPUs and TPUs have pools of memory without either.

    Returns:
        Whether memory is kept: False where the C library is not glibc (macOS, Windows, musl), where nothing
        changes. Later calls return the same.

    Raises:
        RuntimeError: jax has computed something before the first call, or listed its devices.

    Examples:
        >>> import subprocess, sys  # the first line of a program, not of this one
        >>> program = "import jax, jaxconv; jaxconv.keep_memory(); print(jax.numpy.ones(3).sum())"
        >>> subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()
        '3.0'
    """
    return _keep_memory()


@functools.cache
def _keep_memory() -> bool:
    if _has_client():
        raise RuntimeError(LATE)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (TypeError, AttributeError):  # Windows has no library of the process itself; others no mallopt
        return False
    if not (mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, MOST_TRIM_BYTES)):
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


def _has_client() -> bool:
    """Whether jax has clients already: it then refuses another number of CPU devices."""
    devices = getattr(jax.config, EARLY_OPTION)
    try:
        jax.config.update(EARLY_OPTION, devices + 2)
    except RuntimeError:
        return True
    jax.config.update(EARLY_OPTION, devices)
    return False
