"""Jobs, each a case, a pass and a dtype: draw data, build the peers, check values, time them in turns."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jax_peer import LAX, Compiled, Operations, compile_pass, jaxconv_operations, step_function
from jaxconv._workload import ConvWorkload, PoolWorkload, StepWorkload, Workload
from measure import SLOW_CALL_S, SWEEPS, Race, Task
from nets import NETS, draw

LEARNING_RATE = 0.01
TRIALS = 3
PEERS = ("jaxconv", "lax", "torch")
Arrays: TypeAlias = tuple[Any, ...]
Job: TypeAlias = tuple[Workload, str, str]
Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What to compare and how long to look."""

    peers: tuple[str, ...]
    algorithms: tuple[str, ...]
    repeats: int
    budget_s: float
    compiler_options: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Candidate:
    """One compiled JAX function, its clock and its distance from float64."""

    task: Task
    compiled: Compiled
    error: float


@dataclass
class Measured:
    """lax (twice) and the algorithms by name, PyTorch's clock, and what went wrong with the others."""

    candidates: dict[str, Candidate] = field(default_factory=dict)
    torch: Task | None = None
    failures: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    chosen: str | None = None

    def race(self) -> Race:
        """Every clock once, PyTorch's first."""
        return Race(self.torch, list({id(c.task): c.task for c in self.candidates.values()}.values()))


def has_torch() -> bool:
    """Whether the `bench` extra is installed."""
    return importlib.util.find_spec("torch") is not None


def torch_device() -> str:
    """PyTorch runs where JAX runs."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def is_queued() -> bool:
    """Whether calls are told to a device that works through them while the program goes on."""
    return jax.default_backend() != "cpu"


def draw_arguments(workload: Workload, dtype: str) -> Arrays:
    """Normal inputs as NumPy in channels-last order.

    `(x, kernel, cotangent)`, or `(parameters, x, labels)` for a step.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=workload.input_shape).astype(dtype)
    if isinstance(workload, StepWorkload):
        shapes = NETS[workload.name].shapes
        parameters = {k: v.astype(dtype) for k, v in draw(shapes, rng).items()}
        labels = rng.integers(workload.classes, size=workload.batch).astype(np.int32)
        return parameters, x, labels
    g = rng.normal(size=workload.output_shape).astype(dtype)
    if isinstance(workload, PoolWorkload):
        return x, np.zeros((), dtype), g
    fan_in = math.prod(workload.kernel_shape[:-1])
    w = (rng.normal(size=workload.kernel_shape) / math.sqrt(fan_in)).astype(dtype)
    return x, w, g


def _channels_first(workload: Workload) -> bool:
    return isinstance(workload, ConvWorkload) and workload.layout == "channels_first"


def to_jax(workload: Workload, arguments: Arrays) -> Arrays:
    """The arguments on the device, in the workload's layout."""
    if _channels_first(workload):
        x, w, g = arguments
        w = np.moveaxis(w, (-1, -2), (0, 1))
        arguments = (np.moveaxis(x, -1, 1), w, np.moveaxis(g, -1, 1))
    return jax.block_until_ready(jax.tree.map(jnp.asarray, arguments))


def from_jax(workload: Workload, pass_name: str, result: Any) -> Any:
    """The result as float64 NumPy in channels-last order."""
    result = jax.tree.map(lambda a: np.asarray(a).astype(np.float64), result)
    if not _channels_first(workload):
        return result
    if pass_name == "kernel_grad":
        return np.moveaxis(result, (0, 1), (-1, -2))
    return np.moveaxis(result, 1, -1)


def float64_reference(workload: Workload, pass_name: str, arguments: Arrays) -> Any:
    """The pass on the same numbers in float64: PyTorch's answer, or lax's without PyTorch."""
    wide = jax.tree.map(lambda a: a if a.dtype == np.int32 else a.astype(np.float64), arguments)
    if has_torch():
        import torch_peer

        run, back = torch_peer.build(workload, pass_name, wide, LEARNING_RATE)[0]
        return back(run())
    with jax.enable_x64(True):
        wide = to_jax(workload, wide)
        compiled = compile_pass(workload, pass_name, LAX, wide, LEARNING_RATE)
        return from_jax(workload, pass_name, compiled.call(*wide))


def relative_error(workload: Workload, arguments: Arrays, reference: Any, result: Any) -> float:
    """Largest absolute difference over the reference's largest value; of a step, its update."""
    start = arguments[0] if isinstance(workload, StepWorkload) else 0.0
    pairs = zip(jax.tree.leaves(result), jax.tree.leaves(reference), strict=True)
    difference = max(float(np.max(np.abs(a - b))) for a, b in pairs)
    if isinstance(workload, StepWorkload):
        reference = jax.tree.map(lambda new, old: new - old, reference, start)
    scale = max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(reference))
    return difference / scale


def _jax_candidates(
    workload: Workload,
    pass_name: str,
    arguments: Arrays,
    settings: Settings,
    error_of: Callable[[Any], float],
    measured: Measured,
) -> None:
    """Compile lax and every algorithm; a second clock on the same lax function shows the noise."""

    def add(name: str, make: Callable[[], Operations]) -> None:
        try:
            compiled = compile_pass(
                workload, pass_name, make(), arguments, LEARNING_RATE, settings.compiler_options
            )
            task = Task(name, lambda: compiled.call(*arguments), jax.block_until_ready, is_queued())
            result, first_s = task.once()
        except NotImplementedError as reason:
            measured.skipped[name] = str(reason)
        except Exception as reason:
            # A peer that fails is a result to report, not the end of the run.
            measured.failures[name] = f"{type(reason).__name__}: {reason}"
        else:
            error = error_of(from_jax(workload, pass_name, result))
            measured.candidates[name] = Candidate(task, compiled, error)
            if name == "lax" and first_s < SLOW_CALL_S:
                again = replace(task, name="lax_again", samples_ms=[])
                measured.candidates["lax_again"] = Candidate(again, compiled, error)

    if "lax" in settings.peers:
        add("lax", lambda: LAX)
    for algorithm in settings.algorithms if isinstance(workload, ConvWorkload) else ("auto",):
        policy = policy_for(workload, pass_name, algorithm)
        add(algorithm, partial(jaxconv_operations, policy))
    _share_the_clock(measured)


def policy_for(workload: Workload, pass_name: str, algorithm: str) -> str | dict[str, str]:
    """What to pass as `algorithm=` so that it rules this pass alone, the others staying "auto"."""
    if algorithm == "auto":
        return algorithm
    if isinstance(workload, ConvWorkload) and workload.kind == "transposed":
        # A transposed convolution is the input gradient, and the other way round.
        swapped = {"forward": "input_grad", "input_grad": "forward"}
        pass_name = swapped.get(pass_name, pass_name)
    return {pass_name: algorithm}


def _share_the_clock(measured: Measured) -> None:
    """Where "auto" is the very program of a named algorithm, time it once and note the choice."""
    auto = measured.candidates.get("auto")
    for name, other in measured.candidates.items():
        if auto is None or name in ("auto", "lax", "lax_again"):
            continue
        if other.compiled.program == auto.compiled.program:
            measured.chosen = name
            auto.task = other.task


def _torch_task(workload: Workload, pass_name: str, arguments: Arrays, measured: Measured) -> Task | None:
    import torch

    import torch_peer

    device = torch_device()
    wait = (lambda _: torch.cuda.synchronize()) if device == "cuda" else (lambda _: None)
    try:
        ways = torch_peer.build(workload, pass_name, arguments, LEARNING_RATE, device)
        tasks = [Task("torch", run, wait, is_queued()) for run, _ in ways]
        return min(tasks, key=lambda task: min(task.once()[1] for _ in range(TRIALS)))
    except Exception as error:
        measured.failures["torch"] = f"{type(error).__name__}: {error}"
        return None


def measure(jobs: Sequence[Job], settings: Settings, tick: Callable[[Job], object]) -> list[Measured]:
    """Build the peers of all jobs, then time them in sweeps over the jobs; `tick(job)` after each share."""
    measured = []
    for job in jobs:
        measured.append(prepare(*job, settings))
        tick(job)
    races = [peers.race() for peers in measured]
    for sweep in range(SWEEPS):
        for job, race in zip(jobs, races, strict=True):
            if sweep == 0:
                race.calibrate(settings.repeats, settings.budget_s)
            race.run(sweep, SWEEPS)
            tick(job)
    return measured


def prepare(workload: Workload, pass_name: str, dtype: str, settings: Settings) -> Measured:
    """Compile every peer of one pass and compare each JAX result with float64."""
    measured = Measured()
    drawn = draw_arguments(workload, dtype)
    reference = float64_reference(workload, pass_name, drawn)
    with jax.enable_x64(dtype == "float64"):
        arguments = to_jax(workload, drawn)
        error_of = partial(relative_error, workload, drawn, reference)
        _jax_candidates(workload, pass_name, arguments, settings, error_of, measured)
    if "torch" in settings.peers:
        measured.torch = _torch_task(workload, pass_name, drawn, measured)
    return measured


def io_bytes(workload: Workload, dtype: str) -> int:
    """Bytes of input, kernel and output; of a step, of the images and the parameters in and out."""
    itemsize = jnp.dtype(dtype).itemsize
    if not isinstance(workload, StepWorkload):
        return workload.elements * itemsize
    parameters = sum(map(math.prod, NETS[workload.name].shapes.values()))
    return (math.prod(workload.input_shape) + 2 * parameters) * itemsize


def step_flops(workload: StepWorkload) -> int | None:
    """XLA's own count for the lax version of a step, before optimisation; GPUs do not count."""
    arguments = to_jax(workload, draw_arguments(workload, "float32"))
    step = step_function(NETS[workload.name], LAX, LEARNING_RATE)
    cost = jax.jit(step).lower(*arguments).cost_analysis() or {}
    return int(cost["flops"]) if "flops" in cost else None


def _rounded(value: float) -> float:
    """Five significant figures; whole numbers stay whole."""
    return value if isinstance(value, int) else float(f"{value:.5g}")


def to_records(job: Job, measured: Measured, algorithms: Sequence[str]) -> list[Record]:
    """One JSON record for each algorithm that ran; each repeats lax's and PyTorch's figures."""
    names = [name for name in algorithms if name in measured.candidates]
    return [_record(*job, measured, name) for name in names or ["auto"]]


def _record(workload: Workload, pass_name: str, dtype: str, measured: Measured, algorithm: str) -> Record:
    keys = {"jaxconv": algorithm, "lax": "lax", "lax_again": "lax_again"}
    ran = {k: measured.candidates[v] for k, v in keys.items() if v in measured.candidates}
    tasks = {name: candidate.task for name, candidate in ran.items()}
    if measured.torch:
        tasks["torch"] = measured.torch

    def of_jax(read: Callable[[Candidate], float]) -> dict[str, float | None]:
        return {n: _rounded(read(ran[n])) if n in ran else None for n in ("jaxconv", "lax")}

    def of_all(read: Callable[[Task], float]) -> dict[str, float | None]:
        return {n: _rounded(read(tasks[n])) if n in tasks else None for n in PEERS}

    return {
        "case": workload.name,
        "pass": pass_name,
        "dtype": dtype,
        "algorithm": algorithm,
        "time_ms": of_all(lambda t: t.time_ms),
        "temp_bytes": of_jax(lambda c: c.compiled.temp_bytes),
        "io_bytes": io_bytes(workload, dtype),
        "flops": step_flops(workload) if isinstance(workload, StepWorkload) else workload.flops,
        "compile_ms": of_jax(lambda c: c.compiled.compile_ms),
        "error": of_jax(lambda c: c.error),
        "spread": of_all(lambda t: t.spread),
        "repeats": {name: task.rounds for name, task in tasks.items()},
        "lax_again_ms": _rounded(tasks["lax_again"].time_ms) if "lax_again" in tasks else None,
        "chosen": measured.chosen if algorithm == "auto" else None,
        "failures": measured.failures,
    }
