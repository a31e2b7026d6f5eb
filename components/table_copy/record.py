"""Which ranges of a table have been copied, in a file that is replaced as a whole: a killed copy goes on from there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tfx_cassandra.components.errors import invalid

_VERSION = 1


class Record:
    """The ranges whose rows the target has acknowledged.

    Args:
      path: The file; None to keep nothing.
      what: What is copied, by name: a record of another copy is refused.

    Attributes:
      rows: The number of rows of each range that is done.

    Raises:
      ValueError: The file is no record, or one of another copy.
    """

    def __init__(self, path: Path | None, what: dict[str, Any]) -> None:
        self._path, self._what = path, what
        self.rows: dict[int, int] = {}
        if path is None or not path.exists():
            return
        try:
            found = json.loads(path.read_text())
            version, before = found['version'], found['what']
            self.rows = {int(unit): int(rows) for unit, rows in found['rows'].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise invalid('checkpoint', str(path), f'a checkpoint of a copy ({type(error).__name__})') from error
        if version != _VERSION or before != what:
            differ = [name for name, value in what.items() if before.get(name) != value]
            rule = f'a checkpoint of the same copy; it differs in {", ".join(differ) or "version"}'
            raise invalid('checkpoint', str(path), rule)

    def done(self, unit: int, rows: int) -> None:
        """Records that a range has been acknowledged."""
        self.rows[unit] = rows
        if self._path is None:
            return
        content = {'version': _VERSION, 'what': self._what, 'rows': self.rows}
        partial = self._path.with_name(f'.{self._path.name}.partial')
        partial.touch(0o600)
        with partial.open('w') as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._path)
