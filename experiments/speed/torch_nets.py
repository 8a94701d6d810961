"""The four networks of `nets.py` in PyTorch, over the same named parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nets import CONVNEXT_DEPTH, CONVNEXT_STAGES, MOBILENET_BLOCKS, VGG_CHANNELS
from torch_tensors import channels_second, kernel_back, to_kernel, to_torch


class Network:
    """Layers by name over a dict of parameters; one method for each network's logits."""

    def __init__(self, arrays: dict[str, np.ndarray], device: str) -> None:
        self.parameters = {
            name: (to_kernel(a, False, device) if a.ndim == 4 else to_torch(a, device))
            for name, a in arrays.items()
        }
        for parameter in self.parameters.values():
            parameter.requires_grad_()

    def conv(self, name: str, x: Any, stride: int = 1, groups: int = 1) -> torch.Tensor:
        w = self.parameters[f"{name}_w"]
        pad = (w.shape[-1] - 1) // 2 if w.shape[-1] % 2 else 0
        return F.conv2d(x, w, self.parameters[f"{name}_b"], stride, pad, 1, groups)

    def dense(self, name: str, x: Any) -> torch.Tensor:
        return torch.addmm(self.parameters[f"{name}_b"], x, self.parameters[f"{name}_w"])

    def norm(self, name: str, x: Any) -> torch.Tensor:
        scale, shift = self.parameters[f"{name}_scale"], self.parameters[f"{name}_shift"]
        return F.layer_norm(x.movedim(1, -1), scale.shape, scale, shift, 1e-6).movedim(-1, 1)

    @staticmethod
    def flat(x: torch.Tensor) -> torch.Tensor:
        """`[N, C, H, W]` -> `[N, H W C]`, the order of the JAX networks."""
        return x.movedim(1, -1).flatten(1)

    def lenet_step(self, x: Any) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv("conv1", x)), 2)
        x = self.flat(F.max_pool2d(F.relu(self.conv("conv2", x)), 2))
        x = F.relu(self.dense("dense1", x))
        return self.dense("dense3", F.relu(self.dense("dense2", x)))

    def vgg_small_step(self, x: Any) -> torch.Tensor:
        for i in range(len(VGG_CHANNELS)):
            x = F.relu(self.conv(f"conv{i}", x))
            if i % 2:
                x = F.max_pool2d(x, 2)
        return self.dense("dense", self.flat(x))

    def mobilenet_step(self, x: Any) -> torch.Tensor:
        x = F.relu(self.conv("stem", x, 2))
        for i, (_, stride) in enumerate(MOBILENET_BLOCKS):
            x = F.relu(self.conv(f"depthwise{i}", x, stride, x.shape[1]))
            x = F.relu(self.conv(f"pointwise{i}", x))
        return self.dense("dense", x.mean((2, 3)))

    def convnext_step(self, x: Any) -> torch.Tensor:
        for i in range(len(CONVNEXT_STAGES)):
            x = self.conv(f"down{i}", x, 2 if i else 4)
            for j in range(CONVNEXT_DEPTH):
                name = f"block{i}{j}"
                y = self.norm(f"{name}_norm", self.conv(f"{name}_depthwise", x, 1, x.shape[1]))
                x = x + self.conv(f"{name}_reduce", F.gelu(self.conv(f"{name}_expand", y)))
        return self.dense("dense", x.mean((2, 3)))


def _to_numpy(parameters: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    detached = {name: tensor.detach() for name, tensor in parameters.items()}
    return {
        name: kernel_back(tensor) if tensor.ndim == 4 else tensor.cpu().numpy()
        for name, tensor in detached.items()
    }


def sgd_step(
    name: str,
    arrays: dict[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    rate: float,
    device: str,
) -> tuple[Callable[[], dict[str, torch.Tensor]], Callable[[Any], dict[str, np.ndarray]]]:
    """One training step, and a reader of the parameters after it."""
    network = Network(arrays, device)
    x, y = channels_second(images, device), to_torch(labels, device).long()
    optimizer = torch.optim.SGD(list(network.parameters.values()), lr=rate)
    logits = getattr(network, name)

    def step() -> dict[str, torch.Tensor]:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits(x), y).backward()
        optimizer.step()
        return network.parameters

    return step, _to_numpy
