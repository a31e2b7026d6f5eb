"""Feast's online store in Cassandra: one partition for each key, one row for each feature."""

from __future__ import annotations

import datetime
import sys
import tempfile
from pathlib import Path

import pandas as pd
from cassandra.cluster import Cluster
from dialogue import KEYS, NAMES, serve, value
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.timezone.utc)


def main() -> None:
    _, host, port, datacenter, keyspace = sys.argv[1:]
    keyspace = f'{keyspace}_feast'
    cluster = Cluster([host], port=int(port))
    cluster.connect().execute(
        f'CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = '
        "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    cluster.shutdown()
    folder = Path(tempfile.mkdtemp())
    values = {name: [value(key, n) for key in range(KEYS)] for n, name in enumerate(NAMES)}
    frame = pd.DataFrame({'key': range(KEYS), 'event_timestamp': NOON, **values})
    frame.to_parquet(folder / 'values.parquet')
    store = FeatureStore(
        config=RepoConfig(
            project='bench',
            provider='local',
            registry=str(folder / 'registry.db'),
            entity_key_serialization_version=3,
            online_store={
                'type': 'cassandra',
                'hosts': [host],
                'port': int(port),
                'keyspace': keyspace,
                'load_balancing': {
                    'load_balancing_policy': 'TokenAwarePolicy(DCAwareRoundRobinPolicy)',
                    'local_dc': datacenter,
                },
            },
        )
    )
    source = FileSource(path=str(folder / 'values.parquet'), timestamp_field='event_timestamp')
    entity = Entity(name='key', join_keys=['key'], value_type=ValueType.INT64)
    schema = [Field(name=name, dtype=Float64) for name in NAMES]
    store.apply([entity, FeatureView(name='v', entities=[entity], schema=schema, source=source)])
    store.write_to_online_store('v', frame)

    def read(key: int, names: list[str]) -> list[float]:
        found = store.get_online_features([f'v:{name}' for name in names], [{'key': key}]).to_dict()
        return [found[name][0] for name in names]

    serve(read)


if __name__ == '__main__':
    main()
