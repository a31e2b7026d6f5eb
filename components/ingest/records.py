"""Records as the readers of the formats yield them, and their places in the input."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from numpy.typing import NDArray

from tfx_cassandra.components.ingest.convert import Source
from tfx_cassandra.components.write.columns import plain


class Position(NamedTuple):
    """How far an input has been read.

    Attributes:
      records: Number of records before here, wrong ones included.
      lines: Number of line breaks before here, in text.
      offset: Number of bytes before here, decompressed; 0 in formats that are not read in order of their bytes.
    """

    records: int = 0
    lines: int = 0
    offset: int = 0


START = Position()


class Broken(NamedTuple):
    """A record that has no fields.

    Attributes:
      record: Its number, from 1.
      line: The line it starts on, from 1; None in formats without lines.
      text: Its text, as far as it is shown.
      error: `got VALUE, rule: RULE`.
    """

    record: int
    line: int | None
    text: str
    error: str


@dataclasses.dataclass(frozen=True)
class Records:
    """Records that follow each other in an input.

    Attributes:
      columns: The values of each field; shape (records), without the broken ones.
      numbers: The number of each record in the input, from 1; shape (records).
      lines: The line on which each record starts, from 1; None in formats without lines.
      broken: The records among them that have no fields.
      after: Where the next records begin.
      share: How much of the input has been read, from 0 to 1; None if that is not known.
    """

    columns: dict[str, Source]
    numbers: NDArray[Any]
    lines: NDArray[Any] | None
    broken: list[Broken]
    after: Position
    share: float | None = None

    def place(self, index: int) -> str:
        """Returns where a record is, as messages show it: its line, or its number."""
        return place(int(self.numbers[index]), None if self.lines is None else int(self.lines[index]))

    def row(self, index: int) -> dict[str, Any]:
        """Returns the fields of a record that have a value."""
        found = {}
        for name, values in self.columns.items():
            value = values[index]
            value = value if isinstance(values, list) else plain(value)
            if value is not None:
                found[name] = value
        return found


def place(number: int, line: int | None) -> str:
    """Returns the place of a record: `LINE`, or `row NUMBER` in a format without lines."""
    return f'row {number}' if line is None else str(line)
