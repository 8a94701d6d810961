"""What the ladder of a platform is, the choice of an algorithm as a list to go down, and what rungs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from ._problem import ConvProblem, Pass, len_meetings
from ._window import Window

# Rungs from the top: an algorithm's name, whether it is to be taken for a pass, and the reason in words.
Ladder: TypeAlias = tuple[tuple[str, Callable[[ConvProblem, Pass], bool], str], ...]


def suits_all(problem: ConvProblem, pass_: Pass) -> bool:
    """The condition of a last rung."""
    del problem, pass_
    return True


def summed_channels(problem: ConvProblem, pass_: Pass) -> int:
    """How many channels of a group an output, or a sample of an input gradient, sums over."""
    cin, cout = problem.channels_per_group
    return cout if pass_ is Pass.INPUT_GRAD else cin


def met_share(problem: ConvProblem) -> float:
    """The part of the pairs of outputs and taps that meet a sample, not padding."""
    return math.prod(map(sample_share, problem.windows))


def sample_share(window: Window) -> float:
    """That of one axis."""
    dense = [phase.window for phase in window.phases() if phase.window is not None]
    met = sum(len(w.outputs_at(k)) for w in dense for k in range(w.size))
    return met / max(1, len_meetings(window))
