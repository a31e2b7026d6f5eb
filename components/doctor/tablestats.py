"""What `nodetool tablestats` says of the tables of a node, over JMX: the server tells some of it in no other way."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

from cassandra.pool import Host

from tfx_cassandra.components.doctor.asked import Asked
from tfx_cassandra.components.doctor.facts import Reading
from tfx_cassandra.components.errors import TfxCassandraError, invalid

_PLACE = '{address}'
_SECONDS = 60


class _NodetoolError(TfxCassandraError):
    """nodetool did not answer."""


@dataclasses.dataclass(frozen=True)
class Stats:
    """The tables of one keyspace on one node, by name: the fields of `tablestats`; empty if they were not read."""

    tables: Mapping[str, Mapping[str, Any]]

    def added_to(self, reading: Reading) -> Reading:
        """Returns a reading with what nodetool knows of its table."""
        found = self.tables.get(reading.table)
        if found is None:
            return reading
        largest = [
            size for size in (reading.max_partition, _number(found, 'compacted_partition_maximum_bytes')) if size
        ]
        droppable = _number(found, 'droppable_tombstone_ratio')
        return dataclasses.replace(
            reading,
            max_partition=int(max(largest)) if largest else reading.max_partition,
            droppable=droppable,
        )


def check(command: str | None) -> None:
    """Raises ValueError unless a command names the node, or is None."""
    if command is not None and _PLACE not in command:
        raise invalid('nodetool', command, f'a command with {_PLACE}, such as "nodetool -h {_PLACE}"')


def read(asked: Asked, command: str | None, host: Host, keyspace: str) -> Stats:
    """Returns what nodetool says of a node; nothing if there is no command, or it fails.

    Args:
      asked: Remembers that it failed.
      command: The command, with {address}; no shell runs it.
      host: The node.
      keyspace: The keyspace.
    """
    if command is None:
        return Stats({})
    words = [word.replace(_PLACE, str(host.endpoint.address)) for word in shlex.split(command)]
    try:
        return Stats(parsed(_output([*words, 'tablestats', '-F', 'json', keyspace]), keyspace))
    except _NodetoolError as error:
        asked.failed('nodetool tablestats', error, str(host.endpoint), needs='a nodetool that reaches JMX of the node')
        return Stats({})


def parsed(text: str, keyspace: str) -> dict[str, dict[str, Any]]:
    """Returns the tables in the output of `tablestats -F json`; raises _NodetoolError if it is none."""
    try:
        tables: dict[str, dict[str, Any]] = json.loads(text[text.index('{') :])[keyspace]['tables']
    except (ValueError, KeyError, TypeError) as error:
        raise _NodetoolError(f'got {text[:100]!r}, rule: JSON of {keyspace}') from error
    return tables


def _output(words: list[str]) -> str:
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NodetoolError(str(error)) from error
    if done.returncode:
        last = [*done.stdout.split('\n'), *done.stderr.split('\n')]
        raise _NodetoolError(f'exit code {done.returncode}: {next((line for line in last if line.strip()), "")}')
    return done.stdout


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    """Returns a field that is a number, or the text of one; None for NaN and for others."""
    try:
        value = float(fields[name])
    except (KeyError, TypeError, ValueError):
        return None
    return value if value == value else None
