"""NaN, infinities and arrays without elements, for every public operation beside its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from oracle_table import ORACLES
from test_transform_table import TABLE, table
from test_types_table import WIDENED, data

pytestmark = pytest.mark.slow
# Bands, like transforms, carry a NaN to neighbours; at the highest precision none is taken.
EXACT = TABLE | {name: row for name, row in table(precision="highest").items() if name in WIDENED}
EACH = pytest.mark.parametrize("name", [name for name in TABLE if name in ORACLES])
# NumPy sorts a NaN behind all numbers; here it is chosen before them.
NAN_IS_CHOSEN = {"median_pool": 3, "rank_pool": 4}


@EACH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_value_that_is_not_finite_reaches_what_covers_it(name: str, value: float) -> None:
    """And nothing else: the other outputs are what they were, a product of 0 and infinity is NaN."""
    first, *others = (np.array(a) for a in data(name, "float"))
    first[(0, 2, 1)[: first.ndim] if first.ndim > 1 else 2] = value
    wanted = ORACLES[name](first, *others)
    if np.isnan(value) and name in NAN_IS_CHOSEN:
        covered = np.convolve(np.arange(6) == 2, np.ones(NAN_IS_CHOSEN[name]), "valid") > 0
        wanted[0, covered, 1] = np.nan
    got = EXACT[name][0](*map(jnp.asarray, (first, *others)))
    assert np.isnan(wanted).any() or not np.isnan(value)
    assert np.isfinite(wanted).any()
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@EACH
def test_windows_of_the_lowest_value(name: str) -> None:
    """-inf everywhere: it stays for an extreme, and is no NaN that padding made."""
    first, *others = data(name, "float")
    first = np.full_like(first, -np.inf)
    with np.errstate(invalid="ignore"):
        wanted = ORACLES[name](first, *others)
    got = TABLE[name][0](*map(jnp.asarray, (first, *others)))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", [name for name, (_, shapes) in TABLE.items() if shapes[0][0] == 2])
def test_a_batch_of_none(name: str) -> None:
    """Shapes as for a batch, and gradients of 0 for what has elements."""
    operation, shapes = TABLE[name]
    operands = [jnp.ones((0, *shape[1:]) if shape[0] == 2 else shape) for shape in shapes]
    y, pullback = jax.vjp(operation, *operands)
    whole = jax.eval_shape(operation, *(jnp.ones(shape) for shape in shapes)).shape
    assert y.shape == (whole if name == "conv_kernel_gradient" else (0, *whole[1:]))
    for operand, gradient in zip(operands, pullback(y), strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(operand))
