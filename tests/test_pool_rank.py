"""Rank and median pooling: values and gradients by the definition, ties, NaN, and SciPy's filters."""

import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import oracle_pool
from jaxconv import max_pool, median_pool, min_pool, rank_pool
from jaxconv._pool_call import make_geometry
from jaxconv._pool_rank import RankPool
from pool_cases import CASES, PoolCase

BOTH_WAYS = pytest.mark.parametrize("autodiff", ["custom", "jax"])
SOME = [CASES[i] for i in (2, 6, 7, 8, 13, 16, 23, 24, 25)]


def winners(x: Any, case: PoolCase, rank: int | None) -> dict[Any, Any]:
    """(n, *m, c) -> the first sample that has the value of `rank`, or the first NaN."""
    won = {}
    for n, m, c in itertools.product(range(len(x)), oracle_pool.outputs(case.axes), range(x.shape[-1])):
        under = oracle_pool.samples(case.axes, m)
        if not under:
            continue
        values = [x[n, *i, c] for i in under]
        place = (len(values) - 1) // 2 if rank is None else rank if rank >= 0 else len(values) + rank
        chosen = sorted(values)[min(max(place, 0), len(values) - 1)]
        nans = [i for i, v in zip(under, values, strict=True) if v != v]
        won[(n, *m, c)] = nans[0] if nans else under[values.index(chosen)]
    return won


def collected(a: Any, case: PoolCase, won: dict[Any, Any]) -> Any:
    y = oracle_pool.empty_output(a, case.axes, 0, a.dtype)
    for (n, *m, c), i in won.items():
        y[n, *m, c] = a[n, *i, c]
    return y


def routed(dy: Any, case: PoolCase, won: dict[Any, Any]) -> Any:
    dx = np.zeros(case.shape)
    for (n, *m, c), i in won.items():
        dx[n, *i, c] += dy[n, *m, c]
    return dx


def options(case: PoolCase) -> dict[str, Any]:
    return {name: value for name, value in case.options.items() if name != "ceil_mode"}


def ranks(case: PoolCase) -> list[int | None]:
    """The median, ranks inside, and one that borders clamp."""
    taps = int(np.prod([a.taps for a in case.axes]))
    return [None, *sorted({r for r in (1, -3) if 0 < r % taps < taps - 1})]


def pooled(x: Any, case: PoolCase, rank: int | None, **more: Any) -> jax.Array:
    if rank is None:
        return median_pool(x, **options(case), **more)
    return rank_pool(x, rank=rank, **options(case), **more)


def derivatives(function: Any, x: Any, dy: Any) -> Any:
    """Value, gradient along dy, and the gradient of that along x, as one program."""

    def all_of(x: Any, dy: Any) -> Any:
        y, pull_back = jax.vjp(function, x)
        dx, again = jax.vjp(lambda dy: pull_back(dy)[0], dy)
        return y, dx, again(x)[0]

    # It runs once: compiled without optimization it is ready sooner.
    return jax.jit(all_of, compiler_options={"xla_backend_optimization_level": 0})(x, dy)


@pytest.mark.parametrize("case", SOME, ids=str)
def test_values_and_two_orders_of_gradients(case: PoolCase) -> None:
    x = case.ties()
    for rank in ranks(case):
        won = winners(x, case, rank)
        expected = collected(x, case, won)
        dy = np.random.default_rng(1).standard_normal(expected.shape)
        for autodiff in ("custom", "jax"):
            y, dx, again = derivatives(lambda x: pooled(x, case, rank, autodiff=autodiff), x, dy)  # noqa: B023
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_allclose(dx, routed(dy, case, won), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(again, expected, rtol=1e-12, atol=1e-12)


@BOTH_WAYS
@pytest.mark.parametrize("case", [CASES[6]], ids=str)
def test_the_extremes_are_min_pool_and_max_pool(case: PoolCase, autodiff: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0], case.shape, p=[0.03, 0.17, 0.2, 0.3, 0.3])
    for rank, pool in ((0, min_pool), (-1, max_pool)):
        y, pull_back = jax.vjp(lambda x: pool(x, **options(case)), x)  # noqa: B023
        got, pulled = jax.vjp(lambda x: rank_pool(x, rank=rank, **options(case), autodiff=autodiff), x)  # noqa: B023
        np.testing.assert_array_equal(got, y)
        dy = rng.standard_normal(y.shape)
        np.testing.assert_allclose(pulled(dy)[0], pull_back(dy)[0], rtol=1e-12, atol=1e-12)
        general = sorted_way(case, rank, x)
        real = oracle_pool.total(np.ones(case.shape), case.axes) > 0
        np.testing.assert_array_equal(general[real], np.asarray(y)[real])


def sorted_way(case: PoolCase, rank: int, x: Any) -> Any:
    """`rank_pool` without its short cut for extremes."""
    o = options(case)
    geometry = make_geometry(
        x.shape, o["window_shape"], o["strides"], o["padding"], o["window_dilation"], False
    )
    return np.asarray(RankPool(geometry.windows, rank).apply(jnp.asarray(x), True))


@pytest.mark.parametrize("case", [CASES[3]], ids=str)
def test_nan_and_infinities(case: PoolCase) -> None:
    rng = np.random.default_rng(4)
    x = rng.choice([np.nan, np.inf, -np.inf, 0.0], case.shape, p=[0.05, 0.25, 0.3, 0.4])
    for rank in ranks(case):
        won = winners(x, case, rank)
        y, pull_back = jax.vjp(lambda x: pooled(x, case, rank), x)  # noqa: B023
        np.testing.assert_array_equal(y, collected(x, case, won))
        np.testing.assert_array_equal(pull_back(np.ones(y.shape))[0], routed(np.ones(y.shape), case, won))


@pytest.mark.parametrize(
    "mode", [("CIRCULAR", "wrap"), ("REFLECT", "mirror"), ("SYMMETRIC", "reflect"), ("EDGE", "nearest")]
)
def test_scipy_filters(mode: tuple[str, str]) -> None:
    ours, theirs = mode
    x = np.random.default_rng(5).standard_normal((9, 11))
    column = jnp.asarray(x)[..., None]
    for rank in (0, 2, -3):
        expected = ndimage.rank_filter(x, rank, size=(3, 5), mode=theirs)
        got = rank_pool(column, (3, 5), padding=ours, rank=rank)[..., 0]
        np.testing.assert_array_equal(got, expected)
    expected = ndimage.median_filter(x, size=(3, 5), mode=theirs)
    np.testing.assert_array_equal(median_pool(column, (3, 5), padding=ours)[..., 0], expected)
    got = ndimage.percentile_filter(x, 20, size=(3, 5), mode=theirs)
    np.testing.assert_array_equal(rank_pool(column, (3, 5), padding=ours, rank=3)[..., 0], got)


def test_the_lower_of_two_medians() -> None:
    x = np.array([4.0, 1.0, 3.0, 2.0])[:, None]
    assert median_pool(x, (4,))[0, 0] == 2
    np.testing.assert_array_equal(median_pool(x, (3,), padding="SAME")[:, 0], [1, 3, 2, 2])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "bfloat16"])
def test_dtypes(dtype: str) -> None:
    case = CASES[3]
    x = case.ties(levels=2 if dtype == "bool" else 4).astype(dtype)
    for rank in (None, 3):
        y = pooled(x, case, rank)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, collected(x, case, winners(x, case, rank)))


def test_batches_vmap_and_forward_mode() -> None:
    x = jnp.asarray(np.random.default_rng(6).standard_normal((3, 2, 6, 5, 2)))

    def median(x: Any, **more: Any) -> jax.Array:
        return median_pool(x, (3, 2), padding="SAME", **more)

    np.testing.assert_array_equal(median(x), jnp.stack([median(one) for one in x]))
    slope = jax.grad(lambda x: median(x).sum())
    np.testing.assert_array_equal(jax.vmap(slope)(x), slope(x))
    tangent = jnp.ones_like(x)
    _, along = jax.jvp(lambda x: median(x, autodiff="jax"), (x,), (tangent,))
    np.testing.assert_array_equal(along, jnp.ones_like(along))


@pytest.mark.parametrize("rank", [-5, 4])
def test_a_rank_outside_of_the_window(rank: int) -> None:
    message = f"`rank` must be from -4 to 3 for a window of 4 taps, got {rank}"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        rank_pool(np.zeros((1, 4, 4, 1)), (2, 2), rank=rank)
    assert "\n  in rank_pool(" in str(caught.value)
    with pytest.raises(TypeError, match="`inputs` must be booleans or integers or floats"):
        median_pool(np.zeros((4, 1), complex), (2,))


def test_patches_of_one_example_are_held_at_a_time() -> None:
    """Temporaries grow with the batch by what an example has, not by what its patches have."""

    def held(batch: int) -> int:
        gradient = jax.grad(lambda x: jnp.sin(median_pool(x, (5, 5))).sum())
        spec = jax.ShapeDtypeStruct((batch, 32, 32, 4), jnp.float32)
        return jax.jit(gradient).lower(spec).compile().memory_analysis().temp_size_in_bytes

    example, patches = 4 * 32 * 32 * 4, 4 * 28 * 28 * 4 * 25
    assert held(18) - held(2) < 16 * 4 * example < 16 * patches
