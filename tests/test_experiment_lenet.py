"""The LeNet experiment: its network, its peer, its error lines and a whole short run."""

import csv
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from lenet_modules import LENET, PACKAGES, lenet_modules, one_error_line, write_idx_folder

for _package in PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} belongs to the extra 'experiments'")

XLA_WINDOWS = ("conv_general_dilated", "reduce_window", "select_and_scatter")
PICTURES = {"loss.png", "filters.png", "feature_maps.png", "confusion.png"}
FILES = {"metrics.json", "log.csv", "parameters.npz"} | PICTURES


@pytest.fixture(scope="module")
def lab() -> Iterator[Any]:
    with lenet_modules() as modules:
        yield modules


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "idx"
    folder.mkdir()
    write_idx_folder(folder)
    return folder


@pytest.fixture(scope="module")
def digits(lab: Any) -> Any:
    return lab.datasets.load("mnist", None)


# Batches


def test_shift_moves_every_image_by_its_own_corner(lab: Any) -> None:
    x = np.zeros((3, 6, 7, 1), np.float32)
    x[:, 2:4, 2:5] = np.arange(1, 7).reshape(2, 3, 1)
    corners = np.array([[2, 2], [0, 1], [3, 4]], np.int32)
    expected = np.stack([np.roll(x[i], tuple(2 - corners[i]), axis=(0, 1)) for i in range(3)])
    np.testing.assert_array_equal(lab.step.shift(jnp.asarray(x), corners, 2), expected)


def test_batches_hold_every_digit_once_in_an_order_of_seed_and_epoch(lab: Any) -> None:
    train = lab.images.Labelled(np.zeros((70, 28, 28, 1), np.uint8), np.arange(70))

    def labels(seed: int, epoch: int, first: int = 0) -> np.ndarray:
        config = lab.settings.Config(seed=seed, batch_size=10)
        return np.concatenate([batch.labels for batch in lab.step.batches(config, train, epoch, first)])

    np.testing.assert_array_equal(np.sort(labels(0, 1)), np.arange(70))
    np.testing.assert_array_equal(labels(0, 1), labels(0, 1))
    np.testing.assert_array_equal(labels(0, 1)[30:], labels(0, 1, first=3))
    assert (labels(0, 1) != labels(0, 2)).any() and (labels(0, 1) != labels(1, 1)).any()
    config = lab.settings.Config(batch_size=32)
    assert [len(batch.labels) for batch in lab.step.batches(config, train, 1)] == [32, 32]


# Network


def test_layers_have_the_shapes_and_parameter_counts_of_lenet_5(lab: Any) -> None:
    params = lab.lenet.init(0)
    maps = jax.eval_shape(
        lambda p, x: lab.lenet.activations(p, x, lab.lenet.operators()), params, jnp.zeros((2, 28, 28, 1))
    )
    assert {layer: array.shape[1:] for layer, array in maps.items()} == {
        "C1": (28, 28, 6),
        "S2": (14, 14, 6),
        "C3": (10, 10, 16),
        "S4": (5, 5, 16),
        "C5": (120,),
        "F6": (84,),
        "output": (10,),
    }
    counts = lab.lenet.parameter_counts(params)
    assert counts == {"C1": 156, "C3": 2416, "C5": 48120, "F6": 10164, "output": 850}


def test_losses_and_the_gradient_of_the_squared_error(lab: Any) -> None:
    y = np.array([[0.5, 2.0] + [0.0] * 8, [1.0] + [0.0] * 9], np.float32)
    labels, t = np.array([1, 0]), np.eye(10, dtype=np.float32)[[1, 0]]
    assert lab.lenet.mse(y, labels) == pytest.approx((0.5**2 + 1.0**2) / 2 / 2)
    np.testing.assert_allclose(jax.grad(lab.lenet.mse)(y, labels), (y - t) / 2)
    softmax = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    expected = -(np.log(softmax[0, 1]) + np.log(softmax[1, 0])) / 2
    assert lab.lenet.cross_entropy(y, labels) == pytest.approx(expected, rel=1e-6)


def primitives(jaxpr: core.Jaxpr) -> set[str]:
    """The names of all primitives, those inside calls and custom rules too."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: isinstance(v, (core.Jaxpr, core.ClosedJaxpr))
        ):
            if isinstance(inner, (core.Jaxpr, core.ClosedJaxpr)):
                names |= primitives(getattr(inner, "jaxpr", inner))
    return names


def gradient_primitives(lab: Any, peer: str | None, loss: str) -> set[str]:
    config = lab.settings.Config(peer=peer, loss=loss)
    measure = lab.step.make_loss(config, lab.lenet.operators(peer))
    gradient = jax.grad(measure, has_aux=True)
    x, labels = jnp.zeros((4, 28, 28, 1)), jnp.arange(4)
    return primitives(jax.make_jaxpr(gradient)(lab.lenet.init(0), x, labels).jaxpr)


def xla_windows(names: set[str]) -> set[str]:
    return {window for window in XLA_WINDOWS for name in names if name.startswith(window)}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="on accelerators auto may choose XLA")
@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_gradient_of_the_network_holds_no_xla_convolution_or_window(lab: Any, loss: str) -> None:
    found = gradient_primitives(lab, None, loss)
    assert "dot_general" in found
    assert not xla_windows(found)


def test_gradient_of_the_lax_peer_holds_them(lab: Any) -> None:
    assert xla_windows(gradient_primitives(lab, "lax", "mse")) == set(XLA_WINDOWS)


# Training


Losses = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def step_losses(lab: Any, digits: Any) -> Losses:
    """A function: options -> the losses of the first 30 steps. It compiles each kind of step once."""
    steps, batch_size = 30, 16
    train = digits[0].first(steps * batch_size)

    @functools.cache
    def compiled(peer: str | None, loss: str, x64: bool) -> tuple[Any, Any]:
        config = lab.settings.Config(batch_size=batch_size, peer=peer, loss=loss)
        optimizer = lab.step.make_optimizer(config, steps)
        step = lab.step.make_step(config, lab.lenet.operators(peer), optimizer)
        state = lab.step.init_state(config, optimizer).train
        return optimizer, lab.loop.compile_step(config, step, state, train)

    def losses(peer: str | None = None, loss: str = "cross-entropy", seed: int = 0) -> np.ndarray:
        config = lab.settings.Config(batch_size=batch_size, seed=seed)
        optimizer, step = compiled(peer, loss, jax.config.jax_enable_x64)
        state, measured = lab.step.init_state(config, optimizer).train, []
        for batch in lab.step.batches(config, train, epoch=1):
            state, loss_and_accuracy = step(state, batch)
            measured.append(float(loss_and_accuracy[0]))
        return np.array(measured)

    return losses


def test_losses_fall_and_depend_on_the_seed_alone(step_losses: Losses) -> None:
    losses = step_losses()
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()
    np.testing.assert_array_equal(losses, step_losses())
    assert (losses != step_losses(seed=1)).all()


def test_losses_are_those_of_the_lax_peer(step_losses: Losses) -> None:
    # Not many steps: rounding may one day put some digit on the other side of a ReLU's corner.
    np.testing.assert_allclose(step_losses()[:20], step_losses(peer="lax")[:20], rtol=1e-4)


def test_float64_losses_are_those_of_the_lax_peer_much_more_closely(step_losses: Losses) -> None:
    with jax.enable_x64(True):
        ours, lax = step_losses(loss="mse"), step_losses(loss="mse", peer="lax")
    np.testing.assert_allclose(ours, lax, rtol=1e-11)


def test_a_loss_that_is_no_number_ends_the_run(lab: Any) -> None:
    with pytest.raises(lab.settings.ExperimentError, match="diverged: the loss of epoch 2 is nan"):
        history = lab.history.History(measured=[[1.0, 0.5]])
        history.end_epoch(0.1, None, 0.1)
        history.measured = [[np.nan, 0.5]]
        history.end_epoch(0.1, None, 0.1)


# Command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs: must be a whole number from 1 to 10000, got '0'"),
        (["--batch-size", "many"], "--batch-size: must be a whole number from 1 to 60000, got 'many'"),
        (["--seed", "-1"], "--seed: must be a whole number"),
        (["--loss", "hinge"], "--loss: invalid choice: 'hinge'"),
        (["--peer", "torch"], "--peer: invalid choice: 'torch'"),
        (["--peer", "lax", "--algorithm", "direct"], "leave it out with --peer"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_bad_option_is_one_line(
    lab: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in one_error_line(lab, capsys, *arguments)


def test_unwritable_folder_is_one_line_before_anything_else(
    lab: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        line = one_error_line(lab, capsys, "--out", out, "--data", tmp_path / "nowhere")
        assert f"--out {out} cannot be written" in line


def test_options_that_only_the_data_or_the_library_can_refuse_are_one_line(
    lab: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, idx_folder: Path
) -> None:
    common = ("--out", tmp_path / "out", "--data", idx_folder)
    line = one_error_line(lab, capsys, *common, "--batch-size", "65")
    assert "--batch-size must be at most the 64 training images, got 65" in line
    assert "--algorithm sorcery: " in one_error_line(lab, capsys, *common, "--algorithm", "sorcery")


def test_file_is_written_whole_or_not_at_all(lab: Any, tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")

    def fail(file: Any) -> None:
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        lab.outputs.write(path, fail)
    assert path.read_bytes() == b"old"
    lab.outputs.write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    taken = tmp_path / "folder"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(lab.settings.ExperimentError, match="cannot be written"):
        lab.outputs.write(taken, lambda file: file.write(b"new"))
    assert {entry.name for entry in tmp_path.iterdir()} == {"result", "folder"}


def test_curves_of_a_perfect_run_are_drawn(lab: Any, tmp_path: Path) -> None:
    epochs = [lab.history.Epoch(1, 0.5, 1.0, 1.0, None, 0.1, 1.0)]
    lab.figures.curves(epochs, 1, "mse", lab.datasets.DATASETS["mnist"]).savefig(tmp_path / "loss.png")


@pytest.mark.slow
def test_quick_run_writes_every_result(lab: Any, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    command = [
        sys.executable,
        "-W",
        "error",
        str(LENET / "train.py"),
        "--quick",
        "--out",
        str(out),
        "--seed",
        "5",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout and "loss=" in done.stderr
    assert {entry.name for entry in out.iterdir()} == FILES | {"checkpoints"}
    for name in PICTURES:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((out / "metrics.json").read_text())
    with open(out / "log.csv", newline="") as log:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(log)]
    assert rows == [
        {name: value for name, value in epoch.items() if value is not None} for epoch in metrics["epochs"]
    ]
    assert metrics["options"]["seed"] == 5 and metrics["options"]["quick"] is True
    assert metrics["parameters"] == 61706 and metrics["versions"]["jax"] == jax.__version__
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2]
    assert metrics["epochs"][1]["train_loss"] < metrics["epochs"][0]["train_loss"]
    assert metrics["test_accuracy"] == metrics["epochs"][1]["test_accuracy"] > 0.3
    assert len(metrics["step_losses"]) == 40
    with np.load(out / "parameters.npz") as saved:
        assert sum(saved[name].size for name in saved.files) == 61706
        assert saved["C3/kernel"].shape == (5, 5, 6, 16)
