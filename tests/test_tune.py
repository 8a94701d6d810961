"""Measured plans: found, kept in a file that nothing can break, and followed."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv import _plans, _tune
from jaxconv._problem import Pass

X, W = np.ones((2, 8, 8, 4), np.float32), np.ones((3, 3, 4, 5), np.float32)


@pytest.fixture(autouse=True)
def rule_before_and_after() -> Iterator[None]:
    jaxconv.forget_plans()
    yield
    jaxconv.forget_plans()
    jax.clear_caches()


@pytest.fixture
def quick_race(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No clock: the winner of each pass is the one named here, gemm unless told. Few programs to compile."""
    favourites: dict[str, str] = {}
    few = [
        algorithm for algorithm in _tune.ALGORITHMS if algorithm.name in ("direct", "outer", "gemm", "banded")
    ]
    monkeypatch.setattr(_tune, "ALGORITHMS", few)

    def race(calls: Any, a: Any, b: Any) -> dict[str, float]:
        name = "forward" if a.shape == X.shape and b.shape == W.shape else "gradient"
        return {n: 1.0 if n == favourites.get(name, "gemm") else 10.0 for n in calls}

    monkeypatch.setattr(_tune, "race", race)
    return favourites


def loss(x: Any, w: Any) -> jax.Array:
    return (jaxconv.max_pool(jaxconv.conv(x, w), (2, 2)) ** 2).sum()


def algorithms() -> list[str]:
    return [p.algorithm for p in jaxconv.explain(X.shape, W.shape).passes]


def test_a_step_is_measured_in_all_its_passes(tmp_path: Path) -> None:
    tuning = jaxconv.tune(jax.grad(loss, (0, 1)), X, W, plan_file=tmp_path / "plans.json")
    assert {m.pass_ for m in tuning.measurements} == set(Pass)
    for m in tuning.measurements:
        assert {"direct", "gemm", m.rule, m.winner} <= set(m.milliseconds)
        assert "xla" not in m.milliseconds
        assert min(m.milliseconds.values()) > 0 and m.regret >= 1
    assert tuning.regret >= 1
    assert "geometric mean" in str(tuning) and "kernel_grad" in str(tuning)


def test_later_traces_follow_the_plans_until_they_are_forgotten(
    tmp_path: Path, quick_race: dict[str, str]
) -> None:
    path = tmp_path / "plans.json"
    before = algorithms()
    compiled = jax.jit(loss)
    value = compiled(X, W)
    quick_race["forward"] = "direct"
    jaxconv.tune(jax.grad(loss, (0, 1)), X, W, plan_file=path)
    assert algorithms() == ["direct", "gemm", "gemm"]
    assert "measured" in jaxconv.explain(X.shape, W.shape).passes[0].reason
    np.testing.assert_allclose(compiled(X, W), value, rtol=1e-5)
    jaxconv.forget_plans()
    assert algorithms() == before
    assert jaxconv.use_plans(path) == 3
    assert algorithms() == ["direct", "gemm", "gemm"]


def test_a_jitted_function_that_ran_before_is_measured_too(tmp_path: Path, quick_race: Any) -> None:
    step = jax.jit(jax.grad(loss, (0, 1)))
    step(X, W)
    tuning = jaxconv.tune(step, X, W, plan_file=tmp_path / "plans.json")
    assert len(tuning.measurements) == 3


def test_named_algorithms_and_empty_or_unsized_problems_are_left_alone(tmp_path: Path) -> None:
    def named(x: Any, w: Any) -> jax.Array:
        return jaxconv.conv(x, w, algorithm="gemm") + jaxconv.conv(x[:0], w).sum()

    assert not jaxconv.tune(named, X, W, plan_file=tmp_path / "plans.json").measurements


def test_arguments_may_be_shapes_options_and_trees(tmp_path: Path, quick_race: Any) -> None:
    def fn(tree: Any, stride: int, *, padding: str) -> jax.Array:
        return jaxconv.conv(tree["x"], tree["w"], strides=stride, padding=padding)

    shapes = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in (("x", X), ("w", W))}
    tuning = jaxconv.tune(fn, shapes, 2, padding="VALID", plan_file=tmp_path / "plans.json")
    assert [m.problem.strides for m in tuning.measurements] == [(2, 2)]


def test_a_winner_within_the_noise_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rule, *_) = algorithms()
    monkeypatch.setattr(_tune, "race", lambda calls, a, b: {n: 1.0 if n == rule else 0.97 for n in calls})
    tuning = jaxconv.tune(lambda x, w: jaxconv.conv(x, w), X, W, plan_file=tmp_path / "plans.json")
    assert [m.winner for m in tuning.measurements] == [rule]


def test_plans_of_other_problems_and_machines_stay_in_the_file(tmp_path: Path, quick_race: Any) -> None:
    path = tmp_path / "plans.json"
    jaxconv.tune(lambda x, w: jaxconv.conv(x, w), X, W, plan_file=path)
    content = json.loads(path.read_text())
    content["machines"]["tpu; v9; jaxlib 1"] = {"problem": {"forward": {"algorithm": "xla"}}}
    path.write_text(json.dumps(content))
    tuning = jaxconv.tune(lambda x, w: jaxconv.conv(x, w, strides=2), X, W, plan_file=path)
    assert tuning.plan_file == path
    after = json.loads(path.read_text())
    assert "tpu; v9; jaxlib 1" in after["machines"]
    assert len(after["machines"][_plans.machine_key()]) == 2
    assert os.listdir(tmp_path) == ["plans.json"]
    assert jaxconv.use_plans(path) == 2


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU's own name is unique")
def test_processors_of_one_name_are_two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine may hide the model number in the name."""

    def key(text: str) -> str:
        monkeypatch.setattr(Path, "read_text", lambda _: text)
        return _plans.machine_key()

    cpus = "processor\t: {}\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n\n"
    older, newer, same = (key(cpus.format(0, m) + cpus.format(1, m)) for m in (1, 17, 17))
    assert older != newer == same
    assert "AMD EPYC (family 25, model 17)" in newer
    assert key("processor\t: 0\nCPU part\t: 0xd40\n") not in (older, newer)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{not json",
        "[1, 2]",
        '{"format": "another program"}',
        '{"format": "jaxconv plans", "version": 99, "machines": {}}',
        '{"format": "jaxconv plans", "version": 1, "machines": {"cpu": {"problem": {"forward": "gemm"}}}}',
        "\udcff",
    ],
)
def test_a_file_that_is_not_of_plans_is_ignored_with_one_warning(
    tmp_path: Path, content: str, quick_race: Any
) -> None:
    path = tmp_path / "plans.json"
    path.write_text(content, errors="surrogateescape")
    before = algorithms()
    with pytest.warns(RuntimeWarning, match="ignores the plans"):
        assert jaxconv.use_plans(path) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jaxconv.use_plans(path) == 0
        assert algorithms() == before
        jaxconv.tune(lambda x, w: jaxconv.conv(x, w), X, W, plan_file=path)
    assert path.with_name("plans.json.bak").read_text(errors="surrogateescape") == content
    assert jaxconv.use_plans(path) == 1


def test_unknown_or_unable_winners_fall_back_on_the_rule(tmp_path: Path, quick_race: Any) -> None:
    path = tmp_path / "plans.json"
    before = algorithms()
    jaxconv.tune(lambda x, w: jaxconv.conv(x, w), X, W, plan_file=path)
    text = path.read_text()
    for name in ("grouped", "xla", "of tomorrow"):
        path.write_text(text.replace('"algorithm": "gemm"', f'"algorithm": "{name}"'))
        jaxconv.use_plans(path)
        assert algorithms() == before


def test_a_folder_that_cannot_be_written_costs_the_file_not_the_plans(
    tmp_path: Path, quick_race: Any
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="cannot keep"):
        jaxconv.tune(lambda x, w: jaxconv.conv(x, w), X, W, plan_file=tmp_path / "file" / "plans.json")
    assert algorithms()[0] == "gemm"


def test_the_default_file_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _plans.default_file() == tmp_path / "jaxconv" / "plans.json"
    assert jaxconv.use_plans() == 0


def test_another_process_reads_what_this_one_wrote(tmp_path: Path, quick_race: dict[str, str]) -> None:
    path = tmp_path / "plans.json"
    quick_race["forward"] = "direct"
    jaxconv.tune(lambda x, w: jaxconv.conv(x, w), X, W, plan_file=path)
    program = (
        f"import jaxconv; assert jaxconv.use_plans({str(path)!r}) == 1; "
        f"print(jaxconv.explain({X.shape}, {W.shape}).passes[0].algorithm)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "direct"


def test_only_functions_are_tuned() -> None:
    with pytest.raises(TypeError, match="must be a function"):
        jaxconv.tune(jnp.ones(3))  # type: ignore[arg-type]
