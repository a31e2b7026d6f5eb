"""The flight-delay pipeline end to end on a real node: two weeks of July in, one version out."""

from __future__ import annotations

import collections
import csv
import dataclasses
import datetime
import io
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from cassandra.cluster import Session
from tfx import v1 as tfx
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import RunOptions

from tfx_cassandra.components import CassandraConnection, CassandraExampleGen, FeatureView, TimeWindow
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.pipelines import local_runner
from tfx_cassandra.pipelines.flight_delay import data, ingest, pipeline, results
from tfx_cassandra.pipelines.flight_delay.preprocessing import INPUTS

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc

# The table holds a day more on both sides, so that a window that is not pushed down is seen.
TABLE = TimeWindow.parse('2013-06-30T00:00Z/2013-07-16T00:00Z')
WINDOW = TimeWindow.parse('2013-07-01T00:00Z/2013-07-15T00:00Z')
WEATHER = FeatureView(
    'weather', 'feature_store', ('model_id',), 'timestamp', data.WEATHER, layout='long',
    feature_name_column='feature_name', value_column='value',
)  # fmt: skip


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection) -> CassandraConnection:
    ingest.apply_schema(connection)
    assert ingest.ingest(connection, ingest.weather(TABLE))
    assert ingest.ingest(connection, ingest.flights(TABLE))
    assert ingest.ingest(connection, ingest.planes())
    return connection


@dataclasses.dataclass(frozen=True)
class Trained:
    connection: CassandraConnection
    state: pathlib.Path

    def pipeline(self, **settings) -> tfx.dsl.Pipeline:
        return pipeline.create_pipeline(self.connection, WINDOW, self.state, train_steps=150, **settings)

    @property
    def pushed(self) -> list[str]:
        return sorted(path.name for path in pathlib.Path(pipeline.serving_directory(self.state)).iterdir())

    @property
    def examples(self) -> pathlib.Path:
        outputs = local_runner.last_outputs(pipeline.metadata_path(self.state), pipeline.pipeline_root(self.state))
        return pathlib.Path(outputs['CassandraExampleGen', 'examples'].uri)


@pytest.fixture(scope='module')
def trained(filled: CassandraConnection, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made = Trained(filled, tmp_path_factory.mktemp('flight_delay'))
    local_runner.run(made.pipeline(), io.StringIO())
    return made


def examples_in(folder: pathlib.Path) -> list[tf.train.Example]:
    files = [str(file) for file in folder.glob('Split-*/*.gz')]
    return [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files, 'GZIP')]


def values_of(examples: list[tf.train.Example], name: str) -> list[float]:
    features = (example.features.feature[name] for example in examples if name in example.features.feature)
    return [(feature.float_list.value or feature.int64_list.value)[0] for feature in features]


def driver_rows(session: Session, keyspace: str, table: str, time_column: str) -> list:
    start, end = (moment.replace(tzinfo=None) for moment in (WINDOW.start, WINDOW.end))
    rows = session.execute(f'SELECT * FROM "{keyspace}".{table}')
    return [row for row in rows if start <= getattr(row, time_column) < end]


def model_rows(session: Session, connection: CassandraConnection) -> list:
    return list(session.execute(f'SELECT * FROM "{connection.keyspace}".model_versions'))


def test_a_second_ingest_writes_nothing(filled):
    assert not ingest.ingest(filled, ingest.weather(TABLE))
    assert not ingest.ingest(filled, ingest.flights(TABLE))
    assert not ingest.ingest(filled, ingest.planes())


def test_the_ingest_repairs_a_row_that_is_gone_and_refuses_one_too_many(filled, session):
    key = ('weather:JFK', 'temp', TABLE.start.replace(hour=7))
    table = f'"{filled.keyspace}".feature_store'
    where = 'WHERE model_id = %s AND feature_name = %s AND timestamp = %s'
    temperature = session.execute(f'SELECT value FROM {table} {where}', key).one().value
    session.execute(f'DELETE FROM {table} {where}', key)
    assert ingest.ingest(filled, ingest.weather(TABLE))
    assert session.execute(f'SELECT value FROM {table} {where}', key).one().value == temperature

    extra = (*key[:2], TABLE.start.replace(year=2012))
    session.execute(f'INSERT INTO {table} (model_id, feature_name, timestamp, value) VALUES (%s, %s, %s, 1)', extra)
    with pytest.raises(WriteError, match=r'^feature_store: got .* rows with .* after the ingest, rule: '):
        ingest.ingest(filled, ingest.weather(TABLE))
    session.execute(f'DELETE FROM {table} {where}', extra)


def test_the_examples_are_the_flights_a_driver_loop_reads(trained, session):
    rows = driver_rows(session, trained.connection.keyspace, 'flights', 'scheduled_departure')
    examples = examples_in(trained.examples)
    assert len(examples) == len(rows) == ingest.flights(WINDOW).rows.height
    assert sum(results.of_state(trained.state).examples().values()) == len(rows)
    for column in ('distance', 'late', 'arr_delay', 'hour'):
        assert sum(values_of(examples, column)) == sum(getattr(row, column) for row in rows)
    assert 'Availability cut-off OFF' in results.of_state(trained.state).audit()


def test_each_flight_has_the_weather_and_the_aircraft_that_the_files_say(trained):
    """Spot checks by hand: loops over the lines of the CSV files, for every fiftieth flight."""
    with (data._folder() / 'weather.csv').open() as file:
        weather = [line for line in csv.DictReader(file) if line['month'] in ('6', '7')]
    with (data._folder() / 'planes.csv').open() as file:
        planes = {line['tailnum']: line for line in csv.DictReader(file)}
    hours = {(line['origin'], line['time_hour']): line for line in weather}
    features = [example.features.feature for example in examples_in(trained.examples)]
    seen = collections.Counter()
    for known in sorted(features, key=lambda one: one['flight_id'].bytes_list.value[0])[::50]:
        origin, tail = (known[name].bytes_list.value[0].decode() for name in ('origin', 'tailnum'))
        left = datetime.datetime.fromtimestamp(known['scheduled_departure'].int64_list.value[0] / 1000, UTC)
        for name in data.WEATHER:
            expected = []
            for back in range(3):  # three hours: one of exactly three is too old
                hour = left.replace(minute=0) - back * datetime.timedelta(hours=1)
                value = hours.get((origin, f'{hour:%Y-%m-%dT%H:%M:%SZ}'), {}).get(name, 'NA')
                if value != 'NA' and TABLE.start <= hour:
                    expected = [float(np.float32(value))]
                    break
            assert list(known[name].float_list.value) == expected
            seen[name] += bool(expected)
        for column, name in (('built', 'year'), ('seats', 'seats')):
            value = planes.get(tail, {}).get(name, 'NA')
            assert list(known[column].int64_list.value) == ([] if value == 'NA' else [int(value)])
            seen[column] += value != 'NA'
    assert all(seen[name] > 0 for name in (*data.WEATHER, 'built', 'seats')), 'the files say something'


def test_the_long_table_gives_one_example_per_airport_and_hour(filled, session, tmp_path):
    metadata = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(tmp_path / 'metadata.sqlite'))
    generate = CassandraExampleGen(filled, WEATHER, window=WINDOW)
    LocalDagRunner().run(tfx.dsl.Pipeline('weather', str(tmp_path / 'root'), metadata, [generate]))
    examples = examples_in(next((tmp_path / 'root').glob('CassandraExampleGen/examples/*')))
    rows = driver_rows(session, filled.keyspace, 'feature_store', 'timestamp')
    assert len(examples) == len({(row.model_id, row.timestamp) for row in rows})
    for name in data.WEATHER:
        expected = [row.value for row in rows if row.feature_name == name]
        assert len(values_of(examples, name)) == len(expected)
        assert math.fsum(values_of(examples, name)) == pytest.approx(math.fsum(expected), rel=1e-6)


def test_no_day_is_in_both_splits(trained):
    days = collections.defaultdict(set)
    for folder in trained.examples.glob('Split-*'):
        for record in tf.data.TFRecordDataset([str(file) for file in folder.glob('*.gz')], 'GZIP'):
            example = tf.train.Example.FromString(record.numpy())
            days[folder.name].add(example.features.feature['flight_day'].int64_list.value[0])
    assert days['Split-train']
    assert days['Split-eval']
    assert not days['Split-train'] & days['Split-eval']


def test_the_version_is_one_row_with_the_evaluators_metrics(trained, session):
    run = results.of_state(trained.state)
    assert run.blessed()
    assert run.auc() > pipeline.MIN_AUC
    (row,) = model_rows(session, trained.connection)
    assert (row.experiment_id, row.model_id) == ('flight-delay', 'flight-delay')
    assert row.metrics['auc'] == run.auc()
    assert row.metrics['example_count'] == run.examples()['eval']
    assert trained.pushed == [row.version]
    query, read_back = run.version(session, trained.connection.keyspace)
    assert read_back['version'] == row.version
    assert session.execute(query).one().version == row.version  # the statement shown is one that runs


def test_the_pushed_model_predicts_on_raw_examples(trained):
    model = pathlib.Path(pipeline.serving_directory(trained.state), trained.pushed[0])
    lines = results.serving_check(model, results.of_state(trained.state).first_examples('eval', 3))
    assert len(lines) == 3
    assert all('% likely to be late; arrived ' in line for line in lines)
    predict = tf.saved_model.load(str(model)).signatures['serving_default']
    chances = predict(examples=tf.constant([tf.train.Example().SerializeToString()]))['late'].numpy()
    assert chances.shape == (1, 1)  # a flight of which nothing is known
    assert 0 < chances[0, 0] < 1


def test_what_is_known_only_afterwards_does_not_move_the_prediction(trained):
    model = pathlib.Path(pipeline.serving_directory(trained.state), trained.pushed[0])
    predict = tf.saved_model.load(str(model)).signatures['serving_default']
    before = examples_in(trained.examples)[:50]
    inputs = [tf.train.Example.FromString(example.SerializeToString()) for example in before]
    for example in inputs:
        afterwards = set(example.features.feature) - set(INPUTS)
        assert 'arr_delay' in afterwards
        for name in afterwards:
            del example.features.feature[name]
        assert set(example.features.feature) <= set(INPUTS)
    chances = [
        predict(examples=tf.constant([e.SerializeToString() for e in them]))['late'].numpy()
        for them in (before, inputs)
    ]
    np.testing.assert_array_equal(*chances)


def test_pushing_the_same_model_again_leaves_one_row_and_one_folder(trained, session):
    before, pushed = model_rows(session, trained.connection), trained.pushed
    LocalDagRunner().run(trained.pipeline(), run_options=RunOptions(from_nodes=['CassandraPusher']))
    assert model_rows(session, trained.connection) == before
    assert trained.pushed == pushed


def test_a_model_that_has_learned_nothing_is_blocked(trained, session):
    before, pushed = model_rows(session, trained.connection), trained.pushed
    terminal = io.StringIO()
    local_runner.run(trained.pipeline(learning_rate=0.0, enable_cache=True), terminal)
    assert 'Transform: reused' in terminal.getvalue()
    assert 'Trainer: reused' not in terminal.getvalue()
    run = results.of_state(trained.state)
    assert run.auc() < pipeline.MIN_AUC
    assert not run.blessed()
    assert model_rows(session, trained.connection) == before
    assert trained.pushed == pushed
