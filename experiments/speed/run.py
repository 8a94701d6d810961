"""Time jaxconv beside lax and PyTorch: `python experiments/speed/run.py --help`."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

import jaxconv
from jaxconv._workload import Workload
from jaxconv._workloads import select
from machine import cores, describe, roofline
from measure import SWEEPS
from records import Job, Record, Settings, has_torch, measure, to_records
from report import full_report

try:
    from tqdm import tqdm
except ImportError:  # the bar comes with the `bench` extra; the figures do not need it
    tqdm = None

NO_MATCH = "No name, pass and type match these expressions; the names are in src/jaxconv/_workloads.py."
GROUP = 12  # jobs whose data and programs are held at once
SETS = ("full", "quick", "unseen", "fresh", "ends", "small", "wide", "large", "reports", "all")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="", metavar="REGEX", help="names of cases to run")
    parser.add_argument("--set", default="full", choices=SETS, help="which list of cases")
    parser.add_argument("--passes", default="", metavar="REGEX", help="forward, input_grad, ...")
    parser.add_argument("--dtypes", default="", metavar="REGEX", help="float32, bfloat16, float64")
    parser.add_argument("--peers", default="lax,torch", help="lax, torch or both, with a comma")
    parser.add_argument("--algorithms", default="auto", help="auto, all, or names with commas")
    parser.add_argument("--repeats", type=int, default=7, help="samples of each median")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds for one function")
    parser.add_argument(
        "--compiler-options", action="store_true", help="compile lax too with jaxconv.compiler_options()"
    )
    parser.add_argument(
        "--keep-memory", action="store_true", help="first call jaxconv.keep_memory(), for all peers"
    )
    parser.add_argument("--json", type=Path, help="write the records here")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the ratios into this folder")
    return parser.parse_args(arguments)


def algorithm_names(option: str) -> tuple[str, ...]:
    if option != "all":
        return tuple(option.split(","))
    from jaxconv.algorithms import ALGORITHMS

    return ("auto", *(algorithm.name for algorithm in ALGORITHMS))


def peer_names(option: str) -> tuple[str, ...]:
    peers = tuple(name for name in option.split(",") if name)
    if "torch" in peers and not has_torch():
        print("PyTorch is not installed, so it is left out (pip install 'jaxconv[bench]').")
        peers = tuple(name for name in peers if name != "torch")
    return peers


def jobs(options: argparse.Namespace) -> list[Job]:
    """Every (case, pass, dtype) that the options ask for."""

    def of(workload: Workload) -> Iterator[Job]:
        for dtype, name in itertools.product(workload.dtypes, workload.passes):
            if re.search(options.passes, name) and re.search(options.dtypes, dtype):
                yield workload, name, dtype

    return [job for workload in select(options.set, options.cases) for job in of(workload)]


@contextmanager
def progress(count: int) -> Iterator[Callable[[Job], object]]:
    """A bar, as what moves it: each job is built once and timed in every sweep."""
    if tqdm is None:
        yield lambda job: None
        return
    shares = count * (1 + SWEEPS)
    with tqdm(total=shares, bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}") as bar:

        def tick(job: Job) -> None:
            bar.set_description(f"{job[0].name} {job[1]} {job[2]}"[:48].ljust(48))
            bar.update()

        yield tick


def save_json(path: Path | None, records: list[Record], meta: dict[str, Any]) -> None:
    """The records so far as a list, the machine beside them: whoever stops the run keeps what it measured."""
    if path:
        path.write_text(json.dumps(records, indent=1) + "\n")
        path.with_name(path.name + ".meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.keep_memory and not jaxconv.keep_memory():
        raise SystemExit("jaxconv.keep_memory() needs glibc.")
    jax.config.update("jax_enable_compilation_cache", False)
    names = algorithm_names(options.algorithms)
    compiler_options = jaxconv.compiler_options() if options.compiler_options else {}
    settings = Settings(peer_names(options.peers), names, options.repeats, options.budget, compiler_options)
    meta = describe(arguments)
    if meta["load_at_start"] > cores() / 2:
        print(f"The machine is busy (load {meta['load_at_start']}): trust none of these times.")
    todo = jobs(options)
    if not todo:
        raise SystemExit(NO_MATCH)
    meta["roofline"] = roofline(sorted({dtype for _, _, dtype in todo}))
    records: list[Record] = []
    with progress(len(todo)) as tick:
        for start in range(0, len(todo), GROUP):
            group = todo[start : start + GROUP]
            for job, measured in zip(group, measure(group, settings, tick), strict=True):
                records += to_records(job, measured, names)
            save_json(options.json, records, meta)
    print(full_report(records, meta["roofline"]))
    if options.plot:
        from plot import draw_ratios

        draw_ratios(records, meta, options.plot)
    return int(any(record["failures"] for record in records))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
