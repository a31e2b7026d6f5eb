"""The tables that every engine reads: made once, of values that a formula gives."""

from __future__ import annotations

import datetime
import random
import uuid

import numpy as np
import pyarrow as pa
from cassandra.cluster import Session

from tfx_cassandra.components import InferenceLogger, ModelRegistry
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.inference_log.logger import assign
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
DAYS = 2
SENSORS, READINGS, VALUES, VISITS, REQUESTS = 150, 400, 60, 6000, 2000
WEIGHTS = {'control': 0.5, 'treatment': 0.5}
VERSIONS = {'control': '1700000000', 'treatment': '1700000001'}
DDL = [
    'readings (sensor text, ts timestamp, a double, b bigint, c text, PRIMARY KEY (sensor, ts))',
    'measures (sensor text, name text, ts timestamp, value double, PRIMARY KEY ((sensor, name), ts))',
    'visits (part int, at timestamp, n int, sensor text, late boolean, PRIMARY KEY ((part), at, n))',
    'written (k int PRIMARY KEY, v text, w double)',
]


def fill(connection: CassandraConnection, session: Session) -> None:
    """Creates and fills the tables of a keyspace that has the schema; each value was known at its own time."""
    for table in DDL:
        session.execute(f'CREATE TABLE {connection.keyspace}.{table}', timeout=60)
    draw = random.Random(7)

    def moments(count: int) -> list[datetime.datetime]:
        # Each once: rows of one key and time would be one row.
        minutes = draw.sample(range((DAYS + 1) * 24 * 60), count)
        return [START - datetime.timedelta(days=1) + datetime.timedelta(minutes=minute) for minute in minutes]

    readings = [
        {'sensor': f's{n}', 'ts': ts, 'a': draw.random(), 'b': draw.randrange(-(2**40), 2**40), 'c': 'x' * (i % 40)}
        for n in range(SENSORS)
        for i, ts in enumerate(moments(READINGS))
    ]
    measures = [
        {'sensor': f's{n}', 'name': name, 'ts': ts, 'value': draw.randrange(1000) / 8}
        for n in range(SENSORS)
        for ts in moments(VALUES)
        for name in (('heat', 'wind') if n % 3 else ('heat',))
    ]
    visits = [
        {
            'part': n % 64, 'at': START + datetime.timedelta(minutes=draw.randrange(DAYS * 24 * 60)), 'n': n,
            'sensor': f's{draw.randrange(SENSORS + 5)}', 'late': draw.random() < 0.4,
        }
        for n in range(VISITS)
    ]  # fmt: skip
    for name, rows, time in (('readings', readings, 'ts'), ('measures', measures, 'ts'), ('visits', visits, 'at')):
        table = tables.describe(session, connection.keyspace, name)
        writer = TableWriter(session, table, WriteOptions(timestamp_column=time))
        assert not writer.write(pa.RecordBatch.from_pylist(rows))
    _log(connection)


def _log(connection: CassandraConnection) -> None:
    """Logs the requests and outcomes of an experiment, and records its versions."""
    draw = np.random.default_rng(5)
    with InferenceLogger(connection, 'e', 'inference_results') as log:
        for i in range(REQUESTS):
            arm = assign('e', f'unit {i}', WEIGHTS)
            late = float(draw.random() < 0.3)
            skill = 0.3 if arm == 'control' else 0.6
            prediction = float(np.clip(0.3 + skill * (late - 0.3) + draw.normal(0, 0.1), 0, 1))
            when = START + datetime.timedelta(seconds=float(draw.uniform(0, 86_400)))
            identity = uuid.UUID(int=draw.bit_generator.random_raw())
            request = log.log('m', prediction, version=VERSIONS[arm], request_id=identity, timestamp=when)
            log.log_outcome('m', request, 'late', late, when + datetime.timedelta(hours=2))
        assert log.flush(120)
    with ModelRegistry(connection) as registry:
        for version in VERSIONS.values():
            registry.record(ModelVersion('e', 'm', version, moment(int(version)), {'auc': 0.7}))
