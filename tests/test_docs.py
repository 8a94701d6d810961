"""The site's pages: the reference holds every function once, the theory every row with its notebook."""

import importlib.util
import json
import re

import pytest

import jaxconv
from pages import ROOT

DOCS = ROOT / "docs"
REFERENCE = [
    name
    for page in sorted(DOCS.glob("api/*.md"))
    for name in re.findall(r"^::: jaxconv\.(\S+)$", page.read_text(), re.MULTILINE)
]
THEORY = (DOCS / "theory.md").read_text()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in THEORY.splitlines() if line[:3] == "| T"]


def test_the_reference_holds_every_public_function_once() -> None:
    assert sorted(REFERENCE) == sorted(jaxconv.__all__)


def test_the_readme_names_every_public_function() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in jaxconv.__all__ if f"`{name}`" not in readme]


@pytest.mark.parametrize("name", jaxconv.__all__)
def test_examples_stand_under_a_heading_that_the_reference_knows(name: str) -> None:
    """The singular would be rendered as prose."""
    doc = getattr(jaxconv, name).__doc__ or ""
    assert re.search(r"^    Examples:$", doc, re.MULTILINE)


def test_the_theory_has_its_fourteen_rows() -> None:
    assert [row[0] for row in ROWS] == [f"T{i}" for i in range(1, 15)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_has_a_function_code_and_a_notebook(row: list[str]) -> None:
    tag, _, function, code, notebook = row
    assert re.search(r"\(api/\w+\.md#jaxconv\.\w+\)", function)
    assert re.search(r"\(\.\./(src|experiments)/\S+\)", code)
    (target,) = re.findall(r"\(\.\./(notebooks/\S+\.ipynb)\)", notebook)
    cells = json.loads((ROOT / target).read_text())["cells"]
    prose = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert re.search(rf"\b{tag}\b", prose), f"{target} does not name {tag}"


def test_formulas_of_notebooks_are_mathml_without_a_script_of_another_host() -> None:
    for package in ("latex2mathml", "mkdocs"):
        pytest.importorskip(package, reason=f"{package} belongs to the extra 'docs'")
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    assert spec and spec.loader
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    script = (
        '<!-- Load mathjax --><script src="https://host/x.js"> </script><!-- End of mathjax configuration -->'
    )
    page = hooks.with_formulas(script + "<p>$a &lt; b$ and <code>$c$</code></p>$$\\frac{1}{2}$$")
    assert "host" not in page and "<code>$c$</code>" in page
    assert page.count("<math") == 2 and "<mfrac>" in page and 'display="block"' in page
    assert "<mo>&lt;</mo>" in page or "<mo>&#x0003C;</mo>" in page
