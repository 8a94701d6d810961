"""Which algorithm runs each pass of a convolution, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._dtypes import as_dtype
from ._front import context, flatten_batch
from ._gradients import check_shape
from ._problem import make_problem
from ._select import Plan, make_plan, make_policy


def explain(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    dtype: Any = "float32",
    strides: int | Sequence[int] = 1,
    padding: Any = "SAME",
    input_dilation: int | Sequence[int] = 1,
    kernel_dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    algorithm: str | Mapping[str, str] = "auto",
) -> Plan:
    """The plan that `conv` follows for these shapes and options, without running anything.

    Args:
      x_shape: `[*batch, *S, C]`.
      kernel_shape: `[*K, C / groups, O]`.
      dtype: of x and kernel.
      strides, padding, input_dilation, kernel_dilation, groups, precision, preferred_element_type,
        algorithm: as in `conv`.

    Returns:
      A `Plan`: printable, and a record of the algorithm, the reason, the FLOPs (the direct sum's, whatever
      the algorithm saves) and the bytes of x, kernel and output, for each pass.

    Raises:
      ValueError, TypeError, NotImplementedError: as `conv`.

    Examples:
      >>> import jaxconv
      >>> plan = jaxconv.explain((8, 56, 56, 64), (3, 3, 64, 64), algorithm="direct")
      >>> [p.algorithm for p in plan.passes]
      ['direct', 'direct', 'direct']
    """
    options = dict(
        strides=strides, padding=padding, input_dilation=input_dilation,
        kernel_dilation=kernel_dilation, groups=groups, precision=precision,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip
    with context("explain", x_shape=x_shape, kernel_shape=kernel_shape, dtype=dtype, **options):
        kernel_shape = check_shape(kernel_shape, 2, "kernel_shape")
        rank = len(kernel_shape) - 2
        shape = flatten_batch(check_shape(x_shape, rank + 1, "x_shape"), rank)
        dtype = as_dtype(dtype, "dtype")
        problem, _ = make_problem(shape, kernel_shape, dtype, dtype, **options)
        return make_plan(problem, make_policy(algorithm))
