"""The Python, CQL and YAML of every page runs, block by block in one namespace, against a real Cassandra."""

from __future__ import annotations

import dataclasses
import json
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doc_pages
import pytest
import recorded_sstables
import yaml
from cassandra.cluster import Session
from tfx.types import channel, standard_artifacts

from tfx_cassandra.components import CassandraExampleGen, FeatureView, ModelRegistry, TimeWindow
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.ingest import mapping
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.kubeflow import settings
from tfx_cassandra.pipelines.flight_delay import ingest

pytestmark = pytest.mark.integration

# Pages that need a machine's memory or minutes.
SLOW = {'docs/dev-cluster.md'}
# What cannot be run here; each has its reason in the page.
NOT_RUN = {('docs/engines.md', 'beam_pipeline_args=sys.argv[1:]'), ('docs/kubeflow.md', 'summary = run_job(')}

Names = dict[str, Any]


def component(**outputs: type) -> types.SimpleNamespace:
    """Returns what stands for a component of a pipeline that a page takes for granted."""
    producer = CassandraExampleGen(
        CassandraConnection(), FeatureView('v', 't', ('k',), 'at', ('f',)), window='2013-01-01T00:00Z/2013-02-01T00:00Z'
    )
    return types.SimpleNamespace(
        outputs={name: channel.OutputChannel(kind, producer, name) for name, kind in outputs.items()}
    )


def training(names: Names, connection: CassandraConnection, session: Session) -> None:
    """A pipeline up to its models."""
    names['example_gen'] = component(examples=standard_artifacts.Examples)
    names['trainer'] = component(model=standard_artifacts.Model)
    names['evaluator'] = component(
        blessing=standard_artifacts.ModelBlessing, evaluation=standard_artifacts.ModelEvaluation
    )
    names['ab_evaluator'] = component(verdict=AbVerdict)
    names['inferrer'] = component(output_examples=standard_artifacts.Examples)


def example_pipeline(names: Names, connection: CassandraConnection, session: Session) -> None:
    """The views and the pipeline of README.md."""
    training(names, connection, session)
    for block in doc_pages.blocks(doc_pages.ROOT / 'README.md'):
        if block.language == 'python':
            run(block, names)


def versions(names: Names, connection: CassandraConnection, session: Session) -> None:
    """Two versions of a model, the first of them the champion."""
    with ModelRegistry(connection) as registry:
        for number in (1_700_000_000, 1_700_000_100):
            registry.record(
                ModelVersion(
                    'flight-delay',
                    'dnn',
                    str(number),
                    moment(number),
                    {'auc': 0.75},
                    model_uri=f'gs://models/dnn/{number}',
                )
            )
        registry.promote('flight-delay', 'champion', 'dnn', '1700000000')


def visits(names: Names, connection: CassandraConnection, session: Session) -> None:
    """A table of a page's own."""
    training(names, connection, session)
    session.execute(
        f'CREATE TABLE IF NOT EXISTS "{connection.keyspace}".visits (shop text, customer text, at timestamp, '
        'spent double, items int, PRIMARY KEY ((shop, customer), at))'
    )
    session.execute(
        f'INSERT INTO "{connection.keyspace}".visits (shop, customer, at, spent, items) '
        "VALUES ('s1', 'c1', '2013-01-01T00:00Z', 12.5, 3)"
    )


def no_leaks(names: Names, connection: CassandraConnection, session: Session) -> None:
    """Examples in the folder that a page names, in splits that are apart."""
    import tensorflow as tf

    for split, shop, at in (('train', b's1', 0), ('eval', b's2', 30 * 86_400_000)):
        folder = Path(f'PIPELINE_ROOT/CassandraExampleGen/examples/1/Split-{split}')
        folder.mkdir(parents=True)
        features = {
            'shop': tf.train.Feature(bytes_list=tf.train.BytesList(value=[shop])),
            'at': tf.train.Feature(int64_list=tf.train.Int64List(value=[at])),
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        with tf.io.TFRecordWriter(str(folder / 'data_tfrecord-00000-of-00001.gz'), 'GZIP') as writer:
            writer.write(example.SerializeToString())


def snapshot(names: Names, connection: CassandraConnection, session: Session) -> None:
    """A snapshot of a table."""
    recorded = recorded_sstables.unpacked(Path('recorded'))
    shutil.copytree(recorded['t1'].folder, 'snapshots/nightly')


def readings(names: Names, connection: CassandraConnection, session: Session) -> None:
    """A snapshot of the table ml_features.readings."""
    snapshot(names, connection, session)
    schema = Path('snapshots/nightly/schema.cql')
    text = schema.read_text().replace('recorded.t1 ', 'recorded.readings ')
    schema.write_text(text.replace('recorded', 'ml_features'))


def days(names: Names, connection: CassandraConnection, session: Session) -> None:
    """Snapshots of a table on two days."""
    readings(names, connection, session)
    for day in ('monday', 'tuesday'):
        shutil.copytree('snapshots/nightly', f'days/{day}')


def flights(names: Names, connection: CassandraConnection, session: Session) -> None:
    """A week of the demo's flights, and the planes."""
    pytest.importorskip('torch', reason='PyTorch is not installed: tools/torch')
    ingest.apply_schema(connection)
    week = TimeWindow.parse('2013-01-01T00:00Z/2013-01-08T00:00Z')
    for load in (ingest.flights(week), ingest.planes()):
        ingest.ingest(connection, load)


SETUPS: dict[str, Callable[[Names, CassandraConnection, Session], None]] = {
    'README.md': training,
    'docs/backups.md': days,
    'docs/parameters.md': example_pipeline,
    'docs/pipelines.md': training,
    'docs/pusher.md': training,
    'docs/pytorch.md': flights,
    'docs/registry.md': versions,
    'docs/retrieval.md': visits,
    'docs/rollout.md': versions,
    'docs/spans-and-splits.md': no_leaks,
    'docs/sstables.md': readings,
}


def is_own(block: doc_pages.Block) -> bool:
    """Whether a block belongs to these tests: tutorials run as a whole, in test_tutorials.py."""
    return not block.page.startswith(('docs/tutorials/', 'docs/quick-start.md'))


BLOCKS = [block for page in doc_pages.PAGES for block in doc_pages.blocks(page) if is_own(block)]
PAGES = list(dict.fromkeys(block.page for block in BLOCKS if block.language == 'python'))


def run(block: doc_pages.Block, names: Names) -> None:
    """Executes a block; a traceback names its page and line."""
    exec(compile('\n' * (block.line - 1) + block.text, doc_pages.ROOT / block.page, 'exec'), names)


@pytest.mark.parametrize('page', [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in PAGES])
def test_the_python_of_a_page_runs(
    page: str,
    connection: CassandraConnection,
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for field in dataclasses.fields(connection):
        if field.name in ('keyspace', 'port', 'local_datacenter'):
            monkeypatch.setenv(f'CASSANDRA_{field.name.upper()}', str(getattr(connection, field.name)))
    monkeypatch.setenv('CASSANDRA_CONTACT_POINTS', ','.join(connection.contact_points))
    names: Names = {'__name__': page}
    SETUPS.get(page, lambda *_: None)(names, connection, session)
    for block in BLOCKS:
        if (block.page, block.language, block.not_run) == (page, 'python', ''):
            run(block, names)


@pytest.mark.parametrize('block', [block for block in BLOCKS if block.language == 'cql'], ids=lambda block: block.page)
def test_cql_is_executed(block: doc_pages.Block, connection: CassandraConnection, session: Session) -> None:
    for statement in filter(str.strip, block.text.split(';')):
        session.execute(statement.replace('ml_features', f'"{connection.keyspace}"'))


LOADERS: dict[str, Callable[[Path], object]] = {'docs/kubeflow.md': settings.load, 'docs/ingest.md': mapping.parse}


@pytest.mark.parametrize('block', [block for block in BLOCKS if block.language == 'yaml'], ids=lambda block: block.page)
def test_yaml_is_loaded_by_what_reads_it(block: doc_pages.Block, tmp_path: Path) -> None:
    file = tmp_path / 'block.yaml'
    file.write_text(block.text)
    LOADERS.get(block.page, lambda path: list(yaml.safe_load_all(path.read_text())))(file)


@pytest.mark.parametrize('block', [block for block in BLOCKS if block.language == 'json'], ids=lambda block: block.page)
def test_json_is_json(block: doc_pages.Block) -> None:
    json.loads(block.text)


def test_what_is_not_run_is_known_and_has_a_reason() -> None:
    marked = {block for block in BLOCKS if block.not_run}
    assert {(block.page, start) for block in marked for page, start in NOT_RUN if start in block.text} == NOT_RUN
    assert len(marked) == len(NOT_RUN)
