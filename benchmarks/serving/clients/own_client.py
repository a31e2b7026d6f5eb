"""FeatureStore, AsyncFeatureStore and the driver, on feature_store."""

from __future__ import annotations

import asyncio
import datetime
import sys

import numpy as np
import pyarrow as pa
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import tuple_factory
from dialogue import FEATURES, KEYS, NAMES, serve, value

from tfx_cassandra.components import AsyncFeatureStore, CassandraConnection, FeatureStore, schema
from tfx_cassandra.components.driver import connection as connections

NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.timezone.utc)


def fill(connection: CassandraConnection) -> None:
    """Writes the values, each newest one after three older ones, unless they are there."""
    schema.apply(connection, schema.SimpleReplication(1), views=False)
    keys, features = np.divmod(np.arange(KEYS * FEATURES), FEATURES)
    with FeatureStore(connection) as store:
        if store.get_latest_feature(f'm{KEYS - 1}', NAMES[-1]):  # written last
            return
        for age in reversed(range(4)):
            moment = NOON - datetime.timedelta(hours=age)
            store.write_features(
                pa.table(
                    {
                        'model_id': [f'm{key}' for key in keys],
                        'feature_name': [NAMES[feature] for feature in features],
                        'timestamp': pa.array([moment] * len(keys), pa.timestamp('ms', 'UTC')),
                        'value': [value(*pair) - age for pair in zip(keys.tolist(), features.tolist(), strict=True)],
                    }
                )
            )


def bare(session: Session, keyspace: str) -> None:
    """Serves by a prepared statement for each feature, all at once."""
    statement = session.prepare(
        f'SELECT value FROM {keyspace}.feature_store WHERE model_id = ? AND feature_name = ? '
        'ORDER BY timestamp DESC LIMIT 1'
    )
    profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=tuple_factory)

    def read(key: int, names: list[str]) -> list[float]:
        futures = [session.execute_async(statement, (f'm{key}', name), execution_profile=profile) for name in names]
        return [future.result().one()[0] for future in futures]

    serve(read)


async def waiting(connection: CassandraConnection) -> None:
    """Serves by AsyncFeatureStore, in a loop that runs for each call alone."""
    async with AsyncFeatureStore(connection) as store:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def read(key: int, names: list[str]) -> list[float]:
            call = asyncio.run_coroutine_threadsafe(store.get_latest_features(f'm{key}', names), loop)
            return [found.value for found in call.result().values()]

        await loop.run_in_executor(None, serve, read)
        done.set()


def main() -> None:
    client, host, port, datacenter, keyspace = sys.argv[1:]
    connection = CassandraConnection((host,), int(port), datacenter, keyspace)
    fill(connection)
    if client == 'driver':
        with connections.session(connection) as session:
            bare(session, keyspace)
    elif client == 'asyncio':
        asyncio.run(waiting(connection))
    else:
        with FeatureStore(connection) as store:
            serve(lambda key, names: [found.value for found in store.get_latest_features(f'm{key}', names).values()])


if __name__ == '__main__':
    main()
