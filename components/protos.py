"""Frozen dataclasses <-> protos, by the dataclasses' type hints alone.

A message has the fields of its dataclass. What differs is the spelling: a datetime travels as ISO-8601 text, a
timedelta `x` as seconds in the field `x_seconds`, values of any plain type as JSON in `x_json`; and a name may stand
for a message that has nothing else. A field that a message may lack (`optional`) and lacks has the dataclass's default.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import ipaddress
import json
import typing
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tfx_cassandra.components.errors import invalid

T = TypeVar('T')
M = TypeVar('M', bound=Message)

_hints: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)
_QUOTED = 80  # characters of a text that cannot be read
_RULES = {
    FieldDescriptor.CPPTYPE_INT32: 'an integer of 32 bits',
    FieldDescriptor.CPPTYPE_INT64: 'an integer of 64 bits',
    FieldDescriptor.CPPTYPE_DOUBLE: 'a number',
    FieldDescriptor.CPPTYPE_BOOL: 'True or False',
    FieldDescriptor.CPPTYPE_STRING: 'a text',
}


def to_json(value: object, kind: type[Message], indent: int | None = 0) -> str:
    """Serializes a dataclass as the JSON of its message, with the fields' own names; on one line with indent None."""
    message = to_message(value, kind())
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=indent, sort_keys=True)


def from_json(kind: type[T], message: type[Message], text: str, field: str = 'config') -> T:
    """Parses what `to_json` wrote; the dataclasses check their fields again. Errors of the text name `field`.

    Raises:
      ValueError: The text is not the JSON of such a message, or a field breaks its rule.
    """
    return from_message(kind, parsed(text, message(), field))


def parsed(text: str, message: M, field: str = 'config') -> M:
    """Fills a message from its JSON and returns it.

    Raises:
      ValueError: The text is not the JSON of such a message.
    """
    try:
        json_format.Parse(text, message)
    # A list where an object belongs is a TypeError or AttributeError of json_format, deep nesting a RecursionError.
    except (json_format.ParseError, TypeError, AttributeError, RecursionError) as error:
        reason = ' '.join(str(error).splitlines()[:1])
        raise invalid(field, text[:_QUOTED], f'JSON of {message.DESCRIPTOR.name} ({reason})') from error
    return message


def to_message(value: Any, message: M, without: Collection[str] = (), path: str = '') -> M:
    """Fills the message of a dataclass and returns it.

    Args:
      value: The dataclass.
      message: An empty message of its fields.
      without: Paths of fields to leave out, as 'connection.keyspace' or 'treatments.0.version'.
      path: What stands before the names of this dataclass's fields in their paths.

    Raises:
      ValueError: A value does not fit into its field.
    """
    fields = message.DESCRIPTOR.fields_by_name
    message.SetInParent()
    for field in dataclasses.fields(value):
        content, name, at = getattr(value, field.name), field.name, f'{path}{field.name}'
        if content is None or at in without:
            continue
        if name in fields and fields[name].message_type is not None:
            nested = getattr(message, name)
            if not isinstance(content, tuple):
                to_message(content, nested, without, f'{at}.')
                continue
            for number, item in enumerate(content):
                whole = item if dataclasses.is_dataclass(item) else _dataclass(_hints(type(value))[name])(item)
                to_message(whole, nested.add(), without, f'{at}.{number}.')
        else:
            _set(message, name, content)
    return message


def _set(message: Message, name: str, content: Any) -> None:
    descriptor = _descriptor(message, name)
    try:
        if descriptor.name == f'{name}_json':
            setattr(message, descriptor.name, json.dumps(content, default=_tagged))
        elif isinstance(content, tuple):
            getattr(message, descriptor.name).extend(map(_spelled, content))
        else:
            setattr(message, descriptor.name, _spelled(content))
    except (TypeError, ValueError) as error:
        raise invalid(name, content, _RULES[descriptor.cpp_type]) from error


# What JSON has no form for travels as text, with the name of its type: {"uuid": "..."}.
_TAGS: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: ('blob', bytes.hex, bytes.fromhex),
    uuid.UUID: ('uuid', str, uuid.UUID),
    ipaddress.IPv4Address: ('inet', str, ipaddress.ip_address),
    ipaddress.IPv6Address: ('inet', str, ipaddress.ip_address),
    decimal.Decimal: ('decimal', str, decimal.Decimal),
    datetime.datetime: ('timestamp', datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.date: ('date', datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: ('time', datetime.time.isoformat, datetime.time.fromisoformat),
}


def _tagged(value: Any) -> dict[str, str]:
    for kind, (tag, write, _) in _TAGS.items():
        if isinstance(value, kind):
            return {tag: write(value)}
    raise TypeError(f'got {value!r}, rule: a value that has a form in JSON')


def _untagged(content: dict[str, str]) -> Any:
    ((tag, text),) = content.items()
    return {known: read for known, _, read in _TAGS.values()}[tag](text)


def _spelled(content: Any) -> Any:
    if isinstance(content, datetime.timedelta):
        return content.total_seconds()
    return content.isoformat() if isinstance(content, datetime.datetime) else content


def from_message(kind: type[T], message: Message, given: Mapping[str, Any] | None = None, path: str = '') -> T:
    """Makes the dataclass of a message.

    Args:
      kind: The dataclass.
      message: A message of its fields.
      given: Values that take the place of what the message holds, by path, as `to_message` names them.
      path: What stands before the names of this dataclass's fields in their paths.

    Raises:
      ValueError: A field breaks its rule.
    """
    given = given or {}
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        at, hint = f'{path}{field.name}', _hints(kind)[field.name]
        if at in given:
            values[field.name] = given[at]
            continue
        descriptor = _descriptor(message, field.name)
        if descriptor.has_presence and not message.HasField(descriptor.name):
            if type(None) in _parts(hint) or not _has_default(field):
                values[field.name] = None
            continue
        content = getattr(message, descriptor.name)
        if descriptor.message_type is None:
            values[field.name] = _read(field.name, hint, descriptor.name, content)
        elif typing.get_origin(hint) is tuple:
            nested = _dataclass(hint)
            values[field.name] = tuple(
                from_message(nested, item, given, f'{at}.{number}.') for number, item in enumerate(content)
            )
        else:
            values[field.name] = from_message(_dataclass(hint), content, given, f'{at}.')
    made = kind(**values)  # its own checks speak first
    for name, value in values.items():
        if value is None and dataclasses.is_dataclass(_hints(kind)[name]):
            raise invalid(name, None, 'given')
    return made


def _read(name: str, hint: Any, spelled: str, content: Any) -> Any:
    if spelled == f'{name}_json':
        return json.loads(content, object_hook=_untagged)
    if spelled == f'{name}_seconds':
        try:
            return datetime.timedelta(seconds=content)
        except (OverflowError, ValueError) as error:
            raise invalid(spelled, content, 'as many seconds as a time span can have') from error
    if typing.get_origin(hint) is tuple:
        return tuple(_moment(name, item) if datetime.datetime in _parts(hint) else item for item in content)
    return _moment(name, content) if datetime.datetime in _parts(hint) else content


def _moment(name: str, text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(name, text, 'a moment in ISO 8601') from error


def _descriptor(message: Message, name: str) -> Any:
    fields = message.DESCRIPTOR.fields_by_name
    return next(fields[spelt] for spelt in (name, f'{name}_seconds', f'{name}_json') if spelt in fields)


def _has_default(field: dataclasses.Field) -> bool:
    return not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)


def _parts(hint: Any) -> set:
    """Returns the types that a hint is made of: those of `tuple[str | Feature, ...] | None` are str, Feature, None."""
    arguments = typing.get_args(hint)
    return set().union(*map(_parts, arguments)) if arguments else {hint}


def _dataclass(hint: Any) -> Any:
    return next(part for part in _parts(hint) if dataclasses.is_dataclass(part))
