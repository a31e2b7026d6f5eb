"""What commands print: rows as a table for people or as JSON for programs."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import rich.table
import rich.text

_WIDE = 10_000  # characters of a line where no terminal wraps it
_SHOWN_ENTRIES = 3  # of a mapping, in a cell of a table


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], output_format: str) -> None:
    """Writes rows to standard output.

    Args:
      rows: A mapping for each row; as JSON with all its fields.
      columns: The fields that are the columns of the table, in order.
      output_format: 'table' or 'json'.
    """
    if output_format == 'json':
        print_json(rows)
        return
    table = rich.table.Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style='bold')
    for row in rows:
        table.add_row(*(rich.text.Text(_cell(row.get(column))) for column in columns))
    console = rich.console.Console(file=sys.stdout, highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    wide = rich.console.Console(file=sys.stdout, width=_WIDE, highlight=False)
    with wide.capture() as captured:
        wide.print(table)
    sys.stdout.writelines(f'{line.rstrip()}\n' for line in captured.get().splitlines())


def print_json(value: Any) -> None:
    """Writes a value as JSON to standard output; times as ISO-8601, whatever else JSON lacks as text."""
    text = json.dumps(value, indent=2, default=lambda content: getattr(content, 'isoformat', content.__str__)())
    sys.stdout.write(f'{text}\n')


def _cell(value: Any) -> str:
    """Returns one line of text for a value: a mapping's first entries by key, times by the second."""
    if value is None:
        return '-'
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec='seconds')
    if isinstance(value, Mapping):
        shown = [f'{key}={number:.6g}' for key, number in sorted(value.items())[:_SHOWN_ENTRIES]]
        return ' '.join(shown + ['...'] * (len(value) > _SHOWN_ENTRIES)) or '-'
    if isinstance(value, (list, tuple)):
        return ', '.join(map(str, value)) or '-'
    return ' '.join(str(value).split())
