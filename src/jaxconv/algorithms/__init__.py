"""Every algorithm, one file each, in the order in which they are listed and tested."""

from . import banded, depthwise, direct, fft, gemm, grouped, outer, space_to_depth, winograd, xla
from ._record import Algorithm

ALGORITHMS: tuple[Algorithm, ...] = (
    direct.ALGORITHM,
    outer.ALGORITHM,
    gemm.ALGORITHM,
    banded.ALGORITHM,
    space_to_depth.ALGORITHM,
    winograd.ALGORITHM,
    fft.ALGORITHM,
    depthwise.ALGORITHM,
    grouped.ALGORITHM,
    xla.ALGORITHM,
)

BY_NAME: dict[str, Algorithm] = {a.name: a for a in ALGORITHMS}

__all__ = ["ALGORITHMS", "BY_NAME", "Algorithm"]
