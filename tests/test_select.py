"""The ladder of "auto" on a CPU: shapes on both sides of every rule, and what no rule may do."""

from typing import Any, TypeAlias

import jax
import numpy as np
import pytest
from jax import export

import jaxconv
from jaxconv._problem import Pass

# x, kernel, options, and the algorithm of all passes or of forward, input and kernel gradient.
CHOICES = [
    ((8, 28, 28, 128), (3, 3, 128, 128), {}, "winograd"),
    ((8, 28, 28, 13), (3, 3, 13, 13), {}, "outer"),
    ((8, 28, 28, 17), (3, 3, 17, 17), {}, "outer"),
    ((8, 64, 64, 4), (3, 3, 4, 16), {}, ("outer", "banded", "outer")),
    ((8, 66, 66, 4), (3, 3, 4, 16), {}, ("outer", "banded", "gemm")),
    ((8, 28, 28, 17), (3, 3, 17, 24), {}, ("outer", "outer", "gemm")),
    ((8, 28, 28, 18), (3, 3, 18, 18), {}, ("outer", "outer", "winograd")),
    ((8, 28, 28, 16), (3, 3, 16, 31), {}, ("outer", "outer", "gemm")),
    ((8, 28, 28, 16), (3, 3, 16, 32), {}, ("outer", "outer", "winograd")),
    ((8, 28, 28, 24), (3, 3, 24, 32), {}, "winograd"),
    ((4, 8000, 32), (2, 32, 64), {}, "winograd"),
    ((8, 28, 28, 12), (3, 3, 12, 12), {}, "outer"),
    ((8, 28, 28, 4), (2, 2, 4, 32), {}, ("outer", "gemm", "outer")),
    ((8, 28, 28, 4), (2, 2, 4, 33), {}, ("outer", "gemm", "gemm")),
    ((8, 28, 28, 48), (3, 3, 48, 12), {}, ("gemm", "outer", "gemm")),
    ((8, 28, 28, 12), (2, 2, 12, 12), {"strides": 2}, "gemm"),
    # Few outputs, and of few products.
    ((1, 7, 7, 4), (3, 3, 4, 17), {}, ("outer", "gemm", "gemm")),
    ((1, 7, 7, 4), (3, 3, 4, 18), {}, "gemm"),
    # Windows that tile the input: shallow products of many outputs.
    ((8, 32, 32, 8), (2, 2, 8, 12), {"strides": 2}, ("outer", "gemm", "gemm")),
    ((7, 32, 32, 8), (2, 2, 8, 12), {"strides": 2}, "gemm"),
    ((8, 32, 32, 9), (2, 2, 9, 12), {"strides": 2}, "gemm"),
    ((16, 28, 28, 8), (3, 3, 8, 8), {"strides": 2}, "outer"),
    ((16, 28, 28, 8), (3, 3, 8, 5), {"strides": 2}, ("outer", "outer", "gemm")),
    ((16, 28, 28, 8), (3, 3, 8, 24), {"strides": 2}, "outer"),
    ((16, 28, 28, 8), (3, 3, 8, 26), {"strides": 2}, ("outer", "gemm", "outer")),
    ((32, 28, 28, 26), (7, 7, 26, 20), {"strides": 3}, ("gemm", "outer", "gemm")),
    ((32, 28, 28, 26), (7, 8, 26, 20), {"strides": 3}, ("gemm", "gemm", "gemm")),
    ((8, 28, 28, 128), (3, 3, 128, 128), {"precision": "highest"}, "gemm"),
    ((1, 4, 4, 128), (3, 3, 128, 128), {}, ("gemm", "gemm", "direct")),
    ((1, 10, 10, 128), (3, 3, 128, 128), {}, "gemm"),
    ((1, 16, 16, 64), (3, 3, 64, 64), {}, "gemm"),
    ((1, 17, 17, 64), (3, 3, 64, 64), {}, "winograd"),
    ((1, 450, 128), (17, 128, 128), {}, "banded"),
    ((1, 720, 128), (17, 128, 128), {}, "winograd"),
    ((1, 450, 128), (16, 128, 128), {}, "winograd"),
    # Lines in pieces of taps, and in one.
    ((4, 200, 33), (9, 33, 33), {}, "winograd"),
    ((4, 200, 31), (9, 31, 31), {}, "gemm"),
    ((8, 100, 128), (5, 128, 128), {}, "gemm"),
    ((8, 100, 128), (6, 128, 128), {}, "winograd"),
    # Two axes of three taps, and more channels than outer products take.
    ((8, 28, 28, 16), (3, 3, 16, 64), {}, "winograd"),
    ((8, 28, 28, 13), (3, 3, 13, 64), {}, "gemm"),
    ((8, 28, 28, 18), (2, 2, 18, 64), {}, "gemm"),
    ((8, 800, 22), (3, 22, 64), {}, "gemm"),
    ((0, 28, 28, 64), (3, 3, 64, 64), {}, "gemm"),
    ((8, 7, 7, 192), (5, 5, 192, 384), {"strides": 2}, "direct"),
    ((8, 11, 11, 192), (5, 5, 192, 384), {"strides": 2, "padding": "VALID"}, "gemm"),
    ((8, 28, 28, 128), (3, 3, 128, 128), {"strides": 2}, "gemm"),
    ((8, 14, 14, 256), (3, 3, 256, 512), {"strides": 2}, ("gemm", "gemm", "direct")),
    ((8, 28, 28, 128), (5, 5, 128, 128), {"strides": 2}, "winograd"),
    # Strided: products saved for fewer channels, or for a quarter of the output's.
    ((8, 56, 56, 42), (7, 7, 42, 42), {"strides": 2}, "winograd"),
    ((8, 56, 56, 24), (7, 7, 24, 32), {"strides": 2}, ("gemm", "winograd", "gemm")),
    ((8, 56, 56, 64), (7, 7, 64, 255), {"strides": 2}, "winograd"),
    ((8, 56, 56, 64), (7, 7, 64, 256), {"strides": 2}, "gemm"),
    # Many taps in each phase, for the tiles that share the transforms of the kernel.
    ((1, 28, 28, 64), (8, 8, 64, 64), {"strides": 2}, "winograd"),
    ((1, 28, 28, 64), (9, 9, 64, 64), {"strides": 2}, "gemm"),
    ((2, 28, 28, 64), (9, 9, 64, 64), {"strides": 2}, "winograd"),
    ((8, 28, 28, 128), (7, 7, 128, 128), {}, "winograd"),
    ((8, 1024, 64), (3, 64, 64), {}, "winograd"),
    ((8, 28, 28, 128), (1, 1, 128, 256), {}, "gemm"),
    ((8, 224, 224, 3), (7, 7, 3, 64), {"strides": 2}, ("outer", "gemm", "gemm")),
    ((8, 96, 96, 3), (3, 3, 3, 64), {"strides": 2}, ("outer", "gemm", "gemm")),
    ((8, 28, 28, 1), (5, 5, 1, 4), {}, ("outer", "banded", "gemm")),
    ((8, 28, 28, 1), (4, 4, 1, 8), {}, ("outer", "banded", "outer")),
    ((16, 28, 28, 1), (5, 5, 1, 8), {"strides": 2}, ("outer", "gemm", "outer")),
    ((16, 28, 28, 1), (5, 5, 1, 17), {"strides": 2}, ("outer", "gemm", "gemm")),
    ((8, 16, 16, 16, 1), (5, 5, 5, 1, 8), {}, ("outer", "banded", "outer")),
    ((8, 16, 16, 16, 1), (5, 5, 5, 1, 16), {}, ("outer", "banded", "outer")),
    ((8, 28, 28, 1), (3, 3, 1, 64), {}, ("outer", "gemm", "gemm")),
    ((8, 4000, 1), (3, 1, 4), {}, ("depthwise", "banded", "gemm")),
    ((8, 28, 28, 1), (5, 5, 1, 32), {}, ("outer", "banded", "gemm")),
    ((8, 28, 28, 1), (7, 7, 1, 64), {}, ("outer", "banded", "banded")),
    ((8, 28, 28, 2), (5, 5, 2, 128), {}, ("outer", "gemm", "gemm")),
    ((16, 28, 28, 2), (5, 5, 2, 64), {"strides": 2}, ("outer", "gemm", "gemm")),
    ((8, 1000, 1), (9, 1, 16), {}, ("outer", "banded", "banded")),
    # Few outputs, and outputs times taps, are patches times matrix.
    ((8, 14, 14, 6), (5, 5, 6, 16), {}, "gemm"),
    ((8, 14, 14, 6), (5, 6, 6, 16), {}, "outer"),
    ((10, 14, 14, 6), (3, 3, 6, 16), {}, "gemm"),
    ((11, 14, 14, 6), (3, 3, 6, 16), {}, "outer"),
    ((2, 28, 28, 1), (3, 3, 1, 64), {}, "gemm"),
    ((3, 28, 28, 1), (3, 3, 1, 64), {}, ("outer", "gemm", "gemm")),
    # Kernel gradients of few channels in large patches, and of windows that overlap much.
    ((8, 28, 28, 4), (5, 5, 4, 12), {}, "outer"),
    ((2, 64, 256, 4), (5, 5, 4, 12), {}, "outer"),
    ((2, 64, 257, 4), (5, 5, 4, 12), {}, ("outer", "outer", "gemm")),
    ((8, 28, 28, 4), (5, 5, 4, 17), {}, ("outer", "banded", "gemm")),
    ((8, 28, 28, 12), (5, 5, 12, 4), {}, "outer"),
    ((8, 28, 28, 12), (4, 4, 12, 3), {}, ("banded", "outer", "gemm")),
    ((8, 28, 28, 6), (4, 4, 6, 6), {}, ("outer", "outer", "gemm")),
    ((8, 28, 28, 3), (7, 7, 3, 64), {}, ("outer", "banded", "banded")),
    ((8, 28, 28, 3), (8, 8, 3, 64), {"strides": 2}, ("outer", "gemm", "banded")),
    # Where x has many more channels than y, patches of y are thin.
    ((8, 28, 28, 64), (3, 3, 64, 1), {}, ("gemm", "outer", "gemm")),
    ((8, 56, 56, 64), (3, 3, 64, 1), {"strides": 2}, ("depthwise", "outer", "gemm")),
    ((8, 28, 28, 32), (5, 5, 32, 6), {}, ("gemm", "outer", "gemm")),
    ((8, 28, 28, 24), (5, 5, 24, 6), {}, ("gemm", "outer", "gemm")),
    ((1, 16000, 64), (4, 64, 4), {"strides": 2}, ("gemm", "outer", "gemm")),
    # Long rows of taps on images, whose neighbours share most of their patches.
    ((1, 64, 64, 95), (9, 7, 95, 3), {}, ("banded", "outer", "banded")),
    ((1, 64, 64, 96), (9, 7, 96, 3), {}, ("gemm", "outer", "banded")),
    ((1, 64, 64, 95), (9, 6, 95, 3), {}, ("gemm", "outer", "gemm")),
    ((8, 1000, 64), (9, 64, 3), {}, ("gemm", "outer", "banded")),
    # One output of a strided layer, 25 taps at most; tiles of the last axis are read in place.
    ((8, 56, 56, 64), (5, 5, 64, 1), {"strides": 2}, ("depthwise", "outer", "gemm")),
    ((8, 56, 56, 64), (5, 6, 64, 1), {"strides": 2}, ("gemm", "outer", "gemm")),
    ((8, 56, 56, 64), (2, 2, 64, 1), {"strides": 2}, ("depthwise", "gemm", "gemm")),
    ((32, 1000, 64), (2, 64, 1), {"strides": 2}, "gemm"),
    ((2, 32, 42, 128), (5, 5, 64, 10), {"groups": 2, "strides": 2}, ("gemm", "outer", "grouped")),
    # A full convolution meets much padding, and outer products all of it.
    ((64, 12, 12, 6), (5, 5, 6, 16), {"padding": "VALID"}, ("outer", "banded", "outer")),
    ((64, 14, 14, 8), (3, 3, 8, 8), {"padding": "VALID"}, "outer"),
    ((64, 10, 14, 6), (5, 9, 6, 4), {"padding": [(4, 4), (8, 8)]}, ("banded", "outer", "outer")),
    ((640, 14, 14, 8), (7, 7, 8, 16), {"padding": "VALID", "kernel_dilation": 2}, ("outer", "gemm", "outer")),
    ((8, 224, 224, 3), (4, 4, 3, 96), {"strides": 4}, "gemm"),
    ((8, 56, 56, 64), (3, 3, 1, 64), {"groups": 64}, "depthwise"),
    ((8, 56, 56, 64), (3, 3, 4, 64), {"groups": 16}, "outer"),
    ((8, 28, 28, 64), (5, 5, 32, 64), {"groups": 2}, "winograd"),
    # Pointwise groups: outputs, products of channels and channels for each lane.
    ((8, 56, 56, 64), (1, 1, 4, 64), {"groups": 16}, "outer"),
    ((8, 8, 8, 384), (1, 1, 24, 384), {"groups": 16}, "outer"),
    ((8, 7, 8, 384), (1, 1, 24, 384), {"groups": 16}, "gemm"),
    ((8, 28, 28, 192), (1, 1, 48, 192), {"groups": 4}, "outer"),
    ((8, 28, 28, 196), (1, 1, 49, 196), {"groups": 4}, "gemm"),
    ((8, 28, 28, 192), (1, 1, 48, 92), {"groups": 4}, ("gemm", "outer", "outer")),
    ((8, 28, 28, 64), (1, 1, 8, 1024), {"groups": 8}, "outer"),
    ((8, 28, 28, 64), (1, 1, 8, 1032), {"groups": 8}, ("outer", "gemm", "outer")),
    ((8, 28, 28, 64), (1, 1, 1, 128), {"groups": 64}, "depthwise"),
    # On narrow maps partial sums of their kernel gradients would be many times x.
    ((1, 2048, 1, 384), (1, 1, 24, 384), {"groups": 16}, ("outer", "outer", "gemm")),
    # Kernel gradients of many groups: their number, products and partial sums.
    ((8, 28, 28, 256), (3, 3, 32, 256), {"groups": 8, "strides": 2}, ("gemm", "gemm", "outer")),
    ((8, 28, 28, 224), (3, 3, 32, 224), {"groups": 7, "strides": 2}, "gemm"),
    ((8, 28, 28, 256), (3, 3, 32, 264), {"groups": 8, "strides": 2}, "gemm"),
    ((4, 14, 14, 256), (3, 3, 32, 256), {"groups": 8, "strides": 2}, ("gemm", "gemm", "outer")),
    ((4, 14, 15, 256), (3, 3, 32, 256), {"groups": 8, "strides": 2}, ("grouped", "gemm", "outer")),
    # Kernel gradients of groups: few products in each partial sum, many bytes of these, few outputs.
    ((1, 7, 7, 288), (5, 5, 24, 288), {"groups": 12}, "gemm"),
    ((4, 7, 7, 288), (5, 5, 24, 288), {"groups": 12}, ("winograd", "winograd", "outer")),
    ((1, 56, 56, 256), (3, 3, 8, 1024), {"groups": 32}, ("outer", "outer", "gemm")),
    ((1, 40, 40, 256), (3, 3, 8, 1024), {"groups": 32}, "outer"),
    ((8, 28, 28, 512), (3, 3, 8, 512), {"groups": 64}, "outer"),
    ((1, 10, 10, 28), (3, 3, 7, 36), {"groups": 4}, ("outer", "outer", "grouped")),
    ((1, 10, 10, 32), (3, 3, 8, 32), {"groups": 4}, ("outer", "outer", "gemm")),
    ((1, 24, 24, 64), (3, 3, 16, 128), {"groups": 4, "strides": 2}, ("outer", "outer", "gemm")),
    ((2, 24, 24, 64), (3, 3, 16, 128), {"groups": 4, "strides": 2}, ("outer", "outer", "grouped")),
    # One channel for several lanes.
    ((8, 28, 28, 32), (3, 3, 1, 128), {"groups": 32}, ("outer", "outer", "depthwise")),
    ((8, 28, 28, 32), (3, 3, 1, 96), {"groups": 32}, ("depthwise", "outer", "depthwise")),
    ((8, 64, 64, 32), (7, 3, 2, 32), {"groups": 16}, ("outer", "outer", "grouped")),
    ((8, 27, 27, 96), (5, 5, 48, 256), {"groups": 2}, "winograd"),
    ((8, 28, 28, 168), (3, 3, 14, 168), {"groups": 12}, ("outer", "gemm", "outer")),
    # Many lanes that share vectors, of two groups, of odd lanes, and in whole vectors.
    ((8, 64, 64), (2, 32, 40), {"groups": 2}, ("gemm", "gemm", "grouped")),
    ((8, 64, 64), (2, 32, 64), {"groups": 2}, ("grouped", "gemm", "grouped")),
    ((8, 64, 60), (3, 12, 270), {"groups": 5}, ("gemm", "gemm", "grouped")),
    ((8, 64, 60), (3, 12, 280), {"groups": 5}, ("grouped", "gemm", "grouped")),
    # Lanes of groups that fill no vector, for fewer channels, groups or terms, and forward.
    ((8, 28, 28, 168), (3, 3, 14, 156), {"groups": 12}, "outer"),
    ((8, 28, 28, 56), (3, 3, 14, 56), {"groups": 4}, ("outer", "outer", "grouped")),
    ((8, 28, 28, 25), (2, 2, 5, 30), {"groups": 5}, ("outer", "gemm", "grouped")),
    ((8, 28, 28, 25), (2, 2, 5, 25), {"groups": 5}, ("outer", "outer", "grouped")),
    ((8, 28, 28, 144), (2, 2, 9, 48), {"groups": 16}, ("outer", "outer", "outer")),
    ((8, 28, 28, 160), (2, 2, 10, 48), {"groups": 16}, ("gemm", "outer", "outer")),
    ((8, 28, 28, 192), (3, 3, 16, 192), {"groups": 12}, "outer"),
    ((8, 28, 28, 128), (3, 3, 64, 128), {"groups": 2, "strides": 2}, "gemm"),
    # Groups worth a turn each, by their products and by the patches of their thinner side.
    ((1, 720, 192), (5, 48, 192), {"groups": 4, "strides": 2}, ("grouped", "gemm", "grouped")),
    ((1, 740, 192), (5, 48, 192), {"groups": 4, "strides": 2}, "gemm"),
    ((8, 28, 28, 98), (1, 3, 49, 98), {"groups": 2, "strides": 3}, ("grouped", "gemm", "grouped")),
    ((8, 28, 28, 100), (1, 3, 50, 100), {"groups": 2, "strides": 3}, "gemm"),
    ((4, 500, 768), (128, 48, 768), {"groups": 16, "padding": [(64, 63)]}, "banded"),
    # Groups that Winograd saves enough of.
    ((8, 28, 28, 144), (3, 3, 24, 144), {"groups": 6}, "winograd"),
    ((8, 13, 13, 88), (3, 3, 22, 88), {"groups": 4}, ("outer", "outer", "winograd")),
    # Few groups that sum over many channels for each lane.
    ((8, 56, 56, 64), (3, 3, 16, 24), {"groups": 4}, ("outer", "outer", "grouped")),
    ((8, 56, 56, 64), (3, 3, 16, 20), {"groups": 4}, ("banded", "outer", "grouped")),
    ((8, 48, 48, 4), (3, 3, 2, 160), {"groups": 2, "strides": 2}, ("outer", "gemm", "grouped")),
    ((8, 56, 56, 64), (3, 3, 8, 16), {"groups": 8}, "outer"),
    ((8, 28, 28, 240), (1, 1, 80, 240), {"groups": 3}, "gemm"),
    ((8, 17, 17, 20), (5, 5, 10, 126), {"groups": 2, "strides": 2}, ("outer", "gemm", "gemm")),
    ((8, 17, 17, 20), (5, 5, 10, 128), {"groups": 2, "strides": 2}, "gemm"),
    ((1, 512, 512, 1), (5, 5, 1, 1), {}, "depthwise"),
    ((1, 512, 512, 1), (65, 65, 1, 1), {}, "fft"),
    ((1, 256, 256, 1), (31, 31, 1, 16), {}, "fft"),
    ((1, 256, 256, 1), (31, 31, 1, 8), {}, "fft"),
    ((1, 512, 512, 1), (65, 65, 1, 1), {"precision": "highest"}, "depthwise"),
    ((2, 64, 64, 16), (33, 33, 16, 16), {}, "fft"),
    ((2, 64, 64, 16), (5, 5, 16, 16), {}, "outer"),
    ((2, 64, 64, 24), (5, 5, 24, 24), {}, "winograd"),
    ((256, 14, 14, 256), (3, 3, 256, 256), {}, "winograd"),
    ((8, 28, 28, 64), (25, 25, 64, 64), {}, "fft"),
    ((8, 28, 28, 64), (9, 9, 64, 64), {}, "winograd"),
    ((16, 14, 14, 64), (9, 9, 64, 256), {}, ("winograd", "gemm", "gemm")),
    ((2, 2, 40, 64), (3, 3, 64, 64), {"padding": "VALID"}, "gemm"),
    ((2, 40, 2, 64), (3, 3, 64, 64), {"padding": "VALID"}, "gemm"),
    ((0, 28, 28, 64), (3, 3, 64, 64), {}, "gemm"),
    ((4, 28, 1, 256), (3, 3, 16, 256), {"groups": 16, "padding": "VALID"}, ("outer", "outer", "gemm")),
    ((4, 4096, 8), (511, 8, 8), {}, "fft"),
    ((4, 4096, 8), (31, 8, 8), {}, ("outer", "outer", "banded")),
    ((4, 4096, 8), (63, 8, 8), {}, "banded"),
    ((4, 4096, 8), (100, 8, 8), {}, "fft"),
    ((4, 4096, 24), (63, 24, 24), {}, "banded"),
    ((4, 2000, 64), (3, 64, 64), {}, "winograd"),
    ((4, 1500, 64), (3, 64, 64), {}, "gemm"),
    ((4, 4000, 96), (20, 96, 96), {}, "winograd"),
    ((4, 4000, 96), (40, 96, 96), {}, "banded"),
    ((4, 4000, 160), (40, 160, 96), {}, "gemm"),
    ((8, 28, 28, 20), (7, 7, 20, 20), {}, ("outer", "outer", "gemm")),
    ((8, 28, 28, 16), (9, 9, 16, 16), {}, "fft"),
    ((8, 28, 28, 64), (11, 11, 64, 64), {}, "winograd"),
    ((8, 28, 28, 64), (12, 12, 64, 64), {}, "fft"),
    ((8, 28, 28, 64), (17, 17, 64, 64), {}, "fft"),
    ((8, 56, 56, 64), (7, 7, 64, 64), {"strides": 2}, "winograd"),
    ((1, 64, 64, 16), (9, 9, 16, 16), {}, "outer"),
    ((8, 56, 56, 64), (1, 7, 64, 64), {}, "winograd"),
    ((4, 56, 56, 64), (1, 3, 64, 64), {}, "winograd"),
    ((2, 56, 56, 64), (1, 3, 64, 64), {}, "gemm"),
    ((8, 56, 56, 64), (7, 1, 64, 64), {}, "gemm"),
    ((1, 16, 14, 14, 256), (3, 1, 1, 256, 256), {}, "winograd"),
    # Padding so wide that tap by tap less is multiplied, copies and sums included, than by Winograd or gemm.
    ((2, 33, 33, 256), (3, 3, 256, 256), {"kernel_dilation": 13}, "winograd"),
    ((2, 33, 33, 256), (3, 3, 256, 256), {"kernel_dilation": 14}, "direct"),
    ((2, 33, 33, 24), (3, 3, 24, 24), {"kernel_dilation": 18}, ("outer", "outer", "direct")),
    ((2, 33, 33, 28), (3, 3, 28, 28), {"kernel_dilation": 18}, "direct"),
    ((1, 9, 11, 128), (3, 3, 128, 128), {"kernel_dilation": 6}, ("gemm", "gemm", "direct")),
    ((1, 10, 10, 128), (3, 3, 128, 128), {"kernel_dilation": 6}, "direct"),
    ((1, 14, 14, 64), (8, 8, 64, 64), {"kernel_dilation": 3}, "direct"),
    ((1, 14, 14, 64), (9, 8, 64, 64), {"kernel_dilation": 3}, "gemm"),
    ((2, 33, 33, 128), (3, 3, 64, 128), {"kernel_dilation": 24, "groups": 2}, ("direct", "direct", "gemm")),
    # Without the taps that meet none there is one left.
    ((2, 14, 14, 256), (3, 3, 256, 64), {"kernel_dilation": 14}, "gemm"),
    # Under padding wider than the kernel patches of y are fewer than outputs, and Winograd transforms all.
    ((8, 20, 20, 128), (3, 3, 128, 128), {"padding": 6}, "winograd"),
    ((8, 20, 20, 128), (3, 3, 128, 128), {"padding": 8}, "gemm"),
    # The same where patches of y are so few that the kernel would outweigh them, and patches of x stay.
    ((2, 7, 7, 384), (4, 4, 384, 384), {"kernel_dilation": 3, "padding": 9}, ("direct", "direct", "gemm")),
    ((1, 7, 7, 384), (4, 4, 384, 384), {"kernel_dilation": 3, "padding": 9}, "direct"),
    # Of single pixels the kernel, which gemm would transpose, is most of all.
    ((16, 1, 1, 512), (7, 7, 512, 256), {"padding": 6}, ("direct", "direct", "gemm")),
    ((128, 1, 1, 512), (7, 7, 512, 256), {"padding": 6}, "gemm"),
    # FFT spares products of a few samples as little as Winograd does.
    ((8, 7, 7, 64), (15, 15, 64, 64), {"padding": 14}, "gemm"),
    ((8, 28, 28, 64), (15, 15, 64, 64), {"padding": 7}, "fft"),
    # Kernel gradients of large groups: up to so many products they go block by block.
    ((2, 112, 112, 128), (7, 7, 16, 128), {"groups": 8}, ("gemm", "gemm", "outer")),
    ((2, 112, 112, 136), (7, 7, 17, 136), {"groups": 8}, ("gemm", "gemm", "gemm")),
    # With many channels on both sides a matrix product pays for its patches, and compiles sooner.
    ((16, 28, 28, 16), (3, 3, 16, 32), {"strides": 2}, ("outer", "gemm", "gemm")),
    ((8, 28, 28, 16), (3, 3, 16, 40), {"strides": 2}, "gemm"),
    ((8, 28, 28, 48), (3, 3, 48, 48), {"strides": 2}, "gemm"),
    ((8, 224, 224, 3), (11, 11, 3, 64), {"strides": 4}, ("outer", "gemm", "gemm")),
    ((1, 64, 64, 2048), (63, 63, 2048, 2048), {}, "gemm"),
    # Long strides of windows that overlap: fewer copies, in whole blocks, of arrays larger than the kernel.
    ((1, 40, 40, 21), (16, 16, 21, 21), {"input_dilation": 8, "padding": 11}, "space_to_depth"),
    ((8, 56, 56, 32), (8, 8, 32, 32), {"strides": 4}, "space_to_depth"),
    ((8, 56, 56, 32), (6, 6, 32, 32), {"strides": 3}, "space_to_depth"),
    ((8, 56, 56, 32), (4, 4, 32, 32), {"strides": 2}, ("gemm", "winograd", "gemm")),
    ((8, 56, 56, 32), (5, 5, 32, 32), {"strides": 4}, "gemm"),
    ((2, 56, 56, 256), (8, 8, 256, 256), {"strides": 4}, "gemm"),
    ((8, 56, 56, 32), (8, 8, 16, 32), {"strides": 4, "groups": 2}, ("gemm", "outer", "gemm")),
    ((2, 4096, 24), (25, 24, 24), {"strides": 4}, "space_to_depth"),
    ((8, 4000, 32), (8, 32, 64), {"strides": 4}, "gemm"),
]  # fmt: skip

# Beside a last-level cache of 480 MB Winograd has more to save, but not in groups, with strides or in pieces.
LARGE_CACHE_CHOICES = [
    ((8, 28, 28, 26), (3, 3, 26, 26), {}, "gemm"),
    ((8, 28, 28, 28), (3, 3, 28, 28), {}, "winograd"),
    ((8, 1024, 119), (3, 119, 119), {}, "gemm"),
    ((8, 1024, 121), (3, 121, 121), {}, "winograd"),
    ((8, 28, 28, 64), (1, 3, 64, 64), {}, "gemm"),
    ((8, 28, 28, 144), (3, 3, 24, 144), {"groups": 6}, "winograd"),
    ((8, 28, 28, 128), (5, 5, 128, 128), {"strides": 2}, "winograd"),
    ((4, 200, 33), (9, 33, 33), {}, "winograd"),
]  # fmt: skip
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the ladder of a CPU")
Names: TypeAlias = str | tuple[str, str, str]


def check_choice(x: Any, kernel: Any, options: dict[str, Any], name: Names) -> None:
    plan = jaxconv.explain(x, kernel, **options)
    names = (name,) * len(Pass) if isinstance(name, str) else name
    assert tuple(p.algorithm for p in plan.passes) == names


@on_cpu
@pytest.mark.parametrize(("x", "kernel", "options", "name"), CHOICES)
def test_choice(x: Any, kernel: Any, options: dict[str, Any], name: Names) -> None:
    check_choice(x, kernel, options, name)


@on_cpu
@pytest.mark.usefixtures("large_caches")
@pytest.mark.parametrize(("x", "kernel", "options", "name"), LARGE_CACHE_CHOICES)
def test_choice_beside_a_large_cache(x: Any, kernel: Any, options: dict[str, Any], name: Names) -> None:
    check_choice(x, kernel, options, name)


@on_cpu
def test_integers_take_no_algorithm_of_fractions() -> None:
    for x, kernel, options, _ in CHOICES:
        plan = jaxconv.explain(x, kernel, dtype="int8", **options)
        assert not {p.algorithm for p in plan.passes} & {"winograd", "fft", "xla"}


def test_a_large_kernel_exports_with_a_symbolic_batch() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 90, 90, 1)).astype("f4"), rng.normal(size=(31, 31, 1, 1)).astype("f4")
    assert jaxconv.explain((1, 90, 90, 1), w.shape).passes[0].algorithm == "fft"
    (batch,) = export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    conv = jax.jit(lambda x: jaxconv.conv(x, w))
    exported = export.export(conv)(shape)
    expected = jaxconv.conv(x.astype("f8"), w.astype("f8"), algorithm="direct")
    np.testing.assert_allclose(exported.call(x), expected, rtol=0, atol=1e-3)
