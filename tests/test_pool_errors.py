"""What the pools refuse: the message names the argument, the requirement, what it got and the remedy."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv._pool import avg_pool, max_pool, min_pool, sum_pool

X = np.zeros((2, 5, 6, 3), np.float32)
POOLS = [max_pool, min_pool, avg_pool, sum_pool]

REFUSED: list[tuple[type[Exception], dict[str, Any], str]] = [
    (TypeError, {"inputs": [1.0, 2.0]}, "`inputs` must be an array, got list; convert it with jnp.asarray"),
    (ValueError, {"inputs": X[0, 0]},
     "`inputs` must have 2 spatial axes, as many as `window_shape`, and a channel axis last, "
     "got shape (6, 3); add the missing axes, or give a shorter window"),
    (TypeError, {"window_shape": 2},
     "`window_shape` must be a sequence with one size per spatial axis, got 2; for images give (2, 2), say"),
    (TypeError, {"window_shape": "22"},
     "`window_shape` must be a sequence with one size per spatial axis, got '22'"),
    (ValueError, {"window_shape": ()}, "`window_shape` must have at least one entry, got ()"),
    (ValueError, {"window_shape": (2, 0)}, "`window_shape` must be at least 1 on every axis, got (2, 0)"),
    (TypeError, {"window_shape": (2.0, 2)},
     "`window_shape` must be made of Python integers known at trace time, got 2.0"),
    (ValueError, {"strides": (1, 2, 3)},
     "`strides` must have one entry per spatial axis (2), got (1, 2, 3)"),
    (ValueError, {"strides": 0}, "`strides` must be at least 1 on every axis, got (0, 0)"),
    (ValueError, {"window_dilation": (1, 0)},
     "`window_dilation` must be at least 1 on every axis, got (1, 0)"),
    (ValueError, {"padding": "SOME"}, "`padding` must be one of VALID, SAME"),
    (ValueError, {"padding": "reflect", "inputs": X[:, :0], "window_shape": (3, 3)},
     "`padding` that extends the input (reflect) needs samples on every axis, got spatial sizes (0, 6)"),
    (ValueError, {"padding": [(1, 1)]},
     "`padding` must have one (lo, hi) pair per spatial axis (2), got 1"),
    (ValueError, {"padding": [(-3, -3), (0, 0)]},
     "`padding` must not crop more than the input holds, got (-3, -3) on spatial axis 0"),
    (ValueError, {"padding": [(1, -1), (0, 0)], "ceil_mode": True},
     "`padding` must not be negative with `ceil_mode`, got ((1, -1), (0, 0)); crop the inputs first"),
    (TypeError, {"ceil_mode": 1}, "`ceil_mode` must be True or False, got 1"),
    (ValueError, {"autodiff": "torch"}, '`autodiff` must be "custom" (hand-derived reverse rules) or "jax"'),
]  # fmt: skip


@pytest.mark.parametrize("pool", POOLS, ids=lambda p: p.__name__)
@pytest.mark.parametrize(("kind", "change", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_refusals(pool: Any, kind: type[Exception], change: dict[str, Any], message: str) -> None:
    call = {"inputs": X, "window_shape": (2, 2), "strides": (2, 1)} | change
    with pytest.raises(kind, match=re.escape(message)) as caught:
        pool(**call)
    *_, context = str(caught.value).split("\n")
    assert context.startswith(f"  in {pool.__name__}(inputs=")
    assert f"strides={call['strides']!r}" in context
    assert str(caught.value).count("  in ") == 1


def test_the_context_shows_arrays_by_dtype_and_shape() -> None:
    with pytest.raises(ValueError, match=re.escape("inputs=float32[2, 5, 6, 3], window_shape=(0,)")):
        max_pool(X, (0,))


def test_kinds_of_inputs() -> None:
    with pytest.raises(TypeError, match="must be booleans or integers or floats, got complex64; cast it"):
        max_pool(X.astype(np.complex64), (2, 2))
    for pool in (avg_pool, sum_pool):
        with pytest.raises(TypeError, match="must be integers or floats or complex numbers, got bool"):
            pool(X.astype(bool), (2, 2))


def test_divisors() -> None:
    with pytest.raises(ValueError, match="`divisor_override` must not be 0, got 0; use sum_pool"):
        avg_pool(X, (2, 2), divisor_override=0)
    with pytest.raises(TypeError, match="`count_include_pad` must be True or False, got 0"):
        avg_pool(X, (2, 2), count_include_pad=0)
    with pytest.raises(TypeError, match="`divisor_override` must be made of Python integers"):
        avg_pool(X, (2, 2), divisor_override=2.5)


def test_options_must_be_static_under_jit() -> None:
    with pytest.raises(TypeError, match="mark it static under jit"):
        jax.jit(lambda x, s: max_pool(x, (2, 2), s))(jnp.asarray(X), 2)


def test_forward_mode_needs_autodiff_jax() -> None:
    x = jnp.asarray(X)
    for pool in POOLS:
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(lambda x, p=pool: p(x, (2, 2)), (x,), (x,))
