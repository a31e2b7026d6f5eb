"""Loads the demo's data into Cassandra as `tfx-cassandra ingest` does, and checks that the tables hold exactly that."""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import pathlib
import tempfile
from collections.abc import Callable

import polars as pl
import pyarrow as pa
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from tfx_cassandra.components import schema
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.ingest.inputs import find
from tfx_cassandra.components.ingest.into import into
from tfx_cassandra.components.ingest.options import LoadOptions
from tfx_cassandra.components.progress import Step
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines.flight_delay import data

_DDL_SECONDS = 120
_READS_IN_FLIGHT = 32


@dataclasses.dataclass(frozen=True)
class Load:
    """Rows to write into a table.

    Attributes:
      table: Table of the connection's keyspace.
      rows: Its rows; columns are named as in the table.
      partition: Columns of the table's partition key.
      checked: Numeric column whose sum is checked together with the number of rows.
    """

    table: str
    rows: pl.DataFrame
    partition: tuple[str, ...]
    checked: str

    @property
    def contents(self) -> Contents:
        """The expected contents of the table's partitions."""
        return Contents(self.rows.height, math.fsum(self.rows[self.checked]))


@dataclasses.dataclass(frozen=True)
class Contents:
    """Number of rows, and the sum of a column by `math.fsum`, which does not depend on the order."""

    rows: int
    total: float


def weather(window: TimeWindow = data.YEAR) -> Load:
    """Returns the weather of a window, for `feature_store`."""
    rows = data.weather_rows(data.read_weather(), window)
    return Load('feature_store', rows, ('model_id', 'feature_name'), 'value')


def flights(window: TimeWindow = data.YEAR) -> Load:
    """Returns the flights of a window, for `flights`."""
    rows = data.flight_rows(data.read_flights(), window)
    return Load('flights', rows, ('origin', 'flight_day'), 'distance')


def planes() -> Load:
    """Returns the aircraft, for `planes`."""
    return Load('planes', data.plane_rows(data.read_planes()), ('tailnum',), 'seats')


# The demos' loads, in this order.
LOADS: dict[str, Callable[[], Load]] = {'weather': weather, 'flights': flights, 'planes': planes}


def apply_schema(connection: CassandraConnection) -> None:
    """Creates the keyspace, its tables and the demo's own tables if they do not exist yet.

    A new keyspace has three replicas in the local data center, or one per node if there are fewer nodes.
    """
    ddl = importlib.resources.files(__package__).joinpath('schema.cql').read_text()
    with connections.session(connection) as session:
        centers = [host.datacenter for host in session.cluster.metadata.all_hosts()]
        replicas = min(3, centers.count(connection.local_datacenter))
        schema.apply(connection, schema.NetworkReplication({connection.local_datacenter: replicas}))
        for statement in ddl.replace('{keyspace}', quoted(connection.keyspace)).split(';'):
            if statement.strip():
                session.execute(statement, timeout=_DDL_SECONDS)


def ingest(connection: CassandraConnection, load: Load, running: Step | None = None) -> bool:
    """Writes the rows unless the table already holds them; returns whether it wrote.

    Writes are idempotent, so an interrupted ingest is simply run again.

    Args:
      connection: How to reach the cluster.
      load: The rows.
      running: The step that shows the progress.

    Raises:
      WriteError: A row was not written, or the partitions hold other rows as well.
    """
    with connections.session(connection) as session:
        if contents(session, connection.keyspace, load) == load.contents:
            return False
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / 'rows.arrow'
            batch = data.record_batch(load.rows)
            with pa.ipc.new_file(str(file), batch.schema) as writer:
                writer.write_batch(batch)
            into(connection, load.table, find([str(file)]), LoadOptions(), running or Step('ingest'))
        written = contents(session, connection.keyspace, load)
    if written != load.contents:
        rule = f'{load.contents.rows:,} rows with a sum of {load.checked} of {load.contents.total}'
        raise WriteError(f'{load.table}: got {written.rows:,} rows with {written.total} after the ingest, rule: {rule}')
    return True


def contents(session: Session, keyspace: str, load: Load) -> Contents:
    """Reads the contents of the rows' partitions with the plain driver."""
    keys = load.rows.select(load.partition).unique().rows()
    where = ' AND '.join(f'{quoted(column)} = ?' for column in load.partition)
    query = f'SELECT {quoted(load.checked)} FROM {quoted(keyspace)}.{quoted(load.table)} WHERE {where}'
    results = execute_concurrent_with_args(session, session.prepare(query), keys, concurrency=_READS_IN_FLIGHT)
    values = [row[0] for _, rows in results for row in rows]
    return Contents(len(values), math.fsum(values))
