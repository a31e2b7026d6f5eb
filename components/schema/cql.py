"""CQL with a keyspace in it: of declared relations, and of the keyspace itself."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.schema.replication import Replication


def create_keyspace(keyspace: str, replication: Replication) -> str:
    """Returns the statement that creates a keyspace; raises ValueError for a name that is not valid."""
    return with_keyspace(
        f'CREATE KEYSPACE IF NOT EXISTS {{keyspace}} WITH replication = {literal(replication.options())} '
        'AND durable_writes = true',
        keyspace,
    )


def with_keyspace(cql: str, keyspace: str) -> str:
    """Returns CQL with the quoted keyspace for each '{keyspace}'.

    Raises:
      ValueError: The name is not valid for a keyspace.
    """
    # A name cannot be a bound value, so it must not contain anything that could end the quotes.
    if not re.fullmatch(r'[A-Za-z0-9_]{1,48}', keyspace):
        raise invalid('keyspace', keyspace, '1 to 48 letters, digits and underscores')
    return cql.replace('{keyspace}', f'"{keyspace}"')


def literal(value: object) -> str:
    """Returns a table option as CQL: a number as it is, a text quoted, a mapping with its texts quoted."""
    if isinstance(value, Mapping):
        return f'{{{", ".join(f"{_text(key)}: {_text(content)}" for key, content in value.items())}}}'
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: object) -> str:
    escaped = str(value).replace("'", "''")
    return f"'{escaped}'"


@contextlib.contextmanager
def errors_named(name: str, hint: str = '') -> Iterator[None]:
    """Converts driver errors within a block to a SchemaError that names the relation and gives a hint."""
    try:
        yield
    except DRIVER_ERRORS as error:
        advice = f'; {hint}' if hint else ''
        raise SchemaError(f'{name}: {one_line(error)}{advice}') from error
