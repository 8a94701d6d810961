"""Convolution and pooling for JAX as pure functions with hand-derived gradients."""

from importlib.metadata import version as _version

from ._conv import conv as conv
from ._conv import conv_general_dilated as conv_general_dilated
from ._deform import deform_conv as deform_conv
from ._explain import explain as explain
from ._extract import conv_general_dilated_patches as conv_general_dilated_patches
from ._extract import extract_patches as extract_patches
from ._extract import fold_patches as fold_patches
from ._gradients import conv_input_gradient as conv_input_gradient
from ._gradients import conv_kernel_gradient as conv_kernel_gradient
from ._local import conv_general_dilated_local as conv_general_dilated_local
from ._local import conv_local as conv_local
from ._memory import compiler_options as compiler_options
from ._memory import keep_memory as keep_memory
from ._pool import avg_pool as avg_pool
from ._pool import max_pool as max_pool
from ._pool import min_pool as min_pool
from ._pool import sum_pool as sum_pool
from ._pool_adaptive import adaptive_avg_pool as adaptive_avg_pool
from ._pool_adaptive import adaptive_max_pool as adaptive_max_pool
from ._pool_adaptive import global_avg_pool as global_avg_pool
from ._pool_adaptive import global_max_pool as global_max_pool
from ._pool_argmax import max_pool_with_argmax as max_pool_with_argmax
from ._pool_argmax import max_unpool as max_unpool
from ._pool_fractional import fractional_max_pool as fractional_max_pool
from ._pool_norm import lp_pool as lp_pool
from ._pool_rank import median_pool as median_pool
from ._pool_rank import rank_pool as rank_pool
from ._pool_reduce import pool as pool
from ._pool_reduce import reduce_window as reduce_window
from ._separable import depthwise_conv as depthwise_conv
from ._separable import separable_conv as separable_conv
from ._signal import convolve as convolve
from ._signal import correlate as correlate
from ._stream import conv_stream as conv_stream
from ._stream import conv_stream_state as conv_stream_state
from ._transpose import conv_transpose as conv_transpose
from ._tune import forget_plans as forget_plans
from ._tune import tune as tune
from ._tune import use_plans as use_plans

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "compiler_options",
    "conv",
    "conv_general_dilated",
    "conv_general_dilated_local",
    "conv_general_dilated_patches",
    "conv_input_gradient",
    "conv_kernel_gradient",
    "conv_local",
    "conv_stream",
    "conv_stream_state",
    "conv_transpose",
    "convolve",
    "correlate",
    "deform_conv",
    "depthwise_conv",
    "explain",
    "extract_patches",
    "fold_patches",
    "forget_plans",
    "fractional_max_pool",
    "global_avg_pool",
    "global_max_pool",
    "keep_memory",
    "lp_pool",
    "max_pool",
    "max_pool_with_argmax",
    "max_unpool",
    "median_pool",
    "min_pool",
    "pool",
    "rank_pool",
    "reduce_window",
    "separable_conv",
    "sum_pool",
    "tune",
    "use_plans",
]

__version__ = _version("jaxconv")
