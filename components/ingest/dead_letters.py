"""Rows that were not written, as JSON lines that ingest reads again: the fields of the input, and `_ingest` about them.

{"model_id": "m", "value": "much", "_ingest": {"file": "rows.csv", "line": 7, "error": "value: got 'much', rule: ..."}}
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cassandra.util import Date

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.ingest.json_lines import NOTE
from tfx_cassandra.components.ingest.records import Broken, Records
from tfx_cassandra.components.ingest.values import scalar_name


class DeadLetters:
    """A file of dead letters.

    Args:
      path: The file; None to keep none.
      continued: The bytes of an earlier run that are kept; what follows them was not acknowledged, and is cut off. None
        for a new file.

    Raises:
      ValueError: A new file exists already.
    """

    def __init__(self, path: Path | None, continued: int | None = None) -> None:
        self._path, self.size, self._lines = path, continued or 0, list[str]()
        if path is None:
            return
        if path.exists() and path.stat().st_size and continued is None:
            raise invalid(
                'dead-letters', str(path), 'a file that does not exist yet, unless a checkpoint goes on with it'
            )
        if path.exists() and continued is not None:
            os.truncate(path, min(continued, path.stat().st_size))
        elif continued:
            raise invalid('dead-letters', str(path), f'the file of the checkpoint, with {continued:,} bytes or more')

    def add(self, path: str, records: Records, index: int, error: str, kind_of: Callable[[str], Any]) -> None:
        """Adds a record.

        Args:
          path: Its input.
          records: The records that it is one of.
          index: Which of them.
          error: Why it was not written.
          kind_of: The CQL type of a field.
        """
        line = None if records.lines is None else int(records.lines[index])
        row = {name: _json(value, kind_of(name)) for name, value in records.row(index).items()}
        self._append(row, path, int(records.numbers[index]), line, error)

    def add_broken(self, path: str, record: Broken) -> None:
        """Adds a record that has no fields."""
        self._append({}, path, record.record, record.line, record.error, text=record.text)

    def _append(self, row: dict[str, Any], path: str, number: int, line: int | None, error: str, **more: str) -> None:
        place = {'row': number} if line is None else {'line': line}
        note = {'file': path, **place, 'error': error, **more}
        self._lines.append(json.dumps({**row, NOTE: note}) + '\n')

    def flush(self) -> None:
        """Writes what was added to the disk, before a checkpoint says so."""
        if not self._lines or self._path is None:
            self._lines.clear()
            return
        self._path.touch(0o600)  # it holds rows
        with self._path.open('ab') as file:
            file.write(''.join(self._lines).encode())
            file.flush()
            os.fsync(file.fileno())
            self.size = file.tell()
        self._lines.clear()


def _json(value: Any, kind: Any) -> Any:
    """Returns a value as JSON, in a form that `values.value_of` takes."""
    name = kind.typename
    if name == 'frozen':
        return _json(value, kind.subtypes[0])
    if isinstance(value, list) and len(value) == 1 and scalar_name(kind):  # a feature of a tf.Example
        value = value[0]
    if isinstance(value, list) and name in ('list', 'set'):
        return [_json(item, kind.subtypes[0]) for item in value]
    if isinstance(value, bytes):
        return f'0x{value.hex()}' if name == 'blob' else value.decode(errors='surrogateescape')
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return f'0x{value.hex()}'
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Date):
        return value.days_from_epoch
    return str(value) if isinstance(value, decimal.Decimal) else value
