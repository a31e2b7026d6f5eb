"""A table is looked up by its name, or by keyspace.table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.errors import SchemaError


def keyspace(*names: str) -> Any:
    column = SimpleNamespace(name='k', cql_type='int', is_static=False, is_reversed=False)
    table = SimpleNamespace(partition_key=[column], clustering_key=[], columns={'k': column}, options={})
    return SimpleNamespace(virtual=False, replication_strategy=None, tables=dict.fromkeys(names, table), views={})


SESSION: Any = SimpleNamespace(
    cluster=SimpleNamespace(
        metadata=SimpleNamespace(keyspaces={'here': keyspace('t', 'u'), 'there': keyspace('t')}),
        refresh_keyspace_metadata=lambda keyspace: None,
        refresh_table_metadata=lambda keyspace, table: None,
    )
)


@pytest.mark.parametrize(
    ('name', 'found'), [('t', 'here.t'), ('here.t', 'here.t'), ('there.t', 'there.t'), ('here.u', 'here.u')]
)
def test_a_table_of_any_keyspace(name: str, found: str) -> None:
    assert str(tables.describe(SESSION, 'here', name)) == found


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('v', "table: got 'v', rule: a table of keyspace here (t, u)"),
        ('there.u', "table: got 'u', rule: a table of keyspace there (t)"),
        ('nowhere.t', "keyspace: got 'nowhere', rule: a keyspace of the cluster (here, there)"),
    ],
)
def test_what_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        tables.describe(SESSION, 'here', name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ('comment', 'found'),
    [('', None), ('of sensors', None), ('event_time=at', 'at'), ('of sensors, event_time=at; kept', 'at')],
)
def test_a_comment_declares_the_write_time(comment: str, found: str | None) -> None:
    at = SimpleNamespace(name='at', cql_type='timestamp')
    assert tables._event_time(SimpleNamespace(name='t', columns={'at': at}, options={'comment': comment})) == found


@pytest.mark.parametrize('comment', ['event_time=seen', 'event_time=k'])
def test_the_declared_write_time_is_a_timestamp(comment: str) -> None:
    table = SimpleNamespace(
        name='t', columns={'k': SimpleNamespace(name='k', cql_type='int')}, options={'comment': comment}
    )
    with pytest.raises(SchemaError, match=f"comment of t: got '{comment}', rule: event_time=COLUMN"):
        tables._event_time(table)
