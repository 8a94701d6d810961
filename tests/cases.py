"""The geometries that every algorithm and every pass is tested on, and how to run one pass."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
import oracle
from jaxconv._problem import Pass
from jaxconv.algorithms import ALGORITHMS

ALGORITHM_NAMES = tuple(algorithm.name for algorithm in ALGORITHMS)
# These must take every problem; the others may refuse one, with a reason.
GENERAL = ("direct", "gemm", "xla")
HAND_WRITTEN = tuple(name for name in ALGORITHM_NAMES if name != "xla")


@dataclass(frozen=True)
class Case:
    """A named problem in the canonical layout, `x [N, *S, C]` and `w [*K, C/G, O]`."""

    name: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    padding: Any = "VALID"
    strides: tuple[int, ...] | int = 1
    input_dilation: tuple[int, ...] | int = 1
    kernel_dilation: tuple[int, ...] | int = 1
    groups: int = 1
    batch_groups: int = 1

    def __str__(self) -> str:
        return self.name

    @property
    def rank(self) -> int:
        return len(self.x_shape) - 2

    def per_axis(self, option: tuple[int, ...] | int) -> tuple[int, ...]:
        return (option,) * self.rank if isinstance(option, int) else option

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `conv`."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "input_dilation": self.input_dilation,
            "kernel_dilation": self.kernel_dilation,
            "groups": self.groups,
        }

    @functools.cached_property
    def geometry(self) -> oracle.Geometry:
        strides, dilation = self.per_axis(self.strides), self.per_axis(self.kernel_dilation)
        pads = oracle.resolve_padding(self.padding, self.x_shape[1:-1], self.w_shape[:-2], strides, dilation)
        return oracle.Geometry(
            self.x_shape,
            self.w_shape,
            strides,
            pads,
            self.per_axis(self.input_dilation),
            dilation,
            self.groups,
            self.batch_groups,
        )

    @property
    def lax_options(self) -> dict[str, Any]:
        """The keyword arguments of `conv_general_dilated`, pads explicit."""
        geometry = self.geometry
        return {
            "window_strides": geometry.strides,
            "padding": geometry.pads,
            "lhs_dilation": geometry.input_dilation,
            "rhs_dilation": geometry.kernel_dilation,
            "dimension_numbers": channels_last(self.rank),
            "feature_group_count": self.groups,
            "batch_group_count": self.batch_groups,
        }

    def data(self, dtype: Any = "float32") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, w and dy, the same on every call."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        shapes = (self.x_shape, self.w_shape, self.geometry.y_shape)
        return tuple(random_array(rng, shape, dtype) for shape in shapes)  # type: ignore[return-value]


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Unit-normal numbers, complex where asked; small integers for integer dtypes."""
    dtype = jnp.dtype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -9, 10, shape).astype(dtype)
    a = rng.standard_normal(shape)
    if dtype.kind == "c":
        a = (a + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return a.astype(dtype)


def channels_last(rank: int) -> tuple[str, str, str]:
    letters = "XYZUVW"[:rank]
    return (f"N{letters}C", f"{letters}IO", f"N{letters}C")


CASES = (
    Case("line", (2, 9, 3), (3, 3, 4)),
    Case("line_causal", (2, 9, 3), (3, 3, 4), "CAUSAL", kernel_dilation=2),
    Case("line_long_kernel", (1, 40, 2), (17, 2, 3), 3),
    Case("line_pointwise", (2, 6, 3), (1, 3, 5)),
    Case("same", (2, 6, 5, 3), (3, 3, 3, 4), "SAME"),
    Case("same_even_kernel", (1, 6, 7, 2), (2, 4, 2, 3), "SAME"),
    Case("same_lower_strided", (2, 7, 6, 3), (3, 2, 3, 2), "SAME_LOWER", (2, 3)),
    Case("same_dilated", (1, 9, 8, 2), (3, 3, 2, 3), "SAME", kernel_dilation=(2, 3)),
    Case("full", (2, 4, 5, 2), (3, 2, 2, 3), "FULL"),
    Case("wide", (2, 9, 10, 8), (3, 3, 8, 16), "SAME"),
    Case("lenet", (3, 12, 12, 6), (5, 5, 6, 16)),
    Case("pointwise", (2, 5, 4, 6), (1, 1, 6, 8)),
    Case("pointwise_strided", (2, 5, 7, 6), (1, 1, 6, 4), strides=(2, 3)),
    Case("dense", (2, 4, 3, 3), (4, 3, 3, 5)),
    Case("strided", (2, 9, 8, 3), (3, 3, 3, 4), ((2, 0), (0, 3)), (2, 1)),
    # Of every two samples, or four and two, no tap meets more than one.
    Case("strided_dilated", (2, 9, 11, 3), (3, 2, 3, 4), ((2, 1), (1, 3)), (2, 4), 1, (2, 6)),
    Case("stride_above_kernel", (2, 11, 10, 3), (2, 1, 3, 2), 1, (3, 4)),
    Case("tiles", (2, 5, 8, 3), (2, 3, 3, 4), ((1, 0), (0, 1)), (2, 3)),
    Case("tiles_of_many_rows", (1, 21, 5, 2), (10, 2, 2, 3), "VALID", (10, 2)),
    Case("far_padding", (1, 3, 4, 2), (2, 2, 2, 3), ((5, 4), (4, 6)), (1, 2)),
    Case("wide_padding", (2, 6, 5, 3), (3, 3, 3, 4), "SAME", kernel_dilation=(4, 3)),
    # Some taps, or all but one, meet no sample in any output.
    Case("idle_taps", (2, 5, 7, 3), (3, 5, 3, 4), ((7, 7), (6, 9)), (1, 2), 1, (7, 4)),
    Case("idle_taps_dilated", (1, 3, 4, 2), (4, 3, 2, 3), ((12, 2), (1, 11)), (2, 1), (2, 1), (3, 6)),
    Case("negative_pads", (2, 9, 8, 2), (3, 2, 2, 3), ((-1, -2), (1, -3)), (2, 1)),
    Case("negative_pads_dilated", (1, 6, 5, 2), (2, 3, 2, 3), ((-2, 1), (2, -3)), 1, (3, 2)),
    Case("cropped_to_padding", (2, 2, 3, 2), (2, 2, 2, 3), ((4, -3), (-4, 6))),
    Case("input_dilated", (2, 5, 4, 3), (3, 4, 3, 2), ((2, 1), (0, 3)), 1, (2, 3)),
    Case("input_dilated_strided", (1, 6, 5, 2), (3, 3, 2, 3), 2, (2, 4), (4, 2)),
    Case("everything", (2, 6, 7, 4), (3, 2, 2, 6), ((3, -1), (1, 2)), (2, 3), (3, 2), (2, 1), 2),
    Case("grouped", (2, 6, 5, 6), (3, 3, 3, 4), "SAME", groups=2),
    Case("grouped_strided", (2, 7, 6, 6), (3, 2, 2, 9), 1, (2, 1), groups=3),
    Case("depthwise", (2, 7, 6, 5), (3, 3, 1, 5), "SAME", groups=5),
    Case("depthwise_strided", (2, 8, 7, 4), (3, 3, 1, 4), "SAME", (2, 2), groups=4),
    Case("depthwise_multiplier", (1, 9, 8, 3), (2, 3, 1, 6), 1, 1, 1, (2, 1), groups=3),
    Case("batch_grouped", (4, 6, 5, 3), (3, 2, 3, 4), 1, batch_groups=2),
    Case("batch_grouped_strided", (6, 7, 2), (3, 2, 6), 1, (2,), (1,), (2,), batch_groups=3),
    Case("volume", (1, 4, 6, 3, 2), (2, 3, 2, 2, 3), "SAME", (1, 2, 1)),
    Case("rank_4", (1, 3, 3, 2, 3, 2), (2, 2, 1, 2, 2, 2), 1, (1, 2, 1, 1)),
    Case("rank_0", (3, 4), (4, 5)),
)
BY_NAME = {case.name: case for case in CASES}


def subset(*names: str) -> list[Case]:
    return [BY_NAME[name] for name in names]


def forward(case: Case, x: Any, w: Any, **options: Any) -> jax.Array:
    """The case's convolution through the front door that can express it."""
    if case.rank and case.batch_groups == 1:
        return jaxconv.conv(x, w, **case.options, **options)
    return jaxconv.conv_general_dilated(x, w, **case.lax_options, **options)


def run_pass(case: Case, which: Pass, a: Any, b: Any, algorithm: str) -> jax.Array:
    """One pass by one algorithm, whatever the front door that reaches it."""
    chosen = {"algorithm": {which.value: algorithm}}
    if which is Pass.FORWARD:
        return forward(case, a, b, **chosen)
    if not case.rank or case.batch_groups > 1:
        return _pass_by_vjp(case, which, a, b, chosen)
    if which is Pass.INPUT_GRAD:
        return jaxconv.conv_input_gradient(a, b, case.x_shape, **case.options, **chosen)
    return jaxconv.conv_kernel_gradient(a, b, case.w_shape, **case.options, **chosen)


def run_all(case: Case, algorithm: str) -> tuple[dict[Pass, jax.Array], dict[Pass, str]]:
    """Every pass that the algorithm takes, compiled as one program, and why it refuses the others."""
    refused: dict[Pass, str] = {}

    @jax.jit
    def program(x: Any, w: Any, dy: Any) -> list[jax.Array]:
        results = []
        for which in Pass:
            try:
                results.append(run_pass(case, which, *operands(which, x, w, dy), algorithm))
            except NotImplementedError as refusal:
                refused[which] = str(refusal)
        return results

    results = program(*case.data())
    assert not refused or algorithm not in GENERAL
    assert all(algorithm in reason for reason in refused.values()), "a reason does not name the algorithm"
    return dict(zip((which for which in Pass if which not in refused), results, strict=True)), refused


def supported(algorithm: str, call: Callable[[], Any]) -> Any:
    """The call's result; a refusal by a special algorithm skips the test with its own reason."""
    try:
        return call()
    except NotImplementedError as refusal:
        if algorithm in GENERAL:
            raise
        assert algorithm in str(refusal), f"the reason does not name the algorithm: {refusal}"
        pytest.skip(str(refusal))


def _pass_by_vjp(case: Case, which: Pass, a: Any, b: Any, chosen: dict[str, Any]) -> jax.Array:
    if which is Pass.INPUT_GRAD:
        x = jnp.zeros(case.x_shape, b.dtype)
        return jax.vjp(lambda x: forward(case, x, b, **chosen), x)[1](jnp.asarray(a))[0]
    w = jnp.zeros(case.w_shape, a.dtype)
    return jax.vjp(lambda w: forward(case, a, w, **chosen), w)[1](jnp.asarray(b))[0]


def operands(which: Pass, x: Any, w: Any, dy: Any) -> tuple[Any, Any]:
    """The two inputs of a pass, of the three arrays."""
    return {Pass.FORWARD: (x, w), Pass.INPUT_GRAD: (dy, w), Pass.KERNEL_GRAD: (x, dy)}[which]


def expected(case: Case, which: Pass, a: Any, b: Any) -> np.ndarray:
    """What the oracle says the pass gives."""
    reference = {
        Pass.FORWARD: oracle.forward,
        Pass.INPUT_GRAD: oracle.input_gradient,
        Pass.KERNEL_GRAD: oracle.kernel_gradient,
    }
    return reference[which](a, b, case.geometry)


def reduction(case: Case, which: Pass) -> int:
    sides = {Pass.FORWARD: "y", Pass.INPUT_GRAD: "dx", Pass.KERNEL_GRAD: "dw"}
    return case.geometry.reduction(sides[which])
