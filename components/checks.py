"""Arguments checked by their type hints, with one message: `field: got value, rule: the rule in words`.

    port: Annotated[int, between(1, 65535)]     a type and a rule for its values
    views: tuple[FeatureView, ...]              also takes a list, or one view alone
    moment: datetime.datetime                   becomes a moment of UTC; see window.aware

A frozen dataclass calls `check_fields` in __post_init__; any other class decorates its constructor with `checked`. A
rule that needs names of its module is declared beside the class, not within it: Python evaluates a hint without them.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.parameters import known
from tfx_cassandra.components.window import aware, duration

F = TypeVar('F', bound=Callable[..., None])

_hints: Callable[[Any], dict[str, Any]] = functools.cache(functools.partial(typing.get_type_hints, include_extras=True))
_WORDS: dict[Any, str] = {
    type(None): 'None',
    bool: 'True or False',
    int: 'an integer',
    float: 'a number',
    str: 'a text',
    tuple: 'a list',
    datetime.datetime: 'a datetime with a time zone, such as 2013-01-01T00:00+00:00',
    datetime.timedelta: 'a datetime.timedelta',
}


class Rule(NamedTuple):
    """What values of a type must fulfil: `Annotated[int, Rule('an even number', lambda n: n % 2 == 0)]`."""

    words: str
    holds: Callable[[Any], bool]


def between(low: int, high: int) -> Rule:
    """Returns the rule for integers from `low` to `high`, both included."""
    return Rule(f'an integer from {low} to {high}', lambda number: low <= number <= high)


Name = Annotated[str, Rule('a non-empty text', bool)]
Count = Annotated[int, Rule('an integer of at least 1 and below 2^31', lambda number: 1 <= number < 2**31)]
Int64 = Annotated[int, Rule('an integer of 64 bits', lambda number: -(2**63) <= number < 2**63)]
Rate = Annotated[float, Rule('a number above 0', lambda rate: rate > 0)]
Share = Annotated[float, Rule('a share from 0 to 1', lambda share: 0 <= share <= 1)]
TableName = Annotated[
    str, Rule('the name of a table, or keyspace.table', lambda name: name.count('.') < 2 and all(name.split('.')))
]


class _UnfitError(Exception):
    """A value does not fit its hint."""


def check_fields(instance: Any, prefix: str = '', may_be_open: Collection[str] = ()) -> None:
    """Checks the fields of a frozen dataclass by their type hints, and gives them the form that the hints say.

    Args:
      instance: The dataclass, in its __post_init__.
      prefix: What stands before the fields' names in messages.
      may_be_open: Fields that may also hold a parameter of a pipeline (see parameters.py).

    Raises:
      ValueError: A field does not fit its hint.
    """
    hints = _hints(type(instance))
    for field in dataclasses.fields(instance):
        name, value = field.name, getattr(instance, field.name)
        if name in may_be_open and known(f'{prefix}{name}', value, None) is not value:
            continue
        object.__setattr__(instance, name, conform(f'{prefix}{name}', value, hints[name]))


def checked(constructor: F) -> F:
    """Decorates a constructor: its arguments are checked by their type hints, and given the form that the hints say."""
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def checking(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        hints = _hints(constructor)
        for name, value in bound.arguments.items():
            if name in hints:
                bound.arguments[name] = conform(name, value, hints[name])
        constructor(*bound.args, **bound.kwargs)

    return typing.cast(F, checking)


def conform(field: str, value: Any, hint: Any) -> Any:
    """Returns a value in the form of a type hint.

    Raises:
      ValueError: It has none; the message names field, value and rule.
    """
    try:
        return _conformed(field, value, hint)
    except _UnfitError:
        raise invalid(field, value, words(hint)) from None


def words(hint: Any) -> str:
    """Returns the rule that a type hint is, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return ', '.join(rule.words for rule in hint.__metadata__)
    if origin in (Union, types.UnionType):
        parts = [words(part) for part in arguments if part is not type(None)]
        return _either(parts) + (', or None' if len(parts) < len(arguments) else '')
    if origin is Literal:
        return _either(list(map(repr, arguments)))
    if origin in (tuple, Sequence) and (origin is Sequence or arguments[-1] is Ellipsis):
        return f'a list in which each item is {words(arguments[0])}'
    if origin is tuple:
        return f'({", ".join(map(words, arguments))})'
    kind = origin or hint
    name = kind.__name__
    return _WORDS.get(kind) or f'{"an" if name[0] in "AEIOUaeiou" else "a"} {name}'


def _either(parts: list[str]) -> str:
    return ' or '.join([', '.join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def _conformed(field: str, value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        value = _conformed(field, value, arguments[0])
        return _if(all(rule.holds(value) for rule in hint.__metadata__), value)
    if origin in (Union, types.UnionType):
        return _first(field, value, arguments)
    if origin is Literal:
        return _if(isinstance(value, str) and value in arguments, value)
    if origin is tuple or origin is Sequence or hint is tuple:
        return _items(field, value, origin or tuple, arguments or (Any, Ellipsis))
    if hint is datetime.datetime:
        return aware(field, _if(isinstance(value, datetime.datetime), value))
    if hint is datetime.timedelta:
        return duration(field, _if(isinstance(value, datetime.timedelta), value))
    return _if(_is_a(value, origin or hint), value)


def _if(fits: bool, value: Any) -> Any:
    if not fits:
        raise _UnfitError
    return value


def _first(field: str, value: Any, hints: Iterable[Any]) -> Any:
    """Returns a value in the form of the first hint that it fits."""
    for hint in hints:
        try:
            return _conformed(field, value, hint)
        except _UnfitError:
            continue
    raise _UnfitError


def _items(field: str, value: Any, origin: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns a tuple of items in the form of their hints; one item that is no tuple may stand for a tuple of it."""
    if origin is Sequence or hints[-1] is Ellipsis:
        hint = hints[0]
        if origin is tuple and hint is not Any and typing.get_origin(hint) is not tuple:
            try:
                return (_conformed(field, value, hint),)
            except _UnfitError:
                pass
        return tuple(_conformed(field, item, hint) for item in _iterated(value))
    items = _iterated(value)
    _if(len(items) == len(hints), value)
    return tuple(_conformed(field, item, hint) for item, hint in zip(items, hints, strict=True))


def _iterated(value: Any) -> tuple[Any, ...]:
    _if(isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, Mapping)), value)
    return tuple(value)


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        try:
            return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        except OverflowError:  # an integer beyond all floats
            return False
    if kind is str:
        return isinstance(value, str) and _is_unicode(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
