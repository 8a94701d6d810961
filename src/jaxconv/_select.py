"""Choosing an algorithm for each pass of a problem, and explaining the choice.

"auto" takes the first rung of its platform's ladder that suits and supports the problem: `_ladder_cpu.py`,
`_ladder_gpu.py`, XLA's convolution anywhere else. Plans that `tune` measured go before either. Correctness
comes before speed: each `supports` turns down the precision and the dtypes that its algorithm would harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from . import _ladder_cpu, _ladder_gpu
from ._ladder import suits_all
from ._plans import Measured, current
from ._problem import ConvProblem, Pass
from .algorithms import BY_NAME, Algorithm

AUTO = "auto"
LADDERS = {"cpu": _ladder_cpu.LADDER, "gpu": _ladder_gpu.LADDER}
ELSEWHERE = (("xla", suits_all, "accelerators bring tuned convolutions of their own"),)


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """The algorithm asked for in each pass, a name or "auto"; the platform and the plans "auto" goes by."""

    forward: str
    input_grad: str
    kernel_grad: str
    platform: str
    measured: Measured | None = None

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
    return Policy(**asked, platform=jax.default_backend(), measured=current())


def choose(problem: ConvProblem, pass_: Pass, policy: Policy) -> tuple[Algorithm, str]:
    """The algorithm that runs `pass_`, and the reason in words."""
    name = policy.asked(pass_)
    if name == AUTO:
        return _measured(problem, pass_, policy) or _auto(problem, pass_, policy.platform)
    algorithm = BY_NAME[name]
    reason = algorithm.supports(problem, pass_)
    if reason is not None:
        raise NotImplementedError(
            f'`algorithm="{name}"` cannot run the {pass_.value} pass: {reason}; use "auto", or a dict that '
            "names an algorithm for each pass"
        )
    return algorithm, "asked for"


def _measured(problem: ConvProblem, pass_: Pass, policy: Policy) -> tuple[Algorithm, str] | None:
    """The winner of `tune`, if the problem was measured and its algorithm is still there and willing."""
    winner = policy.measured.winner(problem, pass_) if policy.measured else None
    algorithm = BY_NAME.get(winner) if winner else None
    barred = policy.platform == "cpu" and winner == "xla"
    if algorithm is None or barred or algorithm.supports(problem, pass_) is not None:
        return None
    return algorithm, "the fastest when measured on this machine"


def _auto(problem: ConvProblem, pass_: Pass, platform: str) -> tuple[Algorithm, str]:
    """The platform's ladder, top to bottom."""
    return next(
        (BY_NAME[name], reason)
        for name, suits, reason in LADDERS.get(platform, ELSEWHERE)
        if suits(problem, pass_) and BY_NAME[name].supports(problem, pass_) is None
    )


@dataclasses.dataclass(frozen=True, slots=True)
class PassPlan:
    """What runs one pass and why, its multiply-adds counted twice, the bytes it cannot avoid moving."""

    pass_: Pass
    algorithm: str
    reason: str
    flops: int
    io_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a convolution's three passes; `print` it, or read its fields."""

    problem: ConvProblem
    platform: str
    passes: tuple[PassPlan, ...]

    def __str__(self) -> str:
        shapes = (self.problem.input_shape, self.problem.kernel_shape, self.problem.output_shape)
        x, w, y = (list(shape) for shape in shapes)
        lines = [f"conv {x} with {w} -> {y} {self.problem.x_dtype} on {self.platform}"]
        for p in self.passes:
            size = f"{p.flops / 1e6:.6g} MFLOP, {p.io_bytes / 1e6:.4g} MB"
            lines.append(f"  {p.pass_.value:<12} {p.algorithm:<14} {size:<28} {p.reason}")
        return "\n".join(lines)


def make_plan(problem: ConvProblem, policy: Policy) -> Plan:
    """The choice for every pass, by the taps and samples that can meet."""
    passes = []
    core = problem.core()
    for pass_ in Pass:
        algorithm, reason = choose(core, pass_, policy)
        work = (core.flops(pass_), problem.io_bytes())
        passes.append(PassPlan(pass_, algorithm.name, reason, *work))
    return Plan(problem, policy.platform, tuple(passes))
