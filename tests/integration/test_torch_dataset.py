"""CassandraIterableDataset on a real Cassandra: each row once an epoch, whatever the numbers; exact resume."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

import torch_rank
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tfx_cassandra.components import CassandraConnection
from tfx_cassandra.components.errors import CoverageError, DatasetError, SchemaError
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.options import ReadRequest, filtered
from tfx_cassandra.components.scan.source import plan_splits, verified
from tfx_cassandra.components.torch import epochs
from tfx_cassandra.components.torch.shares import Reader
from tfx_cassandra.components.torch_dataset import CassandraIterableDataset

QUICK = {(1, 0), (1, 2), (2, 1), (3, 2), (4, 3)}  # of the numbers of ranks and workers; the others take minutes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings('ignore:This DataLoader will create'),
    pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning'),
]

Key = tuple[int, int]
PARTITIONS = 600


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    """A table of uneven ranges: most partitions are small, one holds a third of all rows."""
    session.execute(
        f'CREATE TABLE {connection.keyspace}.points (k int, c int, x double, f float, name text, v vector<float, 3>, '
        'l list<int>, PRIMARY KEY (k, c))'
    )
    insert = session.prepare(
        f'INSERT INTO {connection.keyspace}.points (k, c, x, f, name, v, l) VALUES (?, ?, ?, ?, ?, ?, ?)'
    )
    rows = [(k, c) for k in range(PARTITIONS) for c in range(1500 if k == 7 else k % 11)]
    values = [
        (k, c, k + c / 10, None if c % 5 == 4 else c / 2, f'name {k}', [1.0, c, k], list(range(c % 3))) for k, c in rows
    ]
    execute_concurrent_with_args(session, insert, values, concurrency=64)
    session.execute(f'CREATE TABLE {connection.keyspace}.empty_points (k int PRIMARY KEY, x double)')
    return connection


def expected() -> collections.Counter[Key]:
    return collections.Counter((k, c) for k in range(PARTITIONS) for c in range(1500 if k == 7 else k % 11))


def keys(batch: dict[str, Any]) -> list[Key]:
    return list(zip(batch['k'].tolist(), batch['c'].tolist(), strict=True))


def read(dataset: CassandraIterableDataset, workers: int = 0) -> list[list[Key]]:
    return [keys(batch) for batch in DataLoader(dataset, batch_size=None, num_workers=workers)]


def points(connection: CassandraConnection, **options: Any) -> CassandraIterableDataset:
    return CassandraIterableDataset(connection, 'points', **{'batch_rows': 64, 'shuffle_rows': 300} | options)


@pytest.mark.parametrize(
    ('world', 'workers'),
    [
        pytest.param(world, workers, marks=[] if (world, workers) in QUICK else [pytest.mark.slow])
        for world, workers in itertools.product(range(1, 5), range(5))
    ],
)
def test_each_row_comes_once(filled, tmp_path, world, workers):
    found: collections.Counter[Key] = collections.Counter()
    for rank in range(world):
        dataset = points(filled, ranges=37, rank=rank, world_size=world, ledger=str(tmp_path))
        found.update(itertools.chain.from_iterable(read(dataset, workers)))
    assert found == expected()
    coverage = dataset.coverage()
    assert (coverage.readers, coverage.rows, coverage.delivered) == (world * max(workers, 1), len(found), len(found))
    assert coverage.checksum == table_checksum(filled)


def table_checksum(connection: CassandraConnection) -> int:
    """The checksum of a scan of the whole table, as a pipeline makes it."""
    request = ReadRequest(connection, 'points')
    plan = plan_splits(request)
    reads = [found for found in probe._scan(request, plan) if not isinstance(found, pa.RecordBatch)]
    return verified(request, plan, reads).checksum


def test_the_values_are_those_of_the_scan(filled):
    request = ReadRequest(filled, 'points')
    plan = plan_splits(request)
    batches = [filtered(b, plan.scan) for b in probe._scan(request, plan) if isinstance(b, pa.RecordBatch)]
    rows = {(row['k'], row['c']): row for batch in batches for row in batch.to_pylist()}
    seen = 0
    for batch in points(filled):
        for i, key in enumerate(keys(batch)):
            row, start, end = rows[key], *batch['l'].offsets[i : i + 2].tolist()
            assert batch['x'][i].item() == row['x']
            assert batch['name'][i] == row['name']
            assert batch['v'][i].tolist() == row['v']
            assert batch['l'].values[start:end].tolist() == (row['l'] or [])
            value = batch['f'][i].item()
            assert value == row['f'] or (np.isnan(value) and row['f'] is None)
            seen += 1
    assert seen == len(rows)


def test_the_order_depends_on_seed_and_epoch_and_nothing_else(filled):
    dataset = points(filled)
    first = read(dataset)
    assert read(dataset) == first
    assert read(points(filled, page_rows=7)) == first  # whatever the pages
    dataset.set_epoch(1)
    second = read(dataset)
    assert second != first
    assert sorted(itertools.chain(*second)) == sorted(itertools.chain(*first))
    assert read(points(filled, seed=1)) != first
    plain = [key for batch in read(points(filled, shuffle=False)) for key in batch]
    assert plain != [key for batch in first for key in batch]
    assert [key for batch in read(points(filled, shuffle=False, batch_rows=7)) for key in batch] == plain


def test_set_epoch_reaches_workers_that_live_on(filled):
    dataset = points(filled)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append([keys(batch) for batch in loader])
        assert dataset.coverage().epoch == epoch
    assert epochs[0] == epochs[2] != epochs[1]


@pytest.mark.parametrize('workers', [0, pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_state_continues_where_it_was_saved(filled, workers):
    """Saved after some batches, in another object: the batches that would have followed, in the same order."""

    def loader() -> StatefulDataLoader:
        return StatefulDataLoader(points(filled), batch_size=None, num_workers=workers)

    whole = [keys(batch) for batch in loader()]
    assert collections.Counter(itertools.chain(*whole)) == expected()
    for stop in (1, 17, len(whole) - 1):
        running = loader()
        iterator = iter(running)
        begun = [keys(next(iterator)) for _ in range(stop)]
        state = json.loads(json.dumps(running.state_dict())) if workers == 0 else running.state_dict()
        del iterator
        resumed = loader()
        resumed.load_state_dict(state)
        rest = [keys(batch) for batch in resumed]
        assert begun + rest == whole
        assert resumed.dataset.coverage().rows == expected().total()  # the ledger covers both parts
        if workers == 0:
            resumed.dataset.set_epoch(1)
            assert collections.Counter(key for batch in resumed for key in keys(batch)) == expected()


def rank_process(filled, rank, folder, die_after, state, answers):
    """Reads as one of two ranks; dies after some batches, having sent its state, or reads to the end."""
    dataset = points(filled, rank=rank, world_size=2, ledger=folder)
    dataset.set_epoch(3)
    if state is not None:
        dataset.load_state_dict(state)
    for number, batch in enumerate(dataset, 1):
        answers.put((rank, keys(batch), dataset.state_dict()))
        if number == die_after:
            answers.close()
            answers.join_thread()
            os._exit(9)
    answers.put((rank, None, None))


def test_a_rank_that_dies_resumes_from_its_state(filled, tmp_path):
    context = multiprocessing.get_context('fork')
    answers = context.Queue()
    found, states, ended = collections.Counter(), {}, set()

    def run(rank: int, die_after: int | None = None, state: Any = None) -> None:
        process = context.Process(target=rank_process, args=(filled, rank, str(tmp_path), die_after, state, answers))
        process.start()
        while True:
            _, batch, saved = answers.get(timeout=120)
            if batch is None:
                ended.add(rank)
                break
            found.update(batch)
            states[rank] = saved
            if die_after and saved['delivered'] >= 64 * die_after:
                break
        process.join(60)
        assert process.exitcode == (9 if die_after else 0)

    run(0, die_after=6)
    run(1)
    dataset = points(filled, rank=0, world_size=2, ledger=str(tmp_path))
    dataset.set_epoch(3)
    with pytest.raises(CoverageError, match=r'^token ranges of the epoch .* not read: '):
        dataset.coverage()
    run(0, state=states[0])
    assert found == expected()
    assert ended == {0, 1}
    assert dataset.coverage().checksum == table_checksum(filled)


@pytest.mark.slow
def test_coverage_of_distributed_training(filled, tmp_path):
    """Two processes of torch.distributed train with DistributedDataParallel; each proves the coverage of both."""
    environment = os.environ | {'WORLD_SIZE': '2', 'OMP_NUM_THREADS': '1', 'GLOO_SOCKET_IFNAME': 'lo'}
    command = [sys.executable, '-W', 'ignore', torch_rank.__file__, str(tmp_path), filled.keyspace, '1']
    ranks = [subprocess.Popen(command, env=environment | {'RANK': str(rank)}) for rank in range(2)]
    try:
        assert [process.wait(300) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    found = [json.loads((tmp_path / f'rank-{rank}.json').read_text()) for rank in range(2)]
    for epoch in range(torch_rank.EPOCHS):
        first, second = (one['epochs'][epoch] for one in found)
        assert collections.Counter(map(tuple, first['keys'] + second['keys'])) == expected()
        assert min(len(first['keys']), len(second['keys'])) > 0
        assert first['coverage'] == second['coverage']
        coverage = first['coverage']
        assert (coverage['readers'], coverage['rows']) == (2, expected().total())
        assert coverage['checksum'] == table_checksum(filled)
    assert found[0]['weights'] == found[1]['weights']
    for one in found:  # rank 1 left the third epoch early, and both know it
        assert one['left early'].startswith('token ranges of the epoch 128 not read: ')


def test_states_of_others_are_refused(filled):
    dataset = points(filled)
    iterator = iter(dataset)
    next(iterator)
    state = dataset.state_dict()
    for other, message in [
        (points(filled, batch_rows=32), '^state: got that of another dataset, rule: '),
        (points(filled, columns=['k', 'c']), '^state: got that of another dataset, rule: '),
        (points(filled, rank=1, world_size=2), '^state: got that of worker 0 of 1 of rank 0 of 1, rule: '),
    ]:
        other.load_state_dict(state)
        with pytest.raises(DatasetError, match=message):
            next(iter(other))
    with pytest.raises(ValueError, match=r'^state: got None, rule: '):
        dataset.load_state_dict({})


def test_an_epoch_that_was_left_early_is_not_covered(filled):
    dataset = points(filled)
    next(iter(dataset))
    with pytest.raises(CoverageError, match=r'^token ranges of the epoch 256 not read: '):
        dataset.coverage()


def test_a_rank_that_reads_the_share_of_another_is_caught(filled, tmp_path):
    """Its record says that it is rank 1, and its ranges are those of rank 0."""
    dataset = points(filled, rank=0, world_size=2, ledger=str(tmp_path))
    list(dataset)
    (record,) = epochs.read(str(tmp_path), 0)
    dataclasses.replace(record, reader=Reader(1, 2)).write(str(tmp_path))
    with pytest.raises(CoverageError, match=r'128 not read: .*; 128 read more than once: '):
        dataset.coverage()
    with pytest.raises(CoverageError, match=r'128 read more than once: '):
        list(dataset)  # the last reader to finish checks all records


def test_a_window_filters_and_dropped_batches(filled):
    some = points(filled, where={'k': [7, 8, 9]}, batch_rows=100)
    assert collections.Counter(itertools.chain(*read(some))) == collections.Counter(
        key for key in expected() if key[0] in (7, 8, 9)
    )
    large = points(filled, where={'c': [3]}, drop_last=True, batch_rows=100)
    batches = read(large)
    wanted = [key for key in expected() if key[1] == 3]
    assert {len(batch) for batch in batches} == {100}
    coverage = large.coverage()
    assert (coverage.delivered, coverage.dropped) == (100 * len(batches), len(wanted) - 100 * len(batches))


def test_an_empty_table(filled):
    dataset = CassandraIterableDataset(filled, 'empty_points')
    assert list(dataset) == []
    assert dataset.coverage().rows == 0


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    import pyarrow.compute as pc

    return pa.RecordBatch.from_arrays([batch.column('k'), pc.multiply(batch.column('x'), 2)], ['k', 'y'])


def test_a_transform(filled):
    for batch in DataLoader(points(filled, columns=['k', 'x'], transform=doubled), batch_size=None, num_workers=1):
        assert list(batch) == ['k', 'y']
        assert ((batch['y'] / 2).floor() >= batch['k']).all()


def test_shuffling_is_as_good_as_its_buffer(filled):
    """Rows of the large partition, of which a scan gives 1,500 in a row: how far neighbours in the table get apart."""

    def distance(**options: Any) -> float:
        order = [key[1] for key in itertools.chain(*read(points(filled, **options))) if key[0] == 7]
        return float(np.abs(np.diff(order)).mean())

    perfect = 1500 / 3  # the mean distance in a random permutation
    assert distance(shuffle_rows=0) < 3
    assert distance(shuffle_rows=300) > 30
    assert distance(shuffle_rows=10_000) == pytest.approx(perfect, rel=0.1)


def test_mistakes(filled):
    with pytest.raises(SchemaError, match=r'^table: got '):
        next(iter(CassandraIterableDataset(filled, 'no_such_table')))
    with pytest.raises(ValueError, match=r'^batch_rows: got 0, rule: '):
        CassandraIterableDataset(filled, 'points', batch_rows=0)
    with pytest.raises(ValueError, match=r'^rank: got 2, rule: from 0 to world_size - 1, which is 1'):
        CassandraIterableDataset(filled, 'points', rank=2, world_size=2)
    with pytest.raises(ValueError, match=r'^rank: got 2, rule: given together with world_size'):
        CassandraIterableDataset(filled, 'points', rank=2)
    with pytest.raises(ValueError, match=r'^epoch: got -1, rule: '):
        points(filled).set_epoch(-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'batch_size'"):
        CassandraIterableDataset(filled, 'points', batch_size=3)


def test_a_row_too_many_is_noticed_on_resume(filled, session):
    """The table has changed in a range that the state continues in."""
    dataset = points(filled, shuffle_rows=10_000)
    iterator = iter(dataset)
    next(iterator)
    state = dataset.state_dict()
    del iterator
    table = f'{filled.keyspace}.points'
    k = random.Random(1).randrange(10**6, 10**7)
    session.execute(f'INSERT INTO {table} (k, c, x) VALUES ({k}, 0, 1.0)')
    try:
        resumed = points(filled, shuffle_rows=10_000)
        resumed.load_state_dict(state)
        with pytest.raises(DatasetError, match=r'^state: got other rows in the ranges that it continues in, rule: '):
            next(iter(resumed))
    finally:
        session.execute(f'DELETE FROM {table} WHERE k = {k}')
