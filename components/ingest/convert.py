"""Columns of an input -> Arrow types of a table's columns: whole columns at once, value by value where one fails.

Text is converted by texts.py; where that fails `values.value_of` says why, and knows the rarer forms.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cassandra import cqltypes

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.cql.parsers import INTEGERS
from tfx_cassandra.components.ingest.texts import DAY, FROM_TEXT, UnfitError, in_years, unfit, within
from tfx_cassandra.components.ingest.values import FIRST_TIME, LAST_TIME, scalar_name, value_of
from tfx_cassandra.components.write.columns import plain

_REASONS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError, TypeError)

Source: TypeAlias = 'pa.Array | list[Any]'  # a list holds Python values, as JSON has them


class Converted(NamedTuple):
    """A converted column.

    Attributes:
      values: The values, null where there is none or a wrong one; shape (rows).
      errors: Why, of each row with a wrong value.
    """

    values: pa.Array
    errors: dict[int, str]


def arrow_type(kind: Any) -> pa.DataType:
    """Returns the Arrow type of a driver CQL type, with varints as text, which have any size."""
    return types.arrow_type(kind, types.Decoding(wide_varints='text'))


def convert(source: Source, kind: Any) -> Converted:
    """Converts a column to the Arrow type of a driver CQL type (see cql/types.py); shape (rows)."""
    target = arrow_type(kind)
    if isinstance(source, pa.ListArray) and scalar_name(kind):
        return _unwrapped(source, kind)
    array = _array(source, kind)
    if isinstance(array, list):
        return _by_value(array, kind, target)
    if pa.types.is_null(array.type):
        return Converted(pa.nulls(len(array), target), {})
    try:
        return Converted(_whole(array, kind, target), {})
    except _REASONS:
        if isinstance(array, pa.ListArray) and _item_of(kind) and len(array) > 1:
            return _by_list(array, kind, target)
        if pa.types.is_string(array.type) or pa.types.is_nested(array.type) or pa.types.is_decimal(array.type):
            return _by_value(_plain(array, kind), kind, target)
        return _by_row(array, kind, target)


def check_type(source: pa.DataType, kind: Any) -> None:
    """Raises ValueError if no values of an Arrow type can be converted to a CQL type."""
    if pa.types.is_nested(source) and scalar_name(kind) not in ('', 'duration'):
        raise ValueError('several values')
    array = _array(pa.array([], source), kind)
    if not isinstance(array, list) and not any(is_kind(array.type) for is_kind in _CHECKED_BY_VALUE):
        try:
            _whole(array, kind, arrow_type(kind))
        except _REASONS as error:
            raise ValueError(str(error)) from error


def _unwrapped(lists: pa.ListArray, kind: Any) -> Converted:
    """Converts the features of tf.Examples to a scalar type: lists of at most one value."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
    flat, filled = lists.flatten(), lengths == 1
    starts = np.where(filled, np.cumsum(lengths) - lengths, 0)
    if len(flat):
        found = convert(flat.take(pa.array(starts, mask=~filled)), kind)
    else:
        found = Converted(pa.nulls(len(lists), arrow_type(kind)), {})
    return found._replace(
        errors={**found.errors, **{int(row): 'several values' for row in np.flatnonzero(lengths > 1)}}
    )


_CHECKED_BY_VALUE = (pa.types.is_string, pa.types.is_nested, pa.types.is_null, pa.types.is_decimal)


def _array(source: Source, kind: Any) -> Source:
    """Returns a column as an array of a plain layout, or its Python values if only those are exact."""
    if isinstance(source, list):
        found = set(map(type, source)) - {type(None)}
        if not found:
            return pa.nulls(len(source))
        try:
            if found == {int, float} and scalar_name(kind) in ('float', 'double'):
                return pa.array(source, pa.float64())
            return pa.array(source) if len(found) == 1 and found <= {str, int, float, bool} else source
        except _REASONS:  # beyond 64 bits, or half of a surrogate pair
            return source
    if pa.types.is_dictionary(source.type):
        source = source.cast(source.type.value_type)
    if pa.types.is_large_string(source.type):
        return source.cast(pa.string())
    if pa.types.is_large_binary(source.type) or pa.types.is_fixed_size_binary(source.type):
        source = source.cast(pa.binary())
    if pa.types.is_binary(source.type) and scalar_name(kind) not in ('', 'blob'):
        try:
            return source.cast(pa.string())
        except pa.ArrowInvalid:
            return texts_of(source)
    return source


def texts_of(array: pa.Array) -> list[str | None]:
    """Returns bytes as texts, with surrogates for those that are not UTF-8, which no column takes."""
    return [None if value is None else value.decode(errors='surrogateescape') for value in array.to_pylist()]


def _plain(array: pa.Array, kind: Any) -> list[Any]:
    """Returns an array's values as Python has them; bytes in lists, as tf.Examples have them, are texts or blobs."""
    values = [plain(value) for value in array]
    item = _item_of(kind)
    if item is None or not isinstance(array, pa.ListArray) or not pa.types.is_binary(array.type.value_type):
        return values
    if scalar_name(item) == 'blob':
        return values
    return [None if items is None else texts_of(pa.array(items, pa.binary())) for items in values]


def _by_value(source: Source, kind: Any, target: pa.DataType) -> Converted:
    values: list[Any] = []
    errors: dict[int, str] = {}
    for row, value in enumerate(source):
        converted: Any = None
        if value is not None:
            try:
                converted = value_of(kind, value)
            except (ValueError, OverflowError, RecursionError) as error:
                errors[row] = ' '.join(str(error).split()) or type(error).__name__
        values.append(converted)
    return Converted(pa.array(values, target), errors)


def _by_list(lists: pa.ListArray, kind: Any, target: pa.DataType) -> Converted:
    """Converts lists of scalars one by one, so that each is what it would be without the others."""
    found = [convert(lists.slice(row, 1), kind) for row in range(len(lists))]
    values = pa.chunked_array([each.values for each in found], target).combine_chunks()
    return Converted(values, {row: each.errors[0] for row, each in enumerate(found) if each.errors})


def _by_row(array: pa.Array, kind: Any, target: pa.DataType) -> Converted:
    errors: dict[int, str] = {}
    for row in np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False)):
        try:
            _whole(array.slice(row, 1), kind, target)
        except _REASONS as error:
            errors[int(row)] = str(error).splitlines()[0]
    right = np.ones(len(array), bool)
    right[list(errors)] = False
    kept = pc.if_else(pa.array(right), array, pa.scalar(None, array.type))
    if kept.null_count == len(kept):  # the type may have no conversion at all
        return Converted(pa.nulls(len(kept), target), errors)
    return Converted(_whole(kept, kind, target), errors)


def _whole(array: pa.Array, kind: Any, target: pa.DataType) -> pa.Array:
    """Converts an array as a whole; raises one of _REASONS if a value does not fit."""
    name = scalar_name(kind)
    if pa.types.is_string(array.type):
        return FROM_TEXT[name](array, target) if name in FROM_TEXT else unfit('not of this type')
    if array.type == target:
        # Equal types may name their parts otherwise, as those of Parquet do, and have another hash then.
        array = array if str(array.type) == str(target) else array.cast(target)
        return in_years(array) if name == 'timestamp' else array
    if pa.types.is_integer(array.type):
        return _from_integers(array, name, target)
    if pa.types.is_floating(array.type):
        if name in ('float', 'double'):
            return _finite(array.cast(pa.float64()), target)
        return array.cast(target) if name in INTEGERS else unfit('a number with a fraction')
    if pa.types.is_decimal(array.type):
        if name in ('float', 'double') or name in INTEGERS:
            return array.cast(target)
        return unfit('a decimal')
    if pa.types.is_timestamp(array.type):
        return _from_timestamps(array, name, target)
    if isinstance(array, pa.ListArray) and (item := _item_of(kind)):
        return _from_lists(array, item, target)
    if (name, array.type.id) in _TEMPORAL or pa.types.is_nested(array.type):
        return array.cast(target)
    return unfit(f'a value of type {array.type}')


_TEMPORAL = {
    ('date', pa.date64().id), ('time', pa.time32('s').id), ('time', pa.time64('ns').id),
}  # fmt: skip


def _item_of(kind: Any) -> Any:
    """Returns the type of the items of a list, set or vector of scalars; None for other types."""
    if issubclass(kind, cqltypes.TupleType):  # first, since a user-defined type may have the name of another
        return None
    if kind.typename == 'frozen':
        return _item_of(kind.subtypes[0])
    if not issubclass(kind, cqltypes.VectorType) and kind.typename not in ('list', 'set'):
        return None
    item = kind.subtype if issubclass(kind, cqltypes.VectorType) else kind.subtypes[0]
    return item if scalar_name(item) else None


def _from_lists(lists: pa.ListArray, item: Any, target: pa.DataType) -> pa.Array:
    """Converts lists of scalars by their items, all at once; shape (rows)."""
    flat = _array(lists.flatten(), item)  # without what is below a null
    if isinstance(flat, list) or flat.null_count:
        raise UnfitError('an item that is none')
    items = _whole(flat, item, target.value_type)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
    valid = lists.is_valid().to_numpy(zero_copy_only=False)
    if not pa.types.is_fixed_size_list(target):
        ends = np.append(0, np.cumsum(lengths, dtype=np.int32))
        offsets = pa.array(ends, pa.int32(), mask=np.append(~valid, False))
        return pa.ListArray.from_arrays(offsets, items).cast(target)
    if (lengths[valid] != target.list_size).any():
        raise UnfitError(f'not of {target.list_size} elements')
    dense = pa.FixedSizeListArray.from_arrays(items, target.list_size).cast(target)
    return dense.take(pa.array(np.cumsum(valid) - 1, mask=~valid))


def _from_integers(array: pa.Array, name: str, target: pa.DataType) -> pa.Array:
    if name in INTEGERS:
        return array.cast(target)
    if name in ('float', 'double'):
        return array.cast(target, safe=False)
    if name == 'decimal':
        return array.cast(pa.string())
    whole = array.cast(pa.int64())
    if name == 'boolean':
        return within(whole, 0, 1, 'neither 0 nor 1').cast(target)
    if name == 'timestamp':
        return within(whole, FIRST_TIME, LAST_TIME, 'not in the years 1 to 9999').cast(target)
    if name == 'date':
        return whole.cast(pa.int32()).cast(target)
    if name == 'time':
        return within(whole, 0, DAY - 1, 'not within a day').cast(target)
    return unfit('a number')


def _from_timestamps(array: pa.Array, name: str, target: pa.DataType) -> pa.Array:
    if name != 'timestamp':
        return unfit('a time')
    if array.type.tz is None:
        return unfit('a time without a time zone')
    return in_years(array.cast(target))


def _finite(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Casts numbers; one that becomes infinite does not fit."""
    held = array.cast(target)
    if pc.any(pc.and_not(pc.is_inf(held), pc.is_inf(array))).as_py():
        raise UnfitError('too large')
    return held
