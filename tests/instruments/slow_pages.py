"""Pages -> plain Python values, value by value, from the protocol's words alone: the oracle of rows.pyx.

Times are integers and floating-point numbers their bits, so that every value can be compared. What is not a value of
its type raises DamagedError.
"""

from __future__ import annotations

import decimal
import socket
import struct
import uuid
from typing import Any

import pyarrow as pa
from cassandra import cqltypes

FIXED = {
    'tinyint': 'b', 'smallint': 'h', 'int': 'i', 'bigint': 'q', 'counter': 'q', 'float': 'i', 'double': 'q',
    'timestamp': 'q', 'date': 'I', 'time': 'q',
}  # fmt: skip
TEXTS = {'ascii': 'ascii', 'text': 'utf-8', 'varchar': 'utf-8'}
SIZES = {
    'int': 4,
    'bigint': 8,
    'counter': 8,
    'float': 4,
    'double': 8,
    'timestamp': 8,
    'uuid': 16,
    'timeuuid': 16,
    'boolean': 1,
}


class DamagedError(Exception):
    """These bytes are no page of these columns."""


class Reader:
    """Bytes read from the start; reading past their end is DamagedError."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, size: int) -> bytes:
        if size > len(self.content) - self.at:
            raise DamagedError('too short')
        self.at += size
        return self.content[self.at - size : self.at]

    def value(self) -> bytes | None:
        (size,) = struct.unpack('>i', self.take(4))
        return None if size < 0 else self.take(size)

    def vint(self) -> int:
        (first,) = self.take(1)
        extra = 8 - (~first & 0xFF).bit_length()
        return int.from_bytes(bytes([first & (0xFF >> extra)]) + self.take(extra), 'big')

    def end(self) -> None:
        if self.at != len(self.content):
            raise DamagedError('too long')


def decode(body: bytes, offset: int, rows: int, kinds: list) -> list[list]:
    """Returns the values of each column."""
    reader = Reader(body)
    reader.take(offset)
    columns: list[list] = [[] for _ in kinds]
    cut = [[reader.value() for _ in kinds] for _ in range(rows)]
    reader.end()
    for row in cut:
        for column, kind, content in zip(columns, kinds, row, strict=True):
            column.append(decoded(kind, content))
    return columns


def decoded(kind: Any, content: bytes | None) -> Any:
    name = kind.typename
    if content is None:
        return None
    if name == 'frozen' and not issubclass(kind, cqltypes.TupleType):
        return decoded(kind.subtypes[0], content)
    reader = Reader(content)
    if issubclass(kind, cqltypes.TupleType):
        return None if not content else struct_of(kind, reader)
    if name in TEXTS:
        try:
            return content.decode(TEXTS[name])
        except UnicodeDecodeError as error:
            raise DamagedError(str(error)) from error
    if name == 'blob':
        return content
    if not content:
        return None
    found = nested(kind, reader) if kind.subtypes or issubclass(kind, cqltypes.VectorType) else plain(name, reader)
    reader.end()
    return found


def struct_of(kind: Any, reader: Reader) -> dict:
    named = issubclass(kind, cqltypes.UserType)
    names = kind.fieldnames if named else [str(i) for i in range(len(kind.subtypes))]
    found = {}
    for name, part in zip(names, kind.subtypes, strict=True):
        found[name] = decoded(part, reader.value()) if reader.at < len(reader.content) else None
    reader.end()
    return found


def nested(kind: Any, reader: Reader) -> list:
    if issubclass(kind, cqltypes.VectorType):
        size = width(kind.subtype)
        return [
            decoded(kind.subtype, reader.take(reader.vint() if size is None else size)) for _ in range(kind.vector_size)
        ]
    (count,) = struct.unpack('>i', reader.take(4))
    if count < 0:
        raise DamagedError('a negative count')
    found = []
    for _ in range(count):
        entry = [decoded(part, reader.value()) for part in kind.subtypes]
        if kind.typename == 'map' and entry[0] is None:
            raise DamagedError('a null key')
        found.append(tuple(entry) if kind.typename == 'map' else entry[0])
    return found


def width(kind: Any) -> int | None:
    """Returns the bytes of every value of a type, as Cassandra's vectors have it; None where they vary."""
    if issubclass(kind, cqltypes.VectorType):
        part = width(kind.subtype)
        return None if part is None else part * kind.vector_size
    return None if issubclass(kind, cqltypes.TupleType) else SIZES.get(kind.typename)


def plain(name: str, reader: Reader) -> Any:
    rest = reader.content
    if name in FIXED:
        (number,) = struct.unpack(f'>{FIXED[name]}', reader.take(struct.calcsize(f'>{FIXED[name]}')))
        return number - 2**31 if name == 'date' else number
    if name == 'boolean':
        return reader.take(1) != b'\0'
    if name in ('uuid', 'timeuuid'):
        return str(uuid.UUID(bytes=reader.take(16)))
    if name == 'varint':
        number = int.from_bytes(reader.take(len(rest)), 'big', signed=True)
        if not -(2**63) <= number < 2**63:
            raise DamagedError('beyond 64 bits')
        return number
    if name == 'duration':
        parts = [(v >> 1) ^ -(v & 1) for v in (reader.vint(), reader.vint(), reader.vint())]
        if any(not -(2**31) <= part < 2**31 for part in parts[:2]):
            raise DamagedError('beyond 32 bits')
        return dict(zip(('months', 'days', 'nanoseconds'), parts, strict=True))
    if name == 'inet':
        if len(rest) not in (4, 16):
            raise DamagedError('no address')
        return socket.inet_ntop(socket.AF_INET if len(rest) == 4 else socket.AF_INET6, reader.take(len(rest)))
    scale, digits = struct.unpack('>i', reader.take(4))[0], reader.take(len(rest) - 4)
    if not digits:
        raise DamagedError('no digits')
    number = int.from_bytes(digits, 'big', signed=True)
    sign, text = int(number < 0), str(abs(number))
    return str(decimal.Decimal((sign, tuple(map(int, text)), -scale)))


def values(array: pa.Array) -> list:
    """Returns an Arrow array as `decode` gives a column."""
    kind = array.type
    if pa.types.is_struct(kind):
        fields = {f.name: values(array.field(i)) for i, f in enumerate(kind)}
        found = [{name: field[i] for name, field in fields.items()} for i in range(len(array))]
    elif pa.types.is_map(kind):
        entries = list(zip(values(array.keys), values(array.items), strict=True))
        found = [
            entries[slice(*array.offsets[i : i + 2].to_pylist())] if ok else None
            for i, ok in enumerate(array.is_valid().to_pylist())
        ]
    elif pa.types.is_fixed_size_list(kind):
        items, size = values(array.values), kind.list_size
        found = [items[i * size : (i + 1) * size] for i in range(len(array))]
    elif pa.types.is_list(kind):
        items, ends = values(array.values), array.offsets.to_pylist()
        found = [items[ends[i] : ends[i + 1]] for i in range(len(array))]
    elif pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        return array.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist()
    else:
        return array.to_pylist()
    return [one if ok else None for one, ok in zip(found, array.is_valid().to_pylist(), strict=True)]
