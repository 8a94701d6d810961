"""docs/errors.md is the table: every call on it fails with the words below it, every remedy runs, and every
refusal in the source stands on it."""

import ast
import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import jaxconv
from pages import ROOT, Block, blocks, run

PAGE = ROOT / "docs" / "errors.md"
PACKAGE = Path(inspect.getfile(jaxconv)).parent
PRELUDE, *REST = blocks(PAGE)
ENTRIES = {REST[i].heading: tuple(REST[i : i + 3]) for i in range(0, len(REST), 3)}


def names() -> dict[str, Any]:
    """What the page's first block defines."""
    defined: dict[str, Any] = {}
    run(PRELUDE.text, defined, "prelude")
    return defined


def refusal(call: Block) -> Exception:
    """What a wrong call raises."""
    with pytest.raises(Exception) as caught:
        run(call.text, names(), call.heading)
    return caught.value


def test_entries_are_a_call_a_message_and_a_remedy() -> None:
    assert len(ENTRIES) == len(REST) / 3, "two entries share a heading, or an entry lacks a block"
    for heading, entry in ENTRIES.items():
        assert [b.language for b in entry] == ["python", "text", "python"], heading
        assert {b.heading for b in entry} == {heading}


@pytest.fixture(autouse=True)
def no_trace_of_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    jaxconv.forget_plans()


@pytest.mark.parametrize("heading", ENTRIES)
def test_the_call_fails_with_the_message(heading: str) -> None:
    call, message, _ = ENTRIES[heading]
    error = refusal(call)
    found = f"{type(error).__name__}: {str(error).splitlines()[0]}\n"
    assert doctest.OutputChecker().check_output(message.text, found, doctest.ELLIPSIS), found


@pytest.mark.parametrize("heading", ENTRIES)
def test_the_remedy_runs(heading: str) -> None:
    *_, remedy = ENTRIES[heading]
    run(remedy.text, names(), heading)


def test_every_public_function_is_on_the_page() -> None:
    wrong = "".join(call.text for call, _, _ in ENTRIES.values())
    shared = {"correlate", "min_pool", "sum_pool", "max_pool_with_argmax"}  # the checks of their twins
    shared |= {"median_pool"}  # rank_pool's
    shared |= {"forget_plans"}  # takes nothing
    missing = [name for name in jaxconv.__all__ if f"jaxconv.{name}(" not in wrong]
    assert set(missing) <= shared


def frames(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next


def raising_lines(error: BaseException | None) -> set[tuple[str, int]]:
    """File and line of every frame that an error, and those it replaced, went through."""
    found: set[tuple[str, int]] = set()
    while error is not None:
        found |= set(frames(error.__traceback__))
        error = error.__context__
    return found


def test_every_refusal_of_the_library_is_on_the_page() -> None:
    seen = set().union(*(raising_lines(refusal(call)) for call, _, _ in ENTRIES.values()))
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and node.exc is not None:
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                if not any((str(path), line) in seen for line in lines):
                    missing.append(f"{path.name}:{node.lineno}")
    assert not missing, "give these refusals an entry in docs/errors.md"
