"""The content of a BATCH body, read by another reader than what wrote it."""

from __future__ import annotations

import io
from typing import NamedTuple

from cassandra.protocol import read_byte, read_int, read_short


class Batch(NamedTuple):
    """Kind, query ids, values of each statement (None for a null, ... for an unset one) and consistency level."""

    kind: int
    ids: list[bytes]
    rows: list[list]
    consistency: int


def parsed(body: bytes) -> Batch:
    f = io.BytesIO(body)
    kind, ids, rows = read_byte(f), [], []
    for _ in range(read_short(f)):
        assert read_byte(f) == 1, 'a prepared statement'
        ids.append(f.read(read_short(f)))
        rows.append([_value(f) for _ in range(read_short(f))])
    batch = Batch(kind, ids, rows, read_short(f))
    assert set(f.read()) <= {0}, 'no flags'
    return batch


def _value(f: io.BytesIO) -> bytes | ellipsis | None:  # noqa: F821
    size = read_int(f)
    return {-1: None, -2: ...}[size] if size < 0 else f.read(size)
