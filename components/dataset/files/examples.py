"""The tf.Example feature of each CQL type, and the compression of framed examples, which encode.pyx creates.

| CQL | tf.Example |
|---|---|
| tinyint, smallint, int, bigint, counter, varint, boolean | int64 (varint: bytes of decimal text where so read) |
| timestamp, date, time | int64: ms since the epoch, days since the epoch, ns since midnight |
| float, double, decimal | float (32 bit, as tf.Example has it) |
| ascii, text, blob, uuid, timeuuid, inet | bytes (uuid and inet: the canonical text) |
| list, set, vector | several values |
| null | the feature is absent |
"""

from __future__ import annotations

import re
from typing import Literal

import pyarrow as pa
from isal import isal_zlib

from tfx_cassandra.components.errors import SchemaError

_LEVEL = 1  # of ISA-L's 0 to 3: sizes within a tenth of zlib's default on tf.Examples, ten times as fast
_GZIP = 31  # window bits that select a gzip header and trailer

Kind = Literal['int64_list', 'float_list', 'bytes_list']

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(['tinyint', 'smallint', 'int', 'bigint', 'counter', 'varint', 'boolean'], 'int64_list'),
    **dict.fromkeys(['timestamp', 'date', 'time'], 'int64_list'),
    **dict.fromkeys(['float', 'double', 'decimal'], 'float_list'),
    **dict.fromkeys(['ascii', 'text', 'varchar', 'blob', 'uuid', 'timeuuid', 'inet'], 'bytes_list'),
}
_COLLECTION = re.compile(r'(?:list|set|frozen|vector)<(.+?)(?:, *\d+)?>$')


def kind_of(field: str, column: str, cql_type: str, varints_as_text: bool = False) -> Kind:
    """Returns the kind of a tf.Example feature that holds a column of a CQL type.

    Raises:
      SchemaError: A tf.Example cannot represent values of this type; the message names `field` and column.
    """
    inner = cql_type
    while match := _COLLECTION.fullmatch(inner):
        inner = match.group(1)
    if inner not in _KINDS or len(re.findall('list<|set<|vector<', cql_type)) > 1:
        rule = 'a scalar, or a list, set or vector of scalars'
        raise SchemaError(f'{field}: got {column!r} of type {cql_type}, rule: {rule}')
    if inner == 'varint' and varints_as_text:
        return 'bytes_list'
    return _KINDS[inner]


def compressed(chunk: bytes | pa.Buffer) -> bytes:
    """Returns a chunk as one gzip member; its header has no time, so that equal chunks give equal members."""
    return isal_zlib.compress(chunk, _LEVEL, _GZIP)
