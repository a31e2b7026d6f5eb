"""Training sets joined on a real Cassandra: both plans, both layouts, against loops over the driver's own rows."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import random
import uuid
from pathlib import Path

import pytest
import tensorflow as tf
from cassandra.cluster import Session
from tfx import types
from tfx.types import standard_artifacts

from tfx_cassandra.components import (
    AuditLimits,
    CassandraConnection,
    CassandraExampleGen,
    Feature,
    FeatureView,
    Label,
    LabelSource,
)
from tfx_cassandra.components.dataset.files import spool
from tfx_cassandra.components.dataset.join import shards
from tfx_cassandra.components.errors import DatasetError, SchemaError
from tfx_cassandra.components.example_gen import executor

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2020, 1, 1, tzinfo=UTC)
WINDOW = '2020-01-01T00:00Z/2020-01-03T00:00Z'
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
USERS = ['ann', 'bob', 'cy', 'eve', 'hot']
SHOPS = [uuid.UUID(int=i) for i in range(3)]

EVENTS = LabelSource('clicks', ('user', 'shop', 'item'), 'at', ('clicked', Label('bought', rename='sale', delay=None)))
PROFILE = FeatureView(
    'profile', 'profiles', ('user',), 'ts',
    (
        'age', Feature('height', default=1.5), 'tags', 'words', 'embedding', "scores['math']",
        Feature("scores['art']", rename='art', default=0.0), 'vip', 'born', 'wake', 'ip', 'avatar', 'balance',
        'tiny', 'big',
    ),
    ttl=DAY, prefix='p_',
)  # fmt: skip
RATES = FeatureView(
    'rates', 'rates', ('user', 'shop'), 'timestamp', ('day', Feature('week', rename='weekly')), layout='long',
    feature_name_column='feature', value_column='value', where={'model': ['m1', 'm2']},
)  # fmt: skip
ITEMS = FeatureView('items', 'items', ('nr',), None, ('name', 'price'), join_columns=('item',))
SEED = FeatureView(
    'seed', 'feature_store', ("metadata['user_id']",), 'timestamp', ('mood',), layout='long',
    feature_name_column='feature_name', value_column='value', join_columns=('user',), where={'model_id': 'm'},
)  # fmt: skip
DDL = [
    'clicks (day date, at timestamp, n int, user text, shop uuid, item int, clicked boolean, bought int, '
    'PRIMARY KEY ((day), at, n))',
    'profiles (user text, ts timestamp, age int, height float, tags set<text>, words list<text>, '
    'embedding vector<float, 3>, scores map<text, double>, vip boolean, born date, wake time, ip inet, avatar blob, '
    'balance decimal, tiny tinyint, big varint, PRIMARY KEY ((user), ts)) WITH CLUSTERING ORDER BY (ts DESC)',
    'rates (user text, shop uuid, model text, feature text, timestamp timestamp, n int, value double, '
    'PRIMARY KEY ((user, shop, feature), model, timestamp, n))',
    'items (nr bigint PRIMARY KEY, name text, price double)',
]


def micros(moment: datetime.datetime) -> int:
    return int((moment - datetime.datetime(1970, 1, 1, tzinfo=UTC)) / datetime.timedelta(microseconds=1))


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    """Fills the tables, each value written an hour or so before or after its own time."""
    rng = random.Random(5)
    for table in DDL:
        session.execute(f'CREATE TABLE {connection.keyspace}.{table}')

    def insert(table: str, written: datetime.datetime, **row: object) -> None:
        columns, marks = ', '.join(row), ', '.join('?' * len(row))
        statement = session.prepare(
            f'INSERT INTO {connection.keyspace}.{table} ({columns}) VALUES ({marks}) USING TIMESTAMP {micros(written)}'
        )
        session.execute(statement, list(row.values()))

    def around(moment: datetime.datetime) -> datetime.datetime:
        return moment + rng.choice([-1, 0, 0, 0, 2]) * HOUR

    for n in range(300):
        at = START - HOUR + rng.randrange(50 * 60) * HOUR / 60
        insert(
            'clicks', at, day=at.date(), at=at, n=n, user=rng.choice([*USERS, 'hot', 'hot', 'nobody']),
            shop=rng.choice(SHOPS), item=rng.randrange(4), clicked=rng.random() < 0.5, bought=rng.randrange(3),
        )  # fmt: skip
    for user in USERS:
        for _ in range(200 if user == 'hot' else 12):
            ts = START - DAY + rng.randrange(72 * 60) * HOUR / 60
            row = {
                'age': rng.randrange(99), 'height': rng.choice([1.5, 2.0]), 'tags': {'x', rng.choice('yz')},
                'words': ['w', rng.choice('uv')], 'embedding': [0.5, 1.0, rng.random()],
                'scores': {rng.choice(['math', 'art']): rng.random()}, 'vip': rng.random() < 0.5,
                'born': ts.date(), 'wake': rng.randrange(10**9), 'ip': f'10.0.0.{rng.randrange(9)}',
                'avatar': bytes([rng.randrange(9)]), 'balance': rng.choice(['1.5', '2.25']), 'tiny': rng.randrange(9),
                'big': rng.randrange(9),
            }  # fmt: skip
            row['balance'] = decimal.Decimal(row['balance'])
            for name in rng.sample(sorted(row), 4):
                del row[name]
            insert('profiles', around(ts), user=user, ts=ts, **row)
        for shop in SHOPS:
            for n in range(30):
                ts = START - DAY + rng.randrange(24) * 3 * HOUR
                insert(
                    'rates', around(ts), user=user, shop=shop, model=rng.choice(['m1', 'm2', 'm3']), n=n,
                    feature=rng.choice(['day', 'week', 'year']), timestamp=ts, value=rng.randrange(100) / 4,
                )  # fmt: skip
        ts = START + rng.randrange(24) * HOUR
        insert(
            'feature_store', ts, model_id='m', feature_name='mood', timestamp=ts, value=1.0, metadata={'user_id': user}
        )
        insert(
            'feature_store',
            ts,
            model_id='other',
            feature_name='mood',
            timestamp=ts,
            value=9.0,
            metadata={'user_id': user},
        )
    for nr in range(3):
        insert('items', START + nr * 12 * HOUR, nr=nr, name=f'item {nr}', price=nr / 2)
    return connection


def run(component: CassandraExampleGen, folder: Path) -> types.Artifact:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    executor.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
    return artifact


def records(folder: Path) -> list[bytes]:
    """Returns all serialized examples, sorted: the bytes, whatever their order."""
    files = sorted(map(str, folder.glob('Split-*/data_tfrecord-*.gz')))
    return sorted(tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator())


def plain(record: bytes) -> dict[str, list]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: list(getattr(f, f.WhichOneof('kind')).value) for name, f in features.items()}


def generate(connection: CassandraConnection, folder: Path, **settings: object) -> types.Artifact:
    arguments = {'views': [PROFILE, RATES, ITEMS], 'labels': EVENTS, 'window': WINDOW, **settings}
    return run(CassandraExampleGen(connection, **arguments), folder)


def clicks(session: Session, connection: CassandraConnection) -> list:
    rows = session.execute(f'SELECT * FROM {connection.keyspace}.clicks')
    return [row for row in rows if START <= row.at.replace(tzinfo=UTC) < START + 2 * DAY]


def newest(rows: list, time: datetime.datetime, ttl: datetime.timedelta | None, cut_off: bool) -> object:
    """The oracle: (event or None, written us, value) -> the newest value known at a time."""
    known = [
        (event.replace(tzinfo=UTC) if event else START - 99 * DAY, written, value)
        for event, written, value in rows
        if value is not None
        and (event is None or event.replace(tzinfo=UTC) <= time)
        and (event is None or ttl is None or event.replace(tzinfo=UTC) > time - ttl)
        and (not cut_off or written <= micros(time))
    ]
    return max(known, key=lambda one: (one[0], one[1], str(one[2])))[2] if known else None


def listed(value: object) -> list:
    """Returns a cell as a tf.Example holds it."""
    if isinstance(value, (set, frozenset)) or hasattr(value, 'isdisjoint'):
        return [one.encode() for one in value]
    return [int(value) if isinstance(value, bool) else value]


@pytest.mark.parametrize('cut_off', [True, False])
def test_each_event_is_one_example_with_what_was_known(
    filled: CassandraConnection, session: Session, tmp_path: Path, cut_off: bool
) -> None:
    artifact = generate(filled, tmp_path, availability_cut_off=cut_off, views=[PROFILE, RATES, ITEMS, SEED])
    got = [plain(record) for record in records(tmp_path)]
    events = clicks(session, filled)
    assert len(got) == len(events) == artifact.get_int_custom_property('examples')
    assert artifact.get_string_custom_property('availability_cut_off') == ('on' if cut_off else 'off')
    keyspace = filled.keyspace
    profiles = list(
        session.execute(
            'SELECT user, ts, age, writetime(age) AS age_at, height, writetime(height) AS height_at, vip, '
            f'writetime(vip) AS vip_at, tags, maxwritetime(tags) AS tags_at FROM {keyspace}.profiles'
        )
    )
    rates = list(
        session.execute(
            f'SELECT user, shop, model, feature, timestamp, value, writetime(value) AS at FROM {keyspace}.rates'
        )
    )
    items = {row.nr: row for row in session.execute(f'SELECT nr, price, writetime(price) AS at FROM {keyspace}.items')}
    moods = {
        row.metadata['user_id']: row
        for row in session.execute(
            f'SELECT metadata, timestamp, model_id, writetime(value) AS at FROM {keyspace}.feature_store'
        )
        if row.model_id == 'm'
    }
    expected = []
    for event in events:
        now = event.at.replace(tzinfo=UTC)
        of_user = [row for row in profiles if row.user == event.user]
        example = {
            'user': [event.user.encode()], 'shop': [str(event.shop).encode()], 'item': [event.item],
            'at': [micros(now) // 1000], 'clicked': [int(event.clicked)], 'sale': [event.bought],
        }  # fmt: skip
        for name in ('age', 'height', 'vip', 'tags'):
            cells = [(row.ts, getattr(row, f'{name}_at'), getattr(row, name)) for row in of_user]
            value = newest(cells, now, PROFILE.ttl, cut_off)
            value = 1.5 if name == 'height' and value is None else value
            example[f'p_{name}'] = None if value is None else listed(value)
        for feature, name in (('day', 'day'), ('week', 'weekly')):
            cells = [
                (row.timestamp, row.at, row.value)
                for row in rates
                if (row.user, row.shop, row.feature) == (event.user, event.shop, feature) and row.model in ('m1', 'm2')
            ]
            value = newest(cells, now, None, cut_off)
            example[name] = None if value is None else [value]
        item = items.get(event.item)
        example['price'] = [item.price] if item and (not cut_off or item.at <= micros(now)) else None
        mood = moods.get(event.user)
        known = mood and mood.timestamp <= event.at and (not cut_off or mood.at <= micros(now))
        example['mood'] = [1.0] if known else None
        expected.append({name: value for name, value in example.items() if value is not None})
    compared = set().union(*expected)
    shown = [{name: value for name, value in example.items() if name in compared} for example in got]
    assert sorted(map(repr, map(sorted, map(dict.items, shown)))) == sorted(
        map(repr, map(sorted, map(dict.items, expected)))
    )


@pytest.mark.parametrize(
    'settings',
    [
        {},
        pytest.param({'availability_cut_off': False}, marks=pytest.mark.slow),
        pytest.param({'window': '2020-01-01T20:00Z/2020-01-02T01:00Z'}, marks=pytest.mark.slow),
    ],
)
def test_both_plans_give_equal_bytes(filled: CassandraConnection, tmp_path: Path, settings: dict) -> None:
    views = [PROFILE, dataclasses.replace(RATES, where={'model': 'm1'}), ITEMS]
    made = {}
    for plan in ('scan', 'lookup'):
        generate(filled, tmp_path / plan, views=views, join_plan=plan, **settings)
        coverage = json.loads((tmp_path / plan / 'coverage.json').read_text())
        assert {view['plan'] for view in coverage['views'].values()} == {plan}
        audit = json.loads((tmp_path / plan / 'audit.json').read_text())
        made[plan] = records(tmp_path / plan), audit['features']
    assert made['scan'] == made['lookup']
    assert any(example.get('day') for example in map(plain, made['scan'][0]))


def test_shards_cut_by_time_give_equal_bytes(
    filled: CassandraConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(filled, tmp_path / 'whole', join_plan='scan')
    monkeypatch.setattr(shards, 'SHARD_ROWS', 40)  # the hot entity alone has more events, and more facts
    generate(filled, tmp_path / 'cut', join_plan='scan')
    assert records(tmp_path / 'cut') == records(tmp_path / 'whole')


def test_small_pages_are_gathered_before_they_are_joined(
    filled: CassandraConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(filled, tmp_path / 'pages', join_plan='scan')
    spooled, serialized = [], spool.serialized
    monkeypatch.setattr(spool, 'serialized', lambda batch: spooled.append(batch.num_rows) or serialized(batch))
    generate(filled, tmp_path / 'rows', join_plan='scan', page_rows=2)
    assert records(tmp_path / 'rows') == records(tmp_path / 'pages')
    assert max(spooled) > 100


def test_a_plan_is_chosen_by_cost(filled: CassandraConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfx_cassandra.components.training_set import choose

    for speed, chosen in ((1e12, 'scan'), (1.0, 'lookup')):
        monkeypatch.setattr(choose, 'SCAN_BYTES_PER_SECOND', speed)
        generate(filled, tmp_path / chosen, views=[PROFILE])
        assert json.loads((tmp_path / chosen / 'coverage.json').read_text())['views']['profile']['plan'] == chosen


def test_the_audit_tells_what_became_of_each_feature(filled: CassandraConnection, tmp_path: Path) -> None:
    generate(filled, tmp_path, views=[PROFILE, ITEMS])
    audit = json.loads((tmp_path / 'audit.json').read_text())
    assert audit['availability_cut_off'] is True
    for of_feature in audit['features'].values():
        assert sum(of_feature[status] for status in ('found', 'missing', 'expired', 'cut_off')) == pytest.approx(1)
    price = audit['features']['price']
    examples = [plain(record) for record in records(tmp_path)]
    assert price['found'] == pytest.approx(sum('price' in one for one in examples) / len(examples))
    assert price['missing'] == pytest.approx(sum(one['item'] == [3] for one in examples) / len(examples))
    assert price['cut_off'] > 0
    assert 'age_seconds' not in price
    assert (
        0 < audit['features']['p_age']['age_seconds']['p50'] < audit['features']['p_age']['age_seconds']['max'] < 86400
    )
    assert '| p_age |' in (tmp_path / 'audit.md').read_text()


def test_a_limit_that_is_passed_fails_the_component(filled: CassandraConnection, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'^limits: got .*price missing 0\.\d+ \(limit 0.01\), rule: no feature'):
        generate(filled, tmp_path, views=[ITEMS], limits=AuditLimits(missing=0.01, cut_off=1.0))


def test_a_label_that_is_not_known_yet_is_missing(filled: CassandraConnection, tmp_path: Path) -> None:
    late = dataclasses.replace(EVENTS, label_columns=('clicked', Label('bought', delay=36500 * DAY)))
    generate(filled, tmp_path, views=[ITEMS], labels=late)
    examples = [plain(record) for record in records(tmp_path)]
    assert examples
    assert all('clicked' in one and 'bought' not in one for one in examples)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'views': [dataclasses.replace(PROFILE, timestamp_column='age', features=('vip',))]},
         "view profile: got 'age' of type int, rule: a column of type timestamp"),
        ({'views': [dataclasses.replace(PROFILE, created_column='vip', features=('age',))]},
         "view profile: got 'vip' of type boolean, rule: a column of type timestamp"),
        ({'views': [dataclasses.replace(ITEMS, join_columns=('user',))]},
         "view items: got 'nr' with integer and 'user' of "),
        ({'views': [dataclasses.replace(PROFILE, features=('weight',))]}, "view profile: got 'weight', rule: a column"),
        ({'views': [dataclasses.replace(PROFILE, features=("age['x']",))]}, "view profile: got age['x'] of type int"),
        ({'views': [dataclasses.replace(PROFILE, features=(Feature('age', default='old'),))]},
         "view profile: default of p_age: got 'old', rule: a value of type int32"),
        ({'views': [dataclasses.replace(PROFILE, features=('scores',))]}, "view profile: got 'scores' of type map"),
        ({'views': [SEED], 'join_plan': 'lookup'}, "join_plan: got 'lookup', rule: every view can be read by its key"),
        ({'labels': dataclasses.replace(EVENTS, timestamp_column='n')}, "time_column: got 'n', rule: a column of type"),
    ],
)  # fmt: skip
def test_what_does_not_fit_stops_before_any_read(
    filled: CassandraConnection, tmp_path: Path, settings: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.Executor, '_make_beam_pipeline', lambda self: pytest.fail('a pipeline was made'))
    with pytest.raises(SchemaError) as caught:
        generate(filled, tmp_path, **settings)
    assert str(caught.value).startswith(message)
    assert '\n' not in str(caught.value)


def test_an_event_without_an_entity_is_an_error(filled: CassandraConnection, session: Session, tmp_path: Path) -> None:
    insert = f'INSERT INTO {filled.keyspace}.clicks (day, at, n, user, item) VALUES (%s, %s, 0, %s, 1)'
    at = START + 30 * DAY
    session.execute(insert, (at.date(), at, 'ann'))
    with pytest.raises(
        Exception, match=r"label source clicks: got .*'shop': None.*, rule: a value in shop of every row"
    ):
        generate(filled, tmp_path, views=[ITEMS], window='2020-01-31T00:00Z/2020-02-01T00:00Z')
