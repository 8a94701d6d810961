"""The notebooks: committed with all their outputs, each runs in its quick mode without a warning."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 600_000  # so that code hosts render it
SECONDS = 300

notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code_cells(book: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def complaints(book: dict[str, Any]) -> list[Any]:
    """Errors, and whatever went to stderr: warnings first of all."""
    outputs = [output for cell in code_cells(book) for output in cell["outputs"]]
    return [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]


@notebook
def test_committed_as_executed_from_top_to_bottom(path: Path) -> None:
    book = read(path)
    cells = code_cells(book)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not complaints(book)
    for cell in cells:
        kinds = [kind for out in cell["outputs"] for kind in out.get("data", {})]
        assert "plt.show()" not in source(cell) or any(kind.startswith("image/") for kind in kinds), source(
            cell
        )
        assert cell["outputs"] or "print(" not in source(cell), source(cell)


@notebook
def test_small_and_free_of_machine_paths(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    text = "\n".join(json.dumps(cell.get("outputs", "")) for cell in read(path)["cells"])
    assert not re.search(r"(?:/tmp|/home|/Users|/work)/|site-packages", text)


@notebook
def test_opens_with_a_title_and_the_quick_switch(path: Path) -> None:
    book = read(path)
    assert source(book["cells"][0]).startswith("# ")
    assert 'os.environ.get("JAXCONV_QUICK")' in source(code_cells(book)[0])


def test_every_row_of_the_theory_stands_in_a_heading() -> None:
    cells = [cell for path in NOTEBOOKS for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]
    headings = [line for cell in cells for line in source(cell).splitlines() if line.startswith("#")]
    assert {row for line in headings for row in re.findall(r"\bT\d+\b", line)} == {
        f"T{n}" for n in range(1, 15)
    }


@pytest.mark.slow
@notebook
def test_runs_quickly_without_a_warning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("ipykernel", "matplotlib", "mlxtend", "nbformat", "optax", "skimage"):
        pytest.importorskip(package, reason=f"{package} belongs to the extra 'experiments'")
    nbclient = pytest.importorskip("nbclient", reason="nbclient belongs to the extra 'experiments'")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("JAXCONV_QUICK", "1")
    book = nbformat.read(path, as_version=4)
    before = [cell["execution_count"] for cell in code_cells(book)]
    nbclient.NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert not complaints(book)
    assert [cell["execution_count"] for cell in code_cells(book)] == before
