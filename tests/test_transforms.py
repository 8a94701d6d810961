"""jit, vmap, checkpoint, scan and loops give what the plain calls give."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
import oracle
from cases import (
    ALGORITHM_NAMES,
    BY_NAME,
    Case,
    expected,
    forward,
    operands,
    random_array,
    run_pass,
    subset,
    supported,
)
from jaxconv._problem import Pass
from tolerance import assert_close

CASE = BY_NAME["grouped_strided"]
TINY = Case("tiny", (2, 5, 4, 2), (3, 2, 2, 3), "SAME", (2, 1))


def stack(case: Case, count: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return (
        random_array(rng, (count, *case.x_shape), dtype),
        random_array(rng, (count, *case.w_shape), dtype),
    )


@pytest.mark.parametrize("case", [CASE, BY_NAME["batch_grouped"]], ids=str)
@pytest.mark.parametrize("axes", [(0, None), (2, None), (None, 0), (None, -1), (0, 0), (-1, 1)], ids=str)
def test_vmap(case: Case, axes: tuple[int | None, int | None]) -> None:
    xs, ws = stack(case, 3)
    wanted = [
        oracle.forward(
            x if axes[0] is not None else xs[0], w if axes[1] is not None else ws[0], case.geometry
        )
        for x, w in zip(xs, ws, strict=True)
    ]
    x = xs[0] if axes[0] is None else np.moveaxis(xs, 0, axes[0])
    w = ws[0] if axes[1] is None else np.moveaxis(ws, 0, axes[1])
    got = jax.vmap(lambda x, w: forward(case, x, w), axes, out_axes=1)(x, w)
    np.testing.assert_allclose(np.moveaxis(got, 1, 0), wanted, atol=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_vmap_over_both_by_each_algorithm(algorithm: str) -> None:
    """Values and gradients of a batch of problems, as an ensemble of networks needs."""
    (case,) = subset("depthwise") if algorithm == "depthwise" else subset("wide")
    xs, ws = stack(case, 2, "float32")
    rng = np.random.default_rng(8)
    dys = random_array(rng, (2, *case.geometry.y_shape), "float32")

    def all_three(x: Any, w: Any, dy: Any) -> Any:
        y, pullback = jax.vjp(lambda x, w: forward(case, x, w, algorithm=algorithm), x, w)
        return y, *pullback(dy)

    ys, dxs, dws = supported(algorithm, lambda: jax.jit(jax.vmap(all_three))(xs, ws, dys))
    for i in range(2):
        x, w, dy, geometry = xs[i], ws[i], dys[i], case.geometry
        for got, wanted, side in (
            (ys[i], oracle.forward(x, w, geometry), "y"),
            (dxs[i], oracle.input_gradient(dy, w, geometry), "dx"),
            (dws[i], oracle.kernel_gradient(x, dy, geometry), "dw"),
        ):
            assert_close(got, wanted, reduction=geometry.reduction(side), algorithm=algorithm)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("which", [Pass.INPUT_GRAD, Pass.KERNEL_GRAD], ids=lambda p: p.value)
def test_vmap_of_the_gradient_passes(which: Pass, axes: tuple[int | None, int | None]) -> None:
    xs, ws = stack(TINY, 3)
    dys = random_array(np.random.default_rng(8), (3, *TINY.geometry.y_shape), "float64")
    firsts, seconds = operands(which, xs, ws, dys)
    pairs = [(firsts[i * (axes[0] is not None)], seconds[i * (axes[1] is not None)]) for i in range(3)]
    mapped = jax.vmap(lambda a, b: run_pass(TINY, which, a, b, "auto"), axes)
    got = mapped(firsts[0] if axes[0] is None else firsts, seconds[0] if axes[1] is None else seconds)
    np.testing.assert_allclose(got, [expected(TINY, which, a, b) for a, b in pairs], atol=1e-12)


def test_per_example_gradients() -> None:
    x, w, dy = (jnp.asarray(a) for a in TINY.data("float64"))

    def loss(w: jax.Array, x: jax.Array, dy: jax.Array) -> jax.Array:
        return jnp.vdot(jaxconv.conv(x, w, strides=(2, 1)), dy)

    got = jax.vmap(jax.grad(loss), (None, 0, 0))(w, x, dy)
    for i in range(2):
        one = Case("one", (1, *TINY.x_shape[1:]), TINY.w_shape, "SAME", (2, 1))
        wanted = oracle.kernel_gradient(x[i : i + 1], dy[i : i + 1], one.geometry)
        np.testing.assert_allclose(got[i], wanted, atol=1e-12)


def test_nested_vmap() -> None:
    xs, ws = stack(TINY, 4)
    xs, ws = xs.reshape(2, 2, *TINY.x_shape), ws[:2]
    inner = jax.vmap(lambda x, w: forward(TINY, x, w), (0, None))
    got = jax.vmap(inner)(xs, ws)
    for i, j in np.ndindex(2, 2):
        wanted = oracle.forward(xs[i, j], ws[i], TINY.geometry)
        np.testing.assert_allclose(got[i, j], wanted, atol=1e-12)


def test_vmap_of_size_zero_and_one() -> None:
    x, w, _ = TINY.data()
    for size in (0, 1):
        got = jax.vmap(lambda x: forward(TINY, x, w))(np.repeat(x[None], size, 0))
        assert got.shape == (size, *TINY.geometry.y_shape)


def test_jit_and_eager_and_lowered_ahead_of_time_agree() -> None:
    x, w, _ = CASE.data()
    conv = jax.jit(lambda x, w: forward(CASE, x, w))
    wanted = oracle.forward(x, w, CASE.geometry)
    for got in (forward(CASE, x, w), conv(x, w), conv.lower(x, w).compile()(x, w)):
        assert_close(got, wanted, reduction=CASE.geometry.reduction("y"))


def test_options_may_be_static_arguments() -> None:
    conv = jax.jit(jaxconv.conv, static_argnames=("strides", "padding", "groups", "algorithm"))
    x, w, _ = TINY.data()
    got = conv(x, w, strides=(2, 1), padding="SAME", algorithm="direct")
    assert_close(got, oracle.forward(x, w, TINY.geometry), reduction=12)


def test_checkpoint_recomputes_the_same_gradient() -> None:
    x, w, dy = (jnp.asarray(a) for a in TINY.data("float64"))

    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.vdot(jnp.tanh(forward(TINY, jnp.sin(x), w)), dy)

    plain = jax.jit(jax.grad(loss, (0, 1)))(x, w)
    again = jax.jit(jax.grad(jax.checkpoint(loss), (0, 1)))(x, w)
    for got, wanted in zip(again, plain, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_checkpoint_policy_sees_the_convolution_as_offloadable_work() -> None:
    """`nothing_saveable` must not change values; it drops every residual, the convolution's too."""
    x, w, dy = (jnp.asarray(a) for a in TINY.data("float64"))
    policy = jax.checkpoint_policies.nothing_saveable

    def loss(w: jax.Array) -> jax.Array:
        return jnp.vdot(forward(TINY, x, w), dy)

    got = jax.grad(jax.checkpoint(loss, policy=policy))(w)
    np.testing.assert_allclose(got, oracle.kernel_gradient(x, dy, TINY.geometry), atol=1e-12)


def test_scan_over_layers_with_gradient() -> None:
    rng = np.random.default_rng(9)
    ws = jnp.asarray(rng.standard_normal((4, 3, 2, 2)))
    x = jnp.asarray(rng.standard_normal((1, 6, 2)))

    def layer(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(jaxconv.conv(x, w)), None

    def scanned(ws: jax.Array) -> jax.Array:
        return jax.lax.scan(layer, x, ws)[0].sum()

    def unrolled(ws: jax.Array) -> jax.Array:
        y = x
        for w in ws:
            y, _ = layer(y, w)
        return y.sum()

    got, wanted = jax.jit(jax.grad(scanned))(ws), jax.jit(jax.grad(unrolled))(ws)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_inside_fori_loop(algorithm: str) -> None:
    """Three applications of one map; XLA compiles loop bodies by other rules than entry code."""
    case = Case(
        "loop",
        (1, 7, 8, 4),
        (3, 3, 1 if algorithm == "depthwise" else 4, 4),
        "SAME",
        groups=4 if algorithm == "depthwise" else 1,
    )
    x, w, _ = case.data()
    w = w / 6

    @jax.jit
    def thrice(x: Any, w: Any) -> jax.Array:
        def body(_: int, x: jax.Array) -> jax.Array:
            return forward(case, x, w, algorithm={"forward": algorithm})

        return jax.lax.fori_loop(0, 3, body, x)

    wanted = x
    for _ in range(3):
        wanted = oracle.forward(wanted, w, case.geometry)
    got = supported(algorithm, lambda: thrice(x, w))
    assert_close(got, wanted, reduction=3 * case.geometry.reduction("y"), algorithm=algorithm)


def test_inside_cond_and_while() -> None:
    x, w, _ = TINY.data()

    @jax.jit
    def branch(flag: Any, x: Any) -> jax.Array:
        return jax.lax.cond(flag, lambda x: forward(TINY, x, w), lambda x: -forward(TINY, x, w), x)

    np.testing.assert_array_equal(branch(True, x), -branch(False, x))


def test_an_eager_call_compiles_once_and_only_once(caplog: pytest.LogCaptureFixture) -> None:
    """The problem is the cache key, and a call is one program: never a dispatch per tap."""
    x, w = jnp.zeros((1, 13, 11, 2), jnp.float32), jnp.zeros((3, 2, 2, 5), jnp.float32)

    def compilations() -> int:
        caplog.clear()
        with jax.log_compiles(True):
            jaxconv.conv(x, w, strides=(2, 1), kernel_dilation=(1, 3))
        return sum("Compiling" in message for message in caplog.messages)

    assert [compilations(), compilations()] == [1, 0]


def test_output_sharding_is_the_one_asked_for() -> None:
    """NNX always passes `out_sharding`; under an explicit mesh the result carries it as lax's does."""
    mesh = jax.make_mesh((1,), ("batch",), (jax.sharding.AxisType.Explicit,))
    wanted = jax.sharding.PartitionSpec("batch", None, None, None)
    x, w, _ = TINY.data()
    with jax.set_mesh(mesh):
        x = jax.device_put(x, wanted)
        results = [
            jax.jit(lambda x, w, f=f: f(x, w, **TINY.lax_options, out_sharding=wanted))(x, w)
            for f in (jaxconv.conv_general_dilated, jax.lax.conv_general_dilated)
        ]
    ours, theirs = results
    assert ours.sharding == theirs.sharding
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
