"""A table is looked up by its name, or by keyspace.table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.errors import SchemaError


def keyspace(*names: str) -> Any:
    column = SimpleNamespace(name='k', cql_type='int', is_static=False, is_reversed=False)
    table = SimpleNamespace(partition_key=[column], clustering_key=[], columns={'k': column})
    return SimpleNamespace(virtual=False, replication_strategy=None, tables=dict.fromkeys(names, table), views={})


SESSION: Any = SimpleNamespace(
    cluster=SimpleNamespace(metadata=SimpleNamespace(keyspaces={'here': keyspace('t', 'u'), 'there': keyspace('t')}))
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
