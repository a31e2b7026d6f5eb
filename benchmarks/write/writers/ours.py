"""This package: a TableWriter given record batches or mappings, or WriteToCassandra on the DirectRunner."""

import clock
import pyarrow as pa

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.write.writer import MOST_ROWS, TableWriter

options = clock.parser()
options.add_argument('--rows', required=True)
options.add_argument('--by', choices=['batches', 'mappings', 'beam'], required=True)
chosen = options.parse_args()
connection = CassandraConnection((chosen.host,), chosen.port, chosen.datacenter, chosen.keyspace, request_timeout=60.0)


def batches(start: int = 0, step: int = 1):
    file = pa.ipc.open_file(pa.memory_map(chosen.rows))
    for number in range(start, file.num_record_batches, step):
        yield file.get_batch(number)


def direct(part, parts, start):
    with connections.session(connection) as session:
        writer = TableWriter(session, tables.describe(session, chosen.keyspace, chosen.table))
        start()
        rows, gathered = 0, []
        for batch in batches():
            gathered.append(batch)
            if sum(each.num_rows for each in gathered) >= MOST_ROWS:
                rows += write(writer, gathered)
                gathered = []
        return rows + (write(writer, gathered) if gathered else 0)


def write(writer, gathered) -> int:
    whole = pa.Table.from_batches(gathered).combine_chunks().to_batches()[0]
    failures = writer.write(whole if chosen.by == 'batches' else mappings(whole))
    assert not failures, failures[0]
    return whole.num_rows


def mappings(batch) -> list:
    return [{**row, 'metadata': dict(row['metadata'])} for row in batch.to_pylist()]


def in_beam(part, parts, start):
    import apache_beam as beam

    from tfx_cassandra.components.write.transform import WriteToCassandra

    numbers = range(pa.ipc.open_file(pa.memory_map(chosen.rows)).num_record_batches)
    start()
    with beam.Pipeline() as pipeline:
        read = pipeline | beam.Create(numbers) | beam.Map(one, chosen.rows)
        _ = read | WriteToCassandra(connection, chosen.table)
    return sum(batch.num_rows for batch in batches())


def one(number, path):
    return pa.ipc.open_file(pa.memory_map(path)).get_batch(number)


clock.measure(in_beam if chosen.by == 'beam' else direct)
