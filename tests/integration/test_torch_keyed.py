"""CassandraDataset on a real Cassandra: rows by key, and the rows of a query, through a DataLoader."""

from __future__ import annotations

import datetime
import pickle
from typing import Any

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

from torch.utils.data import DataLoader

from tfx_cassandra.components import CassandraConnection, schema
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.errors import DatasetError, SchemaError
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.torch_dataset import CassandraDataset, CassandraIterableDataset
from tfx_cassandra.components.write.writer import TableWriter

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings('ignore:This DataLoader will create')]

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
KEYS = [(f'user {n % 40}', START + datetime.timedelta(hours=n)) for n in range(500)]


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    table = f'{connection.keyspace}.visits'
    session.execute(
        f'CREATE TABLE {table} (user text, at timestamp, n int, x double, v vector<float, 2>, l list<int>, note text, '
        'PRIMARY KEY (user, at))'
    )
    insert = session.prepare(f'INSERT INTO {table} (user, at, n, x, v, l, note) VALUES (?, ?, ?, ?, ?, ?, ?)')
    rows = [
        (user, at, n, n / 4, [n, -n], list(range(n % 3)), None if n % 5 == 0 else f'note {n}')
        for n, (user, at) in enumerate(KEYS)
    ]
    execute_concurrent_with_args(session, insert, rows, concurrency=64)
    session.execute(f'CREATE TABLE {connection.keyspace}.names (id uuid PRIMARY KEY, name text)')
    return connection


def visits(connection: CassandraConnection, keys: Any = KEYS, **options: Any) -> CassandraDataset:
    return CassandraDataset(connection, 'visits', keys, **options)


def test_a_row_is_that_of_its_key(filled):
    dataset = visits(filled)
    assert len(dataset) == 500
    for n in (0, 7, 499, -1):
        row = dataset[n]
        number = n % 500
        assert row['n'].item() == number
        assert row['x'].item() == number / 4
        assert row['v'].tolist() == [number, -number]
        assert row['l'].tolist() == list(range(number % 3))
        assert row['note'] == (None if number % 5 == 0 else f'note {number}')
        assert row['at'].item() == int(KEYS[n][1].timestamp() * 1000)
    with pytest.raises(IndexError):
        dataset[500]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('context', ['fork', 'spawn'])
def test_a_loader_gives_every_row_in_its_order(filled, workers, context):
    dataset = visits(filled, columns=['n', 'v', 'l'])
    dataset[0]  # a session that a worker must not take over
    loader = DataLoader(
        dataset, batch_size=64, num_workers=workers, multiprocessing_context=context if workers else None,
        collate_fn=dataset.collate,
    )  # fmt: skip
    batches = list(loader)
    assert torch.cat([batch['n'] for batch in batches]).tolist() == list(range(500))
    for batch in batches:
        assert batch['v'].tolist() == [[n, -n] for n in batch['n'].tolist()]
        assert batch['l'].offsets.diff().tolist() == [n % 3 for n in batch['n'].tolist()]
    dataset.close()


def test_the_loaders_own_collate_gives_the_same(filled):
    dataset = visits(filled, columns=['n', 'x', 'v', 'user'])
    ours = next(iter(DataLoader(dataset, batch_size=50, collate_fn=dataset.collate)))
    theirs = next(iter(DataLoader(dataset, batch_size=50)))
    for name in ('n', 'x', 'v'):
        assert ours[name].equal(theirs[name])
    assert ours['user'].tolist() == theirs['user']


def test_rows_of_a_batch_are_read_at_once_and_each_key_by_its_node(filled, monkeypatch):
    """All requests of a batch are sent before the first answer is needed, each with the routing key of its row."""
    dataset = visits(filled)
    dataset.__getitems__([0])  # the size of a row is known then
    session = connections.acquire(filled, dataset_handler())
    sent, execute = [], session.execute_async
    monkeypatch.setattr(session, 'execute_async', lambda bound, **more: (sent.append(bound), execute(bound, **more))[1])
    rows = dataset.__getitems__(list(range(100)))
    assert rows.batch['n'].tolist() == list(range(100))
    assert len(sent) == 100
    assert all(bound.routing_key for bound in sent)
    connections.release(filled, dataset_handler())


def dataset_handler() -> type:
    from tfx_cassandra.components.scan.page import RawHandler

    return RawHandler


def test_a_key_twice_and_in_any_order(filled):
    assert visits(filled).__getitems__([5, 3, 5]).batch['n'].tolist() == [5, 3, 5]


def test_a_key_without_a_row(filled):
    keys = [KEYS[0], ('nobody', START), KEYS[1]]
    with pytest.raises(
        DatasetError, match=r"visits \{'user': \"'nobody'\", 'at': .*: got no row, rule: one for each key$"
    ):
        visits(filled, keys).__getitems__([0, 1, 2])
    batch = visits(filled, keys, missing='null', nulls='mask').__getitems__([0, 1, 2]).batch
    assert batch['n'].tolist() == [0, 0, 1]
    assert batch['n.valid'].tolist() == batch['user.valid'].tolist() == [True, False, True]
    assert visits(filled, [('nobody', START)], missing='null', nulls='mask')[0]['n.valid'].item() is False


def test_a_query_with_bound_parameters(filled):
    dataset = CassandraDataset.query(
        filled, 'SELECT n, x, note FROM visits WHERE user = ? AND at < ?',
        [('user 3', START + datetime.timedelta(hours=100)), ('user 1', START + datetime.timedelta(hours=1000))],
    )  # fmt: skip
    expected = [3, 43, 83, *range(1, 500, 40)]
    assert len(dataset) == len(expected)
    loader = DataLoader(dataset, batch_size=4, collate_fn=dataset.collate, num_workers=1)
    batches = list(loader)
    assert torch.cat([batch['n'] for batch in batches]).tolist() == expected
    assert dataset[-1]['n'].item() == expected[-1]
    assert len(pickle.loads(pickle.dumps(dataset))) == len(expected)
    whole = CassandraDataset.query(filled, f'SELECT n FROM {filled.keyspace}.visits')
    assert sorted(batch['n'].item() for batch in whole) == list(range(500))
    nothing = CassandraDataset.query(filled, 'SELECT n FROM visits WHERE user = ?', [('nobody',)])
    assert (len(nothing), list(DataLoader(nothing, batch_size=4))) == (0, [])


def test_mistakes(filled):
    with pytest.raises(ValueError, match=r"^keys: got 'ab', rule: a list of keys$"):
        visits(filled, 'ab')
    with pytest.raises(DatasetError, match=r'^keys: got \(.user 0.,\), rule: values of \(user, at\)$'):
        visits(filled, ['user 0'])[0]
    with pytest.raises(DatasetError, match=r'^keys: got at = .monday., rule: a timestamp \('):
        visits(filled, [('user 0', 'monday')])[0]
    with pytest.raises(SchemaError, match=r'^table: got .nonsense.'):
        CassandraDataset(filled, 'nonsense', [1])[0]
    with pytest.raises(SchemaError, match=r'^columns: got .nonsense.'):
        visits(filled, columns=['nonsense'])[0]
    with pytest.raises(ValueError, match=r"^cql: got 'DROP TABLE x', rule: a SELECT$"):
        CassandraDataset.query(filled, 'DROP TABLE x')
    with pytest.raises(SchemaError, match=r'^cql: got .*, rule: a query of the keyspace \(InvalidRequest'):
        len(CassandraDataset.query(filled, 'SELECT nonsense FROM visits'))
    with pytest.raises(DatasetError, match=r'^parameters: got .*, rule: a value of its type for each \?'):
        len(CassandraDataset.query(filled, 'SELECT n FROM visits WHERE user = ?', [(1,)]))
    with pytest.raises(DatasetError, match=r'^parameters: got .*, rule: a value of its type for each \?'):
        len(CassandraDataset.query(filled, 'SELECT n FROM visits WHERE user = ?', [('a', 'b')]))
    assert CassandraDataset(filled, 'names', [], missing='null').__getitems__([]).batch['name'].tolist() == []


def test_keys_of_a_table_with_a_layout_lack_its_columns(filled: CassandraConnection, session: Session) -> None:
    layout = schema.Layout(schema.Bucket('day', 'day', 'at'), schema.Salt('part', 4, ('user', 'at')))
    columns = {'user': 'text', 'at': 'timestamp', 'n': 'int'}
    visits_by_day = schema.table('visits_by_day', '', columns, ['user'], {'at': 'asc'}, layout=layout)
    schema.apply(filled, schema.SimpleReplication(1), relations=[visits_by_day])
    session.cluster.refresh_schema_metadata()
    with connections.session(filled, RawHandler) as shared:  # of the datasets; the driver hears of a table with delay
        shared.cluster.refresh_schema_metadata()
    rows = [{'user': user, 'at': at, 'n': n} for n, (user, at) in enumerate(KEYS)]
    assert TableWriter(session, tables.describe(session, filled.keyspace, 'visits_by_day')).write(rows) == []
    dataset = CassandraDataset(filled, 'visits_by_day', KEYS, missing='null')
    assert [row['n'].item() for row in dataset.__getitems__(range(500))] == list(range(500))
    assert sorted(dataset[0]) == ['at', 'n', 'user']
    streamed = CassandraIterableDataset(filled, 'visits_by_day', where={'user': 'user 7'}, ranges=8)
    assert sorted(n for batch in streamed for n in batch['n'].tolist()) == [n for n in range(500) if n % 40 == 7]
