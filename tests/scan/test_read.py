"""The display data of a read in Beam, and the options that reach it."""

from __future__ import annotations

from apache_beam.transforms.display import DisplayData

from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.connection import CassandraConnection
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
