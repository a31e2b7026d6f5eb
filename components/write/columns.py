"""Rows, as mappings or as a record batch -> an Arrow array for each column, and the rows that have no such form."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.util import Date

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.responses import Milliseconds
from tfx_cassandra.components.errors import invalid, shown
from tfx_cassandra.components.write.coding import coding_of
from tfx_cassandra.components.write.conversion import PLAIN, converter
from tfx_cassandra.components.write.encode import Coding, Values, encode

WRITE_TIME = pa.timestamp('us', 'UTC')
_MILLISECONDS, _NANOSECONDS = pa.timestamp('ms', 'UTC'), pa.time64('ns')

Errors = dict[int, str]  # of rows, by their numbers


class Column:
    """A column that rows are written to.

    Args:
      name: Its name.
      kind: Its CQL type, a class of `cassandra.cqltypes`.
    """

    def __init__(self, name: str, kind: Any) -> None:
        self.name, self.kind = name, kind
        self._cql = types.declared_name(kind)
        # Varints are integers in batches that were read, and text where one may be wider than 64 bits.
        decodings = (types.DEFAULT, Decoding(wide_varints='text'))
        self._codings = [coding_of(kind, each) for each in decodings]
        self._arrow = self._codings[1].arrow
        self._convert = converter(kind)

    def _coding(self, kind: pa.DataType) -> Coding | None:
        # Equal types of maps may name their parts in two ways, and then differ in their hash.
        return next((coding for coding in self._codings if coding.arrow == kind), None)

    def array(self, values: pa.Array | Sequence[Any]) -> tuple[pa.Array, Errors]:
        """Returns values as an array that `encoded` takes, and the rows whose values have no such form, there null."""
        if isinstance(values, pa.Array):
            if self._coding(values.type) is not None:
                return values, {}
            cast = _cast(values, self._arrow)
            if cast is not None:
                return cast, {}
            values = [plain(value) for value in values]
        try:
            return self._from_python(values), {}
        except Exception:  # a value from the caller can raise anything
            return self._one_by_one(list(values))

    def _from_python(self, values: Sequence[Any]) -> pa.Array:
        if not {*map(type, values)} <= {PLAIN.get(self.kind.typename), type(None)}:
            values = [None if value is None else self._convert(self.name, value) for value in values]
        return pa.array(values, self._arrow)

    def _one_by_one(self, values: list[Any]) -> tuple[pa.Array, Errors]:
        errors: Errors = {}
        for row, value in enumerate(values):
            try:
                self._from_python([value])
            except Exception as error:
                errors[row] = self._error(value, error)
                values[row] = None
        return self._from_python(values), errors

    def encoded(self, array: pa.Array) -> tuple[Values | None, Errors]:
        """Serializes an array; returns None, and the rows that cannot be serialized, if there are such."""
        coding = self._coding(array.type)
        if coding is None:
            raise invalid(self.name, array.type, 'an array that `array` has made')
        try:
            return encode(coding, array), {}
        except ValueError:
            return None, self._unserializable(coding, array)

    def _unserializable(self, coding: Coding, array: pa.Array) -> Errors:
        errors = {}
        for row in range(len(array)):
            try:
                encode(coding, array.slice(row, 1))
            except ValueError as error:
                errors[row] = self._error(plain(array[row]), error)
        return errors

    def _error(self, value: Any, error: Exception) -> str:
        text = ' '.join(str(error).split())
        if text.startswith(f'{self.name}: got '):
            return text
        reason = f' ({text[:200]})' if text else ''
        return f'{self.name}: got {shown(value)}, rule: a value of type {self._cql}{reason}'


def write_times(name: str, values: pa.Array | Sequence[Any]) -> tuple[pa.Array, Errors]:
    """Returns the rows' write times in microseconds since 1970 (int64), and the rows that have none."""
    if isinstance(values, pa.Array):
        cast = _cast(values, WRITE_TIME)
        if cast is not None and not cast.null_count:
            return cast.cast(pa.int64()), {}
        values = [plain(value) for value in values]
    errors: Errors = {}
    times: list[int] = []
    for row, value in enumerate(values):
        try:
            times.append(_microseconds(name, value))
        except (ValueError, TypeError) as error:
            times.append(0)
            errors[row] = str(error)
    return pa.array(times, pa.int64()), errors


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def _microseconds(name: str, value: Any) -> int:
    if isinstance(value, Milliseconds):
        return int(value) * 1000
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise invalid(name, value, 'a datetime with a time zone: the write time of its row')
    return (value - _EPOCH) // datetime.timedelta(microseconds=1)


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array | None:
    """Returns an array of another type where Arrow converts every value exactly; None where it does not."""
    source = array.type
    if pa.types.is_dictionary(source):
        return _cast(array.dictionary_decode(), target)
    if source == target:
        return array
    if pa.types.is_timestamp(source) and (source.tz is None or not pa.types.is_timestamp(target)):
        return None  # without a time zone the moment is unknown
    if pa.types.is_nested(source) or not _related(source, target):
        return None
    try:
        cast = array.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if pa.types.is_float32(target) and not pc.equal(pc.sum(pc.is_inf(cast)), pc.sum(pc.is_inf(array))).as_py():
        return None  # a number beyond 32 bits
    return cast


def _related(source: pa.DataType, target: pa.DataType) -> bool:
    groups: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_integer,
        lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind),
        pa.types.is_timestamp,
        lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
        lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind),
        pa.types.is_time,
        pa.types.is_date32,
    )
    if pa.types.is_integer(target):
        return pa.types.is_integer(source)
    return pa.types.is_null(source) or any(group(source) and group(target) for group in groups)


def plain(value: pa.Scalar) -> Any:
    """Returns a value as Python has it, and a moment that Python does not have as a number."""
    if not value.is_valid:
        return None
    if isinstance(value, pa.MapScalar):  # first, because it is also a ListScalar
        return [(plain(entry[0]), plain(entry[1])) for entry in value.values]
    if isinstance(value, (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)):
        return [plain(item) for item in value.values]
    if isinstance(value, pa.StructScalar):
        return {field.name: plain(value[i]) for i, field in enumerate(value.type)}
    if value.type == _NANOSECONDS:
        return value.cast(pa.int64()).as_py()  # Python's time has no nanoseconds
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        if pa.types.is_date32(value.type):
            return Date(value.cast(pa.int32()).as_py())
        return Milliseconds(value.value) if value.type == _MILLISECONDS else value.value
