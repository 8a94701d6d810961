"""A mesh with explicit axes, which `jax.make_mesh` makes by default: the batch stays split, as with lax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

import jaxconv
from test_transform_table import TABLE, X, arrays, with_gradients

SPLIT = PartitionSpec("devices")
# Those that read at places known only at run time, contract place by place, or begin with a state of their
# own: they want `jax.sharding.auto_axes` around them.
UNSPLIT = {
    "fractional_max_pool", "deform_conv", "max_pool_with_argmax", "conv_local", "conv_general_dilated_local",
    "conv_stream",
}  # fmt: skip
NAMES = [name for name, (_, shapes) in TABLE.items() if shapes[0] == X and name not in UNSPLIT]


@pytest.fixture(autouse=True)
def mesh() -> Any:
    made = jax.make_mesh((1,), ("devices",), (jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(made):
        yield made


def spec(x: Any) -> tuple[Any, ...]:
    return tuple(jax.typeof(x).sharding.spec)


def test_convolution_splits_what_lax_splits() -> None:
    x, w = jax.device_put(np.ones((2, 6, 5, 3)), SPLIT), jnp.ones((3, 3, 3, 4))
    found = []
    for function in (jaxconv.conv_general_dilated, lax.conv_general_dilated):

        def conv(x: Any, w: Any) -> jax.Array:
            return function(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: B023

        y, pullback = jax.vjp(conv, x, w)
        found.append([spec(a) for a in (y, *pullback(y))])
    ours, theirs = found
    assert ours == theirs
    assert ours[0][0] == "devices"


def test_the_batch_is_followed_to_any_axis() -> None:
    numbers = ("HWNC", "HWIO", "NCHW")
    x = jax.device_put(np.ones((6, 5, 2, 3)), PartitionSpec(None, None, "devices"))
    y = jaxconv.conv_general_dilated(x, jnp.ones((3, 3, 3, 4)), (1, 1), "SAME", dimension_numbers=numbers)
    assert spec(y) == ("devices", None, None, None)


@pytest.mark.parametrize("name", NAMES)
def test_results_and_gradients_are_split_as_the_batch(name: str) -> None:
    both, operands = with_gradients(name), arrays(name)
    split = [jax.device_put(x, SPLIT if x.shape[0] == 2 else PartitionSpec()) for x in operands]
    y, *gradients = jax.jit(both).eval_shape(*split)
    if name != "conv_kernel_gradient":
        assert spec(y)[0] == "devices"
    for gradient, operand in zip(gradients, split, strict=True):
        assert spec(gradient) == spec(operand)
