"""The run as pictures: curves, what the filters learned, what they see, and what is confused.

Every function returns a `Figure`, made without pyplot: no window, no global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from datasets import DataSet
from history import Epoch
from images import CLASSES
from lenet import Params

TRAIN_COLOR, TEST_COLOR, INK = "#3b6ea8", "#d1603d", "#30343b"
LOSS_LABELS = {
    "cross-entropy": "cross-entropy (nats per {noun})",
    "mse": "squared error ½ Σ(t − y)² per {noun}",
}

LAYERS_SHOWN = {
    "C1": "convolution 5 × 5 and ReLU",
    "S2": "max pooling 2 × 2",
    "C3": "convolution 5 × 5 and ReLU",
    "S4": "max pooling 2 × 2",
}
TILE_PIXELS, GAP_PIXELS = 56, 6


def _figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.suptitle(title, fontsize=13, color=INK)
    return figure


def curves(epochs: Sequence[Epoch], chosen: int, loss: str, data: DataSet) -> Figure:
    """Training loss beside the two error rates, by epoch; `chosen` is the one whose parameters count."""
    accuracy = epochs[chosen - 1].test_accuracy
    title = f"LeNet-5 on {data.title}: {accuracy:.1%} of the held-out {data.noun}s right"
    figure = _figure(9.5, 3.8, title)
    left, right = figure.subplots(1, 2)
    numbers = [epoch.epoch for epoch in epochs]
    left.plot(numbers, np.array([epoch.train_loss for epoch in epochs]), color=TRAIN_COLOR, marker=".")
    left.set(title="training loss", ylabel=LOSS_LABELS[loss].format(noun=data.noun))
    for name, color, accuracies in (
        ("training, shifted", TRAIN_COLOR, [epoch.train_accuracy for epoch in epochs]),
        ("held out", TEST_COLOR, [epoch.test_accuracy for epoch in epochs]),
    ):
        errors = 100 * (1 - np.array(accuracies))
        right.plot(numbers, errors, color=color, marker=".", label=name)
    right.set(title=f"{data.noun}s classified wrongly", ylabel=f"error (% of {data.noun}s)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        # A run without a single mistake has nothing that a logarithm could show.
        if any((line.get_ydata() > 0).any() for line in axes.lines):
            _log_scale(axes)
    return figure


def _log_scale(axes: Axes) -> None:
    """A logarithmic y axis with ticks at 1, 2 and 5, written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def filters(params: Params) -> Figure:
    """The 6 kernels of C1 on every channel and the 6 x 16 of C3, red positive and blue negative."""
    channels = params["C1"]["kernel"].shape[2]
    figure = _figure(9.5, 5 + 1.2 * channels, "What the filters of LeNet-5 learned")
    top, bottom = figure.subplots(2, 1, height_ratios=[1 if channels == 1 else 0.7 * channels, 2.2])
    for axes, layer in ((top, "C1"), (bottom, "C3")):
        kernel = np.asarray(params[layer]["kernel"])  # [5, 5, C, O]
        _mosaic(axes, kernel.transpose(2, 3, 0, 1), "RdBu_r", "weight")
        axes.set_xlabel("filter")
    top.set_title("C1: six 5 × 5 filters on the image", fontsize=11)
    bottom.set_title("C3: sixteen filters (columns), each 5 × 5 over six maps (rows)", fontsize=11)
    if channels == 1:
        top.set_yticks([])
    else:
        top.set_ylabel("channel (red, green, blue)")
    bottom.set_ylabel("map of S2")
    return figure


def feature_maps(image: np.ndarray, maps: Mapping[str, np.ndarray], data: DataSet) -> Figure:
    """One image [H, W, C] on its way to the outputs; `maps` holds [H, W, C] by layer."""
    outputs = maps["output"]  # [10]
    read = data.classes[outputs.argmax()]
    title = f"One held-out {data.noun} on its way through LeNet-5, read as: {read}"
    figure = _figure(10.5, 7.2, title)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 2.6])
    top, bottom = left.subplots(2, 1, height_ratios=[1, 1])
    height, width, channels = image.shape
    top.set(title=f"input, {height} × {width}", xlabel="column (pixels)", ylabel="row (pixels)")
    if channels == 1:
        picture = top.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=255)
        _colorbar(picture, top, "pixel (0 to 255)")
    else:
        top.imshow(image)
    bottom.barh(range(CLASSES), outputs, color=TRAIN_COLOR)
    bottom.set(title="output layer", xlabel="output y (no unit)", ylabel="class")
    bottom.set_yticks(range(CLASSES), data.classes)
    bottom.invert_yaxis()
    bottom.spines[["top", "right"]].set_visible(False)
    rows = right.subplots(4, 1, height_ratios=[1, 1, 1.5, 1.5])
    for axes, (layer, what) in zip(rows, LAYERS_SHOWN.items(), strict=True):
        stack = maps[layer].transpose(2, 0, 1)  # [C, H, W]
        count, height, width = stack.shape
        _mosaic(axes, stack.reshape(-(-count // 8), -1, height, width), "magma", "activation")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{layer}: {what}, {count} maps of {height} × {width}", fontsize=11)
    return figure


def confusion(labels: np.ndarray, predicted: np.ndarray, data: DataSet) -> Figure:
    """How often each class, of labels [N], was read as each other; only the mistakes are coloured."""
    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (labels, predicted), 1)
    mistakes = np.where(np.eye(CLASSES, dtype=bool), 0, counts)
    title = f"{mistakes.sum():,} of {len(labels):,} held-out {data.noun}s mistaken"
    figure = _figure(6.6, 5.8, title)
    axes = figure.subplots()
    # A scale of at least 5 keeps a single mistake pale.
    peak = max(int(mistakes.max()), 5)
    picture = axes.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=peak)
    for true, guess in zip(*np.nonzero(counts), strict=True):
        dark = true != guess and counts[true, guess] > 0.6 * peak
        style = {"alpha": 0.45} if true == guess else {"weight": "bold"}
        axes.text(
            guess,
            true,
            counts[true, guess],
            ha="center",
            va="center",
            color="white" if dark else INK,
            **style,
        )
    axes.set(xlabel="read as (class)", ylabel="true class")
    slanted = {} if len(data.classes[0]) == 1 else {"rotation": 45, "ha": "right"}
    axes.set_xticks(range(CLASSES), data.classes, **slanted)
    axes.set_yticks(range(CLASSES), data.classes)
    edges = np.arange(CLASSES + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color=INK, alpha=0.12)
    axes.tick_params(which="both", length=0)
    _colorbar(picture, axes, f"mistakes ({data.noun}s)").locator = MaxNLocator(integer=True)
    return figure


def _mosaic(axes: Axes, tiles: np.ndarray, colors: str, label: str) -> None:
    """Tiles [rows, columns, H, W] as one picture, numbered along both sides from 1."""
    rows, columns, height, width = tiles.shape
    zoom = max(1, TILE_PIXELS // height)  # small maps as large as big ones, gaps equally wide
    large = tiles.repeat(zoom, axis=2).repeat(zoom, axis=3)
    gaps = ((0, 0), (0, 0), (0, GAP_PIXELS), (0, GAP_PIXELS))
    padded = np.pad(large, gaps, constant_values=np.nan)
    down, across = padded.shape[2:]
    picture = padded.transpose(0, 2, 1, 3).reshape(rows * down, columns * across)
    peak = float(np.abs(tiles).max()) or 1.0
    shown = axes.imshow(
        picture[:-GAP_PIXELS, :-GAP_PIXELS],
        cmap=colormaps[colors].with_extremes(bad="white"),
        vmin=-peak if tiles.min() < 0 else 0,
        vmax=peak,
        interpolation="nearest",
    )
    axes.set_xticks(np.arange(columns) * across + width * zoom / 2, _ordinals(columns))
    axes.set_yticks(np.arange(rows) * down + height * zoom / 2, _ordinals(rows))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _colorbar(shown, axes, label)


def _ordinals(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def _colorbar(picture: AxesImage, axes: Axes, label: str) -> Colorbar:
    """A bar exactly as high as the picture, which matplotlib's own placing does not give."""
    beside = axes.inset_axes((1.02, 0, 0.025, 1))
    return axes.figure.colorbar(picture, cax=beside, label=label)
