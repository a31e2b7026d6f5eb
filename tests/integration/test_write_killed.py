"""A Beam pipeline that writes late and repeated events, killed ten times and run again: the newest events stay."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import timezone
from pathlib import Path

import pytest
from cassandra.cluster import Session

from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EVENTS, KEYS, KILLS, RATE = 30_000, 2_000, 10, 6_000
PIPELINE = """
import datetime, json, pathlib, sys
import apache_beam as beam
from tfx_cassandra.components import CassandraConnection, WriteToCassandra

def row(event):
    pathlib.Path('begun').touch()
    key, at, value = event
    moment = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
    return {'k': key, 'at': moment, 'v': value}

if __name__ == '__main__':
    host, keyspace, table, rate = sys.argv[1:]
    events = json.loads(pathlib.Path('events.json').read_text())
    with beam.Pipeline() as pipeline:
        rows = pipeline | beam.Create(events) | beam.Map(row)
        rows | WriteToCassandra(
            CassandraConnection(tuple(host.split(',')), keyspace=keyspace), table, timestamp_column='at',
            rows_per_second=float(rate))
"""


def test_a_pipeline_that_is_killed_ten_times_ends_with_the_newest_events(
    session: Session, connection: CassandraConnection, tmp_path: Path
) -> None:
    session.execute(f'CREATE TABLE {connection.keyspace}.newest (k int PRIMARY KEY, at timestamp, v double)')
    chance = random.Random('killed')
    events = list({(k, at): (k, at, chance.random()) for k, at in _places(chance)}.values())
    events += chance.choices(events, k=EVENTS // 10)
    chance.shuffle(events)
    (tmp_path / 'events.json').write_text(json.dumps(events))
    (tmp_path / 'pipeline.py').write_text(PIPELINE)
    where = [','.join(connection.contact_points), connection.keyspace, 'newest', str(RATE)]
    command = [sys.executable, 'pipeline.py', *where]
    in_midst = 0
    for _ in range(KILLS):
        (tmp_path / 'begun').unlink(missing_ok=True)
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, **QUIET})
        deadline = time.monotonic() + 120
        while process.poll() is None and not (tmp_path / 'begun').exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, EVENTS / RATE))
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        in_midst += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), err.decode()
    assert in_midst >= KILLS / 2
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **QUIET}, check=True)
    newest: dict[int, tuple[int, float]] = {}
    for key, at, value in events:
        if at > newest.get(key, (-1, 0.0))[0]:
            newest[key] = (at, value)
    found = {
        row.k: (round(row.at.replace(tzinfo=timezone.utc).timestamp()), row.v)
        for row in session.execute(f'SELECT k, at, v FROM {connection.keyspace}.newest')
    }
    assert found == newest


QUIET = {'TF_CPP_MIN_LOG_LEVEL': '3'}


def _places(chance: random.Random) -> list[tuple[int, int]]:
    """Keys and times, so that most keys have several events."""
    return [(chance.randrange(KEYS), chance.randrange(10**6)) for _ in range(EVENTS)]
