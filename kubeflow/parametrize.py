"""From a function that builds a pipeline to a pipeline whose arguments are parameters of the compiled file."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline

from tfx_cassandra.components.driver.connection import PARAMETERS, CassandraConnection
from tfx_cassandra.components.errors import invalid

KNOWN = {
    'flight-delay': 'tfx_cassandra.pipelines.flight_delay.compiled:flight_delay',
    'ab': 'tfx_cassandra.pipelines.flight_delay.compiled:ab',
    'continuous': 'tfx_cassandra.pipelines.flight_delay.compiled:continuous',
    'predictions': 'tfx_cassandra.pipelines.flight_delay.compiled:predictions',
    'backfill': 'tfx_cassandra.pipelines.flight_delay.compiled:days',
}


def built(
    pipeline: str, connection: CassandraConnection, state: str, fixed: Mapping[str, str]
) -> tuple[Pipeline, CassandraConnection]:
    """Builds a pipeline with parameters for what varies from run to run.

    Args:
      pipeline: A name of KNOWN, or MODULE:FUNCTION.
      connection: Its contact points, data center and keyspace become the defaults of parameters.
      state: Folder or URI that the function is given.
      fixed: Arguments that are fixed, as texts.

    Returns:
      The pipeline, and the connection that its components have.

    Raises:
      ValueError: There is no such function, or it has no such argument.
    """
    function = _function(pipeline)
    signature = inspect.signature(function)
    names = list(signature.parameters)[2:]
    for name in fixed:
        if name not in names:
            raise invalid('set', name, f'an argument of {pipeline}: {", ".join(names) or "it has none"}')
    arguments: dict[str, Any] = {}
    for name in names:
        parameter = signature.parameters[name]
        if parameter.kind is parameter.KEYWORD_ONLY:
            if name in fixed:
                arguments[name] = _literal(name, fixed[name], parameter.default)
        elif name in fixed:
            arguments[name] = fixed[name]
        else:
            default = None if parameter.default in (parameter.empty, None) else str(parameter.default)
            arguments[name] = RuntimeParameter(name, str, default)
    opened = _opened(connection)
    return function(opened, state, **arguments), opened


def _opened(connection: CassandraConnection) -> CassandraConnection:
    """Returns the connection with parameters in place of its contact points, data center and keyspace."""
    values = {name: getattr(connection, name) for name in PARAMETERS}
    texts = {name: value if isinstance(value, str) else ','.join(value) for name, value in values.items()}
    parameters: Any = {name: RuntimeParameter(name, str, text) for name, text in texts.items()}
    return dataclasses.replace(connection, **parameters)


def _function(reference: str) -> Callable[..., Pipeline]:
    module, separator, name = KNOWN.get(reference, reference).partition(':')
    rule = f'{", ".join(KNOWN)} or MODULE:FUNCTION of a module that can be imported'
    if not separator:
        raise invalid('pipeline', reference, rule)
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise invalid('pipeline', reference, f'{rule} ({error})') from error
    if not callable(function) or len(inspect.signature(function).parameters) < 2:
        raise invalid('pipeline', reference, 'a function of (connection, state, ...)')
    return function


def _literal(name: str, text: str, default: Any) -> Any:
    """Returns a text in the type of the argument's default."""
    if isinstance(default, str) or default in (None, inspect.Parameter.empty):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise invalid(name, text, f'like its default, {default!r}')
    return value
