"""`reduce_window` and `pool` by any function: against a gather of every tap, and lax's own as a witness."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxconv._pool import max_pool, min_pool, sum_pool
from jaxconv._pool_reduce import pool, reduce_window
from test_pool_structure import WINDOWED, program

Options = dict[str, Any]


def taps(shape: tuple[int, ...], options: Options) -> np.ndarray:
    """For each output the flat position of every tap, row-major; one past the end for padding and gaps."""
    flat = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    axes = []
    for axis, n in enumerate(shape):
        size, stride, (lo, hi), base, dilation = (options[name][axis] for name in NAMES)
        reach = (size - 1) * dilation + 1
        starts = range(-lo, (n - 1) * base + 1 + hi - reach + 1, stride) if n else range(0)
        spots = np.array([[start + k * dilation for k in range(size)] for start in starts], int)
        spots = spots.reshape(len(starts), size)
        real = (spots % base == 0) & (spots >= 0) & (spots // base < n)
        axes.append(np.where(real, spots // base, -1))
    outputs, sizes = [len(a) for a in axes], [a.shape[1] for a in axes]
    table = np.full((*outputs, *sizes), flat.size)
    for m in np.ndindex(*outputs):
        for k in np.ndindex(*sizes):
            i = tuple(a[p, q] for a, p, q in zip(axes, m, k, strict=True))
            if min(i, default=0) >= 0:
                table[(*m, *k)] = flat[i]
    return table.reshape(*outputs, int(np.prod(sizes)))


NAMES = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


def gathered(x: Any, init: Any, function: Callable[..., Any], options: Options) -> Any:
    """The reduction by its definition: JAX differentiates the gather and the function."""
    table = taps(x.shape, options)
    padded = jnp.append(x.ravel(), jnp.asarray(init, x.dtype))
    y = padded[table[..., 0]]
    for k in range(1, table.shape[-1]):
        y = function(y, padded[table[..., k]])
    return y


@st.composite
def problems(draw: st.DrawFn) -> tuple[tuple[int, ...], Options]:
    rank = draw(st.integers(1, 4))
    most = (9, 6, 4, 3)[rank - 1]
    numbers = lambda low, high: [draw(st.integers(low, high)) for _ in range(rank)]  # noqa: E731
    shape, still = numbers(1, most), [draw(st.booleans()) for _ in range(rank)]
    sizes, strides, base = numbers(1, 3), numbers(1, 3), numbers(1, 3)
    los, his, dilation = numbers(-1, 2), numbers(-1, 2), numbers(1, 2)
    for axis in range(rank):
        if still[axis]:
            sizes[axis] = strides[axis] = base[axis] = 1
            los[axis] = his[axis] = 0
        if (shape[axis] - 1) * base[axis] + 1 + los[axis] + his[axis] < 0:
            los[axis] = 0
    pads = list(zip(los, his, strict=True))
    return tuple(shape), dict(zip(NAMES, (sizes, strides, pads, base, dilation), strict=True))


def permuted(shape: tuple[int, ...]) -> jax.Array:
    """Positive values without ties."""
    size = int(np.prod(shape))
    return jnp.asarray(np.random.default_rng(size).permutation(size).reshape(shape) / size + 0.5)


REDUCERS = {
    "sum": (lax.add, 0.0),
    "max": (jnp.maximum, -np.inf),
    "min": (lax.min, np.inf),
    "product": (jnp.multiply, 1.0),
}


def derivatives(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """Value, gradient along dy, and the gradient of that gradient along a."""

    def all_of(x: Any, dy: Any, a: Any) -> Any:
        pull = lambda x, dy: jax.vjp(function, x)[1](dy)[0]  # noqa: E731
        return function(x), pull(x, dy), jax.grad(lambda x, dy: (pull(x, dy) * a).sum(), (0, 1))(x, dy)

    return jax.jit(all_of)


def check(shape: tuple[int, ...], options: Options, name: str) -> None:
    function, init = REDUCERS[name]
    x = permuted(shape)
    dy = np.random.default_rng(1).standard_normal(taps(shape, options).shape[:-1])
    a = np.random.default_rng(2).standard_normal(shape)
    got = derivatives(lambda x: reduce_window(x, init, function, **options))(x, dy, a)
    expected = derivatives(lambda x: gathered(x, init, function, options))(x, dy, a)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


@given(problem=problems(), name=st.sampled_from(sorted(REDUCERS)))
def test_values_and_two_orders_of_gradients(problem: Any, name: str) -> None:
    check(*problem, name)


@settings(max_examples=10)
@given(problem=problems())
def test_lax_agrees(problem: Any) -> None:
    shape, options = problem
    x = permuted(shape)
    for function, init in REDUCERS.values():
        expected = lax.reduce_window(x, init, function, **options)
        np.testing.assert_allclose(reduce_window(x, init, function, **options), expected, rtol=1e-12)


def test_nothing_comes_of_a_dilated_input_that_the_window_exceeds() -> None:
    check((1, 3), dict(zip(NAMES, ([1, 6], [1, 1], [(0, 0), (0, 0)], [1, 2], [1, 1]), strict=True)), "max")


def test_channels_first() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 6))
    got = reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2))
    expected = max_pool(np.moveaxis(x, 1, -1), (2, 2), 2)
    np.testing.assert_array_equal(got, np.moveaxis(np.asarray(expected), -1, 1))


def test_defaults_and_ints_are_laxs() -> None:
    x = np.random.default_rng(0).standard_normal((5, 6))
    for window, strides in (((2, 3), (1, 1)), ((2, 3), (1, 2)), ((1, 1), (1, 1)), ((2, 3), (2, 2))):
        for padding in ("VALID", "same", "SAME_LOWER"):
            expected = lax.reduce_window(x, 0.0, lax.add, window, strides, padding)
            got = reduce_window(x, 0.0, lax.add, window, strides, padding)
            np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_array_equal(reduce_window(np.float64(3), 0.0, lax.add, ()), 3)


def test_trees_are_reduced_together() -> None:
    """The maximum and its position, by a function of pairs."""
    x = np.random.default_rng(3).permutation(40).reshape(5, 8).astype(np.float64)
    places = np.arange(40, dtype=np.int32).reshape(5, 8)

    def larger(a: Any, b: Any) -> Any:
        first = a["x"] >= b["x"]
        return jax.tree.map(lambda a, b: jnp.where(first, a, b), a, b)

    operand, init = {"x": x, "at": places}, {"x": -jnp.inf, "at": np.int32(-1)}
    got = reduce_window(operand, init, larger, (2, 3), (1, 2), "SAME")
    np.testing.assert_array_equal(got["x"], lax.reduce_window(x, -jnp.inf, lax.max, (2, 3), (1, 2), "SAME"))
    np.testing.assert_array_equal(x.ravel()[got["at"]], got["x"])


def test_functions_of_scalars_may_branch() -> None:
    def larger(a: Any, b: Any) -> Any:
        assert a.shape == ()
        return lax.cond(a < b, lambda: b, lambda: a)

    x = np.random.default_rng(4).standard_normal((6, 6, 1))
    np.testing.assert_array_equal(pool(x, -jnp.inf, larger, (3, 2)), max_pool(x, (3, 2)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float32", "bfloat16", "float8_e4m3fn", "bool"])
def test_infinities_start_extremes_of_any_dtype(dtype: str) -> None:
    """As in Flax, which gives -inf for integers too."""
    x = np.random.default_rng(5).integers(0, 2 if dtype == "bool" else 100, (1, 5, 4, 2)).astype(dtype)
    for function, init, own in ((lax.max, -jnp.inf, max_pool), (jnp.minimum, jnp.inf, min_pool)):
        got = pool(x, init, function, (2, 2), (1, 1), "SAME")
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, own(x, (2, 2), 1, "SAME"))


def test_sums_and_extremes_have_the_hand_derived_rules() -> None:
    x = jnp.zeros((1, 4, 4, 1))
    for function, init, own in (
        (lax.max, -jnp.inf, max_pool),
        (lax.add, 0, sum_pool),
        (jnp.add, 0.0, sum_pool),
    ):
        got = jax.grad(lambda x: pool(x, init, function, (2, 2), (2, 2)).sum())(x)  # noqa: B023
        np.testing.assert_array_equal(got, jax.grad(lambda x: own(x, (2, 2), 2).sum())(x))  # noqa: B023
    # Another start is no identity: the general path reduces it with nothing that is not padded.
    half = pool(x.astype(jnp.bfloat16) + 1, 0, lax.add, (4, 4))
    assert half.dtype == jnp.bfloat16
    assert float(half[0, 0, 0, 0]) == 16


def test_a_traced_init_and_forward_mode() -> None:
    x = permuted((5, 4))
    slope = jax.jit(jax.grad(lambda x, init: reduce_window(x, init, lax.max, (2, 2)).sum()))(x, -jnp.inf)
    expected = jax.grad(lambda x: reduce_window(x, -jnp.inf, lax.max, (2, 2)).sum())(x)
    np.testing.assert_array_equal(slope, expected)
    for function, init in REDUCERS.values():
        jvp = jax.jvp(lambda x: reduce_window(x, init, function, (2, 2), autodiff="jax"), (x,), (x,))[1]  # noqa: B023
        table: Options = dict(zip(NAMES, ((2, 2), (1, 1), [(0, 0)] * 2, (1, 1), (1, 1)), strict=True))
        want = jax.jvp(lambda x: gathered(x, init, function, table), (x,), (x,))[1]  # noqa: B023
        np.testing.assert_allclose(jvp, want, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(REDUCERS))
def test_nothing_of_laxs_windows_remains(name: str) -> None:
    function, init = REDUCERS[name]
    x = permuted((2, 5, 5, 2))
    energy = lambda x: reduce_window(x, init, function, (1, 3, 2, 1), base_dilation=(1, 2, 1, 1)).sum()  # noqa: E731
    names = {str(e.primitive) for f in (energy, jax.grad(energy)) for e in program(f, x)} - {"reduce_sum"}
    assert "slice" in names
    assert not {n for n in names if n.startswith(WINDOWED)}


X = np.zeros((2, 6, 1))
REFUSED = [
    (TypeError, dict(computation=3), "`computation` must be a function of two scalars, got 3"),
    (TypeError, dict(computation=np.maximum), "`computation` must be a function that JAX can trace, got <uf"),
    (TypeError, dict(computation=max), "`computation` must be a function that JAX can trace, got <bu"),
    (TypeError, dict(computation=lambda a, b: a < b), "`computation` must return what it takes, "),
    (ValueError, dict(window_dimensions=(2, 2)), "`window_dimensions` must have one entry per"),
    (ValueError, dict(base_dilation=(1, 0, 1)), "`base_dilation` must be at least 1 on every axis"),
    (ValueError, dict(padding="EDGE"), "`padding` must hold init_value: one of VALID, "),
    (ValueError, dict(padding=[(0, 0), (-4, -3), (0, 0)]), "`padding` must not crop more than"),
    (ValueError, dict(init_value=np.zeros(3)), "`init_value` must be a scalar, got shape (3,)"),
    (ValueError, dict(init_value=(0, 0)), "`init_value` must be a tree like the arrays', "),
    (ValueError, dict(operand=(X, X[0]), init_value=(0, 0)), "`operand` must hold arrays of one shape"),
    (ValueError, dict(operand=()), "`operand` must hold an array, got ()"),
    (TypeError, dict(operand=[1.0]), "`operand` must be an array, got float"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "message"), REFUSED, ids=lambda v: str(v)[:30])
def test_refusals(kind: type[Exception], change: Options, message: str) -> None:
    call = dict(operand=X, init_value=0.0, computation=lax.mul, window_dimensions=(1, 2, 1)) | change
    with pytest.raises(kind, match=re.escape(message)) as caught:
        reduce_window(**call)
    assert "\n  in reduce_window(operand=" in str(caught.value)
