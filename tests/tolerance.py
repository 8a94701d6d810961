"""How far a result may lie from the exact one: a function of dtype, reduction length, algorithm.

A sum of R products of unit-normal numbers, added in any order, is off by about sqrt(R) units in
the last place of its own size. An algorithm that adds other terms than those products multiplies
this by its growth factor. bfloat16 and float16 accumulate in float32 and round once, so there
the last rounding, half a unit, comes on top of the float32 bound.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

_ROUNDED_ONCE = ("bfloat16", "float16")

# Winograd's transforms amplify rounding (F(4x4, 3x3): about 10 times); FFT sums whole maps.
_GROWTH = {"winograd": 12.0, "fft": 6.0}


def growth(algorithm: str) -> float:
    """Error of `algorithm` over that of a plain sum of products."""
    return _GROWTH.get(algorithm, 1.0)


def bounds(dtype: Any, reduction: int, algorithm: str, scale: float) -> tuple[float, float]:
    """(relative, absolute) error allowed where results are about `scale` in size."""
    if jnp.issubdtype(dtype, jnp.integer):
        return 0.0, 0.0
    rounded_once = jnp.dtype(dtype).name in _ROUNDED_ONCE
    accumulator = jnp.float32 if rounded_once else dtype
    unit = float(jnp.finfo(accumulator).eps)
    absolute = unit * growth(algorithm) * (2.0 + np.sqrt(reduction)) * scale
    relative = 0.5001 * float(jnp.finfo(dtype).eps) if rounded_once else 0.0
    return relative, absolute


def assert_close(
    got: Any, expected: Any, *, reduction: int, algorithm: str = "direct", terms: float = 1.0
) -> None:
    """`got` is `expected` up to the error of its own dtype; same shape, same non-finite entries.

    `terms` is the size of the data's products where they are not about 1.
    """
    got = np.asarray(got)
    expected = np.asarray(expected)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(got.astype(expected.dtype)), finite)
    scale = max(terms, float(np.max(np.abs(expected[finite]), initial=0.0)))
    relative, absolute = bounds(got.dtype, reduction, algorithm, scale)
    np.testing.assert_allclose(
        got.astype(expected.dtype)[finite], expected[finite], rtol=relative, atol=absolute
    )
