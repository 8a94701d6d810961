"""Between channels-last NumPy arrays and PyTorch's tensors in channels_last memory."""

from __future__ import annotations

import numpy as np
import torch

MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def to_torch(array: np.ndarray, device: str) -> torch.Tensor:
    """The same values in the same order; bfloat16, which NumPy lacks, passes through float32."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(device, torch.bfloat16)
    return torch.from_numpy(np.array(array)).to(device)


def _packed(tensor: torch.Tensor) -> torch.Tensor:
    layout = MEMORY_FORMATS.get(tensor.ndim, torch.contiguous_format)
    return tensor.contiguous(memory_format=layout)


def channels_second(array: np.ndarray, device: str) -> torch.Tensor:
    """`[N, *S, C]` -> `[N, C, *S]`."""
    return _packed(to_torch(array, device).movedim(-1, 1))


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """`[N, C, *S]` -> `[N, *S, C]`."""
    return tensor.movedim(1, -1).cpu().numpy()


def to_kernel(array: np.ndarray, transposed: bool, device: str) -> torch.Tensor:
    """`[*K, I, O]` -> `[O, I, *K]`, or flipped `[I, O, *K]` for a transposed convolution."""
    kernel = to_torch(array, device)
    if not transposed:
        return _packed(kernel.movedim((-1, -2), (0, 1)))
    return _packed(kernel.flip(tuple(range(kernel.ndim - 2))).movedim((-2, -1), (0, 1)))


def kernel_back(kernel: torch.Tensor, transposed: bool = False) -> np.ndarray:
    """What `to_kernel` did, undone."""
    if not transposed:
        return kernel.movedim((0, 1), (-1, -2)).cpu().numpy()
    return kernel.flip(tuple(range(2, kernel.ndim))).movedim((0, 1), (-2, -1)).cpu().numpy()
