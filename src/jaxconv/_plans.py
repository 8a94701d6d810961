"""Measured plans: which algorithm won which pass of a problem on this machine, and the file they live in.

A plan file is JSON: `{"format": "jaxconv plans", "version": 1, "machines": ...}`, the last being a table of
machine, problem and pass. Machines differ in platform, device kind and jaxlib, so that one file serves many;
a problem is the text of its record. Reading never fails a program: what is not such a file is ignored with
one warning.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import platform
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jaxlib

from ._problem import ConvProblem, Pass

FORMAT, VERSION = "jaxconv plans", 1
Plans: TypeAlias = dict[str, dict[str, dict[str, Any]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """The winners by problem and pass. It is compared by identity: another set of plans is another trace."""

    winners: Mapping[tuple[str, str], str]
    # What was looked up, if anybody wants to know.
    met: list[tuple[ConvProblem, Pass]] | None = None

    def winner(self, problem: ConvProblem, pass_: Pass) -> str | None:
        """The name of the algorithm that won, or None for a problem that was never measured."""
        if self.met is not None:
            self.met.append((problem, pass_))
        return self.winners.get((problem_key(problem), pass_.value))


_current: list[Measured | None] = [None]
_warned: set[str] = set()


def current() -> Measured | None:
    """The plans that traces follow from now on."""
    return _current[0]


def set_current(measured: Measured | None) -> None:
    _current[0] = measured


@contextlib.contextmanager
def recording() -> Iterator[list[tuple[ConvProblem, Pass]]]:
    """Collect the problems whose algorithm is chosen by "auto" within."""
    before, met = current(), []  # type: ignore[var-annotated]
    set_current(Measured({}, met))
    try:
        yield met
    finally:
        set_current(before)


@functools.lru_cache(maxsize=4096)
def problem_key(problem: ConvProblem) -> str:
    """The problem's record as text, the same in every process."""
    return repr(problem)


def machine_key() -> str:
    """Platform, device kind and jaxlib: what a measurement is true of."""
    device = jax.devices()[0]
    kind = cpu_model() if device.platform == "cpu" else device.device_kind
    return f"{device.platform}; {kind}; {os.cpu_count()} cores; jaxlib {jaxlib.version.__version__}"


def cpu_model() -> str:
    """JAX calls every processor "cpu"; Linux has its name, and numbers where one name stands for many."""
    with contextlib.suppress(OSError):
        first, *_ = Path("/proc/cpuinfo").read_text().split("\n\n")
        fields = dict(re.findall(r"^(\S.*?)\s*: (.*)$", first, re.MULTILINE))
        if {"model name", "cpu family", "model"} <= fields.keys():
            return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"
    return platform.processor() or platform.machine()


def default_file() -> Path:
    """The user's cache folder, as the XDG base directory specification has it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "jaxconv" / "plans.json"


def read_machines(path: Path) -> dict[str, Plans] | None:
    """All machines of a plan file; None, and one warning, if there is a file but not of plans."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        warn_once(path, str(error))
        return None
    machines = content.get("machines") if isinstance(content, dict) else None
    if machines is None or content.get("format") != FORMAT:
        warn_once(path, "it is no plan file of jaxconv's")
    elif content.get("version") != VERSION:
        warn_once(path, f"its version is {content.get('version')!r}, not {VERSION}")
    elif not is_nested(machines, 3):
        warn_once(path, "its plans are not tables of machine, problem and pass")
    else:
        return machines
    return None


def is_nested(value: Any, depth: int) -> bool:
    """Whether `value` is a dict of dicts, so many levels deep, the last of which hold a plan."""
    if not isinstance(value, dict):
        return False
    return depth == 0 or all(is_nested(inner, depth - 1) for inner in value.values())


def warn_once(path: Path, reason: str) -> None:
    if str(path) not in _warned:
        _warned.add(str(path))
        warnings.warn(f"jaxconv ignores the plans in {path}: {reason}", RuntimeWarning, stacklevel=4)


def winners(machines: Mapping[str, Plans] | None) -> dict[tuple[str, str], str]:
    """This machine's winners."""
    plans = (machines or {}).get(machine_key(), {})
    return {
        (problem, pass_): str(plan.get("algorithm"))
        for problem, passes in plans.items()
        for pass_, plan in passes.items()
    }


def write_plans(path: Path, plans: Plans) -> dict[str, Plans]:
    """Add this machine's plans to the file, all at once or not at all; return what the file then holds.

    A file that is not of plans is kept beside, with ".bak" added to its name.
    """
    machines = read_machines(path)
    if machines is None:
        os.replace(path, path.with_name(path.name + ".bak"))
        machines = {}
    mine = machines.setdefault(machine_key(), {})
    for problem, passes in plans.items():
        mine.setdefault(problem, {}).update(passes)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "version": VERSION, "machines": machines}, file, indent=1)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return machines
