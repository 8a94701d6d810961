"""Plans measured on this machine: `tune` finds them, `use_plans` follows them, `forget_plans` does not."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from . import _plans
from ._front import context, describe
from ._problem import ConvProblem, Pass
from ._select import choose, make_policy
from .algorithms import ALGORITHMS

# Rounds in which the candidates take turns, and the seconds after which no further round begins.
ROUNDS, ROUND_SECONDS = 9, 1.0
# A candidate whose first run takes so many times the best one's is out of the race.
HOPELESS = 4.0
# A winner must be so much faster than the rule's choice: less is noise.
MARGIN = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """One pass of one problem: each candidate's milliseconds, what the rule takes and what won."""

    problem: ConvProblem
    pass_: Pass
    milliseconds: dict[str, float]
    rule: str
    winner: str

    @property
    def regret(self) -> float:
        """The rule's time over the winner's."""
        return self.milliseconds[self.rule] / self.milliseconds[self.winner]


@dataclasses.dataclass(frozen=True, slots=True)
class Tuning:
    """What `tune` measured; `print` it."""

    measurements: tuple[Measurement, ...]
    plan_file: Path

    @property
    def regret(self) -> float:
        """Geometric mean of the rule's times over the winners'."""
        logs = [math.log(m.regret) for m in self.measurements]
        return math.exp(sum(logs) / len(logs)) if logs else 1.0

    def __str__(self) -> str:
        lines = []
        for m in self.measurements:
            x, w = list(m.problem.input_shape), list(m.problem.kernel_shape)
            times = ", ".join(f"{name} {ms:.3g}" for name, ms in m.milliseconds.items())
            taken = m.rule if m.winner == m.rule else f"{m.rule} -> {m.winner}"
            lines.append(f"{x} with {w} {m.pass_.value:<12} {taken:<22} {m.regret:5.2f}   ms: {times}")
        worst = max((m.regret for m in self.measurements), default=1.0)
        lines.append(
            f"{len(self.measurements)} passes; the rule takes {self.regret:.3f} times the winners' time "
            f"(geometric mean), at worst {worst:.2f}; plans in {self.plan_file}"
        )
        return "\n".join(lines)


def tune(
    fn: Callable[..., Any], *args: Any, plan_file: str | os.PathLike[str] | None = None, **kwargs: Any
) -> Tuning:
    """Measure every convolution that `fn(*args, **kwargs)` meets, and follow the winners from now on.

    Each pass T1, T7 and T8 of each problem is timed by every algorithm that "auto" might take, on random
    data of its shapes; the fastest goes into the plan file, which `use_plans` reads in later programs. `fn`
    is traced, not run: give it a whole training step, gradients included. Compiled functions are forgotten,
    so that the next call of a jitted function follows the plans. Pooling has one algorithm and is not timed.

    Args:
      fn: any function of arrays that calls jaxconv; convolutions with a named algorithm stay as they are.
      *args, **kwargs: its arguments; arrays may be `jax.ShapeDtypeStruct`.
      plan_file: where the plans are kept; None is `jaxconv/plans.json` in the user's cache folder.

    Returns:
      A `Tuning`: printable, with every candidate's time and the regret of the rule that "auto" follows.

    Raises:
      TypeError: fn is not a function. What tracing fn raises.

    Examples:
      >>> import jax.numpy as jnp, jaxconv, tempfile
      >>> x, w = jnp.ones((1, 6, 6, 2)), jnp.ones((3, 3, 2, 2))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     tuning = jaxconv.tune(lambda x, w: jaxconv.conv(x, w), x, w, plan_file=f"{folder}/plans.json")
      >>> [m.pass_.value for m in tuning.measurements]
      ['forward']
      >>> jaxconv.forget_plans()
    """
    with context("tune", fn=fn):
        if not callable(fn):
            raise TypeError(f"`fn` must be a function, got {describe(fn)}; its arguments follow it")
        path = as_path(plan_file)
    problems = met_problems(fn, args, kwargs)
    measurements = tuple(measure(problem, pass_) for problem, pass_ in problems)
    plans: _plans.Plans = {}
    for m in measurements:
        record = {"algorithm": m.winner, "rule": m.rule, "milliseconds": m.milliseconds}
        plans.setdefault(_plans.problem_key(m.problem), {})[m.pass_.value] = record
    try:
        machines = _plans.write_plans(path, plans)
    except OSError as error:
        warnings.warn(f"jaxconv cannot keep its plans: {error}", RuntimeWarning, stacklevel=2)
        machines = {_plans.machine_key(): plans}
    _plans.set_current(_plans.Measured(_plans.winners(machines)))
    jax.clear_caches()
    return Tuning(measurements, path)


def use_plans(plan_file: str | os.PathLike[str] | None = None) -> int:
    """Let "auto" follow the plans that `tune` measured on this machine, in all traces from now on.

    Problems that were not measured (T1, T7, T8 by shape, dtype and options) are chosen by rule, as without
    plans. Functions that are already compiled stay as they are.

    Args:
      plan_file: as in `tune`. A missing file has no plans; one that is damaged, of another version or not
        of plans at all is ignored with one warning.

    Returns:
      How many plans there are for this machine.

    Raises:
      TypeError: plan_file is not a path.

    Examples:
      >>> import jaxconv
      >>> jaxconv.use_plans("no/such/file.json")
      0
      >>> jaxconv.forget_plans()
    """
    with context("use_plans", plan_file=plan_file):
        path = as_path(plan_file)
    found = _plans.winners(_plans.read_machines(path))
    _plans.set_current(_plans.Measured(found))
    return len(found)


def forget_plans() -> None:
    """Let "auto" go by its rule again (T1, T7, T8), in all traces from now on; the plan file stays.

    Examples:
      >>> import jaxconv
      >>> jaxconv.forget_plans()
    """
    _plans.set_current(None)


def as_path(plan_file: Any) -> Path:
    """The file of plans: the given one, or the user's."""
    if plan_file is None:
        return _plans.default_file()
    if not isinstance(plan_file, (str, os.PathLike)):
        raise TypeError(
            f"`plan_file` must be a path, or None for the one in the user's cache, got {plan_file!r}"
        )
    return Path(plan_file).expanduser()


def met_problems(fn: Callable[..., Any], args: Any, kwargs: Any) -> list[tuple[ConvProblem, Pass]]:
    """The problems that "auto" decides while `fn` is traced, each once, if their size is known."""
    leaves, tree = jax.tree.flatten((args, kwargs))
    spots = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "shape") and hasattr(leaf, "dtype")]

    def call(arrays: Sequence[Any]) -> Any:
        for spot, array in zip(spots, arrays, strict=True):
            leaves[spot] = array
        given, named = jax.tree.unflatten(tree, leaves)
        return fn(*given, **named)

    jax.clear_caches()  # a function that was traced before would not be traced again
    with _plans.recording() as met:
        jax.eval_shape(call, [leaves[i] for i in spots])
    known = [entry for entry in dict.fromkeys(met) if isinstance(entry[0].batch, int)]
    return [entry for entry in known if not entry[0].is_empty]


def measure(problem: ConvProblem, pass_: Pass) -> Measurement:
    """Time every algorithm that may run the pass; they take turns, and the lower quartile counts."""
    a, b = random_operands(problem, pass_)
    policy = make_policy("auto")
    rule = choose(problem, pass_, dataclasses.replace(policy, measured=None))[0].name
    calls: dict[str, Callable[[Array, Array], Array]] = {}
    for algorithm in ALGORITHMS:
        # "auto" never takes XLA's convolution on a CPU, nor Winograd elsewhere: its transforms would amplify
        # the rounding of the narrow products that accelerators default to.
        barred = algorithm.name == ("xla" if policy.platform == "cpu" else "winograd")
        if not barred and algorithm.supports(problem, pass_) is None:
            run = jax.jit(lambda a, b, algorithm=algorithm: algorithm.run(problem, pass_, a, b))
            calls[algorithm.name] = run.lower(a, b).compile()
    times = race(calls, a, b)
    winner = min(times, key=times.__getitem__)
    if times[winner] > MARGIN * times[rule]:
        winner = rule
    return Measurement(problem, pass_, times, rule, winner)


def race(calls: dict[str, Callable[[Array, Array], Array]], a: Array, b: Array) -> dict[str, float]:
    """Milliseconds of each call."""
    for call in calls.values():
        call(a, b).block_until_ready()
    seconds = {name: [timed(call, a, b)] for name, call in calls.items()}
    best = min(runs[0] for runs in seconds.values())
    racing = [name for name, runs in seconds.items() if runs[0] <= HOPELESS * best]
    start = time.perf_counter()
    for _ in range(ROUNDS):
        for name in racing:
            seconds[name].append(timed(calls[name], a, b))
        if time.perf_counter() - start > ROUND_SECONDS * len(racing):
            break
    return {name: float(np.quantile(runs, 0.25)) * 1e3 for name, runs in seconds.items()}


def timed(call: Callable[[Array, Array], Array], a: Array, b: Array) -> float:
    start = time.perf_counter()
    call(a, b).block_until_ready()
    return time.perf_counter() - start


def random_operands(problem: ConvProblem, pass_: Pass) -> tuple[Array, Array]:
    """Normal numbers, small integers for integer types, in the shapes of the pass."""
    rng = np.random.default_rng(0)
    x = (problem.input_shape, problem.x_dtype)
    w = (problem.kernel_shape, problem.w_dtype)
    y = (problem.output_shape, problem.y_dtype)
    slots = {Pass.FORWARD: (x, w), Pass.INPUT_GRAD: (y, w), Pass.KERNEL_GRAD: (x, y)}[pass_]
    first, second = (
        jnp.asarray(rng.standard_normal(shape) * (9 if jnp.dtype(dtype).kind in "iu" else 1)).astype(dtype)
        for shape, dtype in slots
    )
    return first, second
