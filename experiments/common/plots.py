"""The look of every figure; made without pyplot: no window, no global state."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#3b6ea8", "#d1603d", "#4f9d69", "#8a5fb0", "#c79a2b", "#5f6b7a", "#c2528b", "#2f9ca5", "#8c5a3c")
INK = "#30343b"


def panels(title: str, columns: int = 1, rows: int = 1, size: tuple[float, float] = (5.0, 3.8)) -> Any:
    """A figure and its axes [rows, columns], each `size` inches."""
    width, height = size[0] * columns, size[1] * rows
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=13, color=INK)
    return figure, figure.subplots(rows, columns, squeeze=False)


def tidy(axes: Axes) -> None:
    """A pale grid, no box, a legend without a frame."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def band(axes: Axes, x: Any, runs: np.ndarray, color: str, label: str, **style: Any) -> None:
    """The mean of runs [seeds, points] over x, and the range of the seeds as a pale band."""
    axes.plot(x, runs.mean(axis=0), color=color, label=label, **style)
    axes.fill_between(x, runs.min(axis=0), runs.max(axis=0), color=color, alpha=0.18, linewidth=0)


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Means of `width` neighbours along the last axis, shorter by width - 1."""
    sums = np.cumsum(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 0)]), axis=-1)
    return (sums[..., width:] - sums[..., :-width]) / width
