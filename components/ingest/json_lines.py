"""JSON lines -> records: one call of the JSON parser for all lines of a block, line by line where that fails.

pyarrow.json is not used: version 10 crashes at a line `null`, and each takes `{} x` for an object.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfx_cassandra.components.errors import InputError, shown
from tfx_cassandra.components.ingest.inputs import Stream
from tfx_cassandra.components.ingest.records import START, Broken, Position, Records
from tfx_cassandra.components.ingest.splitting import MOST_BYTES

BLOCK = 2 << 20  # bytes that are parsed at once
NOTE = '_ingest'  # a field that is ignored: what dead letters say about their row
_BOM = b'\xef\xbb\xbf'


class JsonReader:
    """Reads the records of a file with a JSON object on each line; empty lines are no records.

    Attributes:
      fields: None: each record has its own.
    """

    fields = None

    def __init__(self, path: str, stream: Stream) -> None:
        self._path, self._stream = path, stream
        self._at = START

    def read(self, wanted: Sequence[str], start: Position = START, others: bool = True) -> Iterator[Records]:
        """Yields the records behind a place that an earlier run has reached; the values are Python's, as JSON has them.

        Args:
          wanted: The fields wanted; a record without one has no value.
          start: The place.
          others: Whether a record may have other fields.

        Raises:
          InputError: The file is damaged.
        """
        self._stream.skip(start.offset)
        self._at, rest, ended = start, b'', False
        while not ended:
            data = self._stream.take(BLOCK)
            ended = not data
            rest += data
            cut = len(rest) if ended else rest.rfind(b'\n') + 1
            if not cut and len(rest) > MOST_BYTES:
                line = self._at.lines + 1
                raise InputError(
                    f'{self._path}:{line}: got a line of more than {MOST_BYTES:,} bytes, rule: at most that'
                )
            if cut:
                block, rest = rest[:cut], rest[cut:]
                yield self._records(block, wanted, others)

    def _records(self, block: bytes, wanted: Sequence[str], others: bool) -> Records:
        lines = block.split(b'\n')
        if not self._at.offset:
            lines[0] = lines[0].removeprefix(_BOM)
        filled = [i for i, line in enumerate(lines) if line and not line.isspace()]
        texts = [lines[i] for i in filled] if len(filled) < len(lines) else lines
        numbers = self._at.records + 1 + np.arange(len(texts))
        places = self._at.lines + 1 + np.array(filled, np.int64)
        known = None if others else {*wanted, NOTE}
        rows, errors = _parsed(texts, known)
        broken = [
            Broken(int(numbers[i]), int(places[i]), texts[i].decode(errors='surrogateescape'), error)
            for i, error in errors.items()
        ]
        if broken:
            fits = np.ones(len(texts), bool)
            fits[list(errors)] = False
            numbers, places = numbers[fits], places[fits]
        self._at = Position(
            self._at.records + len(texts), self._at.lines + len(lines) - 1, self._at.offset + len(block)
        )  # fmt: skip
        columns = {name: [row.get(name) for row in rows] for name in wanted}
        return Records(columns, numbers, places, broken, self._at, self._stream.share)


def _parsed(texts: list[bytes], known: set[str] | None) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Parses lines; returns the objects, and the error of each line that is none."""
    # The text between two lines cannot occur in them, so no two lines can be taken for one value.
    between = secrets.token_hex(16)
    try:
        found = json.loads(b'[' + f',"{between}",'.encode().join(texts) + b']')
        rows = found[0::2]
        whole = len(found) == max(2 * len(texts) - 1, 0) and all(mark == between for mark in found[1::2])
        if whole and set(map(type, rows)) <= {dict} and (known is None or set().union(*rows) <= known):
            return rows, {}
    except (ValueError, RecursionError):
        pass
    rows, errors = [], {}
    for i, line in enumerate(texts):
        text = line.decode(errors='surrogateescape').rstrip('\r')
        try:
            rows.append(_object(text, known))
        except (ValueError, RecursionError) as error:
            reason = f'JSON ({error})' if isinstance(error, json.JSONDecodeError) else str(error)
            errors[i] = f'got {shown(text)}, rule: a JSON object on each line: {reason}'
    return rows, errors


def _object(text: str, known: set[str] | None) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f'not {type(found).__name__}')
    if known is not None and (unknown := sorted(set(found) - known)):
        raise ValueError(f'no field but {", ".join(sorted(known - {NOTE}))}; it has {unknown[0]!r}')
    return found
