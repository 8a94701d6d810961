"""Every relative link of the pages, notebooks included, leads to a file and to an anchor in it."""

import json
import re
from pathlib import Path

import pytest

from pages import FENCE, ROOT

PATTERNS = ("*.md", "docs/**/*.md", "experiments/**/*.md", "notebooks/*.ipynb")
PAGES = [p.relative_to(ROOT).as_posix() for pattern in PATTERNS for p in sorted(ROOT.glob(pattern))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`\n]*`")
NO_BRACKETS = str.maketrans("", "", "[]")
SCHEME = re.compile(r"[a-z]+:")


def prose(page: Path) -> str:
    """The page's Markdown without its code."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return CODE.sub(lambda code: code.group().translate(NO_BRACKETS), FENCE.sub("", text))


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


def anchors(page: Path) -> set[str]:
    """Headings, and on the reference's pages the objects that they document."""
    text = prose(page)
    headings = {slug(h) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    return headings | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for target in LINK.findall(prose(page)):
        if SCHEME.match(target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            found.append(target)
        elif anchor and file.suffix in (".md", ".ipynb") and anchor not in anchors(file):
            found.append(target)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    assert not broken(ROOT / name)


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n[no file](none.md) [no heading](#two) [outside](/etc/hosts)\n\n```\n[code](x)\n```\n"
    )
    assert broken(page) == ["none.md", "#two", "/etc/hosts"]


def test_anchors_of_notebooks_are_their_headings() -> None:
    found = anchors(ROOT / "notebooks/01_convolution.ipynb")
    assert "images-are-numbers-t13" in found and "import-os" not in found
