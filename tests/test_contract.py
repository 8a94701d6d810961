"""Products: sums over rows against NumPy in float64, in one part and in several, whatever is wider."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, PartitionSpec

import jaxconv
from jaxconv._contract import MAX_PARTS, PART_COLUMNS, PART_ROWS, correlate_rows, row_parts
from jaxconv._problem import ConvProblem, make_problem
from test_structure import equations

# name: rows, columns of either side, parts
SUMS = {
    "halves": (1024, 12, 130, 2),
    "halves_of_the_wider_first": (1024, 130, 12, 2),
    "thirds_of_odd_rows": (1029, 3, 128, 3),
    "no_part_divides": (1031, 3, 128, 1),
    "few_rows": (510, 12, 128, 1),
    "narrow": (1024, 12, 100, 1),
}
by_sum = pytest.mark.parametrize("name", SUMS)
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere every sum is one product")


def pointwise(a: int, b: int, dtype: str = "float32") -> ConvProblem:
    return make_problem((1, 8, 8, a), (1, 1, a, b), dtype, dtype)[0]


@by_sum
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "complex64"])
def test_values(name: str, dtype: str) -> None:
    rows, a, b, _ = SUMS[name]
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.integers(-4, 5, (rows, n)), dtype) for n in (a, b))
    exact = np.asarray(x, np.complex128).T @ np.asarray(g, np.complex128)
    np.testing.assert_array_equal(np.asarray(correlate_rows(pointwise(a, b, dtype), x, g)), exact)


@on_cpu
@by_sum
def test_parts(name: str) -> None:
    rows, a, b, parts = SUMS[name]
    shapes = [jax.ShapeDtypeStruct((rows, n), jnp.float32) for n in (a, b)]
    jaxpr = jax.make_jaxpr(lambda x, g: correlate_rows(pointwise(a, b), x, g))(*shapes)
    (dot,) = [e for e in equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"]
    assert dot.outvars[0].aval.size == parts * a * b


@on_cpu
def test_the_rows_from_which_a_sum_is_cut() -> None:
    enough = PART_ROWS * PART_COLUMNS
    assert row_parts(enough, PART_COLUMNS) > 1
    assert row_parts(enough - 2, PART_COLUMNS) == row_parts(enough, PART_COLUMNS - 1) == 1
    assert max(row_parts(enough + n, PART_COLUMNS) for n in range(50)) <= MAX_PARTS


@pytest.mark.parametrize("batch", [1, 5])
def test_a_symbolic_batch(batch: int) -> None:
    """How many rows there are is not known while it is traced."""
    (n,) = export.symbolic_shape("n")

    def gradient(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.grad(lambda w: (jaxconv.conv(x, w) ** 2).sum())(w)

    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((n, 16, 16, 2), (1, 1, 2, 130))]
    exported = export.export(jax.jit(gradient))(*shapes)
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-3, 4, shape).astype("float32") for shape in ((batch, 16, 16, 2), (1, 1, 2, 130)))
    rows = x.reshape(-1, 2).astype("float64")
    exact = 2 * rows.T @ (rows @ w[0, 0])
    np.testing.assert_array_equal(np.asarray(exported.call(x, w))[0, 0], exact)


def test_on_an_explicit_mesh() -> None:
    """Rows that devices share are cut like others."""
    with jax.set_mesh(jax.make_mesh((1,), ("devices",), (AxisType.Explicit,))):
        x = jax.device_put(np.ones((2, 32, 32, 4)), PartitionSpec("devices"))
        w = jnp.ones((1, 1, 4, 128))
        dw = jax.jit(jax.grad(lambda w: jaxconv.conv(x, w).sum()))(w)
    np.testing.assert_array_equal(np.asarray(dw), np.full((1, 1, 4, 128), 2048))
