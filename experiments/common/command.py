"""The command line of an experiment, and what a run leaves behind: `results.json` and its figures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import outputs
from machine import cores, processor
from settings import ExperimentError


@dataclass(frozen=True)
class Options:
    """What a run is asked to do."""

    out: Path
    quick: bool = False
    seeds: int = 3

    def choose(self, full: Any, quick: Any) -> Any:
        """One of two settings, by `--quick`."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Report:
    """Plain JSON values, and the figures by name."""

    results: dict[str, Any]
    figures: Mapping[str, Figure] = field(default_factory=dict)


def main(
    name: str,
    question: str,
    experiment: Callable[[Options], Report],
    table: Callable[[dict[str, Any]], str],
    arguments: list[str] | None = None,
    seeds: int = 3,
) -> int:
    """Run an experiment, write its results and print its table; 2 where the person can put it right."""
    options = _parse(name, question, arguments, seeds)
    try:
        start = time.perf_counter()
        outputs.prepare(options.out)
        report = experiment(options)
        seconds = time.perf_counter() - start
        _write(name, options, report, seconds)
    except ExperimentError as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{table(report.results)}\n\n{seconds:.0f} s; results in {options.out}")
    return 0


def _parse(name: str, question: str, arguments: list[str] | None, seeds: int) -> Options:
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}.run", description=question)
    folder = Path("runs") / name
    parser.add_argument("--out", type=Path, default=folder, metavar="DIR", help="where results go")
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds, its numbers no use")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"how many seeds (default {seeds})")
    options = Options(**vars(parser.parse_args(arguments)))
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    return options


def _write(name: str, options: Options, report: Report, seconds: float) -> None:
    content = {
        "experiment": name,
        "options": {"quick": options.quick, "seeds": options.seeds},
        "versions": outputs.versions(),
        "machine": {"processor": processor(), "cores": cores()},
        "wall_seconds": round(seconds, 1),
        "results": report.results,
    }
    outputs.write_json(options.out / "results.json", content)
    for title, figure in report.figures.items():
        outputs.write(options.out / f"{title}.png", partial(figure.savefig, format="png"))


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table as Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
