"""What the networks see, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import mnist, step
from experiments.common.plots import panels
from experiments.see import stack

FIELD = {2: 28, 3: 44}  # pixels cut out around a projection from layer 2 or 3, its receptive field and a rim
SHOWN_MAPS = 6


def show(
    ax: Axes, picture: np.ndarray, title: str = "", *, signed: bool = False, colors: str = "gray"
) -> Any:
    """One picture without ticks; a signed one with zero in the middle of its colours."""
    peak = float(np.abs(picture).max()) or 1.0
    limits = dict(cmap="RdBu_r", vmin=-peak, vmax=peak) if signed else dict(cmap=colors)
    image = ax.imshow(picture, **limits)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
    ax.spines[:].set_visible(False)
    return image


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles [T, H, W] in rows of `columns`, one empty pixel between them."""
    count, height, width = tiles.shape
    rows = -(-count // columns)
    full = np.full((rows * columns, height + 1, width + 1), np.nan)
    full[:count, :-1, :-1] = tiles
    grid = full.reshape(rows, columns, height + 1, width + 1).transpose(0, 2, 1, 3)
    return grid.reshape(rows * (height + 1), -1)[:-1, :-1]


def tiles(ax: Axes, maps: np.ndarray, columns: int, title: str, *, signed: bool, label: str) -> None:
    """Maps [H, W, T] as a mosaic with its scale."""
    picture = mosaic(maps.transpose(2, 0, 1), columns)
    peak = np.nanmax(np.abs(picture)) or 1.0
    limits = dict(cmap="RdBu_r", vmin=-peak, vmax=peak) if signed else dict(cmap="magma", vmin=0, vmax=peak)
    image = ax.imshow(picture, interpolation="nearest", **limits)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label=label, shrink=0.7)


def digit_layers(params: stack.Params, digits: mnist.Digits) -> Figure:
    """The first filters, and one digit's maps layer by layer."""
    image = digits.images[:1]
    first, second = jax.jit(stack.stages)(params, step.scale(image))
    figure, axes = panels("One held-out digit on its way through two convolutions", 3, 2, (4.6, 3.0))
    show(axes[0, 0], image[0, ..., 0], "input, 28 × 28", colors="gray_r")
    kernel = np.asarray(params["kernels"][0])[:, :, 0]
    tiles(axes[0, 1], kernel, 4, "layer 1: eight filters of 5 × 5", signed=True, label="weight")
    for ax, maps, title in (
        (axes[0, 2], first.maps, "layer 1 after ReLU: 28 × 28"),
        (axes[1, 0], first.pooled, "layer 1 after max pooling: 14 × 14"),
        (axes[1, 1], second.maps, "layer 2 after ReLU: 14 × 14"),
        (axes[1, 2], second.pooled, "layer 2 after max pooling: 7 × 7"),
    ):
        tiles(ax, np.asarray(maps[0]), maps.shape[-1] // 2, title, signed=False, label="activation")
    return figure


def digit_ways(params: stack.Params, digits: mnist.Digits) -> Figure:
    """For one digit of each class: the image, its saliency and its deconvolution."""
    chosen = np.array([np.flatnonzero(digits.labels == d)[0] for d in range(10)])
    images, labels = digits.images[chosen], digits.labels[chosen]
    x = step.scale(images)
    salient = np.asarray(stack.saliency(stack.read_flat, params, x, jnp.asarray(labels)))
    found = jax.jit(stack.stages)(params, x)
    # Only the strongest of all activations of each digit goes back.
    pooled = np.asarray(found[-1].pooled)
    top = pooled == pooled.max(axis=(1, 2, 3), keepdims=True)
    back = np.asarray(stack.project(params, found, jnp.asarray(np.where(top, pooled, 0))))
    whole = np.asarray(stack.project(params, found, found[-1].pooled))
    title = "Ten held-out digits of 28 × 28 pixels, each picture on its own scale"
    figure, axes = panels(title, 10, 4, (1.2, 1.2))
    rows = (
        "input",
        "saliency\n|dy/dx|",
        "strongest\nactivation,\nback to\nthe pixels",
        "all\nof them,\nback",
    )
    for d in range(10):
        show(axes[0, d], images[d, ..., 0], colors="gray_r")
        show(axes[1, d], salient[d], colors="magma")
        show(axes[2, d], back[d, ..., 0], signed=True)
        show(axes[3, d], whole[d, ..., 0], signed=True)
    for row, title in zip(axes, rows, strict=True):
        row[0].set_ylabel(title, fontsize=9, rotation="horizontal", ha="right", va="center")
    return figure


def filters(params: stack.Params) -> Figure:
    """The first filters of the network that tells photographs apart."""
    figure, axes = panels("Twelve filters of 9 × 9, learned from photographs", size=(7.0, 2.8))
    kernel = np.asarray(params["kernels"][0])[:, :, 0]
    tiles(axes[0, 0], kernel, 6, "", signed=True, label="weight")
    return figure


def photo_maps(photo: np.ndarray, found: list[stack.Stage]) -> Figure:
    """The photograph and the strongest maps of each layer."""
    figure, axes = panels("A photograph's maps, layer by layer", 4, 3, (3.0, 2.2))
    for layer, (row, stage) in enumerate(zip(axes, found, strict=True), start=1):
        maps = np.asarray(stage.maps[0])
        order = np.argsort(-maps.mean(axis=(0, 1)))
        show(row[0], photo, f"the photograph, {photo.shape[0]} × {photo.shape[1]} pixels")
        for ax, channel in zip(row[1:], order, strict=False):
            image = show(ax, maps[..., channel], f"layer {layer}, map {channel + 1}", colors="magma")
            figure.colorbar(image, ax=ax, shrink=0.7, label="activation")
    return figure


def photo_classes(photo: np.ndarray, params: stack.Params, names: Sequence[str], own: str) -> Figure:
    """Where the photograph speaks for its own class and for others, and its saliency."""
    x, label = step.scale(photo[None, :, :, None]), jnp.asarray([names.index(own)])
    maps = np.asarray(stack.features(params, x) @ params["head"])[0]  # [H / 8, W / 8, classes]
    salient = np.asarray(stack.saliency(stack.read_mean, params, x, label))[0]
    others = np.argsort(-np.where(np.arange(len(names)) == names.index(own), -np.inf, maps.mean(axis=(0, 1))))
    figure, axes = panels("Which pixels speak for which picture", 4, 1, (3.4, 2.8))
    show(axes[0, 0], photo, f"the photograph, {photo.shape[0]} × {photo.shape[1]} pixels")
    image = show(axes[0, 1], np.sqrt(salient), f"√ saliency of “{own}”", colors="magma")
    figure.colorbar(image, ax=axes[0, 1], shrink=0.6, label="√|dy/dx|")
    for ax, i in zip(axes[0, 2:], (names.index(own), int(others[0])), strict=True):
        image = show(ax, maps[..., i], f"evidence for “{names[i]}”", signed=True)
        figure.colorbar(image, ax=ax, shrink=0.6, label="output y by place")
    return figure


def photo_deconvolution(photo: np.ndarray, params: stack.Params) -> Figure:
    """For the busiest maps of layers 2 and 3: where they fire most, and what goes back to the pixels."""
    found = jax.jit(stack.stages)(params, step.scale(photo[None, :, :, None]))
    back = jax.jit(stack.project)
    figure, axes = panels(
        "Where maps fire most in the photograph, and what they see there", SHOWN_MAPS, 4, (2.0, 2.0)
    )
    for layer, rows in ((2, axes[:2]), (3, axes[2:])):
        pooled, width = found[layer - 1].pooled, FIELD[layer]
        busiest = np.argsort(-np.asarray(pooled[0]).max(axis=(0, 1)))[:SHOWN_MAPS]
        for column, channel in enumerate(busiest):
            place = stack.strongest(pooled, channel)
            signal = stack.one_hot_signal(pooled, place, channel)
            seen = np.asarray(back(params, found[:layer], signal))[0, ..., 0]
            window = field(place, 2**layer, width, photo.shape)
            show(rows[0, column], photo[window], f"layer {layer}, map {channel + 1}, {width} × {width} px")
            show(rows[1, column], seen[window], signed=True)
    return figure


def field(place: Sequence[int], scale: int, width: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The window of `width` pixels around a place of a map, moved inside the picture."""
    starts = [
        min(max(0, scale * p + scale // 2 - width // 2), size - width)
        for p, size in zip(place, shape, strict=True)
    ]
    return tuple(slice(start, start + width) for start in starts)
