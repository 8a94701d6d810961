"""The ladder of "auto" on a GPU, read on any machine: what is chosen, and what XLA is handed."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxconv
from cases import CASES, Case, expected, operands, reduction, run_all
from jaxconv._problem import Pass
from tolerance import assert_close

# x, kernel, options, and the algorithm of all passes or of forward, input and kernel gradient.
CHOICES = [
    ((8, 28, 28, 128), (3, 3, 128, 128), {}, "xla"),
    ((8, 28, 28, 128), (3, 3, 128, 128), {"strides": 2}, "xla"),
    ((8, 28, 28, 128), (3, 3, 128, 128), {"kernel_dilation": 2}, ("xla", "xla", "gemm")),
    ((16, 4096, 64), (3, 64, 64), {"kernel_dilation": 8}, ("xla", "xla", "gemm")),
    ((8, 28, 28, 1), (5, 5, 1, 6), {}, ("depthwise", "depthwise", "gemm")),
    ((8, 28, 28, 6), (5, 5, 6, 1), {}, ("depthwise", "depthwise", "gemm")),
    ((8, 28, 28, 1), (5, 5, 1, 6), {"strides": 2}, "gemm"),
    ((8, 28, 28, 1), (5, 5, 1, 6), {"input_dilation": 2, "padding": 2}, "gemm"),
    ((8, 28, 28, 1), (7, 7, 1, 6), {}, "gemm"),
    ((8, 1024, 1), (5, 1, 64), {}, "gemm"),
    ((8, 28, 28, 1), (1, 1, 1, 6), {}, "xla"),
    ((8, 28, 28, 2), (5, 5, 2, 6), {}, "xla"),
    ((8, 56, 56, 128), (3, 3, 1, 128), {"groups": 128}, ("depthwise", "depthwise", "xla")),
    (
        (8, 56, 56, 128),
        (3, 3, 1, 128),
        {"groups": 128, "kernel_dilation": 2},
        ("depthwise", "depthwise", "direct"),
    ),
    ((8, 28, 28, 192), (7, 7, 1, 192), {"groups": 192}, ("xla", "xla", "depthwise")),
    ((8, 1024, 512), (5, 1, 512), {"groups": 512}, ("depthwise", "depthwise", "xla")),
    ((8, 1024, 64), (5, 1, 64), {"groups": 64, "kernel_dilation": 16}, ("depthwise", "depthwise", "direct")),
    ((8, 1024, 64), (99, 1, 64), {"groups": 64}, "xla"),
    ((2, 8, 28, 28, 108), (3, 3, 3, 1, 108), {"groups": 108}, "depthwise"),
    ((8, 28, 28, 128), (3, 3, 4, 128), {"groups": 32}, ("grouped", "xla", "grouped")),
    ((8, 28, 28, 240), (1, 1, 80, 240), {"groups": 3}, "grouped"),
    ((8, 28, 28, 128), (3, 3, 16, 128), {"groups": 8}, "xla"),
    ((8, 28, 28, 128), (3, 3, 16, 128), {"groups": 8, "kernel_dilation": 2}, ("xla", "xla", "grouped")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """JAX says that it runs on a GPU. What it traces meanwhile must not be found again."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize(("x", "kernel", "options", "name"), CHOICES)
def test_choice(x: Any, kernel: Any, options: dict[str, Any], name: str | tuple[str, str, str]) -> None:
    plan = jaxconv.explain(x, kernel, **options)
    names = (name,) * len(Pass) if isinstance(name, str) else name
    assert plan.platform == "gpu"
    assert tuple(p.algorithm for p in plan.passes) == names


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8"])
def test_integers_are_never_left_to_cudnn(dtype: str) -> None:
    for x, kernel, options, _ in CHOICES:
        plan = jaxconv.explain(x, kernel, dtype=dtype, **options)
        assert "xla" not in {p.algorithm for p in plan.passes}, (x, kernel, options)


def equations(function: Any, *arrays: Any) -> list[Any]:
    """Every equation of the traced function, those of inner functions too."""
    found = []

    def visit(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            found.append(equation)
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    visit(inner)

    visit(jax.make_jaxpr(function)(*arrays).jaxpr)
    return found


def the_convolution(found: list[Any]) -> Any:
    (equation,) = [e for e in found if e.primitive.name == "conv_general_dilated"]
    return equation


@pytest.mark.parametrize("groups", [1, 2])
def test_an_input_gradient_convolves_with_a_reversed_kernel(groups: int) -> None:
    # XLA finds cuDNN's input gradient by the reversal; else it multiplies the inserted zeros.
    g, w = jnp.zeros((2, 7, 7, 16), jnp.float32), jnp.zeros((3, 3, 8 // groups, 16), jnp.float32)
    found = equations(
        lambda g, w: jaxconv.conv_input_gradient(
            g, w, (2, 14, 14, 8), strides=2, groups=groups, algorithm="xla"
        ),
        g,
        w,
    )
    kernel = the_convolution(found).invars[1]
    (maker,) = [e for e in found if kernel in e.outvars]
    assert maker.primitive.name == "rev"


def test_padding_reaches_cudnn_as_it_was_given() -> None:
    # Cut to what is read, it would no longer be the same on both sides, and XLA would copy the input.
    x, w = jnp.zeros((2, 14, 14, 8), jnp.float32), jnp.zeros((3, 3, 8, 16), jnp.float32)
    found = equations(lambda x, w: jaxconv.conv(x, w, strides=2, padding=1), x, w)
    assert the_convolution(found).params["padding"] == ((1, 1), (1, 1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats_are_not_widened_for_cudnn(dtype: str) -> None:
    x, w = jnp.zeros((2, 14, 14, 8), dtype), jnp.zeros((3, 3, 8, 16), dtype)
    for function, arrays in [
        (jaxconv.conv, (x, w)),
        (lambda g, w: jaxconv.conv_input_gradient(g, w, x.shape), (jnp.zeros((2, 14, 14, 16), dtype), w)),
        (lambda x, g: jaxconv.conv_kernel_gradient(x, g, w.shape), (x, jnp.zeros((2, 14, 14, 16), dtype))),
    ]:
        convolution = the_convolution(equations(function, *arrays))
        assert {v.aval.dtype.name for v in (*convolution.invars, *convolution.outvars)} == {dtype}


def test_a_narrow_sum_asked_wider_comes_wider() -> None:
    x, w = jnp.zeros((2, 14, 14, 8), jnp.bfloat16), jnp.zeros((3, 3, 8, 16), jnp.bfloat16)
    y = jax.eval_shape(lambda x, w: jaxconv.conv(x, w, preferred_element_type=jnp.float32), x, w)
    assert y.dtype == jnp.float32


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_traced_for_a_gpu_computes_the_same(case: Case) -> None:
    results, _ = run_all(case, "auto")
    for which, got in results.items():
        wanted = expected(case, which, *operands(which, *case.data()))
        assert_close(got, wanted, reduction=reduction(case, which))


def test_pools_need_no_fence() -> None:
    x = jnp.zeros((2, 14, 14, 8), jnp.float32)
    found = equations(jax.grad(lambda x: jaxconv.max_pool(x, (2, 2), (2, 2)).sum()), x)
    barriers = [e for e in found if e.primitive.name == "optimization_barrier"]
    # One: the winners read x apart from the values.
    assert len(barriers) == 1
