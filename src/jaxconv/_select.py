"""Choosing an algorithm for each pass of a problem, and explaining the choice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from ._problem import ConvProblem, Pass
from .algorithms import BY_NAME, Algorithm

AUTO = "auto"


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """The algorithm asked for in each pass, a name or "auto", and the platform that "auto" decides for."""

    forward: str
    input_grad: str
    kernel_grad: str
    platform: str

    def asked(self, pass_: Pass) -> str:
        """The name given for `pass_`."""
        names = {
            Pass.FORWARD: self.forward,
            Pass.INPUT_GRAD: self.input_grad,
            Pass.KERNEL_GRAD: self.kernel_grad,
        }
        return names[pass_]


def make_policy(algorithm: Any) -> Policy:
    """A Policy from a name for every pass, or a mapping from pass names to names."""
    if isinstance(algorithm, str):
        names: Mapping[str, Any] = {p.value: algorithm for p in Pass}
    elif isinstance(algorithm, Mapping):
        names = algorithm
    else:
        raise TypeError(
            f"`algorithm` must be a name or a dict from pass to name, got {algorithm!r}; passes are "
            f"{', '.join(p.value for p in Pass)}"
        )
    unknown = set(names) - {p.value for p in Pass}
    if unknown:
        raise ValueError(
            f"`algorithm` must have keys among {', '.join(p.value for p in Pass)}, "
            f"got {sorted(unknown, key=str)}"
        )
    for name in names.values():
        if name != AUTO and name not in BY_NAME:
            raise ValueError(f"`algorithm` must be one of {', '.join((AUTO, *BY_NAME))}, got {name!r}")
    asked = {p.value: names.get(p.value, AUTO) for p in Pass}
    return Policy(**asked, platform=jax.default_backend())


def choose(problem: ConvProblem, pass_: Pass, policy: Policy) -> tuple[Algorithm, str]:
    """The algorithm that runs `pass_`, and the reason in words."""
    name = policy.asked(pass_)
    if name == AUTO:
        return _auto(problem, pass_, policy.platform)
    algorithm = BY_NAME[name]
    reason = algorithm.supports(problem, pass_)
    if reason is not None:
        raise NotImplementedError(
            f'`algorithm="{name}"` cannot run the {pass_.value} pass: {reason}; use "auto", or a dict that '
            "names an algorithm for each pass"
        )
    return algorithm, "asked for"


def _auto(problem: ConvProblem, pass_: Pass, platform: str) -> tuple[Algorithm, str]:
    return BY_NAME["gemm"], "patches times matrix suits every problem"
