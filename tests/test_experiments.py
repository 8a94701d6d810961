"""Every experiment runs with `--quick`, and its README shows the table of its committed results."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

for _package in ("matplotlib", "mlxtend", "optax", "skimage", "tqdm"):
    pytest.importorskip(_package, reason=f"{_package} belongs to the extra 'experiments'")

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/run.py") if path.parent.name != "speed")
each = pytest.mark.parametrize("run", NAMES, indirect=True)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The experiment's module; it and what it imported from the folder leave `sys.modules` at the end."""
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(ROOT))
    try:
        yield importlib.import_module(f"experiments.{request.param}.run")
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if name.startswith("experiments") or (file and Path(file).is_relative_to(FOLDER)):
                del sys.modules[name]


@pytest.mark.slow
@each
def test_quick_run_writes_its_results(run: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    name = run.__name__.split(".")[1]
    arguments = ["--quick", "--seeds", "1", "--out", str(tmp_path)]
    assert run.main(name, run.QUESTION, run.experiment, run.table, arguments) == 0
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["experiment"] == name
    assert content["options"] == {"quick": True, "seeds": 1}
    assert {"jaxconv", "jax", "numpy"} <= set(content["versions"])
    assert run.table(content["results"]) in capsys.readouterr().out
    committed = {path.name for path in (FOLDER / name / "results").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == committed


@each
def test_readme_shows_the_committed_results(run: ModuleType) -> None:
    folder = FOLDER / run.__name__.split(".")[1]
    content = json.loads((folder / "results" / "results.json").read_text())
    readme = (folder / "README.md").read_text()
    assert not content["options"]["quick"]
    assert run.QUESTION in readme
    assert run.table(content["results"]) in readme
    for figure in (folder / "results").glob("*.png"):
        assert f"(results/{figure.name})" in readme
