"""Convolution and pooling for JAX as pure functions with hand-derived gradients."""

from importlib.metadata import version as _version

from ._conv import conv as conv
from ._conv import conv_general_dilated as conv_general_dilated
from ._gradients import conv_input_gradient as conv_input_gradient
from ._gradients import conv_kernel_gradient as conv_kernel_gradient
from ._signal import convolve as convolve
from ._signal import correlate as correlate
from ._transpose import conv_transpose as conv_transpose

__all__ = [
    "conv",
    "conv_general_dilated",
    "conv_input_gradient",
    "conv_kernel_gradient",
    "conv_transpose",
    "convolve",
    "correlate",
]

__version__ = _version("jaxconv")
