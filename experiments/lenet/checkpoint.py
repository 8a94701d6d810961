"""Checkpoints of a run in `OUT/checkpoints`, so that a run killed at any moment can go on.

Orbax writes each into a folder with a temporary name and renames it at the end: one that a kill left
half-written has no number, so nobody reads it, and it is gone before the next is written.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import orbax.checkpoint as ocp

import outputs
from history import History
from images import Parts
from settings import Config, ExperimentError
from step import Snapshot

KEPT = 2  # the newest and, should the disk lose it, the one before
# What Orbax raises for files that are missing, cut off or altered.
DAMAGES = (OSError, ValueError, KeyError, TypeError)


def identity(config: Config, parts: Parts) -> dict[str, object]:
    """All that decides a run's numbers, as plain values: the options, the dtype and the data."""
    digest = hashlib.sha256()
    for part in filter(None, parts):
        digest.update(part.images.tobytes() + part.labels.tobytes())
    return config.options() | {"dtype": str(jnp.zeros(()).dtype), "data_sha256": digest.hexdigest()[:12]}


class Checkpoints:
    """The checkpoints of one run; making one settles whether the run starts or goes on."""

    def __init__(self, config: Config, run: dict[str, object]) -> None:
        self._run = run
        self._folder = config.out / "checkpoints"
        self._manager = _open(self._folder)
        self._found = self._read_record()
        if self._found is None:
            if config.resume:
                _note(f"no checkpoint in {self._folder}: starting from the first step")
        elif config.resume:
            self._check_run(self._found)
        else:
            self._give_way(self._found)

    def restore(self, start: Snapshot) -> tuple[Snapshot, History]:
        """The newest checkpoint; without one, `start` and an empty history."""
        if self._found is None:
            return start, History()
        step = self._manager.latest_step()
        try:
            restored = self._manager.restore(step, args=_items(arrays=ocp.args.StandardRestore(start)))
        except DAMAGES as error:
            raise _damaged(self._folder / str(step)) from error
        history = History.from_json(self._found["history"])
        history.resumed_at.append(step)
        return restored["arrays"], history

    def save(self, step: int, snapshot: Snapshot, history: History, *, finished: bool = False) -> None:
        """Write all of it or nothing; when this returns, it is there."""
        record = {
            "run": self._run,
            "versions": outputs.versions(),
            "history": history.to_json(),
            "finished": finished,
        }
        items = _items(arrays=ocp.args.StandardSave(snapshot), record=ocp.args.JsonSave(record))
        try:
            self._manager.save(step, args=items, force=True)
        except (OSError, ValueError) as error:
            raise ExperimentError(f"{self._folder} cannot be written: {error}") from error

    def close(self) -> None:
        self._manager.close()

    def _read_record(self) -> dict[str, Any] | None:
        """What the newest checkpoint says of its run, None without one."""
        step = self._manager.latest_step()
        if step is None:
            return None
        try:
            record = self._manager.restore(step, args=_items(record=ocp.args.JsonRestore()))["record"]
            return {key: record[key] for key in ("run", "versions", "history", "finished")}
        except DAMAGES as error:
            raise _damaged(self._folder / str(step)) from error

    def _check_run(self, found: dict[str, Any]) -> None:
        made = found["run"]
        names = [name for name in made | self._run if made.get(name) != self._run.get(name)]
        if names:
            then, now = (
                ", ".join(f"{name.replace('_', '-')} {run.get(name)}" for name in names)
                for run in (made, self._run)
            )
            raise ExperimentError(
                f"--resume: the run in {self._folder.parent} was begun with {then}, not {now}: "
                "give it the same options and data, or another --out"
            )
        if found["versions"] != outputs.versions():
            _note("the checkpoint is of other package versions: the last bits may differ")

    def _give_way(self, found: dict[str, Any]) -> None:
        """Make room for a new run, unless one that is not done would be lost."""
        if not found["finished"]:
            raise ExperimentError(
                f"{self._folder.parent} holds a run that is not finished: add --resume to go on with it, "
                f"give another --out, or delete {self._folder}"
            )
        self._manager.close()
        # Renamed first: a kill in the middle must leave the old checkpoints whole or none at all.
        old = self._folder.with_name(".checkpoints-old")
        shutil.rmtree(old, ignore_errors=True)
        self._folder.rename(old)
        shutil.rmtree(old)
        self._manager, self._found = _open(self._folder), None


def _open(folder: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
    )
    try:
        return ocp.CheckpointManager(folder.resolve(), options=options)
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{folder} cannot be used for checkpoints: {error}") from error


def _items(**items: Any) -> ocp.args.Composite:
    return ocp.args.Composite(**items)


def _damaged(checkpoint: Path) -> ExperimentError:
    return ExperimentError(f"{checkpoint} is damaged: delete it, and --resume goes on from the one before")


def _note(text: str) -> None:
    print(f"train.py: note: {text}", file=sys.stderr)
