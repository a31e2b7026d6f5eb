"""The display data of a read in Beam, the options that reach it, and what a group of splits gives."""

from __future__ import annotations

import types

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.display import DisplayData

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan import read, ring
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.read import ReadFromCassandra
from tfx_cassandra.components.window import TimeWindow


def test_the_display_data_show_cluster_table_and_window_but_no_secret() -> None:
    connection = CassandraConnection(('10.0.0.1',), keyspace='ks', username='ada', password_env='ADA_PASSWORD')
    window = TimeWindow.parse('2013-01-01T00:00Z/2013-02-01T00:00Z')
    read = ReadFromCassandra(connection, 'events', window=window, time_column='at')
    assert read.display_data() == {'cluster': str(connection), 'table': 'events', 'window': str(window)}
    shown = {item.key: item.value for item in DisplayData.create_from(read).items}
    assert shown['table'] == 'events'
    assert shown['window'] == '2013-01-01T00:00:00+00:00/2013-02-01T00:00:00+00:00'
    assert '10.0.0.1' in shown['cluster']
    assert 'ADA_PASSWORD' not in str(shown)


def test_how_values_are_decoded_reaches_the_read() -> None:
    plain = ReadFromCassandra(CassandraConnection(), 'events')
    assert plain._request.options.decoding == Decoding('error', 'error')
    chosen = ReadFromCassandra(CassandraConnection(), 'events', invalid_text='replace', wide_varints='text')
    assert chosen._request.options.decoding == Decoding('replace', 'text')


def test_a_group_gives_one_entry_for_each_split_however_it_was_cut() -> None:
    """A table of 75 TB is cut every 16 MB: its ledger would be millions of entries in the one worker that verifies."""
    splits = [Split(Area(tokens), ('n:9042',)) for tokens in ring.subdivide(ring.ring_ranges([0]), 2)]
    pieces = [Area(tokens) for split in splits for tokens in ring.subdivide([split.area.tokens], 5)]
    page = pa.RecordBatch.from_pydict({'k': [1, 2]})
    fetched = [found for piece in pieces for found in (page, RangeRead(piece, 2, 20, 1, 0, 7, 'n:9042'))]
    reading = read._ReadSplits(ReadRequest(CassandraConnection(), 't'))
    reading._fetches = lambda *_: types.SimpleNamespace(fetch=lambda _: iter(fetched))
    scan = plan_scan(Table('ks', 't', ('k',), (), (('k', 'int'),)))
    found = list(reading.process((scan, 5000, splits)))
    entries = [entry.value for entry in found[len(pieces) :]]
    assert found[: len(pieces)] == [page] * len(pieces), 'batches first: a ledger without its rows is not passed on'
    assert sorted(entry.area for entry in entries) == sorted(split.area for split in splits)
    assert sum(entry.rows for entry in entries) == 2 * len(pieces) > 2 * len(splits)


def test_groups_are_spread_and_a_bundle_s_entries_leave_it_with_its_batches() -> None:
    """Workers share what was reshuffled; what one ParDo gives counts together, or is repeated together."""
    pipeline = beam.Pipeline()
    _ = pipeline | 'Scan' >> read.ScanTable(ReadRequest(CassandraConnection(), 't'))
    transforms = {t.unique_name: t for t in pipeline.to_runner_api().components.transforms.values()}
    share, reading = transforms['Scan/Share'], transforms['Scan/Read/ParDo(_ReadSplits)']
    assert share.spec.urn == 'beam:transform:reshuffle:v1'
    assert set(share.inputs.values()) == set(transforms['Scan/Groups'].outputs.values())
    assert set(reading.inputs.values()) == set(share.outputs.values())
    assert set(transforms['Scan/Collect'].inputs.values()) == {reading.outputs['ledger']}
