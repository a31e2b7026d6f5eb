"""`keyspace.table` is understood wherever a table is named."""

from __future__ import annotations

import dataclasses
import datetime

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from cassandra.cluster import Session

from tfx_cassandra.components import (
    CassandraConnection,
    FeatureView,
    LabelSource,
    ReadFromCassandra,
    TimeWindow,
    WriteToCassandra,
)
from tfx_cassandra.components.cli import main
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.lookup.options import RetrievalOptions
from tfx_cassandra.components.lookup.retrieve import Retriever
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.training_set import resolve, sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions

pytestmark = pytest.mark.integration

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
WINDOW = TimeWindow(START, START + datetime.timedelta(days=1))
ROWS = [{'k': n, 'at': START + datetime.timedelta(hours=n), 'v': n / 2} for n in range(5)]


def test_tables_of_another_keyspace(
    connection: CassandraConnection, session: Session, capsys: pytest.CaptureFixture
) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.named (k int, at timestamp, v double, PRIMARY KEY (k, at))')
    elsewhere, name = dataclasses.replace(connection, keyspace='elsewhere'), f'{connection.keyspace}.named'
    with beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create(ROWS) | WriteToCassandra(elsewhere, name)
    with beam.Pipeline() as pipeline:
        batches = pipeline | ReadFromCassandra(elsewhere, name, window=str(WINDOW))
        assert_that(batches | beam.FlatMap(lambda batch: batch.to_pylist()), equal_to(ROWS))
    assert probe.has_rows(ReadRequest(elsewhere, name, window=WINDOW))

    view, labels = FeatureView('v', name, ('k',), 'at', ('v',)), LabelSource(name, ('k',), 'at', ('v',))
    joined = FeatureView('v', name, ('k',), 'at', ('v',), prefix='was_')
    with connections.session(elsewhere) as opened:
        for settings in (
            TrainingSetOptions(elsewhere, (view,), WINDOW),
            TrainingSetOptions(elsewhere, (joined,), WINDOW, labels),
        ):
            resolve.check(settings)
            found = sources.describe(settings)
            assert {str(read.table) for read in found.reads.values()} == {name}
        (lookup,) = Retriever(RetrievalOptions(elsewhere, (view,)), 0).lookups(opened)
        assert str(lookup.table) == name

    points = ['--contact-points', ','.join(connection.contact_points), '--keyspace', 'elsewhere']
    assert main.main(['scan', name, '--to', 'count', *points]) == 0
    assert capsys.readouterr().out.split()[-1] == str(len(ROWS))


def test_a_table_that_the_driver_has_not_heard_of_is_asked_for_once(
    connection: CassandraConnection, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.fresh (k int PRIMARY KEY)')
    session.execute(f'CREATE MATERIALIZED VIEW {connection.keyspace}.seen AS SELECT k FROM {connection.keyspace}.fresh '
                    'WHERE k IS NOT NULL PRIMARY KEY (k)')  # fmt: skip
    with connections.session(dataclasses.replace(connection, connect_timeout=9.0)) as opened:
        keyspaces = opened.cluster.metadata.keyspaces
        # As before the server's messages arrive:
        del keyspaces[connection.keyspace].tables['fresh']
        assert tables.describe(opened, connection.keyspace, 'fresh').partition_key == ('k',)
        keyspaces[connection.keyspace].views.clear()
        assert tables.describe(opened, connection.keyspace, 'seen').partition_key == ('k',)
        del keyspaces[connection.keyspace]
        assert tables.describe(opened, connection.keyspace, 'fresh').partition_key == ('k',)
        asked, refresh = [], opened.cluster.refresh_table_metadata
        monkeypatch.setattr(
            opened.cluster, 'refresh_table_metadata', lambda *named: asked.append(named) or refresh(*named)
        )
        with pytest.raises(SchemaError, match=f"^table: got 'none', rule: a table of keyspace {connection.keyspace} "):
            tables.describe(opened, connection.keyspace, 'none')
        tables.describe(opened, connection.keyspace, 'fresh')
        assert asked == [(connection.keyspace, 'none')]
