"""`log.csv`: a line for each epoch as it ends, for a spreadsheet or a plot while the run goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import outputs
from history import Epoch
from settings import ExperimentError

COLUMNS = tuple(column.name for column in fields(Epoch))


class Log:
    """The file of one run, which always says what the checkpoints say, or a last line less."""

    def __init__(self, folder: Path, epochs: Sequence[Epoch]) -> None:
        """Write the file anew: what a kill cut off, or an earlier run left, is not in `epochs`."""
        self._path = folder / "log.csv"
        outputs.write(self._path, lambda file: file.write(_lines([COLUMNS, *map(astuple, epochs)])))

    def append(self, epoch: Epoch) -> None:
        """Add a line in a single write, after the epoch's checkpoint."""
        try:
            with open(self._path, "ab", buffering=0) as file:
                file.write(_lines([astuple(epoch)]))
        except OSError as error:
            raise ExperimentError(f"{self._path} cannot be written: {error.strerror}") from error


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    """RFC 4180 but for the line ends; a number that there is none of is an empty field."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
