"""What the experiments share: a command, a training loop, plots. The digits and the network are LeNet's."""

import sys
from pathlib import Path

# The modules of these two experiments are scripts side by side, importable by their bare names.
for _folder in ("lenet", "speed"):
    _path = str(Path(__file__).resolve().parents[1] / _folder)
    if _path not in sys.path:
        sys.path.append(_path)

import lenet as lenet  # noqa: E402
import mnist as mnist  # noqa: E402
import step as step  # noqa: E402
