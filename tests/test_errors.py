"""Mistakes that shapes and options reveal: the kind of error and the words of its message.

Each message names the argument in backticks, says what it must be and what it got, and carries the
call's shapes once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from cases import ALGORITHM_NAMES

X = np.ones((2, 8, 8, 4), np.float32)
W = np.ones((3, 3, 4, 6), np.float32)


def conv(**options: Any) -> Callable[[], jax.Array]:
    return lambda: jaxconv.conv(X, W, **options)


def lax_like(**options: Any) -> Callable[[], jax.Array]:
    arguments = {"window_strides": (1, 1), "padding": "SAME", **options}
    numbers = arguments.pop("dimension_numbers", ("NHWC", "HWIO", "NHWC"))
    return lambda: jaxconv.conv_general_dilated(X, W, dimension_numbers=numbers, **arguments)


VALUE_ERRORS = {
    "padding_name": (conv(padding="SOME"), "`padding` must be one of .*got 'SOME'"),
    "padding_count": (conv(padding=[(1, 1)]), r"`padding` must have one .*\(2\), got 1"),
    "padding_triple": (conv(padding=[(1, 1, 1)] * 2), r"`padding` entries .*got \(1, 1, 1\)"),
    "padding_crops_too_much": (
        conv(padding=[(-5, -4), (0, 0)]),
        r"`padding` must not crop more .*got \(-5, -4\)",
    ),
    "padding_name_on_dilated_input": (
        conv(padding="SAME", input_dilation=2),
        "`padding` must be an int or .*got 'SAME'",
    ),
    "stride_zero": (conv(strides=0), r"`strides` must be at least 1 .*got \(0, 0\)"),
    "stride_count": (
        conv(strides=(1, 2, 3)),
        r"`strides` must have one entry per spatial axis \(2\), got \(1, 2, 3\)",
    ),
    "input_dilation_zero": (
        conv(padding=0, input_dilation=0),
        "`input_dilation` must be at least 1",
    ),
    "kernel_dilation_zero": (
        conv(kernel_dilation=(1, 0)),
        r"`kernel_dilation` must be at least 1 .*got \(1, 0\)",
    ),
    "groups_zero": (conv(groups=0), "`groups` must be at least 1, got 0"),
    "groups_divide_input": (
        conv(groups=3),
        "`groups` must divide the input's channels, got 3 groups of 4",
    ),
    "groups_divide_output": (
        lambda: jaxconv.conv(X, np.ones((3, 3, 1, 6), np.float32), groups=4),
        "`groups` must divide the kernel's output channels, got 4 groups of 6",
    ),
    "channels": (
        lambda: jaxconv.conv(X, np.ones((3, 3, 5, 6), np.float32)),
        "`kernel` must have .*channels / groups = 4 / 1 = 4 .*got 5",
    ),
    "x_axes": (
        lambda: jaxconv.conv(X[0, 0], W),
        r"`x` must have at least 3 axes, got shape \(8, 4\)",
    ),
    "kernel_axes": (lambda: jaxconv.conv(X, W[0, 0, 0]), "`kernel` must have at least"),
    "bias_shape": (
        lambda: jaxconv.conv(X, W, np.ones(4, "f4")),
        r"`bias` must have .*\(6,\), got \(4,\)",
    ),
    "algorithm_name": (conv(algorithm="magic"), "`algorithm` must be one of .*got 'magic'"),
    "algorithm_key": (
        conv(algorithm={"backward": "gemm"}),
        "`algorithm` must have keys among .*got .*backward",
    ),
    "algorithm_in_dict": (
        conv(algorithm={"forward": "magic"}),
        "`algorithm` must be one of .*got 'magic'",
    ),
    "autodiff": (conv(autodiff="numeric"), "`autodiff` must be .*got 'numeric'"),
    "precision": (conv(precision="sloppy"), "`precision` must be one of .*got 'sloppy'"),
    "letters_count": (
        lax_like(dimension_numbers=("NWC", "HWIO", "NHWC")),
        "`dimension_numbers` must name .*got 'NWC'",
    ),
    "letters_repeat": (
        lax_like(dimension_numbers=("NHHC", "HWIO", "NHWC")),
        "`dimension_numbers` must not repeat .*got 'NHHC'",
    ),
    "letters_missing": (
        lax_like(dimension_numbers=("NHWD", "HWIO", "NHWC")),
        "`dimension_numbers` for the lhs must contain .*got 'NHWD'",
    ),
    "letters_differ": (
        lax_like(dimension_numbers=("NHDC", "HWIO", "NHWC")),
        "`dimension_numbers` must use the same spatial letters .*got 'NHDC'",
    ),
    "two_dimension_numbers": (
        lax_like(dimension_numbers=("NHWC", "HWIO")),
        "`dimension_numbers` must have three entries .*got 2",
    ),
    "window_strides": (
        lax_like(window_strides=(1,)),
        r"`window_strides` must have one entry .*got \(1,\)",
    ),
    "lhs_dilation": (
        lax_like(padding=((1, 1),) * 2, lhs_dilation=(0, 1)),
        r"`lhs_dilation` must be at least 1 .*got \(0, 1\)",
    ),
    "rhs_dilation": (lax_like(rhs_dilation=(1, 1, 1)), "`rhs_dilation` must have one entry"),
    "feature_group_count": (
        lax_like(feature_group_count=0),
        "`feature_group_count` must be at least 1, got 0",
    ),
    "both_groups": (
        lax_like(feature_group_count=2, batch_group_count=2),
        "must not both exceed 1, got 2 and 2",
    ),
    "batch_groups_divide_batch": (
        lax_like(batch_group_count=3),
        "`batch_group_count` must divide the batch, got 3 groups of 2",
    ),
    "ranks_differ": (
        lambda: jaxconv.conv_general_dilated(X, W[0], (1, 1), "SAME"),
        "`lhs` and `rhs` must have the same number of axes, got 4 and 3",
    ),
    "dy_shape": (
        lambda: jaxconv.conv_input_gradient(np.ones((2, 8, 7, 6), "f4"), W, X.shape),
        r"`dy` must have the shape of conv's output, \(2, 8, 8, 6\), got \(2, 8, 7, 6\)",
    ),
    "dy_batch": (
        lambda: jaxconv.conv_kernel_gradient(X, np.ones((1, 8, 8, 6), "f4"), W.shape),
        r"`dy` must have the shape of conv's output, .*got \(1, 8, 8, 6\)",
    ),
    "input_shape_axes": (
        lambda: jaxconv.conv_input_gradient(np.ones((2, 8, 8, 6), "f4"), W, (8, 4)),
        r"`input_shape` must have at least 3 axes, got \(8, 4\)",
    ),
    "reflect_too_far": (
        lambda: jaxconv.conv(np.ones((1, 0, 1), "f4"), np.ones((3, 1, 1), "f4"), padding="EDGE"),
        "`padding` .*",
    ),
    "transpose_padding": (
        lambda: jaxconv.conv_transpose(X, W, (2, 2), "NEITHER"),
        "`padding` must be .*got 'NEITHER'",
    ),
    "transpose_strides": (
        lambda: jaxconv.conv_transpose(X, W, (0, 2), "SAME"),
        r"`strides` must be at least 1 .*got \(0, 2\)",
    ),
}

TYPE_ERRORS = {
    "x_not_an_array": (lambda: jaxconv.conv([1.0], W), "`x` must be an array, got list"),
    "kernel_not_an_array": (
        lambda: jaxconv.conv(X, None),
        "`kernel` must be an array, got NoneType",
    ),
    "float_stride": (conv(strides=1.5), "`strides` must be made of Python integers .*got 1.5"),
    "float_padding": (
        conv(padding=[(0.5, 1), (1, 1)]),
        "`padding` must be made of Python integers",
    ),
    "algorithm_kind": (conv(algorithm=3), "`algorithm` must be a name or a dict .*got 3"),
    "precision_kind": (conv(precision=3.0), "`precision` must be .*got 3.0"),
    "mixed_dtypes": (
        lambda: jaxconv.conv(X, W.astype("f8")),
        "must have one dtype, got float32 and float64",
    ),
    "letters_kind": (
        lax_like(dimension_numbers="NHWC"),
        "`dimension_numbers` must be None, three strings .*got 'NHWC'",
    ),
}


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_sizes_are_value_errors(name: str) -> None:
    call, message = VALUE_ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", TYPE_ERRORS)
def test_kinds_are_type_errors(name: str) -> None:
    call, message = TYPE_ERRORS[name]
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_the_same_words_under_jit(name: str) -> None:
    """Nothing is left for XLA to find: tracing alone raises."""
    call, message = VALUE_ERRORS[name]
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)


def test_the_front_door_appends_shapes_and_options_once() -> None:
    with pytest.raises(ValueError) as caught:
        jaxconv.conv(X, W, strides=0, padding="VALID")
    text = str(caught.value)
    assert text.count("float32[2, 8, 8, 4]") == text.count("float32[3, 3, 4, 6]") == 1
    assert "padding='VALID'" in text


def test_traced_options_are_named() -> None:
    with pytest.raises(TypeError, match="`strides` must be made of Python integers .*static"):
        jax.jit(lambda s: jaxconv.conv(X, W, strides=s))(2)


@pytest.mark.parametrize("algorithm", sorted({"winograd", "fft", "depthwise"} & set(ALGORITHM_NAMES)))
def test_an_algorithm_that_does_not_apply_says_why(algorithm: str) -> None:
    x, w = jnp.ones((1, 9, 4), jnp.int32), jnp.ones((2, 2, 4), jnp.int32)
    with pytest.raises(
        NotImplementedError, match=f'`algorithm="{algorithm}"` cannot run the forward pass: .+'
    ):
        jaxconv.conv(x, w, strides=3, groups=2, algorithm=algorithm)


def test_refusal_of_a_gradient_pass_comes_from_the_gradient() -> None:
    """A dict binds each pass alone; the forward pass of the same call runs."""
    x, w = jnp.ones((1, 9, 4), jnp.float32), jnp.ones((2, 2, 4), jnp.float32)

    def loss(x: jax.Array) -> jax.Array:
        return jaxconv.conv(x, w, strides=3, groups=2, algorithm={"input_grad": "winograd"}).sum()

    assert np.isfinite(loss(x))
    with pytest.raises(NotImplementedError, match="input_grad pass"):
        jax.grad(loss)(x)
