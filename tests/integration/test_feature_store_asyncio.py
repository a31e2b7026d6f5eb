"""AsyncFeatureStore on a real Cassandra: the same answers as FeatureStore, and nothing left open."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyarrow as pa
import pytest
from cassandra.cluster import Session
from cassandra.policies import ConstantSpeculativeExecutionPolicy, NoSpeculativeExecutionPolicy

from tfx_cassandra.components import metrics
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import ReadError, SchemaError, TfxCassandraError, UnavailableError, WriteError
from tfx_cassandra.components.feature_store.asynchronous import AsyncFeatureStore
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue, WriteResult
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)
DAY = TimeWindow(NOON, NOON + datetime.timedelta(1))


@pytest.fixture(scope='module')
def store(connection: CassandraConnection) -> Iterator[FeatureStore]:
    with FeatureStore(connection) as opened:
        yield opened


def rows_of(model_id: str, count: int, entity_id: str | None = None) -> Iterator[FeatureValue]:
    return (
        FeatureValue(model_id, f'f{n % 4}', NOON + n * MILLISECOND, float(n), {'n': str(n)}, entity_id)
        for n in range(count)
    )


def test_both_faces_have_the_same_methods() -> None:
    def methods(face: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
            for name, method in vars(face).items()
            if inspect.isfunction(method) and not name.startswith('_') and name not in ('close', 'aclose')
        }

    assert methods(AsyncFeatureStore) == methods(FeatureStore)
    assert inspect.signature(AsyncFeatureStore).parameters == inspect.signature(FeatureStore).parameters


@pytest.mark.parametrize('entity', [None, 'u'])
def test_both_faces_give_the_same(store: FeatureStore, connection: CassandraConnection, entity: str | None) -> None:
    model, options = f'same {entity}', {'entity_id': entity}
    names = [f'f{n}' for n in range(60)]
    several: dict[str, Any] = {} if entity is None else {'entity_ids': [entity, 'none']}

    async def used() -> list[Any]:
        async with AsyncFeatureStore(connection) as asynchronous:
            results = await asynchronous.write_features(rows_of(model, 7000, entity), concurrency=64)
            assert results == [WriteResult(n, None) for n in range(7000)]
            await asynchronous.write_feature(model, 'f9', None, NOON, **options)
            await asynchronous.write_feature(model, 'f9', 1.0, NOON + MILLISECOND, **options)
            await asynchronous.delete_features(model, 'f9', TimeWindow(NOON + MILLISECOND, DAY.end), **options)
            return [
                await asynchronous.get_latest_feature(model, 'f3', **options),
                await asynchronous.get_latest_features(model, names, before=NOON + 9 * MILLISECOND, **options),
                await asynchronous.get_latest_frame([model], names, timestamps=True, **several),
                [value async for value in asynchronous.get_time_series(model, 'f1', DAY, **options)],
                await asynchronous.get_time_series_frame(model, names, DAY, **options),
            ]

    got = asyncio.run(used())
    assert got == [
        store.get_latest_feature(model, 'f3', **options),
        store.get_latest_features(model, names, before=NOON + 9 * MILLISECOND, **options),
        store.get_latest_frame([model], names, timestamps=True, **several),
        list(store.get_time_series(model, 'f1', DAY, **options)),
        store.get_time_series_frame(model, names, DAY, **options),
    ]
    assert got[0].value == 6999.0
    assert got[1]['f9'] == FeatureValue(model, 'f9', NOON, None, None, entity)
    assert len(got[3]) == 1750


def test_pages_of_a_series_are_read_as_they_are_wanted(connection: CassandraConnection, session: Session) -> None:
    async def used() -> tuple[list[float | None], int]:
        async with AsyncFeatureStore(connection) as asynchronous:
            rows = [(NOON + n * MILLISECOND, float(n)) for n in range(12_000)]
            await asynchronous.write_features(FeatureValue('paged', 'f', at, value) for at, value in rows)
            requests = 0

            def note(_: object) -> None:
                nonlocal requests
                requests += 1

            session.add_request_init_listener(note)
            try:
                got = []
                async for value in asynchronous.get_time_series('paged', 'f', DAY):
                    got.append(value.value)
                    if len(got) == 4999:
                        assert requests == 1
            finally:
                session.remove_request_init_listener(note)
            return got, requests

    got, requests = asyncio.run(used())
    assert got == [float(n) for n in range(12_000)]
    assert requests == 3


def test_an_asynchronous_input(store: FeatureStore, connection: CassandraConnection) -> None:
    async def used() -> None:
        async with AsyncFeatureStore(connection) as asynchronous:
            await asynchronous.write_features(rows_of('input', 6000))
            series = asynchronous.get_time_series('input', 'f1', DAY)
            copies = (dataclasses.replace(value, model_id='copy') async for value in series)
            assert len(await asynchronous.write_features(copies)) == 1500

            async def failing() -> AsyncIterator[FeatureValue]:
                for value in rows_of('failing', 3):
                    yield value
                raise OSError('the file ended')

            with pytest.raises(OSError, match='the file ended'):
                await asynchronous.write_features(failing())

    asyncio.run(used())
    assert store.get_latest_feature('copy', 'f1').value == 5997.0
    assert store.get_latest_feature('failing', 'f2').value == 2.0  # what came before the error is written
    with pytest.raises(ValueError, match=r'^rows: got .*async_generator.*, rule: an iterable'):
        store.write_features(_nothing())


async def _nothing() -> AsyncIterator[FeatureValue]:
    for value in ():
        yield value


def test_errors(connection: CassandraConnection) -> None:
    async def used() -> None:
        asynchronous = AsyncFeatureStore(connection)
        with pytest.raises(TfxCassandraError, match='the store is not open'):
            await asynchronous.get_latest_feature('m', 'f')
        async with asynchronous:
            with pytest.raises(WriteError, match=r"cannot write model_id 'm', feature_name 'f', .*level THREE"):
                await asynchronous.write_feature('m', 'f', 1.0, NOON, consistency='THREE')
            with pytest.raises(ReadError, match=r"cannot read model_id 'm', feature_name 'f' .*level THREE"):
                await asynchronous.get_latest_feature('m', 'f', consistency='THREE')
            with pytest.raises(ReadError, match=r"cannot read model_id 'm', feature_name 'f' .*level THREE"):
                [value async for value in asynchronous.get_time_series('m', 'f', DAY, consistency='THREE')]
            with pytest.raises(ValueError, match=r'^timestamp: got '):
                await asynchronous.write_feature('m', 'f', 1.0, NOON.replace(tzinfo=None))
            with pytest.raises(TfxCassandraError, match='the store is already open'):
                await asynchronous.__aenter__()
        with pytest.raises(TfxCassandraError, match='the store is not open'):
            asynchronous.get_time_series('m', 'f', DAY)
        absent = AsyncFeatureStore(dataclasses.replace(connection, keyspace='no_such_keyspace'))
        with pytest.raises(SchemaError, match=r'^no_such_keyspace\.feature_store: '):
            await absent.__aenter__()
        nowhere = dataclasses.replace(connection, contact_points=('127.0.0.1',), port=1, connect_timeout=1.0)
        with pytest.raises(UnavailableError):
            await AsyncFeatureStore(nowhere).__aenter__()
        await absent.aclose()

    asyncio.run(used())


def test_many_requests_take_no_threads(connection: CassandraConnection) -> None:
    async def used() -> None:
        async with AsyncFeatureStore(connection) as asynchronous:
            await asynchronous.get_latest_feature('threads', 'f')
            before = threading.active_count()
            calls = [asynchronous.get_latest_feature('threads', f'f{n}') for n in range(500)]
            running = asyncio.gather(*calls)
            await asyncio.sleep(0)
            assert threading.active_count() == before
            assert await running == [None] * 500
            assert threading.active_count() == before

    asyncio.run(used())


def _open(connection: CassandraConnection) -> bool:
    return (connection, None) in connections._sessions


def test_a_cancelled_call_leaves_nothing_open(connection: CassandraConnection) -> None:
    mine = dataclasses.replace(connection, connect_timeout=12.0)

    async def used() -> None:
        async with AsyncFeatureStore(mine) as asynchronous:
            writing = asyncio.create_task(asynchronous.write_features(rows_of('cancelled', 10**9)))
            reading = asyncio.create_task(asynchronous.get_latest_frame([f'm{n}' for n in range(10**4)], ['a', 'b']))
            await asyncio.sleep(0.5)
            assert not writing.done()
            for task in (writing, reading):
                task.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)
            assert writing.cancelled()
            # What was sent is waited for by the end of the block, and the store is as good as before.
            assert await asynchronous.get_latest_feature('cancelled', 'f0') is not None
        assert not metrics.WRITE_REQUESTS._open
        assert not metrics.LOOKUP_REQUESTS._open

    asyncio.run(used())
    assert not _open(mine)


def test_a_cancelled_bulk_write_ends_after_its_part(connection: CassandraConnection) -> None:
    mine = dataclasses.replace(connection, connect_timeout=13.0)
    frame = pa.table({
        'model_id': ['cancelled bulk'] * 200_000, 'feature_name': ['f'] * 200_000, 'value': [1.0] * 200_000,
        'timestamp': pa.array(range(200_000)).cast(pa.timestamp('ms', 'UTC')),
    })  # fmt: skip

    async def used() -> int:
        async with AsyncFeatureStore(mine) as asynchronous:
            writing = asyncio.create_task(asynchronous.write_features(frame))
            await asyncio.sleep(0.1)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        return 0

    asyncio.run(used())
    assert not _open(mine)
    with FeatureStore(connection) as store:
        epoch = datetime.datetime(1970, 1, 1, tzinfo=UTC)
        found = store.get_time_series_frame('cancelled bulk', ['f'], TimeWindow(epoch, DAY.end)).num_rows
    assert found in (0, 50_000)  # a part that has begun is written to its end, and no other


def test_a_cancelled_opening_leaves_nothing_open(connection: CassandraConnection) -> None:
    async def used(delay: float) -> None:
        opening = asyncio.create_task(AsyncFeatureStore(mine).__aenter__())
        await asyncio.sleep(delay)
        if not opening.cancel():  # it was opened in less
            await opening.result().aclose()
            return
        with pytest.raises(asyncio.CancelledError):
            await opening

    for n, delay in enumerate((0.0, 0.001, 0.01, 0.1)):
        mine = dataclasses.replace(connection, connect_timeout=20.0 + n)
        asyncio.run(used(delay))
        for _ in range(300):
            if not _open(mine):
                break
            threading.Event().wait(0.1)
        assert not _open(mine)


def test_both_faces_share_the_session(connection: CassandraConnection) -> None:
    mine = dataclasses.replace(connection, connect_timeout=18.0)

    async def used() -> Session:
        async with AsyncFeatureStore(mine) as one, AsyncFeatureStore(mine):
            with FeatureStore(mine) as store:
                assert store._core.opened.session is one._core.opened.session
                store.write_feature('shared', 'f', 1.0, NOON)
                assert (await one.get_latest_feature('shared', 'f')).value == 1.0
                return store._core.opened.session

    assert asyncio.run(used()).cluster.is_shutdown


def test_speculative_reads_are_of_one_store(connection: CassandraConnection, session: Session) -> None:
    policies: list[tuple[str, Any]] = []
    profiles = dict(session.cluster.profile_manager.profiles)

    def note(request: Any) -> None:
        policies.append((request.query.prepared_statement.query_string[:6], request._spec_execution_plan))

    session.add_request_init_listener(note)
    delay = datetime.timedelta(milliseconds=5)
    try:
        with FeatureStore(connection, speculative_after=delay) as eager, FeatureStore(connection) as patient:
            for store in (eager, patient):
                store.write_feature('speculative', 'f', 1.0, NOON)
                store.get_latest_feature('speculative', 'f')
    finally:
        session.remove_request_init_listener(note)
    constant = ConstantSpeculativeExecutionPolicy(0.005, 1).new_plan(None, None)
    none = NoSpeculativeExecutionPolicy().new_plan(None, None)
    assert [(kind, type(plan)) for kind, plan in policies] == [
        ('INSERT', type(none)), ('SELECT', type(constant)), ('INSERT', type(none)), ('SELECT', type(none))
    ]  # fmt: skip
    assert policies[1][1].delay == constant.delay
    assert session.cluster.profile_manager.profiles == profiles


@pytest.mark.parametrize('delay', [datetime.timedelta(0), datetime.timedelta(-1)])
def test_a_delay_that_is_none(connection: CassandraConnection, delay: datetime.timedelta) -> None:
    with pytest.raises(ValueError, match=r'^speculative_after: got .*, rule: longer than zero, or None'):
        FeatureStore(connection, speculative_after=delay)


def test_the_connections_of_the_driver_are_counted(connection: CassandraConnection) -> None:
    with FeatureStore(connection):
        assert metrics.DRIVER_CONNECTIONS._function() >= 1
        assert metrics.DRIVER_REQUESTS._function() >= 0
