"""The LeNet experiment's learning-rate schedules and when it stops."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_modules import PACKAGES, lenet_modules, write_idx_folder

for _package in PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} belongs to the extra 'experiments'")


@pytest.fixture(scope="module")
def lab() -> Iterator[Any]:
    with lenet_modules() as modules:
        yield modules


def rates(lab: Any, name: str, steps: int) -> np.ndarray:
    schedule = lab.schedule.SCHEDULES[name](0.5, steps)
    return np.array([float(schedule(step)) for step in range(steps)])


def test_schedules_have_their_shapes(lab: Any) -> None:
    assert set(lab.schedule.SCHEDULES) == set(lab.settings.SCHEDULES)
    steps = np.arange(40)
    np.testing.assert_allclose(rates(lab, "constant", 40), 0.5)
    np.testing.assert_allclose(rates(lab, "cosine", 40), 0.25 * (1 + np.cos(np.pi * steps / 40)), rtol=1e-4)
    np.testing.assert_allclose(rates(lab, "step", 40), np.repeat([0.5, 0.05, 0.005], [20, 10, 10]), rtol=1e-6)
    warm = rates(lab, "warmup-cosine", 40)
    np.testing.assert_allclose(warm[:4], [0.05, 0.1625, 0.275, 0.3875], rtol=1e-6)
    np.testing.assert_allclose(warm[4:], 0.25 * (1 + np.cos(np.pi * np.arange(36) / 36)), rtol=1e-4)


@pytest.mark.parametrize("name", ["constant", "cosine", "warmup-cosine", "step"])
def test_schedules_of_short_runs_are_positive(lab: Any, name: str) -> None:
    for steps in range(1, 14):
        assert (rates(lab, name, steps) > 0).all()


def history(lab: Any, *validation_losses: float | None) -> Any:
    found = lab.history.History()
    for loss in validation_losses:
        found.measured = [[1.0, 0.5]]
        found.end_epoch(0.5, loss, 0.1)
    return found


@pytest.mark.parametrize(
    ("losses", "chosen", "finished"),
    [
        ([3.0], 1, False),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.0], 2, True),  # an equal loss is no gain
        ([3.0, 2.0, 2.5, 1.0], 4, False),
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], 6, True),  # all the epochs asked for
    ],
)
def test_early_stop_waits_for_its_patience(
    lab: Any, losses: list[float], chosen: int, finished: bool
) -> None:
    config = lab.settings.Config(epochs=6, early_stop=2)
    found = history(lab, *losses)
    assert (found.chosen_epoch, found.finished(config)) == (chosen, finished)


def test_without_early_stop_the_last_epoch_counts(lab: Any) -> None:
    config = lab.settings.Config(epochs=3)
    assert not history(lab, None, None).finished(config)
    assert history(lab, None, None, None).finished(config)
    assert history(lab, None, None).chosen_epoch == 2


def test_held_back_digits_are_a_tenth_and_always_the_same(lab: Any) -> None:
    digits = lab.images.Labelled(np.zeros((45, 28, 28, 1), np.uint8), np.arange(45))
    (rest, held_back), again = lab.images.hold_back(digits), lab.images.hold_back(digits)
    assert len(held_back.labels) == 4
    np.testing.assert_array_equal(np.sort(np.concatenate([rest.labels, held_back.labels])), np.arange(45))
    np.testing.assert_array_equal(held_back.labels, again[1].labels)


def fit(lab: Any, folder: Path, name: str, **options: object) -> tuple[Any, Any]:
    config = lab.settings.Config(
        data=folder, out=folder / name, batch_size=19, schedule="constant", early_stop=2, **options
    )
    parts, ops = lab.datasets.load_parts(config), lab.lenet.operators(peer="lax")
    with closing(lab.checkpoint.Checkpoints(config, {})) as checkpoints:
        return lab.loop.fit(config, parts, ops, lab.step.make_predict(ops), checkpoints)


def test_stopped_run_keeps_the_parameters_of_its_best_epoch(lab: Any, tmp_path: Path) -> None:
    write_idx_folder(tmp_path)  # noise, of which nothing can be learned but by heart
    params, history = fit(lab, tmp_path, "stopped", epochs=40)
    losses = [epoch.validation_loss for epoch in history.epochs]
    assert len(losses) < 40 and history.chosen_epoch == len(losses) - 2 == int(np.argmin(losses)) + 1
    best, _ = fit(lab, tmp_path, "best", epochs=history.chosen_epoch)
    for layer, arrays in params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, best[layer][name])


def test_log_forgets_what_the_checkpoint_does_not_hold(lab: Any, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    epochs = history(lab, 3.0, None).epochs
    log = lab.log.Log(tmp_path, epochs[:1])
    log.append(epochs[1])
    whole = path.read_text()
    assert whole == (
        "epoch,train_loss,train_accuracy,test_accuracy,validation_loss,learning_rate,seconds\n"
        "1,1.0,0.5,0.5,3.0,0.1,0.0\n"
        "2,1.0,0.5,0.5,,0.1,0.0\n"
    )
    path.write_text(whole[:-9])
    lab.log.Log(tmp_path, epochs[:1])
    assert path.read_text().splitlines() == whole.splitlines()[:2]
