"""What of each input has been acknowledged, in a file that is replaced as a whole: a killed run goes on from there."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.ingest.inputs import Input
from tfx_cassandra.components.ingest.records import START, Position

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Acknowledged:
    """What of an input has been acknowledged.

    Attributes:
      position: Behind the last record that was written, or is a dead letter.
      rows: Number of rows written.
      failed: Number of records and rows that are dead letters.
      complete: Whether the input has no more records.
    """

    position: Position = START
    rows: int = 0
    failed: int = 0
    complete: bool = False


class Checkpoint:
    """The acknowledged part of each input, and where the dead letters end.

    Args:
      path: The file; None to keep nothing.
      destination: What the rows are written to, and how: a checkpoint of another destination is refused.

    Raises:
      ValueError: The file is no checkpoint, or one of another destination.
    """

    def __init__(self, path: Path | None, destination: dict[str, Any]) -> None:
        self._path, self._destination = path, destination
        self._inputs: dict[str, Any] = {}
        self.dead_letters = 0  # bytes
        self.is_continued = path is not None and path.exists()
        if path is not None and self.is_continued:
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text())
            version, destination = found['version'], found['destination']
            self._inputs, self.dead_letters = dict(found['inputs']), int(found['dead_letters'])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise invalid('checkpoint', str(path), f'a checkpoint of ingest ({type(error).__name__})') from error
        if version != _VERSION or destination != self._destination:
            differ = [name for name, value in self._destination.items() if destination.get(name) != value]
            rule = f'a checkpoint of the same load; it differs in {", ".join(differ) or "version"}'
            raise invalid('checkpoint', str(path), rule)

    def acknowledged(self, source: Input, head: str) -> Acknowledged:
        """Returns what an earlier run has written of an input; nothing if the input has changed since.

        Args:
          source: The input.
          head: The checksum of its beginning.
        """
        found = self._inputs.get(source.path)
        if found is None or found['identity'] != _identity(source, head):
            return Acknowledged()
        return Acknowledged(Position(*found['position']), found['rows'], found['failed'], found['complete'])

    def save(self, source: Input, head: str, state: Acknowledged, dead_letters: int) -> None:
        """Replaces the file; what it says has been acknowledged by Cassandra, or is in the file of dead letters."""
        self._inputs[source.path] = {
            'identity': _identity(source, head),
            'records': state.position.records,
            'position': list(state.position),
            'rows': state.rows,
            'failed': state.failed,
            'complete': state.complete,
        }
        self._store(dead_letters)

    def begin(self) -> None:
        """Makes the file, so that a run that is killed before its first block has dead letters that are its own."""
        self._store(self.dead_letters)

    def _store(self, dead_letters: int) -> None:
        if self._path is None:
            return
        content = {
            'version': _VERSION,
            'destination': self._destination,
            'dead_letters': dead_letters,
            'inputs': self._inputs,
        }
        partial = self._path.with_name(f'.{self._path.name}.partial')
        partial.touch(0o600)
        with partial.open('w') as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._path)


def _identity(source: Input, head: str) -> list[Any]:
    return [source.format, source.size, source.modified, head]
