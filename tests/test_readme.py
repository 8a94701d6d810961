"""What the pages tell a reader to type: their Python runs and prints what they say, their commands exist."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import jaxconv
from pages import ROOT, blocks, run

PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "experiments/**/README.md")
    for page in sorted(ROOT.glob(pattern))
    if page.name != "errors.md"  # test_errors_page.py runs its blocks, which are meant to fail
]
WITH_PYTHON = [page for page in PAGES if any(b.language == "python" for b in blocks(page))]
SAID = re.compile(r"^print\(.*\)  # (.+)$", re.MULTILINE)
COMMAND = re.compile(r"\bpython ((?:experiments|docs)/\S+\.py)")
EXTRAS = re.compile(r"pip install (?:-e )?'\.\[([\w,]+)\]'")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_blocks_run_and_print_what_they_say(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order and in one namespace, as a reader goes down the page."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            run(block.text, names, f"{page.name}:{block.line}")
        for said in SAID.findall(block.text):
            assert said in printed.getvalue().splitlines()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_files_and_extras_that_exist(page: Path) -> None:
    text = page.read_text()
    assert all((ROOT / path).exists() for path in COMMAND.findall(text))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for extras in EXTRAS.findall(text) for extra in extras.split(",")} <= known.keys()


def test_the_readme_has_examples() -> None:
    assert ROOT / "README.md" in WITH_PYTHON


def test_every_example_in_a_docstring_belongs_to_a_public_function() -> None:
    """Those of public functions are run by test_api.py."""
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(jaxconv.__path__, "jaxconv.")]
    finder = doctest.DocTestFinder()
    examples = {t.name.rpartition(".")[2] for m in modules for t in finder.find(m) if t.examples}
    assert examples <= set(jaxconv.__all__)
