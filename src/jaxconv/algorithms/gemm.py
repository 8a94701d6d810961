"""GEMM: patches times matrix, built and multiplied block by block so that patches stay in cache.

With the taps of every output side by side (im2col; Chellapilla, Puri and Simard 2006),
X[m, (k, c)] = x[m s + k d - lo, c]:

    y = X w,    dw = X^T g,    dX = g w^T, and dx adds dX where patches overlap            (T5, T7, T8)

Where y has fewer channels than x, patches of y take their place, in the adjoint problem (`_products.py`).
Windows of one tap, or that tile the input, share no sample: their patches are x in another order, and the
pass is one product, unless x is to be padded and large.
Groups run one after another (`_groups.py`).
Cost: one multiply-add per pair that meets. Error: that of a plain sum.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from .._patches import crop_to_input, depth_to_space, pad_to_windows, space_to_depth, tap_slice
from .._problem import ConvProblem, Pass
from .._window import Window
from . import _products
from ._bands import MAX_STACKED_ROWS, make_bands, patch_matrix
from ._blocks import padded_bytes
from ._groups import group_by_group
from ._products import correlate_patches, multiply_patches, one_output, unmultiply_patches
from ._record import Algorithm

# A padded copy of x, at most, in front of one product; larger ones, fresh memory in every call, are padded
# block by block: 0.23 to 0.75 of the time at 41 and 52 MB, 0.31 to 1.18 at 20 and 26, 1.4 to 2.0 at 13 (15
# passes, 2026-11-29, AMD EPYC Zen 4).
PADDED_BYTES = 16 << 20


@group_by_group
def forward(problem: ConvProblem, x: Array, w: Array) -> Array:
    if not is_one_product(problem):
        return _products.forward(problem, x, w, one_output)
    x = pad_to_windows(x, problem.windows)
    return multiply_patches(problem, view_patches(problem, x), w)


@group_by_group
def kernel_grad(problem: ConvProblem, x: Array, g: Array) -> Array:
    if not is_one_product(problem):
        return _products.kernel_grad(problem, x, g, one_output)
    x = pad_to_windows(x, problem.windows)
    return correlate_patches(problem, view_patches(problem, x), g).reshape(problem.kernel_shape)


@group_by_group
def input_grad(problem: ConvProblem, g: Array, w: Array) -> Array:
    if not is_one_product(problem):
        return _products.input_grad(problem, g, w, one_output)
    return crop_to_input(problem, unview_patches(problem, unmultiply_patches(problem, g, w)))


def is_view(windows: tuple[Window, ...]) -> bool:
    """Whether patches are x in another order: windows of one tap, or that tile the input without overlap."""
    one_tap = all(w.size == 1 for w in windows)
    return one_tap or all(w.stride == w.size and w.dilation == 1 for w in windows)


def is_one_product(problem: ConvProblem) -> bool:
    """Whether patches are x in another order, and a padded copy of it, if it needs one, is small."""
    if not is_view(problem.windows):
        return False
    if all(pad <= 0 for w in problem.windows for pad in (w.exact().lo, w.exact().hi)):
        return True
    return padded_bytes(problem, jnp.dtype(problem.x_dtype).itemsize) <= PADDED_BYTES


def view_patches(problem: ConvProblem, x: Array) -> Array:
    """`[N, *M, T C]` of the padded input, where `is_view`."""
    if problem.taps == 1:
        return tap_slice(x, problem.windows, (0,) * problem.rank)
    if problem.taps // problem.kernel_size[-1] <= MAX_STACKED_ROWS:
        return patch_matrix(problem, make_bands(problem, 1), x)
    return space_to_depth(x, 1, problem.kernel_size)


def unview_patches(problem: ConvProblem, patches: Array) -> Array:
    """The padded input's gradient from that of `view_patches`."""
    if problem.taps == 1:
        config = [(0, 0, w.stride - 1) for w in problem.windows]
        return lax.pad(patches, jnp.zeros((), patches.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    return depth_to_space(patches, 1, problem.kernel_size)


def supports(problem: ConvProblem, pass_: Pass) -> str | None:
    """Every problem."""
    del problem, pass_
    return None


ALGORITHM = Algorithm(
    "gemm", supports, forward, kernel_grad, input_grad, phases_in_blocks=lambda problem: problem.groups == 1
)
