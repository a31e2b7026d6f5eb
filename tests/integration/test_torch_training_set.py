"""PyTorch's training set on a real Cassandra: the values of CassandraExampleGen's examples, each row once an epoch."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tfx_cassandra.components import AuditLimits, CassandraConnection, CassandraExampleGen, FeatureView, TimeWindow
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.example_gen import executor
from tfx_cassandra.components.torch_dataset import CassandraIterableDataset, Ragged
from tfx_cassandra.pipelines.flight_delay import ingest
from tfx_cassandra.pipelines.flight_delay.pipeline import FLIGHTS, PLANES, WEATHER_VIEW

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings('ignore:This DataLoader will create')]

WINDOW = TimeWindow.parse('2013-07-01T00:00Z/2013-07-04T00:00Z')
SETTINGS: dict[str, Any] = {
    'views': [WEATHER_VIEW, PLANES], 'labels': FLIGHTS, 'window': WINDOW, 'availability_cut_off': False,
}  # fmt: skip


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection) -> CassandraConnection:
    ingest.apply_schema(connection)
    window = TimeWindow.parse('2013-06-30T00:00Z/2013-07-05T00:00Z')
    for load in (ingest.weather(window), ingest.flights(window), ingest.planes()):
        ingest.ingest(connection, load)
    return connection


@pytest.fixture(scope='module')
def folder(filled: CassandraConnection, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    made = tmp_path_factory.mktemp('training_set')
    training_set(filled, made).prepare()
    return made


def training_set(connection: CassandraConnection, folder: pathlib.Path, **changes: Any) -> CassandraIterableDataset:
    options = {'batch_rows': 100, 'shuffle_rows': 1000, 'nulls': 'mask', **SETTINGS, **changes}
    return CassandraIterableDataset.training_set(connection, folder=folder, **options)


def examples(connection: CassandraConnection, folder: pathlib.Path, **settings: Any) -> list[tf.train.Example]:
    """The examples of CassandraExampleGen with the same arguments."""
    component = CassandraExampleGen(connection, **settings)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    context = executor.Executor.Context(beam_pipeline_args=[], tmp_dir=str(folder / 'tmp'), unique_id='1')
    executor.Executor(context).Do({}, {'examples': [artifact]}, component.exec_properties)
    files = [str(file) for file in folder.glob('Split-*/*.gz')]
    return [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files, 'GZIP')]


def in_example(example: tf.train.Example, name: str) -> list:
    feature = example.features.feature[name]
    return list(feature.bytes_list.value or feature.int64_list.value or feature.float_list.value)


def in_batch(batch: dict[str, Any], name: str, row: int) -> list:
    """A value as a tf.Example holds it: a list, floats of 32 bits, texts as bytes, nothing for null."""
    values = batch[name]
    if isinstance(values, Ragged):
        values = values.values[values.offsets[row] : values.offsets[row + 1]]
    elif not batch.get(f'{name}.valid', torch.ones(len(values), dtype=torch.bool))[row]:
        return []
    else:
        values = values[row : row + 1].reshape(-1)
    if isinstance(values, np.ndarray):
        return [value.encode() for value in values]
    if values.dtype.is_floating_point:
        return values.float().tolist()
    return values.long().tolist()


def test_every_value_is_that_of_the_examples(filled, folder, tmp_path):
    expected = {in_example(e, 'flight_id')[0]: e for e in examples(filled, tmp_path, **SETTINGS)}
    names = {name for example in expected.values() for name in example.features.feature}
    dataset, compared, missing, seen = training_set(filled, folder), 0, 0, set()
    for batch in DataLoader(dataset, batch_size=None, num_workers=2):
        assert names <= {*batch}
        assert len(batch) - sum(name.endswith('.valid') for name in batch) == len(names)
        for row, flight in enumerate(batch['flight_id']):
            example = expected[flight.encode()]
            seen.add(flight)
            for name in names:
                value = in_batch(batch, name, row)
                assert value == in_example(example, name), (flight, name)
                compared, missing = compared + 1, missing + (not value)
    assert len(seen) == len(expected) == dataset.coverage().delivered > 2500
    assert compared == len(expected) * len(names) > 60_000
    assert missing > 100  # values that are not known are compared, too


def test_a_view_without_labels(filled, tmp_path):
    """Long rows that are pivoted, in both ways."""
    weather = dataclasses.replace(WEATHER_VIEW, join_columns=(), ttl=None)
    settings = {'views': [weather], 'labels': None, 'window': WINDOW, 'availability_cut_off': True}
    expected = {
        (in_example(e, 'model_id')[0], in_example(e, 'timestamp')[0]): e
        for e in examples(filled, tmp_path / 'examples', **settings)
    }
    count = 0
    for batch in training_set(filled, tmp_path / 'set', **settings):
        for row, key in enumerate(zip(batch['model_id'], batch['timestamp'].tolist(), strict=True)):
            example = expected[key[0].encode(), key[1]]
            for name in weather.example_names:
                assert in_batch(batch, name, row) == in_example(example, name)
            count += 1
    assert count == len(expected) > 150


def test_a_history_is_a_list(filled, tmp_path):
    settings = SETTINGS | {'views': [WEATHER_VIEW], 'history': 3, 'window': '2013-07-01T00:00Z/2013-07-01T12:00Z'}
    dataset = training_set(filled, tmp_path, columns=['flight_id', 'temp'], **settings)
    lengths = torch.cat([batch['temp'].offsets.diff() for batch in dataset])
    assert lengths.max() == 3
    padded = training_set(filled, tmp_path, columns=['temp'], pad={'temp': 3}, **settings)
    assert {batch['temp'].shape[1] for batch in padded} == {3}


@pytest.mark.parametrize(('world', 'workers'), [(1, 0), (2, 1), (3, 2)])
def test_each_row_comes_once(filled, folder, tmp_path, world, workers):
    found = []
    for rank in range(world):
        part = training_set(filled, folder, columns=['flight_id'], rank=rank, world_size=world, ledger=str(tmp_path))
        for batch in DataLoader(part, batch_size=None, num_workers=workers):
            found += batch['flight_id'].tolist()
    assert len(found) == len(set(found)) == json.loads((folder / 'manifest.json').read_text())['rows']
    assert part.coverage().readers == world * max(workers, 1)


def test_a_state_continues_where_it_was_saved(filled, folder):
    def loader() -> StatefulDataLoader:
        return StatefulDataLoader(training_set(filled, folder), batch_size=None, num_workers=2)

    whole = [batch['flight_id'].tolist() for batch in loader()]
    running = loader()
    iterator = iter(running)
    begun = [next(iterator)['flight_id'].tolist() for _ in range(9)]
    resumed = loader()
    resumed.load_state_dict(running.state_dict())
    assert begun + [batch['flight_id'].tolist() for batch in resumed] == whole


def test_the_folder_belongs_to_one_training_set(filled, folder, tmp_path):
    other = training_set(filled, folder, window='2013-07-01T00:00Z/2013-07-02T00:00Z')
    with pytest.raises(DatasetError, match=r'^folder: got .* with another training set, rule: a folder of its own'):
        other.prepare()
    unprepared = training_set(filled, tmp_path / 'none', rank=0, world_size=2)
    with pytest.raises(DatasetError, match=r'^folder: got .* without manifest.json, rule: .* call prepare\(\) once'):
        next(iter(unprepared))
    before = (folder / 'manifest.json').stat().st_mtime_ns
    training_set(filled, folder).prepare()
    assert (folder / 'manifest.json').stat().st_mtime_ns == before


def test_damaged_rows_are_noticed(filled, tmp_path):
    dataset = training_set(filled, tmp_path, window='2013-07-01T00:00Z/2013-07-01T12:00Z')
    dataset.prepare()
    (file, *_) = sorted((tmp_path / 'rows').iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r': got other content at \d+, rule: what was joined$'):
        list(dataset)


def test_limits_of_the_audit_and_mistakes(filled, tmp_path):
    strict = training_set(filled, tmp_path, limits=AuditLimits(missing=0.0))
    with pytest.raises(DatasetError, match=r'^limits: got .* missing .* \(limit 0.0\)'):
        strict.prepare()
    assert not (tmp_path / 'manifest.json').exists()
    with pytest.raises(ValueError, match=r'^window: got None, rule: either window or span'):
        training_set(filled, tmp_path, window=None)
    with pytest.raises(ValueError, match=r'^views: got .*, rule: '):
        training_set(filled, tmp_path, views=[WEATHER_VIEW, WEATHER_VIEW])
    with pytest.raises(DatasetError, match=r"^columns: got \['nonsense'\], rule: columns of the training set \("):
        list(
            training_set(
                filled,
                tmp_path,
                columns=['nonsense'],
                views=[FeatureView('planes', 'planes', ('tailnum',), None, ('seats',))],
            )
        )
