"""Tables of the dev cluster, written in two stages so that their SSTables overlap, and a backup of them."""

from __future__ import annotations

import datetime

from cassandra.cluster import Session
from snapshots import Snapshots

from tfx_cassandra.components import CassandraBackup, FeatureView, LabelSource

UTC = datetime.timezone.utc
START = datetime.datetime(2024, 3, 1, tzinfo=UTC)
WINDOW = '2024-03-01T00:00Z/2024-03-03T00:00Z'
HOURS, USERS = 72, 12
TABLES = (
    'clicks (user text, at timestamp, item int, late boolean, price double, PRIMARY KEY ((user), at))',
    'levels (user text, since timestamp, country text STATIC, level int, tags set<text>, PRIMARY KEY ((user), since))',
    'people (user text PRIMARY KEY, born timestamp, weight float)',
    "salted (user text, part int, at timestamp, v int, PRIMARY KEY ((user, part), at)) WITH comment = 'salt=part:4:at'",
)
CLICKS = LabelSource('clicks', ('user',), 'at', ('late', 'price'))
LEVELS = FeatureView('levels', 'levels', ('user',), 'since', ('level', 'tags', 'country'), prefix='l_')
PEOPLE = FeatureView('people', 'people', ('user',), None, ('weight',))


def at(hour: float) -> datetime.datetime:
    return START + datetime.timedelta(hours=hour)


def write(session: Session, snapshots: Snapshots, keyspace: str) -> None:
    """Writes in two stages, so that SSTables overlap: rows, then overwrites, deletions and rows that expire."""
    for table in TABLES:
        session.execute(f'CREATE TABLE {keyspace}.{table}')
    for stage in range(2):
        _write(session, keyspace, stage)
        snapshots.run('flush', keyspace)


def taken(snapshots: Snapshots, keyspace: str) -> CassandraBackup:
    """Takes a backup of the keyspace."""
    folder = snapshots.take(keyspace)['clicks']
    return CassandraBackup(str(folder.parents[3]), folder.name, keyspace=keyspace)


def _write(session: Session, keyspace: str, stage: int) -> None:
    session.set_keyspace(keyspace)
    click = session.prepare('INSERT INTO clicks (user, at, item, late, price) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?')
    level = session.prepare('INSERT INTO levels (user, since, level, tags) VALUES (?, ?, ?, ?) USING TIMESTAMP ?')
    salted = session.prepare('INSERT INTO salted (user, part, at, v) VALUES (?, ?, ?, ?)')
    for user in range(USERS):
        name = f'u{user}'
        for hour in range(stage, HOURS, 1 + stage):
            late = None if (hour + stage) % 5 == 0 else bool(hour % 2)
            session.execute(click, (name, at(hour), hour, late, hour / 3 + stage, written(hour)))
            session.execute(salted, (name, hour % 4, at(hour), hour))
        for hour in range(stage, HOURS, 7):
            session.execute(level, (name, at(hour), hour + user, {f't{hour}', 'x'}, written(hour + 2)))
    if stage:
        session.execute(
            "DELETE FROM clicks WHERE user = 'u1' AND at > '2024-03-01T05:00Z' AND at < '2024-03-01T09:00Z'"
        )
        session.execute("DELETE FROM levels WHERE user = 'u2'")
        session.execute("UPDATE levels SET country = 'CH' WHERE user = 'u3'")
        session.execute("INSERT INTO people (user, weight) VALUES ('u4', 1.5) USING TTL 100000")
        session.execute("UPDATE levels SET country = 'only static' WHERE user = 'none'")
    else:
        for user in range(USERS):
            session.execute(
                f"INSERT INTO people (user, born, weight) VALUES ('u{user}', '1990-01-01T00:00Z', {user}.25)"
            )


def written(hour: float) -> int:
    return int(at(hour).timestamp() * 1_000_000)
