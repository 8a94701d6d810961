"""Named layer shapes: the one list that tests, the selector's figures and the benchmark share. Pure data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from ._workload import (
    FLOAT32,
    THREE_DTYPES,
    PoolWorkload,
    StepWorkload,
    Workload,
    conv_workload,
)

_LAYERS = (
    conv_workload("lenet_1", 64, (28, 28), (1, 6), 5, tags="full quick"),
    conv_workload("lenet_2", 64, (12, 12), (6, 16), 5, tags="full quick"),
    conv_workload("cifar_3x3", 32, (32, 32), (32, 64), 3, dtypes=THREE_DTYPES),
    conv_workload("resnet_56", 8, (56, 56), (64, 64), 3),
    conv_workload("resnet_28", 8, (28, 28), (128, 128), 3, dtypes=THREE_DTYPES, tags="full quick"),
    conv_workload("resnet_14", 8, (14, 14), (256, 256), 3),
    conv_workload("resnet_7", 8, (7, 7), (512, 512), 3),
    conv_workload("stem_7x7s2", 4, (224, 224), (3, 64), 7, stride=2, dtypes=THREE_DTYPES),
    conv_workload("strided_3x3", 8, (56, 56), (64, 128), 3, stride=2, tags="full quick"),
    conv_workload("pointwise", 8, (56, 56), (64, 256), 1, dtypes=THREE_DTYPES, tags="full quick"),
    conv_workload("pointwise_s2", 8, (56, 56), (256, 512), 1, stride=2),
    conv_workload("dilated_3x3", 8, (28, 28), (128, 128), 3, dilation=2),
    conv_workload("depthwise_3x3", 8, (56, 56), (128, 128), 3, groups=128, dtypes=THREE_DTYPES),
    conv_workload("depthwise_3x3s2", 8, (56, 56), (128, 128), 3, stride=2, groups=128),
    conv_workload("depthwise_7x7", 4, (28, 28), (192, 192), 7, groups=192, tags="full quick"),
    conv_workload("grouped_32", 8, (28, 28), (128, 128), 3, groups=32, dtypes=THREE_DTYPES),
)

_OTHER_USES = (
    conv_workload("transposed_3x3s2", 8, (28, 28), (128, 128), 3, kind="transposed", stride=2,
          padding=((1, 2), (1, 2))),
    conv_workload("dilated_1d", 16, (4096,), (64, 64), 3, dilation=8),
    conv_workload("volume_3d", 1, (32, 32, 32), (32, 32), 3),
    conv_workload("in_loop", 8, (28, 28), (128, 128), 3, kind="loop", layout="channels_first",
          passes=("forward",)),
    conv_workload("per_example", 8, (28, 28), (128, 128), 3, kind="per_example", passes=("kernel_grad",)),
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
    conv_workload("issue_13800", 32, (1024,), (512, 512), 5, groups=512, tags="reports"),
    conv_workload("issue_26266", 32, (1024,), (128, 128), 5, dilation=16, groups=128, tags="reports"),
    conv_workload("issue_23713", 1, (124, 124), (256, 256), 3, groups=256, tags="reports"),
    conv_workload("issue_31662", 1, (64, 64, 32), (64, 1), 3, kind="transposed", stride=2,
          padding=((1, 2),) * 3, dtypes=("float32", "bfloat16"), tags="reports"),
    conv_workload("issue_23783", 1, (256,), (513, 1), 1024, kind="transposed", stride=256, padding=1023,
          tags="reports"),
)  # fmt: skip

# Layers outside the list that the targets are about: sizes of public architectures (the papers'
# tables), at small batches and some odd image sizes.
_UNSEEN = tuple(
    conv_workload(*arguments, tags="unseen", **options)  # type: ignore[arg-type]
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

# More of them, chosen on 2026-11-26 when the algorithms were. Later changes that looked at some name them in
# `experiments/speed/README.md`.
_FRESH = tuple(
    conv_workload(*arguments, tags="fresh", **options)  # type: ignore[arg-type]
    for *arguments, options in (
        ("hifigan_k11d5", 4, (4096,), (64, 64), 11, {"dilation": 5}),
        ("hifigan_up", 4, (256,), (256, 128), 16,
         {"kind": "transposed", "stride": 8, "padding": ((11, 11),)}),
        ("tcn_k7d4", 8, (1024,), (128, 128), 7, {"dilation": 4}),
        ("whisper_conv1", 2, (3000,), (80, 384), 3, {}),
        ("quartznet_dw33", 8, (500,), (256, 256), 33, {"groups": 256}),
        ("convmixer_dw9", 8, (16, 16), (512, 512), 9, {"groups": 512}),
        ("replknet_dw13", 2, (56, 56), (128, 128), 13, {"groups": 128}),
        ("mnasnet_dw5s2", 8, (28, 28), (120, 120), 5, {"stride": 2, "groups": 120}),
        ("shufflenetv2_dw_s2", 8, (56, 56), (58, 58), 3, {"stride": 2, "groups": 58}),
        ("regnet_g24", 8, (28, 28), (144, 144), 3, {"groups": 6}),
        ("resnet18_conv4_3x3s2", 4, (28, 28), (128, 256), 3, {"stride": 2}),
        ("wideresnet_16", 8, (16, 16), (160, 160), 3, {}),
        ("stylegan_64", 2, (64, 64), (96, 96), 3, {}),
        ("yolo_stem", 2, (160, 160), (3, 32), 6, {"stride": 2, "padding": 2}),
        ("srresnet_9x9", 1, (96, 96), (3, 64), 9, {}),
        ("srresnet_9x9_out", 1, (96, 96), (64, 3), 9, {}),
        ("vggish_conv1", 8, (96, 64), (1, 64), 3, {}),
        ("pointnet_1x1", 8, (1024,), (64, 128), 1, {}),
        ("unet_up", 4, (32, 32), (128, 64), 2,
         {"kind": "transposed", "stride": 2, "padding": ((1, 1),) * 2}),
        ("capsnet_9x9s2", 8, (20, 20), (256, 64), 9, {"stride": 2, "padding": 0}),
        ("unet3d_24", 1, (24, 24, 24), (32, 64), 3, {}),
        ("i3d_stem", 1, (16, 112, 112), (3, 64), 7, {"stride": 2}),
    )
)  # fmt: skip

# The first and last layers of networks, and what makes images larger: many channels on one side, few on the
# other. Chosen on 2026-11-27, when the algorithms were.
_ENDS = tuple(
    conv_workload(*arguments, tags="ends", **options)  # type: ignore[arg-type]
    for *arguments, options in (
        ("dcgan_middle", 8, (16, 16), (128, 64), 4, {"kind": "transposed", "stride": 2, "padding": 2}),
        ("dcgan_last", 16, (32, 32), (64, 3), 4, {"kind": "transposed", "stride": 2, "padding": 2}),
        ("pix2pix_last", 1, (128, 128), (128, 3), 4, {"kind": "transposed", "stride": 2, "padding": 2}),
        ("wavegan_last", 4, (4096,), (64, 1), 25,
         {"kind": "transposed", "stride": 4, "padding": ((13, 14),)}),
        ("digits_decoder", 32, (14, 14), (32, 1), 3,
         {"kind": "transposed", "stride": 2, "padding": ((1, 2),) * 2}),
        ("fcn_upsample_8", 1, (40, 40), (21, 21), 16, {"kind": "transposed", "stride": 8, "padding": 11}),
        ("unet_head", 2, (128, 128), (64, 2), 3, {}),
        ("monodepth_head", 2, (96, 96), (32, 1), 3, {}),
        ("esrgan_last", 1, (128, 128), (64, 3), 3, {}),
        ("style_last", 1, (128, 128), (32, 3), 9, {}),
        ("vdsr_first", 1, (96, 96), (1, 64), 3, {}),
        ("patchgan_first", 4, (128, 128), (6, 64), 4, {"stride": 2, "padding": 1}),
        ("patchgan_last", 4, (31, 31), (512, 1), 4, {"padding": 1}),
        ("heatmaps_1x1", 4, (64, 64), (256, 17), 1, {}),
        ("tacotron_first", 8, (400,), (80, 512), 5, {}),
        ("tacotron_last", 8, (400,), (512, 80), 5, {}),
    )
)  # fmt: skip

# Maps of a few pixels, which VALID shrinks, short lines and kernels as large as their maps. Chosen on
# 2026-11-28, after the choice for such shapes was.
_SMALL = tuple(
    conv_workload(*arguments, tags="small", **options)  # type: ignore[arg-type]
    for *arguments, options in (
        ("lenet5_c5", 64, (5, 5), (16, 120), 5, {"padding": 0}),
        ("alexnet_fc6", 4, (6, 6), (256, 1024), 6, {"padding": 0}),
        ("fcn_fc6", 1, (14, 14), (256, 256), 7, {"padding": 0}),
        ("mask_head", 16, (14, 14), (256, 256), 3, {"padding": 0}),
        ("dqn_conv3", 32, (9, 9), (64, 64), 3, {"padding": 0}),
        ("aspp_rate6", 2, (17, 17), (256, 64), 3, {"padding": 0, "dilation": 6}),
        ("tdnn", 8, (100,), (512, 512), 3, {"padding": 0, "dilation": 3}),
        ("char_cnn", 32, (64,), (70, 256), 7, {"padding": 0}),
        ("lipnet_like", 2, (8, 7, 7), (96, 96), 3, {}),
        ("blur_21", 1, (256, 256), (1, 1), 21, {}),
        ("deblur_15", 1, (96, 96), (32, 3), 15, {}),
        ("large_kernel_11", 4, (14, 14), (64, 128), 11, {}),
    )
)  # fmt: skip

# Padding as wide as the maps or wider: high rates, long dilated lines, full convolutions of a few pixels, and
# steps that skip samples. Chosen on 2026-11-30, after the choice for such shapes was.
_WIDE = tuple(
    conv_workload(*arguments, tags="wide", **options)  # type: ignore[arg-type]
    for *arguments, options in (
        ("deeplab_33_rate18", 2, (33, 33), (256, 256), 3, {"dilation": 18}),
        ("deeplab_41_rate24", 1, (41, 41), (512, 128), 3, {"dilation": 24}),
        ("largefov_41_rate12", 1, (41, 41), (256, 512), 3, {"dilation": 12}),
        ("aspp_14_rate6", 4, (14, 14), (512, 256), 3, {"dilation": 6}),
        ("aspp_14_rate18", 4, (14, 14), (512, 256), 3, {"dilation": 18}),
        ("context_rate16", 1, (64, 64), (21, 21), 3, {"dilation": 16}),
        ("wavenet_d512", 4, (1000,), (64, 64), 3, {"dilation": 512}),
        ("tcn_d64", 8, (200,), (128, 128), 3, {"dilation": 64}),
        ("bytenet_d16", 8, (100,), (256, 256), 3, {"dilation": 16}),
        ("dcgan_first", 64, (1, 1), (100, 512), 4, {"kind": "transposed", "padding": 3}),
        ("deconvnet_fc6", 16, (1, 1), (512, 256), 7, {"kind": "transposed", "padding": 6}),
        ("strided_dilated", 8, (56, 56), (64, 64), 3, {"stride": 2, "dilation": 2}),
    )
)

# Inputs and outputs of more than 16 MB together, which no cache of a core holds. Chosen on 2026-11-30, after
# the rules for such arrays were made.
_LARGE = tuple(
    conv_workload(*arguments, tags="large", **options)  # type: ignore[arg-type]
    for *arguments, options in (
        ("resnet50_stem_b16", 16, (224, 224), (3, 64), 7, {"stride": 2}),
        ("srcnn_first", 4, (224, 224), (1, 64), 9, {}),
        ("vae_conv_out", 2, (64, 64), (512, 8), 3, {}),
        ("unet_up_2x2", 8, (56, 56), (128, 64), 2, {"kind": "transposed", "stride": 2, "padding": 0}),
        ("vnet_down", 2, (64, 64, 64), (16, 32), 2, {"stride": 2, "padding": 0}),
        ("resnext101_56", 8, (56, 56), (128, 128), 3, {"groups": 32}),
        ("regnetx_s2", 16, (56, 56), (96, 96), 3, {"groups": 6, "stride": 2}),
        ("convnext_dw_112", 4, (112, 112), (48, 48), 7, {"groups": 48}),
        ("efficientnet_dw_b16", 16, (28, 28), (240, 240), 5, {"groups": 240}),
        ("mobilenetv2_dw_112", 8, (112, 112), (96, 96), 3, {"groups": 96, "stride": 2}),
        ("strip_dw_1x21", 4, (64, 64), (256, 256), (1, 21), {"groups": 256}),
        ("x3d_dw_56", 1, (8, 56, 56), (108, 108), 3, {"groups": 108}),
    )
)  # fmt: skip

WORKLOADS: tuple[Workload, ...] = (
    *_LAYERS, *_OTHER_USES, *_pools("max"), *_pools("avg"), *_STEPS, *_REPORTS, *_UNSEEN, *_FRESH,
    *_ENDS, *_SMALL, *_WIDE, *_LARGE,
)  # fmt: skip


def select(
    tag: str = "full", pattern: str = "", workloads: Iterable[Workload] = WORKLOADS
) -> tuple[Workload, ...]:
    """The workloads with `tag` (`"all"`: every one) whose name matches the regex `pattern`."""
    return tuple(w for w in workloads if (tag == "all" or tag in w.tags) and re.search(pattern, w.name))
