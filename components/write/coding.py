"""How each CQL type is serialized from Arrow: `coding_of` for write/encode.pyx, the reverse of cql/types.kind_of."""

from __future__ import annotations

import decimal
import ipaddress
from collections.abc import Callable
from typing import Any

from cassandra import cqltypes

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.write.encode import Coding

_LAYOUTS = {
    **dict.fromkeys(
        ('tinyint', 'smallint', 'int', 'bigint', 'counter', 'float', 'double', 'timestamp', 'date', 'time'), 'fixed'
    ),
    **dict.fromkeys(('ascii', 'text', 'varchar', 'blob'), 'bytes'),
    **dict.fromkeys(('uuid', 'timeuuid'), 'uuid'),
    **dict.fromkeys(('list', 'set'), 'list'),
    **{name: name for name in ('boolean', 'varint', 'duration', 'map')},
}
_PROTOCOL = 4  # protocol version of the serialization of values, which is the same in version 5


def coding_of(cql_type: Any, decoding: types.Decoding = types.DEFAULT) -> Coding:
    """Returns how values of a driver CQL type (a class of `cassandra.cqltypes`) are serialized.

    Args:
      cql_type: The type.
      decoding: With wide_varints='text', varints come as decimal text.

    Raises:
      SchemaError: The type has no form in Arrow.
    """
    name, arrow = cql_type.typename, types.arrow_type(cql_type, decoding)
    parts = [coding_of(part, decoding) for part in cql_type.subtypes]
    if issubclass(cql_type, cqltypes.TupleType):
        return Coding('tuple', arrow, parts)
    if name == 'frozen':
        return parts[0]
    if issubclass(cql_type, cqltypes.VectorType):
        element = cql_type.subtype
        size = element.serial_size() or 0
        return Coding('vector', arrow, [coding_of(element, decoding)], length=cql_type.vector_size, size=size)
    if name == 'varint' and decoding.wide_varints == 'text':
        return Coding('python', arrow, encoder=_varint)
    if name in _LAYOUTS:
        return Coding(_LAYOUTS[name], arrow, parts, flip=name == 'date')
    return Coding('python', arrow, encoder=_FROM_TEXT[name])


def _varint(text: str) -> bytes:
    try:
        number = int(text)
    except ValueError as error:
        raise invalid('varint', text, 'an integer in decimal digits') from error
    return number.to_bytes(((number if number >= 0 else ~number).bit_length() + 8) // 8, 'big', signed=True)


def _decimal(text: str) -> bytes:
    try:
        sign, digits, exponent = decimal.Decimal(text).as_tuple()
        scale = -int(exponent)
    except (decimal.InvalidOperation, ValueError) as error:
        raise invalid('decimal', text, 'a finite number in decimal digits') from error
    if not -(2**31) <= scale < 2**31:
        raise invalid('decimal', text, 'an exponent of 32 bits')
    number = int(''.join(map(str, digits)))
    return scale.to_bytes(4, 'big', signed=True) + _varint(str(-number if sign else number))


def _inet(text: str) -> bytes:
    try:
        return ipaddress.ip_address(text).packed
    except ValueError as error:
        raise invalid('inet', text, 'an address of IPv4 or IPv6') from error


_FROM_TEXT: dict[str, Callable[[str], bytes]] = {'decimal': _decimal, 'inet': _inet}
