"""ChampionModel, ModelPromoter and CassandraFeatureWriter on a real node, by their executors."""

from __future__ import annotations

import datetime
import json
import pathlib
from typing import Any

import pytest
import tensorflow as tf
from cassandra.cluster import Session
from exec_properties import stored
from google.protobuf import json_format
from tfx import types
from tfx.types import artifact_utils, standard_artifacts

from tfx_cassandra.components import (
    CassandraConnection,
    CassandraFeatureWriter,
    ChampionModel,
    ModelPromoter,
    ModelRegistry,
)
from tfx_cassandra.components.artifacts import AbVerdict, Promotion, WrittenRows
from tfx_cassandra.components.champion import executor as champion_executor
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.errors import DatasetError, RegistryError, SchemaError, WriteError
from tfx_cassandra.components.feature_writer import executor as writer_executor
from tfx_cassandra.components.promoter import executor as promoter_executor
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.proto import cassandra_pb2

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
AT = datetime.datetime(2026, 1, 1, tzinfo=UTC)


def channel(kind: type[types.Artifact]) -> types.Channel:
    return types.Channel(type=kind)


def artifact(kind: type[types.Artifact], uri: pathlib.Path) -> types.Artifact:
    made = kind()
    made.uri = str(uri)
    return made


def champion(connection: CassandraConnection, folder: pathlib.Path, **arguments: Any) -> types.Artifact:
    """Runs ChampionModel; returns its model. `fingerprint` is that of the examples."""
    fingerprint = arguments.pop('fingerprint', None)
    component = ChampionModel(connection, **arguments)
    inputs = {}
    if fingerprint is not None:
        examples = artifact(standard_artifacts.Examples, folder / 'examples')
        examples.set_string_custom_property('fingerprint', fingerprint)
        inputs['examples'] = [examples]
    model = artifact(standard_artifacts.Model, folder / 'model')
    champion_executor.Executor().Do(inputs, {'model': [model]}, stored(component.exec_properties))
    return model


def test_the_champion_is_copied_and_seen_data_are_told(connection: CassandraConnection, tmp_path: pathlib.Path) -> None:
    served = tmp_path / 'served'
    served.mkdir()
    (served / 'saved_model.pb').write_text('model')
    nothing = champion(connection, tmp_path / 'a', experiment_id='fit', fingerprint='f1')
    assert nothing.get_int_custom_property('found') == 0
    assert nothing.get_int_custom_property('new_data') == 1
    assert not (tmp_path / 'a' / 'model').exists()
    with pytest.raises(RegistryError, match=r"^alias: got 'champion', rule: one of experiment 'fit'"):
        champion(connection, tmp_path / 'a', experiment_id='fit', required=True)
    with ModelRegistry(connection) as registry:
        version = ModelVersion('fit', 'm', '7', AT, model_uri=str(served), examples_fingerprint='f1', digest='0' * 64)
        registry.record(version)
        registry.promote('fit', 'champion', 'm', '7')
    found = champion(connection, tmp_path / 'b', experiment_id='fit', fingerprint='f1')
    assert found.get_int_custom_property('found') == 1
    assert found.get_int_custom_property('new_data') == 0
    assert found.get_string_custom_property('version') == '7'
    assert (tmp_path / 'b' / 'model' / 'Format-Serving' / 'saved_model.pb').read_text() == 'model'
    assert (
        champion(connection, tmp_path / 'c', experiment_id='fit', fingerprint='f2').get_int_custom_property('new_data')
        == 1
    )


def verdict_file(folder: pathlib.Path, winner: str | None) -> types.Artifact:
    """The verdict on arms a (version 1) and b (version 2) of model m."""
    folder.mkdir(parents=True)
    arms = [
        cassandra_pb2.Arm(name=name, model_id='m', version=version, weight=0.5)
        for name, version in (('a', '1'), ('b', '2'))
    ]
    window = cassandra_pb2.TimeWindow(start='2026-01-01T00:00:00+00:00', end='2026-01-02T00:00:00+00:00')
    metric = cassandra_pb2.Metric(name='mean', value='prediction')
    results = [cassandra_pb2.ArmResult(arm=arm.name, model_id='m', version=arm.version) for arm in arms]
    found = cassandra_pb2.Verdict(
        experiment_id='promotion', verdict='ship' if winner else 'hold', winner=winner, control=results[0],
        treatments=results[1:],
        design=cassandra_pb2.Design(
            experiment_id='promotion', control=arms[0], treatments=arms[1:], window=window, metrics=[metric]
        ),
    )  # fmt: skip
    content = json_format.MessageToJson(found, preserving_proto_field_name=True)
    (folder / 'verdict.json').write_text(content)
    return artifact(AbVerdict, folder)


def promoted(connection: CassandraConnection, folder: pathlib.Path, winner: str | None) -> types.Artifact:
    component = ModelPromoter(channel(AbVerdict), connection, 'promotion')
    promotion = artifact(Promotion, folder / 'promotion')
    inputs = {'verdict': [verdict_file(folder / 'verdict', winner)]}
    promoter_executor.Executor().Do(inputs, {'promotion': [promotion]}, stored(component.exec_properties))
    return promotion


def test_an_alias_goes_to_the_winner_and_stays_without_one(
    connection: CassandraConnection, tmp_path: pathlib.Path
) -> None:
    with ModelRegistry(connection) as registry:
        for number in (1, 2):
            registry.record(ModelVersion('promotion', 'm', str(number), AT.replace(second=number)))
    for number, (winner, version, moved) in enumerate(
        [(None, '1', 1), ('b', '2', 1), (None, '2', 0), ('a', '2', 0)]  # of an alias that has pointed at 1 before
    ):
        promotion = promoted(connection, tmp_path / str(number), winner)
        assert promotion.get_string_custom_property('version') == version
        assert promotion.get_int_custom_property('moved') == moved
        with ModelRegistry(connection) as registry:
            move = registry.alias('promotion', 'champion')
        assert move is not None
        assert move.version == version


def example(**values: Any) -> bytes:
    kinds = {int: ('int64_list', tf.train.Int64List), float: ('float_list', tf.train.FloatList)}
    features = {}
    for name, value in values.items():
        listed = value if isinstance(value, list) else [value]
        field, kind = kinds.get(type(listed[0]), ('bytes_list', tf.train.BytesList))
        features[name] = tf.train.Feature(**{field: kind(value=listed)})
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def examples_in(folder: pathlib.Path, *serialized: bytes) -> types.Artifact:
    made = artifact(standard_artifacts.Examples, folder)
    made.split_names = artifact_utils.encode_split_names(['all'])
    made.set_string_custom_property('payload_format', 'FORMAT_TF_EXAMPLE')
    (folder / 'Split-all').mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / 'Split-all' / 'data.gz'), tf.io.TFRecordOptions('GZIP')) as writer:
        for record in serialized:
            writer.write(record)
    return made


def write(
    connection: CassandraConnection, folder: pathlib.Path, serialized: list[bytes], **arguments: Any
) -> types.Artifact:
    component = CassandraFeatureWriter(channel(standard_artifacts.Examples), connection, **arguments)
    written = artifact(WrittenRows, folder / 'written')
    inputs = {'examples': [examples_in(folder / 'examples', *serialized)]}
    writer_executor.Executor().Do(inputs, {'written': [written]}, stored(component.exec_properties))
    return written


COLUMNS = {'id': 'key', 'at': 'moment', 'day': 'day', 'score': 'score', 'tags': 'tags', 'on': 'flag', 'note': 'note'}


@pytest.fixture(scope='module')
def table(connection: CassandraConnection, session: Session) -> str:
    session.execute(
        f'CREATE TABLE "{connection.keyspace}".written (id uuid, at timestamp, kind text, day date, score float, '
        f'tags list<text>, "on" boolean, note text, places map<text, int>, PRIMARY KEY (id, at))'
    )
    return 'written'


def test_examples_become_rows_of_the_tables_types(
    connection: CassandraConnection, session: Session, table: str, tmp_path: pathlib.Path
) -> None:
    key = '12345678-1234-5678-1234-567812345678'
    rows = [
        example(
            key=key.encode(), moment=1_600_000_000_123, day=18_000, score=0.5, tags=[b'a', b'b'], flag=1, note=b'x'
        ),
        example(key=key.encode(), moment=1_600_000_000_124, score=0.25),
    ]
    written = write(connection, tmp_path / 'a', rows, table=table, columns=COLUMNS, constants={'kind': 'k'})
    assert written.get_int_custom_property('rows') == 2
    first, second = session.execute(f'SELECT * FROM "{connection.keyspace}".written')
    assert (str(first.id), first.kind, first.score, first.tags, first.on, first.note) == (
        key,
        'k',
        0.5,
        ['a', 'b'],
        True,
        'x',
    )
    assert first.at == datetime.datetime(2020, 9, 13, 12, 26, 40, 123_000)
    assert first.day.date() == datetime.date(2019, 4, 14)
    assert (second.score, second.tags, second.note, second.day) == (0.25, None, None, None)
    again = write(connection, tmp_path / 'b', rows[::-1], table=table, columns=COLUMNS, constants={'kind': 'k'})
    assert again.get_string_custom_property('checksum') == written.get_string_custom_property('checksum')
    scan = ['scan', table, '--columns', ','.join([*COLUMNS, 'kind']), '--out', str(tmp_path / 'scan')]
    where = ['--contact-points', ','.join(connection.contact_points), '--keyspace', connection.keyspace]
    assert cli.main([*scan, *where]) == 0
    coverage = json.loads((tmp_path / 'scan' / 'coverage.json').read_text())
    assert coverage['checksum'] == written.get_string_custom_property('checksum')
    other = write(connection, tmp_path / 'c', rows[:1], table=table, columns=COLUMNS, constants={'kind': 'k'})
    assert other.get_string_custom_property('checksum') != written.get_string_custom_property('checksum')


def test_a_late_row_does_not_overwrite_a_newer_one(
    connection: CassandraConnection, session: Session, table: str, tmp_path: pathlib.Path
) -> None:
    key = b'00000000-0000-0000-0000-000000000001'
    arguments = {
        'table': table,
        'columns': {'id': 'key', 'at': 'moment', 'score': 'score'},
        'write_time_feature': 'made',
    }
    newer = example(key=key, moment=1, score=2.0, made=1_600_000_000_000)
    older = example(key=key, moment=1, score=1.0, made=1_500_000_000_000)
    write(connection, tmp_path / 'a', [newer], **arguments)
    write(connection, tmp_path / 'b', [older], **arguments)
    query = f'SELECT score, writetime(score) AS at FROM "{connection.keyspace}".written WHERE id = {key.decode()}'
    row = session.execute(query).one()
    assert (row.score, row.at) == (2.0, 1_600_000_000_000_000)


def test_only_rows_that_were_written_are_counted(
    connection: CassandraConnection, session: Session, cassandra_5: None, tmp_path: pathlib.Path
) -> None:
    """One example does not fit the table, the server refuses another, and their neighbours are written."""
    name = f'{connection.keyspace}.tagged'
    session.execute(f'CREATE TABLE {name} (k int PRIMARY KEY, v vector<float, 2>, tag text)')
    session.execute(f'CREATE INDEX ON {name} (tag)', timeout=60)  # of values up to 64 KiB
    rows = [example(k=k, v=[k / 2, 1.0], tag=b'a') for k in range(9)]
    bad = [example(k=9, v=[1.0]), example(k=10, v=[1.0, 1.0], tag=b'x' * 70_000), b'no example']
    arguments = {'table': 'tagged', 'columns': ['k', 'v', 'tag']}
    right = write(connection, tmp_path / 'a', rows, **arguments)
    session.execute(f'TRUNCATE {name}', timeout=60)
    mixed = write(connection, tmp_path / 'b', [*rows[:4], *bad, *rows[4:]], **arguments, max_errors=3)
    for field, expected in [('rows', 9), ('failed', 3)]:
        assert mixed.get_int_custom_property(field) == expected
    assert mixed.get_string_custom_property('checksum') == right.get_string_custom_property('checksum')
    found = {row.k: row.v for row in session.execute(f'SELECT k, v FROM {name}')}
    assert found == {k: [k / 2, 1.0] for k in range(9)}
    with pytest.raises(WriteError, match='examples failed: got 3, rule: at most max_errors = 2 examples fail'):
        write(connection, tmp_path / 'c', [*rows, *bad], **arguments, max_errors=2)


def test_a_table_may_declare_its_write_times(
    connection: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    name = f'{connection.keyspace}.declared'
    session.execute(f"CREATE TABLE {name} (k int PRIMARY KEY, at timestamp, v int) WITH comment = 'event_time=at'")
    rows = [example(k=1, at=2_000, v=2), example(k=1, at=1_000, v=1)]
    for number, row in enumerate(rows):
        write(connection, tmp_path / str(number), [row], table='declared', columns=['k', 'at', 'v'])
    assert tuple(session.execute(f'SELECT v, writetime(v) FROM {name}').one()) == (2, 2_000_000)
    with pytest.raises(WriteError, match=r'data\.gz:row 1: at: got nothing, rule: a write time of every row'):
        write(connection, tmp_path / 'c', [example(k=1, v=1)], table='declared', columns=['k', 'at', 'v'])


def test_other_payloads_are_refused(connection: CassandraConnection, table: str, tmp_path: pathlib.Path) -> None:
    component = CassandraFeatureWriter(
        channel(standard_artifacts.Examples), connection, table=table, columns={'id': 'key', 'at': 'moment'}
    )
    given = examples_in(tmp_path, b'x')
    given.set_string_custom_property('payload_format', 'FORMAT_PARQUET')
    outputs = {'written': [artifact(WrittenRows, tmp_path / 'written')]}
    with pytest.raises(DatasetError, match='examples: got FORMAT_PARQUET, rule: FORMAT_TF_EXAMPLE'):
        writer_executor.Executor().Do({'examples': [given]}, outputs, stored(component.exec_properties))


@pytest.mark.parametrize(
    ('columns', 'error', 'message'),
    [({'id': 'key', 'nobody': 'x'}, SchemaError, "columns: got 'nobody', rule: a column of "),
     ({'id': 'key', 'places': 'x'}, SchemaError, "columns: got 'places' of type map<text, int>"),
     ({'id': 'key'}, SchemaError, "fields: got none for 'at'"),
     ({'id': 'key', 'at': 'moments'}, WriteError, r'row 1: at: got \[1, 2\], rule: .*several values'),
     ({'id': 'key', 'at': 'at', 'score': 'late'}, WriteError, r"row 1: score: got \[b'soon'\], rule: .*float")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    columns: dict[str, str], error: type[Exception], message: str, connection: CassandraConnection, table: str,
    tmp_path: pathlib.Path,
) -> None:  # fmt: skip
    row = example(key=b'00000000-0000-0000-0000-000000000002', moments=[1, 2], at=1, late=b'soon')
    with pytest.raises(error, match=message):
        write(connection, tmp_path, [row], table=table, columns=columns)
