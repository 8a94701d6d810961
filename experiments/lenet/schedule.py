"""How the learning rate changes from a run's first step to its last."""

from __future__ import annotations

from collections.abc import Callable

import optax

WARMUP_PART = 10  # the first tenth of the steps
WARMUP_START = 0.1  # of the full rate: a step at none would learn nothing
DROP = 0.1


def _constant(rate: float, steps: int) -> optax.Schedule:
    return optax.constant_schedule(rate)


def _cosine(rate: float, steps: int) -> optax.Schedule:
    """To zero along half a cosine, so that the last epoch is not a lucky one."""
    return optax.cosine_decay_schedule(rate, steps)


def _warmup_cosine(rate: float, steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(WARMUP_START * rate, rate, steps // WARMUP_PART, steps)


def _step(rate: float, steps: int) -> optax.Schedule:
    """A tenth of the rate after half of the steps, a hundredth after three quarters."""
    return optax.join_schedules(
        [optax.constant_schedule(rate * DROP**drops) for drops in range(3)], [steps // 2, 3 * steps // 4]
    )


SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "warmup-cosine": _warmup_cosine,
    "step": _step,
}
