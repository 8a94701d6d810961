"""The benchmark's modules, importable for a while: they are scripts side by side, no package."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

SPEED = Path(__file__).resolve().parents[1] / "experiments" / "speed"


@contextlib.contextmanager
def speed_modules() -> Iterator[Callable[[str], ModuleType]]:
    """A function that imports one by name; all of them leave `sys.modules` at the end."""
    before = set(sys.modules)
    sys.path.insert(0, str(SPEED))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(SPEED))
        for name in set(sys.modules) - before:
            if str(SPEED) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
