"""Every public operation under `shard_map`, a batch split over two devices: run in a process that has two."""

import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxconv
from cases import HAND_WRITTEN
from test_transform_table import TABLE, arrays, assert_close, with_gradients

SPLIT, WHOLE = PartitionSpec("devices"), PartitionSpec()
# Of the table's arrays those whose first axis has size 2 are batches; a signal has none.
NAMES = [name for name, (_, shapes) in TABLE.items() if any(shape[0] == 2 for shape in shapes)]


def check(name: str, mesh: Any) -> None:
    """Values and gradients, derived outside of the map and inside it, are those of one device."""
    operation, shapes = TABLE[name]
    operands, specs = arrays(name), tuple(SPLIT if shape[0] == 2 else WHOLE for shape in shapes)
    summed = name == "conv_kernel_gradient"  # Its result has no batch: the devices hold parts of a sum.
    out = WHOLE if summed else SPLIT

    def local(*parts: Any) -> Any:
        y = operation(*parts)
        return jax.lax.psum(y, "devices") if summed else y

    def derived(function: Any, *given: Any) -> Any:
        y, back = jax.vjp(function, *given)
        return y, *back(jnp.cos(y))

    def inside(*parts: Any) -> Any:
        return derived(local, *parts)

    wanted = jax.jit(with_gradients(name))(*operands)
    mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=out)
    assert_close(jax.jit(lambda *given: derived(mapped, *given))(*operands), wanted)
    mapped = jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=(out, *specs))
    assert_close(jax.jit(mapped)(*operands), wanted)


@pytest.mark.parametrize(
    "names", [("conv",), pytest.param(NAMES, marks=pytest.mark.slow)], ids=["quick", "all"]
)
def test_values_and_gradients(names: tuple[str, ...]) -> None:
    source = pathlib.Path(__file__).resolve()
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    settings = {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    run = subprocess.run(
        [sys.executable, str(source), *names], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == list(names)


# Shapes for which algorithms go block by block: their loops must carry what varies over the devices.
BLOCKED = {
    "winograd": ((4, 16, 16, 32), (3, 3, 32, 32)),
    "gemm": ((4, 60, 60, 32), (3, 3, 32, 32)),
    "depthwise": ((4, 30, 30, 32), (15, 15, 1, 32)),
    "direct": ((4, 30, 30, 8), (9, 9, 8, 8)),
    "grouped": ((4, 30, 30, 80), (3, 3, 20, 80)),
}


@pytest.mark.parametrize("algorithm", HAND_WRITTEN)
def test_every_algorithm_is_traced_with_its_gradients(algorithm: str) -> None:
    x, w = BLOCKED.get(algorithm, ((4, 30, 30, 3), (5, 5, 3, 3)))
    mesh = jax.sharding.AbstractMesh((2,), ("devices",), axis_types=(AxisType.Auto,))

    def energy(x: Any, w: Any) -> jax.Array:
        def conv(x: Any, w: Any) -> jax.Array:
            strides = 2 if algorithm == "space_to_depth" else 1
            groups = x.shape[-1] // w.shape[-2]
            return jaxconv.conv(x, w, strides=strides, groups=groups, algorithm=algorithm)

        mapped = jax.shard_map(conv, mesh=mesh, in_specs=(SPLIT, WHOLE), out_specs=SPLIT)
        return (mapped(x, w) ** 2).sum()

    given = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, w))
    dx, dw = jax.eval_shape(jax.grad(energy, (0, 1)), *given)
    assert (dx.shape, dw.shape) == (x, w)


if __name__ == "__main__":
    two = jax.make_mesh((2,), ("devices",), (AxisType.Auto,))
    for each in sys.argv[1:]:
        check(each, two)
        print(each)
