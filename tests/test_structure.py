"""What the jaxprs may contain: no XLA convolution, no inserted zero multiplied, no negative pad."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

import jaxconv
from cases import CASES, HAND_WRITTEN, Case, forward, operands, run_pass, subset, supported
from jaxconv._problem import Pass
from jaxconv.algorithms._stages import apart

XLA_WINDOWS = ("conv_general_dilated", "reduce_window", "select_and_scatter")
# A product with an inserted zero would be one of these.
MULTIPLICATIONS = frozenset({"dot_general", "mul", "conv_general_dilated", "fft"})


def sub_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The jaxprs that an equation calls: bodies, branches, custom rules."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def equations(jaxpr: core.Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in sub_jaxprs(equation.params):
            yield from equations(inner)


def primitives(function: Callable[..., Any], *arrays: Any) -> set[str]:
    closed = jax.make_jaxpr(function)(*arrays)
    return {str(equation.primitive) for equation in equations(closed.jaxpr)}


def xla_windows(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(XLA_WINDOWS)}


def with_gradients(case: Case, algorithm: str) -> list[Callable[..., Any]]:
    """The convolution, its gradient and the gradient of that."""

    def conv(x: Any, w: Any) -> jax.Array:
        return forward(case, x, w, algorithm=algorithm)

    def first(x: Any, w: Any) -> Any:
        return jax.grad(lambda x, w: (conv(x, w) ** 2).sum(), (0, 1))(x, w)

    def second(x: Any, w: Any) -> Any:
        return jax.grad(lambda x, w: sum((d**2).sum() for d in first(x, w)), (0, 1))(x, w)

    return [conv, first, second]


STRUCTURE_CASES = subset(
    "wide", "strided", "everything", "depthwise_strided", "batch_grouped", "line_long_kernel"
)


@pytest.mark.parametrize("case", STRUCTURE_CASES, ids=str)
@pytest.mark.parametrize("algorithm", HAND_WRITTEN)
def test_no_xla_convolution_or_window_in_any_order(algorithm: str, case: Case) -> None:
    x, w, _ = case.data()
    for function in with_gradients(case, algorithm):
        found = supported(algorithm, lambda f=function: primitives(f, x, w))
        assert "dot_general" in found or "mul" in found
        assert not xla_windows(found)


@pytest.mark.parametrize("case", STRUCTURE_CASES, ids=str)
def test_auto_on_cpu_never_takes_xla(case: Case) -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("auto may take XLA's convolution on an accelerator")
    x, w, _ = case.data()
    for function in with_gradients(case, "auto"):
        assert not xla_windows(primitives(function, x, w))


def test_xla_is_found_where_it_is_asked_for() -> None:
    """The walk sees through jit and custom rules, or the tests above would be empty."""
    (case,) = subset("strided")
    x, w, _ = case.data()
    for function in with_gradients(case, "xla"):
        assert xla_windows(primitives(function, x, w)) == {"conv_general_dilated"}
    pooled = primitives(
        jax.jit(lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1,) * 4, "SAME")),
        x,
    )
    assert xla_windows(pooled) == {"reduce_window_max"}


def multiplied_zeros(jaxpr: core.Jaxpr, tainted_inputs: list[bool]) -> tuple[list[str], list[bool]]:
    """Multiplications that some interior-padded array flows into, and which outputs it reaches."""
    tainted = {v for v, t in zip(jaxpr.invars, tainted_inputs, strict=True) if t}
    found: list[str] = []
    for equation in jaxpr.eqns:
        flags = [isinstance(v, core.Var) and v in tainted for v in equation.invars]
        name = str(equation.primitive)
        if name in MULTIPLICATIONS and any(flags):
            found.append(str(equation))
        reached = any(flags) or dilates(equation)
        for inner in sub_jaxprs(equation.params):
            inputs = flags if len(flags) == len(inner.invars) else [any(flags)] * len(inner.invars)
            below, outputs = multiplied_zeros(inner, inputs)
            found += below
            reached = reached or any(outputs)
        if reached:
            tainted.update(equation.outvars)
    return found, [isinstance(v, core.Var) and v in tainted for v in jaxpr.outvars]


def dilates(equation: Any) -> bool:
    return str(equation.primitive) == "pad" and any(
        interior > 0 for _, _, interior in equation.params["padding_config"]
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("which", Pass, ids=lambda which: which.value)
@pytest.mark.parametrize("algorithm", HAND_WRITTEN)
def test_no_inserted_zero_is_multiplied_and_no_pad_is_negative(
    algorithm: str, which: Pass, case: Case
) -> None:
    """T9: strides and dilations cost no arithmetic, but in a transform, which spans zeros as it spans data.

    XLA misfolds negative pads (xla#48715).
    """
    a, b = operands(which, *case.data())
    closed = supported(
        algorithm,
        lambda: jax.make_jaxpr(lambda a, b: run_pass(case, which, a, b, algorithm))(a, b),
    )
    found, _ = multiplied_zeros(closed.jaxpr, [False, False])
    assert not found or algorithm == "fft"
    assert not negative_pads(closed.jaxpr)


def negative_pads(jaxpr: core.Jaxpr) -> list[str]:
    return [
        str(equation)
        for equation in equations(jaxpr)
        if str(equation.primitive) == "pad"
        and any(min(config) < 0 for config in equation.params["padding_config"])
    ]


def test_the_search_for_multiplied_zeros_finds_them() -> None:
    def dilate(x: jax.Array) -> jax.Array:
        return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 1)])

    x = jnp.ones(3, "float32")
    naive = jax.make_jaxpr(jax.jit(lambda x: jax.jit(dilate)(x)[1:3] @ x[:2]))(x)
    harmless = jax.make_jaxpr(jax.jit(lambda x: dilate(x * 2)))(x)
    assert multiplied_zeros(naive.jaxpr, [False])[0]
    assert not multiplied_zeros(harmless.jaxpr, [False])[0]
    cropping = jax.make_jaxpr(lambda x: jax.lax.pad(x, x[0], [(-1, 0, 0)]))(x)
    assert negative_pads(cropping.jaxpr)


@pytest.mark.parametrize("padding", ["CIRCULAR", "REFLECT", "SYMMETRIC", "EDGE"])
def test_border_padding_stays_clean_too(padding: str) -> None:
    import jaxconv

    x, w = np.ones((1, 6, 5, 2), "f4"), np.ones((3, 4, 2, 3), "f4")
    options = {"padding": padding, "strides": 2, "algorithm": "direct"}
    step = jax.grad(lambda x, w: (jaxconv.conv(x, w, **options) ** 2).sum(), (0, 1))
    closed = jax.make_jaxpr(step)(x, w)
    assert not negative_pads(closed.jaxpr)
    names = {str(equation.primitive) for equation in equations(closed.jaxpr)}
    assert not xla_windows(names)
    assert not names & {"gather", "scatter-add"}


@pytest.mark.parametrize("algorithm", HAND_WRITTEN)
def test_forward_mode_stays_clean_too(algorithm: str) -> None:
    (case,) = subset("wide")
    x, w, _ = case.data()

    def tangent(x: Any, w: Any) -> Any:
        conv = lambda x, w: forward(case, x, w, algorithm=algorithm, autodiff="jax")  # noqa: E731
        return jax.jvp(conv, (x, w), (x, w))

    closed = supported(algorithm, lambda: jax.make_jaxpr(tangent)(jnp.asarray(x), jnp.asarray(w)))
    assert not negative_pads(closed.jaxpr)
    assert not xla_windows({str(equation.primitive) for equation in equations(closed.jaxpr)})


def multiplications(jaxpr: core.Jaxpr) -> int:
    """Scalar products inside the dots of a jaxpr, loops counted turn by turn."""
    total = 0
    for equation in jaxpr.eqns:
        name = str(equation.primitive)
        assert name != "while", "a loop of unknown length"
        turns = equation.params["length"] if name == "scan" else 1
        total += turns * sum(multiplications(inner) for inner in sub_jaxprs(equation.params))
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            depth = int(np.prod([shape[axis] for axis in contracted]))
            total += depth * int(np.prod(equation.outvars[0].aval.shape))
    return total


def multiplications_of(case: Case, which: Pass, algorithm: str) -> int:
    def one_pass() -> int:
        a, b = operands(which, *case.data())
        closed = jax.make_jaxpr(lambda a, b: run_pass(case, which, a, b, algorithm))(a, b)
        return multiplications(closed.jaxpr)

    return supported(algorithm, one_pass)


@pytest.mark.parametrize("which", Pass, ids=lambda which: which.value)
def test_winograd_multiplies_less_than_the_definition(which: Pass) -> None:
    case = Case("winograd_count", (1, 14, 14, 8), (3, 3, 8, 8), "SAME")
    assert 1.5 * multiplications_of(case, which, "winograd") < 14 * 14 * 9 * 8 * 8


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
def test_strided_input_gradient_costs_no_more_than_the_forward_pass(algorithm: str) -> None:
    """T9 as a count: multiplying the inserted zeros would cost four times as much."""
    case = Case("strided_count", (1, 12, 12, 128), (3, 3, 128, 128), 1, 2)
    defined = 36 * 9 * 128 * 128
    for which in (Pass.FORWARD, Pass.INPUT_GRAD):
        assert multiplications_of(case, which, algorithm) == pytest.approx(defined, rel=0.4)


@pytest.mark.parametrize("which", Pass, ids=lambda which: which.value)
@pytest.mark.parametrize("case", subset("wide_padding", "full", "strided"), ids=str)
def test_direct_multiplies_what_meets_and_no_padding(case: Case, which: Pass) -> None:
    pairs = len(list(case.geometry.meetings()))
    products = case.x_shape[0] * pairs * case.x_shape[-1] * case.w_shape[-1]
    assert multiplications_of(case, which, "direct") == products


@pytest.mark.parametrize("which", Pass, ids=lambda which: which.value)
@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
def test_taps_that_meet_no_sample_are_not_multiplied(algorithm: str, which: Pass) -> None:
    """The kernel is as good as one tap, and so is the product."""
    case = Case("one_tap_meets", (2, 5, 4, 3), (3, 3, 3, 4), "SAME", kernel_dilation=6)
    assert multiplications_of(case, which, algorithm) == 2 * 5 * 4 * 3 * 4


def test_samples_that_meet_no_tap_are_not_transformed() -> None:
    """With stride and dilation two one sample of four takes part, in a dense convolution."""
    strided = Case("every_second", (1, 28, 28, 8), (3, 3, 8, 8), 2, 2, 1, 2)
    dense = Case("all_of_them", (1, 14, 14, 8), (3, 3, 8, 8), 1)
    for which in Pass:
        expected = multiplications_of(dense, which, "winograd")
        assert multiplications_of(strided, which, "winograd") == expected


def test_every_pair_of_passes_is_covered() -> None:
    """The table above spans all geometry options, alone and together."""
    options = [
        (np.max(g.strides, initial=1) > 1, np.max(g.input_dilation, initial=1) > 1)
        for g in (case.geometry for case in CASES)
    ]
    assert set(options) == set(itertools.product((False, True), repeat=2))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators' compilers decide what to fuse")
@pytest.mark.parametrize("pass_", [Pass.FORWARD, Pass.INPUT_GRAD])
def test_a_pass_is_computed_once_however_many_read_it(pass_: Pass) -> None:
    """Left to XLA, each reader would hold the products of all taps."""
    x, w, y = jnp.ones((4, 12, 12, 1)), jnp.ones((5, 5, 1, 6)), jnp.ones((4, 12, 12, 6))

    def alone(x: Any, w: Any, y: Any) -> jax.Array:
        if pass_ is Pass.FORWARD:
            return jaxconv.conv(x, w, algorithm="depthwise")
        return jaxconv.conv_input_gradient(y, w, x.shape, algorithm="depthwise")

    def read_thrice(x: Any, w: Any, y: Any) -> Any:
        z = alone(x, w, y)
        return jnp.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0))), z[:, ::2] + z[:, 1::2], z > 0

    def products(function: Callable[..., Any]) -> int:
        return jax.jit(function).lower(x, w, y).compile().as_text().count(" multiply(")

    assert products(alone) > 0
    assert products(read_thrice) == products(alone)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators have no stages")
def test_a_derivative_rule_traces_no_stage_again() -> None:
    """The rules of custom_vjp see another mesh than their function does, both of them none."""
    traced = []

    @apart
    def stage(x: Any) -> Any:
        traced.append(x)
        return 2 * x

    @jax.custom_vjp
    def twice(x: Any) -> Any:
        return stage(x)

    twice.defvjp(lambda x: (twice(x), None), lambda _, g: (stage(g),))
    jax.make_jaxpr(jax.grad(jax.jit(twice)))(1.0)
    assert len(traced) == 1


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators choose their own layouts")
@pytest.mark.parametrize("pass_", Pass)
def test_xla_convolves_channels_last_on_cpus(pass_: Pass) -> None:
    """Any other layout is a scalar loop there, 10 times slower and more, unless XLA transposes it itself."""
    x, w, y = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5)), jnp.ones((2, 8, 8, 5))
    run = {
        Pass.FORWARD: lambda: jaxconv.conv(x, w, algorithm="xla"),
        Pass.INPUT_GRAD: lambda: jaxconv.conv_input_gradient(y, w, x.shape, algorithm="xla"),
        Pass.KERNEL_GRAD: lambda: jaxconv.conv_kernel_gradient(x, y, w.shape, algorithm="xla"),
    }[pass_]
    closed = jax.make_jaxpr(run)()
    numbers = [
        equation.params["dimension_numbers"]
        for equation in equations(closed.jaxpr)
        if equation.primitive.name == "conv_general_dilated"
    ]
    assert numbers == [jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))]
