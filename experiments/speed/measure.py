"""The clock: several functions timed in turns, so that a slow minute of the machine hits them all.

A slow second hits some of them alone. Races are therefore run in sweeps, a few rounds of each and then a few
more of each, so that it spoils less than half the samples of any function, and not its median.

PyTorch's threads go on spinning after a call. Each round therefore runs PyTorch first, then sleeps, and every
function runs off the clock for WARM_S right before it is timed: after a pause, or after a function of one
thread, a system needs tens of milliseconds to spread the threads of the next over the cores again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

LEAST_REPEATS = 3
SAMPLE_S = 2e-3
MOST_CALLS = 50
SETTLE_S = 5e-3
# With one call instead, 1.0 ms of depthwise convolution after 160 ms of lax's took 1.6 to 2.0 ms, for 20 to
# 40 calls on end; one function timed twice differed by 24%, with this by 16 (95th percentile of 74 passes,
# 2026-11-28, AMD EPYC Zen 4).
WARM_S = 60e-3
SLOW_CALL_S = 0.3
# A shared machine has phases of 1.5 s, one or two a minute, in which programs of many small kernels take 3 to
# 5 times as long and those of a single one 1.1 times. A race of 7 rounds lasts as long as that (2026-11-29,
# AMD EPYC Zen 4, five passes timed on end for three minutes).
SWEEPS = 3


@dataclass
class Task:
    """One function under the clock: `run()` starts it, `wait(result)` returns when it is done.

    `queued` calls of one sample do not wait for one another: a GPU is told what to do next while it works.
    """

    name: str
    run: Callable[[], Any]
    wait: Callable[[Any], Any]
    queued: bool = False
    call_s: float = 0.0
    calls: int = 1
    rounds: int = 0
    samples_ms: list[float] = field(default_factory=list)

    def once(self) -> tuple[Any, float]:
        """The result of one call and its seconds."""
        start = time.perf_counter()
        result = self.run()
        self.wait(result)
        self.call_s = time.perf_counter() - start
        return result, self.call_s

    def calibrate(self, repeats: int, budget_s: float) -> None:
        """Choose calls per sample (many if fast) and rounds (few if slow) from a call's time."""
        if self.call_s < SLOW_CALL_S:
            self.call_s = min(self.once()[1], self.once()[1])
        seconds = self.call_s
        self.calls = min(MOST_CALLS, max(1, math.ceil(SAMPLE_S / seconds)))
        affordable = int(budget_s / (seconds * (self.calls + 1) + WARM_S))
        self.rounds = max(LEAST_REPEATS, min(repeats, affordable))

    def sample(self) -> None:
        """Warm calls off the clock (none where the call is slow anyway), then the timed ones."""
        self.warm()
        start = time.perf_counter()
        for _ in range(self.calls - 1):
            result = self.run()
            if not self.queued:
                self.wait(result)
        self.wait(self.run())
        self.samples_ms.append((time.perf_counter() - start) * 1e3 / self.calls)

    def warm(self) -> None:
        """Calls for WARM_S, at least one."""
        if self.call_s >= SLOW_CALL_S:
            return
        end = time.perf_counter() + WARM_S
        while True:
            self.wait(self.run())
            if time.perf_counter() >= end:
                return

    @property
    def time_ms(self) -> float:
        """Median of the samples."""
        return median(self.samples_ms)

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        low, _, high = quantiles(self.samples_ms, n=4, method="inclusive")
        return (high - low) / self.time_ms


@dataclass
class Race:
    """Functions that take turns: each round `first` (PyTorch), a pause, `others` in rotation."""

    first: Task | None
    others: Sequence[Task]

    def calibrate(self, repeats: int, budget_s: float) -> None:
        """Let every function choose its calls and rounds."""
        for task in self._everyone():
            task.calibrate(repeats, budget_s)

    def run(self, sweep: int = 0, sweeps: int = 1) -> None:
        """One sweep's share of the rounds: every `sweeps`-th of them."""
        rounds = max((task.rounds for task in self._everyone()), default=0)
        for turn in range(sweep, rounds, sweeps):
            if self.first and turn < self.first.rounds:
                self.first.sample()
                time.sleep(SETTLE_S)
            shift = turn % max(1, len(self.others))
            for task in (*self.others[shift:], *self.others[:shift]):
                if turn < task.rounds:
                    task.sample()

    def _everyone(self) -> list[Task]:
        return [*([self.first] if self.first else []), *self.others]


def interleave(tasks: Sequence[Task], repeats: int, budget_s: float) -> None:
    """Fill every task's samples, one round after another."""
    race = Race(None, tasks)
    race.calibrate(repeats, budget_s)
    race.run()
