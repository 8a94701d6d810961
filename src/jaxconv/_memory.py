"""The option that lets a CPU use the memory of a compiled program's temporaries again."""

from __future__ import annotations

import jax

# glibc keeps freed blocks of up to 32 MB for the next call. Of 4, 8, 12, 16 and 24 MB, 12 or 16 gave the
# shortest step of three networks: arrays in small heaps share less memory, and large heaps go back to the
# system more often (2026-11-26, AMD EPYC).
HEAP_BYTES = 16 << 20
# XLA holds the option in 32 bits.
MOST_HEAP_BYTES = 2**31 - 1


def compiler_options(*, heap_bytes: int = HEAP_BYTES) -> dict[str, int]:
    """Options for the `jax.jit` around a training step: a CPU then reuses the memory of its temporaries.

    XLA puts all temporaries of a program, the activations kept for the backward pass among them, into one
    allocation, made anew in every call. One of more than 32 MB glibc takes from the system and gives back
    each time, and each of its pages costs a page fault: a sixth to a third of a step with 100 to 160 MB of
    temporaries. Several heaps of `heap_bytes` stay with the process: all of 55 MB in one network's step,
    three quarters of 161 and a fifth of 101 in two others'. Results are the same bit for bit, the bytes
    nearly so.

    Only the outermost `jax.jit` takes options. Where a framework compiles the step, the environment sets
    them for the whole process: `XLA_FLAGS=--xla_multiheap_size_constraint_per_heap=16777216`. Variables of
    glibc save all faults without options, where the process may stay as large as it ever was:
    `GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.arena_max=1`.
    All threads then share one heap: on one of three machines a step of thousands of short loops took 1.2 to
    1.4 times as long, waiting for its lock. Measure it.

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
