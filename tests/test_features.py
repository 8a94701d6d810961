"""docs/features.md: every feature that is claimed is linked to a test that exists."""

import ast
import functools
import re

import pytest

from pages import ROOT

PAGE = ROOT / "docs" / "features.md"
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| feature ")
]
CLAIMED = [row for row in ROWS if not row[1].startswith("no")]
TEST = re.compile(r"\[(test_\w+)\]\(\.\./(tests/test_\w+\.py)\)")


@functools.cache
def functions_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_speaks_of_every_library() -> None:
    assert len(ROWS) > 50
    assert {len(row) for row in ROWS} == {8}


@pytest.mark.parametrize("row", CLAIMED, ids=lambda row: row[0])
def test_a_claim_is_linked_to_a_test_that_exists(row: list[str]) -> None:
    found = TEST.findall(row[1])
    assert row[1].startswith("yes") and found
    assert all(name in functions_in(path) for name, path in found)
