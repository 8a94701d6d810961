"""Signal processing's two sliding products, by SciPy's names and modes: `convolve` and `correlate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ._conv import conv
from ._front import as_array, context

MODES = ("full", "same", "valid")


def convolve(
    x: Any,
    kernel: Any,
    mode: str = "full",
    *,
    precision: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """True convolution of one channel, any rank: the kernel is flipped on every axis.

        z[i] = sum_k x[i - k] kernel[k]   =   correlate(x, rot180(kernel))                     (T1)

    Args:
      x: `[*S]`.
      kernel: `[*K]`, as many axes as x.
      mode: "full" (every overlap, S + K - 1), "same" (the centre of full, of x's shape) or "valid" (whole
        overlaps, |S - K| + 1), as `scipy.signal.convolve`.
      precision, algorithm, autodiff: as in `conv`.

    Returns:
      The convolution, in the promoted dtype of x and kernel.

    Raises:
      ValueError: another mode, other ranks, an empty array, or "valid" where neither contains the other.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> print(jaxconv.convolve(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 0.5])))
      [0.  1.  2.5 4.  1.5]
    """
    with context("convolve", x=x, kernel=kernel, mode=mode):
        x, kernel = check_signals(x, kernel)
        if check_mode(mode, x, kernel):
            x, kernel = kernel, x
    return slide(x, flip(kernel), mode, precision, algorithm, autodiff)


def correlate(
    x: Any,
    kernel: Any,
    mode: str = "full",
    *,
    precision: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
    autodiff: str = "custom",
) -> Array:
    """Cross-correlation of one channel, any rank, as `scipy.signal.correlate`: no flip.

        z[i] = sum_k x[i + k - (K - 1)] conj(kernel[k])                                        (T1)

    Args and errors are those of `convolve`; a complex kernel is conjugated, as in SciPy.

    Examples:
      >>> import jax.numpy as jnp, jaxconv
      >>> print(jaxconv.correlate(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 0.5])))
      [0.5 2.  3.5 3.  0. ]
    """
    with context("correlate", x=x, kernel=kernel, mode=mode):
        x, kernel = check_signals(x, kernel)
        swap = check_mode(mode, x, kernel)
    if swap:
        # Exchanging the arguments reverses the lags and conjugates the products.
        z = slide(kernel, jnp.conj(x), mode, precision, algorithm, autodiff)
        return jnp.conj(flip(z))
    return slide(x, jnp.conj(kernel), mode, precision, algorithm, autodiff)


def slide(x: Array, kernel: Array, mode: str, precision: Any, algorithm: Any, autodiff: str) -> Array:
    """The unflipped sliding product with SciPy's sizes."""
    pads = {
        "full": [(k - 1, k - 1) for k in kernel.shape],
        "same": [(k // 2, (k - 1) // 2) for k in kernel.shape],
        "valid": [(0, 0) for _ in kernel.shape],
    }[mode]
    y = conv(
        x[..., None], kernel[..., None, None],
        padding=pads, precision=precision, algorithm=algorithm, autodiff=autodiff,
    )  # fmt: skip
    return y[..., 0]


def flip(x: Array) -> Array:
    """rot180: reversed on every axis."""
    return lax.rev(x, range(x.ndim))


def check_signals(x: Any, kernel: Any) -> tuple[Array, Array]:
    """Two arrays of one rank and dtype."""
    x, kernel = as_array(x, "x", 0), as_array(kernel, "kernel", 0)
    if x.ndim != kernel.ndim:
        raise ValueError(
            f"`x` and `kernel` must have the same number of axes, got shapes {x.shape} and {kernel.shape}"
        )
    if x.size == 0 or kernel.size == 0:
        raise ValueError(f"`x` and `kernel` must not be empty, got shapes {x.shape} and {kernel.shape}")
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    return x.astype(dtype), kernel.astype(dtype)


def check_mode(mode: str, x: Array, kernel: Array) -> bool:
    """Whether "valid" exchanges the arguments: SciPy slides the smaller array over the larger one."""
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {', '.join(MODES)}, got {mode!r}")
    if mode != "valid":
        return False
    pairs = list(zip(x.shape, kernel.shape, strict=True))
    if all(n >= k for n, k in pairs):
        return False
    if all(n <= k for n, k in pairs):
        return True
    raise ValueError(
        '`mode="valid"` needs one array to be at least as large as the other on every axis, '
        f"got shapes {x.shape} and {kernel.shape}"
    )
