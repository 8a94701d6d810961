"""Markdown pages as the tests read them: fenced blocks under their headings, run as a reader types them."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the last heading above it and its line."""

    language: str
    text: str
    heading: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text()
    outside = FENCE.sub(lambda match: " " * len(match.group()), text)
    headings = [(match.start(), match[1]) for match in HEADING.finditer(outside)]
    found = []
    for match in FENCE.finditer(text):
        above = [title for start, title in headings if start < match.start()]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], above[-1] if above else "", line))
    return found


@contextlib.contextmanager
def as_typed() -> Iterator[None]:
    """JAX's default configuration, which a reader has."""
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def run(code: str, names: dict[str, Any], label: str) -> None:
    """Execute `code` with `names`, under JAX's default configuration."""
    with as_typed():
        exec(compile(code, label, "exec"), names)
