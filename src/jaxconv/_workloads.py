"""Named layer shapes: the one list that tests, the selector's figures and the benchmark share.

Pure data: nothing here imports jax. Spatial tuples are in the order of the axes, channels are
counted apart, and padding is always explicit, so that every library computes the same thing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Pairs: TypeAlias = tuple[tuple[int, int], ...]
PassName: TypeAlias = Literal["forward", "input_grad", "kernel_grad", "step"]

CONV_PASSES: tuple[PassName, ...] = ("forward", "input_grad", "kernel_grad")
POOL_PASSES: tuple[PassName, ...] = ("forward", "input_grad")
FLOAT32 = ("float32",)
THREE_DTYPES = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class ConvWorkload:
    """One convolution: `[N, *S, C]` with `[*K, C/groups, O]`.

    `kind` says how it is used: `"plain"`, `"transposed"` (strides and padding as
    `lax.conv_transpose` reads them), `"loop"` (four in a row inside a `fori_loop`) or
    `"per_example"` (the kernel gradient of each image on its own).
    """

    name: str
    batch: int
    spatial: tuple[int, ...]
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding: Pairs
    kind: Literal["plain", "transposed", "loop", "per_example"] = "plain"
    layout: Literal["channels_last", "channels_first"] = "channels_last"
    passes: tuple[PassName, ...] = CONV_PASSES
    dtypes: tuple[str, ...] = FLOAT32
    tags: frozenset[str] = frozenset({"full"})

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`[N, *S, C]`."""
        return (self.batch, *self.spatial, self.in_channels)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """`[*K, C/groups, O]`."""
        return (*self.kernel, self.in_channels // self.groups, self.out_channels)

    @property
    def output_spatial(self) -> tuple[int, ...]:
        """Spatial sizes of the output."""
        axes = zip(self.spatial, self.kernel, self.strides, self.dilation, self.padding, strict=True)
        if self.kind == "transposed":
            return tuple((n - 1) * s + 1 + sum(p) - d * (k - 1) for n, k, s, d, p in axes)
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, d, p in axes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """`[N, *S', O]`."""
        return (self.batch, *self.output_spatial, self.out_channels)

    @property
    def repeats(self) -> int:
        """How many convolutions one call computes."""
        return 4 if self.kind == "loop" else 1

    @property
    def flops(self) -> int:
        """Multiplications and additions of one pass, no inserted zero counted."""
        positions = self.spatial if self.kind == "transposed" else self.output_spatial
        macs = self.batch * math.prod(positions) * math.prod(self.kernel_shape)
        return 2 * macs * self.repeats

    @property
    def elements(self) -> int:
        """Elements of input, kernel and output together."""
        return sum(math.prod(s) for s in (self.input_shape, self.kernel_shape, self.output_shape))


@dataclass(frozen=True)
class PoolWorkload:
    """One pooling layer over `[N, *S, C]`."""

    name: str
    operation: Literal["max", "avg"]
    batch: int
    spatial: tuple[int, ...]
    channels: int
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Pairs
    passes: tuple[PassName, ...] = POOL_PASSES
    dtypes: tuple[str, ...] = FLOAT32
    tags: frozenset[str] = frozenset({"full"})

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`[N, *S, C]`."""
        return (self.batch, *self.spatial, self.channels)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """`[N, *S', C]`."""
        axes = zip(self.spatial, self.window, self.strides, self.padding, strict=True)
        return (self.batch, *((n + sum(p) - k) // s + 1 for n, k, s, p in axes), self.channels)

    @property
    def flops(self) -> int:
        """One operation for each tap of each window."""
        return math.prod(self.output_shape) * math.prod(self.window)

    @property
    def elements(self) -> int:
        """Elements of input and output together."""
        return math.prod(self.input_shape) + math.prod(self.output_shape)


@dataclass(frozen=True)
class StepWorkload:
    """One training step (forward, backward, plain SGD) of a small network on `[N, H, W, C]`."""

    name: str
    batch: int
    spatial: tuple[int, ...]
    channels: int
    classes: int = 10
    passes: tuple[PassName, ...] = ("step",)
    dtypes: tuple[str, ...] = FLOAT32
    tags: frozenset[str] = frozenset({"full"})

    @property
    def input_shape(self) -> tuple[int, ...]:
        """`[N, H, W, C]`."""
        return (self.batch, *self.spatial, self.channels)


Workload: TypeAlias = ConvWorkload | PoolWorkload | StepWorkload


def _conv(
    name: str, batch: int, spatial: tuple[int, ...], channels: tuple[int, int],
    kernel: int | tuple[int, ...], *, stride: int | tuple[int, ...] = 1, dilation: int = 1,
    groups: int = 1, padding: int | Pairs | None = None, tags: str = "full", **options: object,
) -> ConvWorkload:  # fmt: skip
    """A workload from short arguments; padding defaults to d(k-1)/2 on both sides."""
    rank = len(spatial)
    kernels = (kernel,) * rank if isinstance(kernel, int) else kernel
    strides = (stride,) * rank if isinstance(stride, int) else stride
    if padding is None:
        pairs: Pairs = tuple((dilation * (k - 1) // 2,) * 2 for k in kernels)
    else:
        pairs = ((padding, padding),) * rank if isinstance(padding, int) else padding
    return ConvWorkload(
        name, batch, spatial, *channels, kernels, strides, (dilation,) * rank, groups, pairs,
        tags=frozenset(tags.split()), **options,  # type: ignore[arg-type]
    )  # fmt: skip


_LAYERS = (
    _conv("lenet_1", 64, (28, 28), (1, 6), 5, tags="full quick"),
    _conv("lenet_2", 64, (12, 12), (6, 16), 5, tags="full quick"),
    _conv("cifar_3x3", 32, (32, 32), (32, 64), 3, dtypes=THREE_DTYPES),
    _conv("resnet_56", 8, (56, 56), (64, 64), 3),
    _conv("resnet_28", 8, (28, 28), (128, 128), 3, dtypes=THREE_DTYPES, tags="full quick"),
    _conv("resnet_14", 8, (14, 14), (256, 256), 3),
    _conv("resnet_7", 8, (7, 7), (512, 512), 3),
    _conv("stem_7x7s2", 4, (224, 224), (3, 64), 7, stride=2, dtypes=THREE_DTYPES),
    _conv("strided_3x3", 8, (56, 56), (64, 128), 3, stride=2, tags="full quick"),
    _conv("pointwise", 8, (56, 56), (64, 256), 1, dtypes=THREE_DTYPES, tags="full quick"),
    _conv("pointwise_s2", 8, (56, 56), (256, 512), 1, stride=2),
    _conv("dilated_3x3", 8, (28, 28), (128, 128), 3, dilation=2),
    _conv("depthwise_3x3", 8, (56, 56), (128, 128), 3, groups=128, dtypes=THREE_DTYPES),
    _conv("depthwise_3x3s2", 8, (56, 56), (128, 128), 3, stride=2, groups=128),
    _conv("depthwise_7x7", 4, (28, 28), (192, 192), 7, groups=192, tags="full quick"),
    _conv("grouped_32", 8, (28, 28), (128, 128), 3, groups=32, dtypes=THREE_DTYPES),
)

_OTHER_USES = (
    _conv("transposed_3x3s2", 8, (28, 28), (128, 128), 3, kind="transposed", stride=2,
          padding=((1, 2), (1, 2))),
    _conv("dilated_1d", 16, (4096,), (64, 64), 3, dilation=8),
    _conv("volume_3d", 1, (32, 32, 32), (32, 32), 3),
    _conv("in_loop", 8, (28, 28), (128, 128), 3, kind="loop", layout="channels_first",
          passes=("forward",)),
    _conv("per_example", 8, (28, 28), (128, 128), 3, kind="per_example", passes=("kernel_grad",)),
)  # fmt: skip


def _pools(operation: Literal["max", "avg"]) -> tuple[PoolWorkload, ...]:
    shapes = (
        ("2x2s2_32", 32, 32, 64, 2, 2, 0, THREE_DTYPES),
        ("2x2s2_112", 8, 112, 64, 2, 2, 0, FLOAT32),
        ("3x3s2_112", 8, 112, 64, 3, 2, 1, FLOAT32),
        ("3x3s1_28", 8, 28, 192, 3, 1, 1, FLOAT32),
    )
    return tuple(
        PoolWorkload(
            f"{operation}_pool_{name}", operation, batch, (size, size), channels, (window,) * 2,
            (stride,) * 2, ((pad, pad),) * 2, dtypes=dtypes,
            tags=frozenset({"full", "quick"} if dtypes is THREE_DTYPES else {"full"}),
        )
        for name, batch, size, channels, window, stride, pad, dtypes in shapes
    )  # fmt: skip


_STEPS = (
    StepWorkload("lenet_step", 128, (28, 28), 1, tags=frozenset({"full", "quick"})),
    StepWorkload("vgg_small_step", 64, (32, 32), 3),
    StepWorkload("mobilenet_step", 16, (96, 96), 3),
    StepWorkload("convnext_step", 8, (128, 128), 3),
)

# Shapes of public reports of slow convolutions in JAX: github.com/jax-ml/jax/issues, by number.
# 26266 measures many sizes, of which this is one; those of 23783 are chosen here.
_REPORTS = (
    _conv("issue_13800", 32, (1024,), (512, 512), 5, groups=512, tags="reports"),
    _conv("issue_26266", 32, (1024,), (128, 128), 5, dilation=16, groups=128, tags="reports"),
    _conv("issue_23713", 1, (124, 124), (256, 256), 3, groups=256, tags="reports"),
    _conv("issue_31662", 1, (64, 64, 32), (64, 1), 3, kind="transposed", stride=2,
          padding=((1, 2),) * 3, dtypes=("float32", "bfloat16"), tags="reports"),
    _conv("issue_23783", 1, (256,), (513, 1), 1024, kind="transposed", stride=256, padding=1023,
          tags="reports"),
)  # fmt: skip

# Layers outside the list that the targets are about: sizes of public architectures (the papers'
# tables), at small batches and some odd image sizes.
_UNSEEN = tuple(
    _conv(*arguments, tags="unseen", **options)  # type: ignore[arg-type]
    for *arguments, options in (
        ("alexnet_conv1", 4, (224, 224), (3, 64), 11, {"stride": 4, "padding": 2}),
        ("alexnet_conv2", 4, (27, 27), (64, 192), 5, {}),
        ("vgg16_conv1_2", 1, (224, 224), (64, 64), 3, {}),
        ("vgg16_conv3_1", 2, (56, 56), (128, 256), 3, {}),
        ("vgg16_conv5_1", 4, (14, 14), (512, 512), 3, {}),
        ("resnet50_conv2_reduce", 4, (56, 56), (256, 64), 1, {}),
        ("resnet50_conv3_3x3s2", 4, (56, 56), (128, 128), 3, {"stride": 2}),
        ("resnet50_conv4_expand", 4, (14, 14), (256, 1024), 1, {}),
        ("resnet50_conv5_shortcut", 4, (14, 14), (1024, 2048), 1, {"stride": 2}),
        ("resnext50_conv2", 4, (56, 56), (128, 128), 3, {"groups": 32}),
        ("resnext50_conv4", 4, (14, 14), (512, 512), 3, {"groups": 32}),
        ("shufflenet_1x1", 8, (28, 28), (240, 240), 1, {"groups": 3}),
        ("inception_1x7", 8, (17, 17), (128, 192), (1, 7), {}),
        ("inception_7x1", 8, (17, 17), (128, 192), (7, 1), {}),
        ("inception_stem", 4, (149, 149), (32, 32), 3, {"padding": 0}),
        ("densenet_growth", 8, (28, 28), (128, 32), 3, {}),
        ("squeezenet_expand", 8, (55, 55), (16, 64), 3, {}),
        ("googlenet_5x5", 8, (28, 28), (16, 32), 5, {}),
        ("mobilenetv2_expand", 8, (56, 56), (24, 144), 1, {}),
        ("mobilenetv2_dw_s2", 8, (56, 56), (144, 144), 3, {"stride": 2, "groups": 144}),
        ("mobilenetv2_dw_7", 16, (7, 7), (960, 960), 3, {"groups": 960}),
        ("efficientnet_dw_5x5", 8, (28, 28), (240, 240), 5, {"groups": 240}),
        ("efficientnet_dw_5x5s2", 8, (57, 57), (144, 144), 5, {"stride": 2, "groups": 144}),
        ("efficientnet_stem", 8, (112, 112), (3, 32), 3, {"stride": 2}),
        ("convnext_patchify", 8, (224, 224), (3, 96), 4, {"stride": 4, "padding": 0}),
        ("convnext_downsample", 8, (56, 56), (96, 192), 2, {"stride": 2, "padding": 0}),
        ("convnext_dw_56", 4, (56, 56), (96, 96), 7, {"groups": 96}),
        ("convnext_dw_14", 8, (14, 14), (384, 384), 7, {"groups": 384}),
        ("vit_patchify", 8, (224, 224), (3, 192), 16, {"stride": 16, "padding": 0}),
        ("deeplab_rate12", 2, (33, 33), (256, 256), 3, {"dilation": 12}),
        ("unet_64", 1, (129, 129), (64, 64), 3, {}),
        ("superresolution_5x5", 1, (120, 90), (1, 64), 5, {}),
        ("edge_filter", 1, (321, 481), (3, 1), 3, {}),
        ("odd_channels", 4, (37, 41), (17, 23), 3, {}),
        ("deepspeech_conv1", 4, (700, 161), (1, 32), (20, 5), {"stride": 2, "padding": 0}),
        ("deepspeech_conv2", 4, (79, 341), (32, 32), (10, 5), {"stride": 2, "padding": 0}),
        ("wav2vec_conv1", 2, (16000,), (1, 512), 10, {"stride": 5, "padding": 0}),
        ("wav2vec_conv3", 2, (1599,), (512, 512), 3, {"stride": 2, "padding": 0}),
        ("wavenet_dilated", 4, (8000,), (32, 64), 2, {"dilation": 64, "padding": 0}),
        ("conformer_dw", 8, (400,), (256, 256), 31, {"groups": 256}),
        ("text_cnn", 32, (64,), (300, 100), 5, {"padding": 0}),
        ("c3d_conv2", 1, (16, 56, 56), (64, 128), 3, {}),
        ("r2plus1d_temporal", 2, (16, 28, 28), (144, 64), (3, 1, 1), {}),
        ("x3d_dw", 2, (8, 28, 28), (108, 108), 3, {"groups": 108}),
    )
)

WORKLOADS: tuple[Workload, ...] = (
    *_LAYERS, *_OTHER_USES, *_pools("max"), *_pools("avg"), *_STEPS, *_REPORTS, *_UNSEEN,
)  # fmt: skip


def select(
    tag: str = "full", pattern: str = "", workloads: Iterable[Workload] = WORKLOADS
) -> tuple[Workload, ...]:
    """The workloads with `tag` (`"all"`: every one) whose name matches the regex `pattern`."""
    return tuple(w for w in workloads if (tag == "all" or tag in w.tags) and re.search(pattern, w.name))
