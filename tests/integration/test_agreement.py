"""The scan plan, the lookup plan and retrieval give one answer to one question: keys and ttls of every kind.

For each type of key there is a view; one label source has events with keys for all of them, many of which no view can
hold. What is compared is what the steps of ExampleGen and retrieval give, without Beam around them, for speed;
test_training_set.py and test_feature_retrieval.py run the components.
"""

from __future__ import annotations

import datetime
import itertools
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import tensorflow as tf
from cassandra.cluster import Session
from cassandra.util import Time
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tfx_cassandra.components import CassandraConnection, Feature, FeatureView, LabelSource, TimeWindow
from tfx_cassandra.components.dataset.files.encode import Framed, encode
from tfx_cassandra.components.dataset.join.facts import facts
from tfx_cassandra.components.dataset.join.join import join
from tfx_cassandra.components.dataset.spec import label
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.lookup.options import RetrievalOptions
from tfx_cassandra.components.lookup.retrieve import Retriever
from tfx_cassandra.components.lookup.spine import LookUp
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.options import TableRead, filtered
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.source import plan_splits
from tfx_cassandra.components.training_set import sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions

pytestmark = pytest.mark.integration

SECOND = 1000  # milliseconds
START = 1_577_836_800_000  # 2020-01-01, milliseconds since 1970
WINDOW = '2020-01-01T00:00Z/2020-01-02T00:00Z'
LATE = 253_402_300_800_000  # year 10000
SHOP = uuid.UUID('0011aabb-ccdd-4eff-8011-223344556677')
TIMED = uuid.UUID('0011aabb-ccdd-1eff-8011-223344556677')
# Spine column -> its type, the keys that events have.
LONG, LONGEST = 'b' * 65_513, 'b' * 65_535  # with a uuid, and alone, the longest partition key
SPINE: dict[str, tuple[str, list]] = {
    's': ('text', ['', 'a', 'é', LONG, LONGEST, 'c' * 65_536]),
    'n': ('bigint', [7, -128, 128, -32_769, 3_000_000_000, 2**63 - 1, -(2**63)]),
    'u': ('uuid', [SHOP, TIMED]),
    't': ('timestamp', [START, LATE, -(2**60)]),
    'z': ('text', ['', 'a', 'é']),
}
# Type of a view's key -> (the spine's column, the keys that it can hold).
KEYS: dict[str, tuple[str, list]] = {
    'text': ('s', ['a', 'é', LONG, LONGEST]), 'ascii': ('s', ['a', LONG, LONGEST]),
    'tinyint': ('n', [7, -128]), 'smallint': ('n', [7, 128, -128]), 'int': ('n', [7, -32_769]),
    'bigint': ('n', [7, 3_000_000_000, 2**63 - 1, -(2**63)]), 'uuid': ('u', [SHOP, TIMED]), 'timeuuid': ('u', [TIMED]),
    'timestamp': ('t', [START, LATE, -(2**60)]),
}  # fmt: skip
OF_SHOPS = ('ascii', 'int', 'timeuuid')  # types of which there is a second view
FEATURES = ('v', 'w', "m['5']", 'born', 'o')
TTLS = st.one_of(
    st.none(), st.sampled_from([1, 499, 1500, 1_001_000, 999_999, 10**18]), st.integers(1, 10 * SECOND * 1000)
).map(lambda us: None if us is None else datetime.timedelta(microseconds=us))


@pytest.fixture(scope='module')
def tables(connection: CassandraConnection, session: Session) -> CassandraConnection:
    keyspace = connection.keyspace
    columns = ', '.join(f'{name} {cql_type}' for name, (cql_type, _) in SPINE.items())
    session.execute(
        f'CREATE TABLE {keyspace}.events (day int, at timestamp, i int, {columns}, PRIMARY KEY (day, at, i))'
    )
    for cql_type in KEYS:
        session.execute(
            f'CREATE TABLE {keyspace}.{cql_type}s (k {cql_type}, ts timestamp, v double, w timestamp, '
            'm map<text, int>, born date, o time, PRIMARY KEY (k, ts))'
        )
        if cql_type not in OF_SHOPS:
            continue
        # The same with a second part of the partition key, which `where` gives, and a part of the entity behind it.
        session.execute(
            f'CREATE TABLE {keyspace}.{cql_type}s_of (k {cql_type}, shop uuid, z text, ts timestamp, v double, '
            'PRIMARY KEY ((k, shop), z, ts)) WITH CLUSTERING ORDER BY (z ASC, ts DESC)'
        )
    return connection


@st.composite
def rounds(draw: st.DrawFn) -> dict[str, Any]:
    moments = st.integers(START, START + 12 * SECOND)
    cells = st.sampled_from([None, 1, 2])
    event = st.tuples(moments, *(st.sampled_from(keys) for _, keys in SPINE.values()))
    rows = {
        cql_type: draw(st.lists(st.tuples(st.sampled_from(keys), moments, cells, cells, cells), max_size=12))
        for cql_type, (_, keys) in KEYS.items()
    }
    ttls = {cql_type: (draw(TTLS), draw(TTLS)) for cql_type in KEYS}
    return {'events': draw(st.lists(event, min_size=8, max_size=16)), 'rows': rows, 'ttls': ttls}


def views(ttls: dict[str, tuple]) -> list[FeatureView]:
    found = []
    for cql_type, (column, _) in KEYS.items():
        features = (*FEATURES[:-1], Feature('o', default=3))
        found.append(
            FeatureView(cql_type, f'{cql_type}s', ('k',), 'ts', features, ttls[cql_type][0], prefix=f'{cql_type}_',
                        join_columns=(column,))
        )  # fmt: skip
        if cql_type not in OF_SHOPS:
            continue
        found.append(
            FeatureView(
                f'{cql_type} of a shop', f'{cql_type}s_of', ('k', 'z'), 'ts', ('v',), ttls[cql_type][1],
                prefix=f'{cql_type}_of_', join_columns=(column, 'z'), where={'shop': f'{{{str(SHOP).upper()}}}'},
            )
        )  # fmt: skip
    return found


def write(session: Session, keyspace: str, drawn: dict[str, Any]) -> None:
    """Replaces what stands in the tables."""

    def insert(table: str, row: dict[str, Any]) -> None:
        marks = ', '.join('?' * len(row))
        session.execute(
            session.prepare(f'INSERT INTO {keyspace}.{table} ({", ".join(row)}) VALUES ({marks})'), list(row.values())
        )

    session.execute(f'DELETE FROM {keyspace}.events WHERE day = 1')
    for cql_type, (_, keys) in KEYS.items():
        delete = session.prepare(f'DELETE FROM {keyspace}.{cql_type}s WHERE k = ?')
        for key in keys:
            session.execute(delete, (key,))
        if cql_type in OF_SHOPS:
            delete = session.prepare(f'DELETE FROM {keyspace}.{cql_type}s_of WHERE k = ? AND shop = ?')
            for key, shop in itertools.product(set(keys) - {LONGEST}, (SHOP, TIMED)):
                session.execute(delete, (key, shop))
    for i, (at, *keys) in enumerate(drawn['events']):
        insert('events', {'day': 1, 'at': at, 'i': i, **dict(zip(SPINE, keys, strict=True))})
    for cql_type, rows in drawn['rows'].items():
        for k, ts, v, w, m in rows:
            values = {'v': v, 'w': None if w is None else LATE + w, 'm': None if m is None else {str(3 + m): m}}
            insert(f'{cql_type}s', {'k': k, 'ts': ts, **values, 'born': w, 'o': None if v is None else Time(v)})
            for z in ('', 'a') if cql_type in OF_SHOPS and k != LONGEST else ():
                shop = TIMED if v == 2 else SHOP
                insert(f'{cql_type}s_of', {'k': k, 'shop': shop, 'z': z, 'ts': ts, 'v': v})


def rows_of(session: Session, found: TableRead) -> Iterator[pa.RecordBatch]:
    """Scans a table as the workers do."""
    planned = plan_splits(found.request)
    for group in planned.groups:
        options = found.request.planned(planned.page_rows)
        for batch in Fetcher(session, planned.scan, options).fetch(group):
            if isinstance(batch, pa.RecordBatch):
                yield found.request.kept(filtered(batch, planned.scan), planned.scan)


def joined(connection: CassandraConnection, drawn: dict[str, Any]) -> tuple[pa.Table, pa.Table, dict]:
    """Returns the training set of either plan, and the kinds of its columns."""
    labels = LabelSource('events', tuple(SPINE), 'at', ('i',))
    window = TimeWindow.parse(WINDOW)
    configured = TrainingSetOptions(
        connection, tuple(views(drawn['ttls'])), window, labels=labels, availability_cut_off=False
    )
    with connections.session(connection, RawHandler) as raw:
        found = sources.describe(configured)
        batches = [label.spine(batch, labels, window.end) for batch in rows_of(raw, found.reads[sources.LABELS])]
        spine = pa.Table.from_batches(batches).combine_chunks()
        scanned, looked_up = spine, spine
        for view in configured.views:
            read = found.reads[view.name]
            empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in read.schema], schema=read.schema)
            held = [facts(empty, view), *(facts(batch, view) for batch in rows_of(raw, read))]
            scanned, _ = join(scanned, 'at', pa.Table.from_batches(held), view, cut_off=False)
            lookup = LookUp(connection, configured.read, [(view, read)], 'at', cut_off=False)
            lookup.setup()
            try:
                looked_up = pa.Table.from_batches([next(lookup.process(looked_up.to_batches()[0]))])
            finally:
                lookup.teardown()
    return scanned, looked_up, found.kinds


def events(drawn: dict[str, Any]) -> list[bytes]:
    """Returns the events as examples without features."""
    examples = []
    for i, (at, *keys) in enumerate(drawn['events']):
        example = tf.train.Example()
        feature = example.features.feature
        feature['at'].int64_list.value.append(at)
        feature['i'].int64_list.value.append(i)
        for name, key in zip(SPINE, keys, strict=True):
            if isinstance(key, int):
                feature[name].int64_list.value.append(key)
            else:
                feature[name].bytes_list.value.append(str(key).encode())
        examples.append(example.SerializeToString())
    return examples


def plain(record: bytes) -> dict[str, list]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: list(getattr(f, f.WhichOneof('kind')).value) for name, f in features.items() if f.WhichOneof('kind')}


@settings(max_examples=8, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))
@given(drawn=rounds())
def test_both_plans_and_retrieval_agree(tables: CassandraConnection, session: Session, drawn: dict[str, Any]) -> None:
    write(session, tables.keyspace, drawn)
    scanned, looked_up, kinds = joined(tables, drawn)
    assert looked_up.schema == scanned.schema
    encoded = [encode(table.combine_chunks().to_batches()[0], kinds) for table in (scanned, looked_up)]
    assert encoded[0].buffer.equals(encoded[1].buffer)
    expected = {record['i'][0]: record for record in map(plain, records(encoded[0]))}
    retriever = Retriever(RetrievalOptions(tables, tuple(views(drawn['ttls'])), as_of='at'), present=0)
    retriever.open()
    try:
        framed, _ = retriever.enrich(events(drawn))
    finally:
        retriever.close()
    assert {record['i'][0]: record for record in map(plain, records(framed))} == expected
    assert len(expected) == len(drawn['events'])


def records(framed: Framed) -> list[bytes]:
    data, found, at = framed.buffer.to_pybytes(), [], 0
    while at < len(data):
        (size,) = struct.unpack_from('<Q', data, at)
        found.append(data[at + 12 : at + 12 + size])
        at += 16 + size
    return found
