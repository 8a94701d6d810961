"""MkDocs hook: the site has the repository's own paths, so that links work in both.

MkDocs knows one folder of pages. This hook replaces what it found there by the pages of the whole
repository, each under its path: README.md is the start, notebooks and experiments are pages, and links to
figures and source files lead to the files. Formulas become MathML, which browsers draw by themselves.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/**/*.md", "experiments/**/*.md", "notebooks/*.ipynb")
FIGURES = ("experiments/*/results/**/*.png", "notebooks/**/*.png")
SOURCES = ("docs/*.css", "src/**/*.py", "tests/*.py", "experiments/**/*.py", "LICENSE")
MATHJAX = re.compile(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.DOTALL)
VERBATIM = re.compile(r"(<(?:pre|code|script|style)\b.*?</(?:pre|code|script|style)>)", re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$", re.DOTALL)


# Before mkdocs-jupyter, which turns the notebooks that it is shown into pages.
@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's own files and the repository's."""
    for file in list(files.documentation_pages()) + list(files.media_files()):
        if file.abs_src_path and Path(file.abs_src_path).is_relative_to(ROOT / "docs"):
            files.remove(file)
    for pattern in (*PAGES, *FIGURES, *SOURCES):
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File(uri, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """A notebook's page with formulas in MathML, without the script of another host that would draw them."""
    return with_formulas(html) if page.file.src_uri.endswith(".ipynb") else html


def with_formulas(content: str) -> str:
    """The page with MathML in the place of `$TeX$` and `$$TeX$$` outside of code."""
    parts = VERBATIM.split(MATHJAX.sub("", content))
    parts[::2] = [FORMULA.sub(mathml, part) for part in parts[::2]]
    return "".join(parts)


def mathml(found: re.Match[str]) -> str:
    block, inline = found.groups()
    return convert(unescape(block or inline).strip(), display="block" if block else "inline")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A folder in the navigation stands for its pages."""
    config.nav = [expanded(entry) for entry in config.nav or []]
    return config


def expanded(entry: object) -> object:
    """`{title: "folder/"}` with the folder's notebooks, or the READMEs of its folders, as its entries."""
    if not isinstance(entry, dict):
        return entry
    ((title, value),) = entry.items()
    if not isinstance(value, str) or not value.endswith("/"):
        return entry
    found = [
        p for pattern in ("README.md", "*.ipynb", "*/README.md") for p in sorted(ROOT.glob(value + pattern))
    ]
    return {title: [path.relative_to(ROOT).as_posix() for path in found]}
