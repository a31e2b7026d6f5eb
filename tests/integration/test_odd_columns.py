"""Training sets of tables with odd column names, odd times and values without a time of writing, by both plans."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

import pytest
import tensorflow as tf
from cassandra.cluster import Session
from tfx.types import standard_artifacts

from tfx_cassandra.components import (
    AuditLimits,
    CassandraConnection,
    CassandraExampleGen,
    FeatureView,
    LabelSource,
)
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.example_gen import executor

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2020, 1, 1, tzinfo=UTC)
WINDOW = '2020-01-01T00:00Z/2020-01-02T00:00Z'
MS = int(START.timestamp() * 1000)
PLANS = ['scan', 'lookup']
DDL = [
    'odd_events (day int, "at" timestamp, "entity 0" text, "drop" int, PRIMARY KEY ((day), "at", "entity 0"))',
    'odd_wide ("entity" text, "event" timestamp, x int, "writetime(x)" int, "value:x" int, "^.*$" int, '
    'PRIMARY KEY (("entity"), "event"))',
    'odd_long ("row" text, "at" timestamp, "name" text, "created:v" double, PRIMARY KEY (("row", "name"), "at"))',
    'counted (who text, at timestamp, clicks counter, PRIMARY KEY ((who), at))',
    'dated (who text, at timestamp, made timestamp, x int, PRIMARY KEY ((who), at))',
    'plain_events (day int, at timestamp, who text, PRIMARY KEY ((day), at))',
]
EVENTS = LabelSource('odd_events', ('entity 0',), 'at', ('drop',))
WIDE = FeatureView(
    'wide', 'odd_wide', ('entity',), 'event', ('x', 'writetime(x)', 'value:x', '^.*$'), join_columns=('entity 0',)
)
LONG = FeatureView(
    'long', 'odd_long', ('row',), 'at', ('time', 'place'), layout='long', feature_name_column='name',
    value_column='created:v', join_columns=('entity 0',),
)  # fmt: skip
PLAIN = LabelSource('plain_events', ('who',), 'at', ('day',))


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    for table in DDL:
        session.execute(f'CREATE TABLE {connection.keyspace}.{table}')
    names = itertools.cycle(['ann', 'bob', 'nobody'])
    for number, name in zip(range(12), names, strict=False):
        insert = f'INSERT INTO {connection.keyspace}.odd_events (day, "at", "entity 0", "drop") VALUES (1, %s, %s, %s)'
        session.execute(insert, (START + number * datetime.timedelta(hours=1), name, number))
    for name, hour in itertools.product(['ann', 'bob'], range(6)):
        moment = START + hour * datetime.timedelta(hours=2)
        late = MS * 1000 + (hour * 2 + 3 * (hour % 2)) * 3_600_000_000  # every second one is written three hours late
        session.execute(
            f'INSERT INTO {connection.keyspace}.odd_wide ("entity", "event", x, "value:x", "^.*$") '
            f'VALUES (%s, %s, %s, %s, %s) USING TIMESTAMP {late}',
            (name, moment, hour, 10 + hour, 20 + hour),
        )
        session.execute(
            f'INSERT INTO {connection.keyspace}.odd_wide ("entity", "event", "writetime(x)") '
            f'VALUES (%s, %s, %s) USING TIMESTAMP {MS * 1000 - 5}',
            (name, moment, 30 + hour),
        )
        for feature in ('time', 'place'):
            session.execute(
                f'INSERT INTO {connection.keyspace}.odd_long ("row", "name", "at", "created:v") '
                f'VALUES (%s, %s, %s, %s) USING TIMESTAMP {late}',
                (name, feature, moment, hour + len(feature) / 2),
            )
    session.execute(f'INSERT INTO {connection.keyspace}.plain_events (day, at, who) VALUES (1, %s, %s)', (START, 'ann'))
    return connection


def run(connection: CassandraConnection, folder: Path, **settings: object) -> list[dict[str, list]]:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    component = CassandraExampleGen(connection, window=WINDOW, **settings)  # type: ignore[arg-type]
    executor.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
    files = sorted(map(str, folder.glob('Split-*/data_tfrecord-*.gz')))
    made = []
    for record in tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        made.append({name: list(getattr(f, f.WhichOneof('kind')).value) for name, f in features.items()})
    return made


@pytest.mark.parametrize('plan', PLANS)
def test_columns_may_have_any_name(filled: CassandraConnection, tmp_path: Path, plan: str) -> None:
    made = run(filled, tmp_path, labels=EVENTS, views=[WIDE, LONG], join_plan=plan)
    assert len(made) == 12
    for example in made:
        number = example['drop'][0]
        expected = {'drop': [number], 'at': [MS + number * 3_600_000], 'entity 0': example['entity 0']}
        if example['entity 0'] != [b'nobody']:
            # The last even hour's row, or the odd one's from three hours after its time on.
            known = max(h for h in range(6) if h * 2 + 3 * (h % 2) <= number)
            expected |= {
                'x': [known],
                'value:x': [10 + known],
                '^.*$': [20 + known],
                'writetime(x)': [30 + number // 2],
            }
            expected |= {'time': [known + 2.0], 'place': [known + 2.5]}
        assert example == expected


def test_a_long_view_s_own_rows_may_have_any_name(filled: CassandraConnection, tmp_path: Path) -> None:
    made = run(filled, tmp_path, views=LONG)
    assert sorted((e['row'][0], e['at'][0], e['time'][0], e['place'][0]) for e in made) == [
        (name, MS + hour * 7_200_000, hour + 2.0, hour + 2.5) for name in (b'ann', b'bob') for hour in range(6)
    ]


COUNTED = FeatureView('counted', 'counted', ('who',), 'at', ('clicks',))


@pytest.mark.parametrize('plan', PLANS)
def test_a_counter_of_today_is_no_value_of_the_past(
    filled: CassandraConnection, session: Session, tmp_path: Path, plan: str
) -> None:
    update = f"UPDATE {filled.keyspace}.counted SET clicks = clicks + 5 WHERE who = 'ann' AND at = '2020-01-01'"
    session.execute(update)
    settings = {'labels': PLAIN, 'views': COUNTED, 'join_plan': plan}
    with pytest.raises(SchemaError, match=r"^view counted: got 'clicks', a counter, .*availability_cut_off=False"):
        run(filled, tmp_path / 'on', **settings)
    assert not list(tmp_path.glob('on/*'))
    (example,) = run(filled, tmp_path / 'off', availability_cut_off=False, **settings)
    assert example['clicks'][0] >= 5


DATED = FeatureView('dated', 'dated', ('who',), 'at', ('x',), created_column='made')
FIRST, LAST = -(2**63), 2**63 - 1
YEAR_20000, YEAR_MINUS_500 = 568_971_820_800_000, -77_945_000_000_000


@pytest.mark.parametrize('plan', PLANS)
@pytest.mark.parametrize(
    ('at', 'made', 'expected'),
    [
        (MS, FIRST, 'error'),
        (MS, LAST, 'error'),
        (MS, 2**62, 'error'),
        (FIRST, None, 'error'),
        (FIRST + 1, MS, 'error'),
        (LAST, LAST, None),  # which no event has reached: it is not read
        (MS, YEAR_20000, None),  # not known yet
        (YEAR_20000, MS, None),
        (YEAR_MINUS_500, YEAR_MINUS_500, [7]),
        (-(2**62 // 1000), None, [7]),
    ],
)
def test_times_at_the_ends(
    filled: CassandraConnection,
    session: Session,
    tmp_path: Path,
    plan: str,
    at: int,
    made: int | None,
    expected: object,
) -> None:
    session.execute(f'TRUNCATE {filled.keyspace}.dated')
    insert = session.prepare(f"INSERT INTO {filled.keyspace}.dated (who, at, made, x) VALUES ('ann', ?, ?, 7)")
    session.execute(insert, (at, made))
    settings = {'labels': PLAIN, 'views': DATED, 'join_plan': plan}
    if expected == 'error':
        shown = at if made is None or at < FIRST + 2 else made
        with pytest.raises(Exception, match=rf"of view dated: got {shown} ms since 1970 in the row {{'who': 'ann', "):
            run(filled, tmp_path, **settings)
        assert not (tmp_path / 'spool').exists()
    else:
        (example,) = run(filled, tmp_path, **settings)
        assert example.get('x') == expected


def test_without_events_no_limit_holds(filled: CassandraConnection, tmp_path: Path) -> None:
    nobody = LabelSource('plain_events', ('who',), 'at', ('day',), where={'who': 'nobody'})
    with pytest.raises(Exception, match=r'limits: got no examples'):
        run(filled, tmp_path, labels=nobody, views=DATED, limits=AuditLimits(missing=0))
