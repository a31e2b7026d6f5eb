"""Values that a pipeline leaves open until it runs: TFX's RuntimeParameters and Placeholders.

What varies from run to run is an execution property of its own, a text, for which TFX puts in the parameter's value.
A component checks the values that it knows, with a stand-in for each open one; its executor checks them all. Nothing
here imports TFX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tfx_cassandra.components.errors import invalid

T = TypeVar('T')


def is_open(value: object) -> bool:
    """Whether a value is a RuntimeParameter or a Placeholder of TFX, known only when a component runs."""
    return any(
        kind.__name__ in ('RuntimeParameter', 'Placeholder') and kind.__module__.startswith('tfx.')
        for kind in type(value).__mro__
    )


def known(field: str, value: Any, stand_in: T) -> Any | T:
    """Returns a value as it is, or `stand_in` for an open one.

    Args:
      field: What the message calls the value.
      value: The value, or a parameter.
      stand_in: What the other checks may take for the value; it must break none of them.

    Raises:
      ValueError: The value is a RuntimeParameter that is not one of texts.
    """
    if not is_open(value):
        return value
    if type(value).__name__ == 'RuntimeParameter' and value.ptype is not str:
        kind = getattr(value.ptype, '__name__', value.ptype)
        raise invalid(field, shown(value), f'a RuntimeParameter with ptype=str, not {kind}')
    return stand_in


def shown(value: Any) -> str:
    """Returns how messages call an open value."""
    return f'RuntimeParameter {value.name}' if type(value).__name__ == 'RuntimeParameter' else type(value).__name__


def property_of(value: Any, form: Callable[[Any], str] = str) -> Any:
    """Returns the execution property for a value: its text; None and parameters stay as they are."""
    return value if value is None or is_open(value) else form(value)


def text(properties: Mapping[str, Any], name: str) -> str:
    """Returns the text of an execution property, '' where the run has none.

    Raises:
      ValueError: The property is not a text, as where a Placeholder stands for a number.
    """
    value = properties.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid(name, value, 'a text')
    return value or ''


def optional(properties: Mapping[str, Any], name: str, parse: Callable[[str], T]) -> T | None:
    """Returns the parsed text of an execution property; None where the run has none or an empty one."""
    given = text(properties, name)
    return parse(given) if given else None
