"""Whatever is given to what reads it ends in a result or in an error of one line, and leaves nothing half made."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cassandra.cluster import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_cassandra.components import protos
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.experiment.verdict import Verdict
from tfx_cassandra.components.inference_log.logger import InferenceLogger
from tfx_cassandra.components.ingest.delimited import CsvFormat
from tfx_cassandra.components.ingest.inputs import find
from tfx_cassandra.components.ingest.readers import reader
from tfx_cassandra.components.pusher.config import PusherConfig
from tfx_cassandra.pipelines.vertex_local import job
from tfx_cassandra.proto import cassandra_pb2

WRONG = (ValueError, TypeError)  # of an argument
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def ends_well(call: Callable[[], Any], *allowed: type[Exception]) -> None:
    """Asserts that a call ends in a result, or in an error of one line that names a rule."""
    try:
        call()
    except (TfxCassandraError, *allowed) as error:
        message = str(error)
    else:
        return
    assert 'rule: ' in message
    assert len(message.splitlines()) == 1


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yields the path of every value in a tree of lists and dictionaries."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def changed(draw: st.DrawFn, tree: Any) -> Any:
    """A copy of a tree in which a few values are others, or are missing."""
    copy = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(places(copy))))
        owner = copy
        for key in path:
            owner = owner[key]
        if draw(st.booleans()):
            owner[last] = draw(PLAIN)
        else:
            del owner[last]
        if not copy:
            break
    return copy


JOB = {
    'pipelineSpec': {
        'pipelineInfo': {'name': 'p'}, 'schemaVersion': '2.1.0',
        'components': {'one': {'executorLabel': 'one', 'inputDefinitions': {'parameters': {'a': {'type': 'INT'}}}}},
        'deploymentSpec': {'executors': {'one': {'container': {'image': 'any', 'command': ['true']}}}},
        'root': {
            'inputDefinitions': {'parameters': {'day': {'parameterType': 'STRING', 'defaultValue': 'x'}}},
            'dag': {'tasks': {'one': {'taskInfo': {'name': 'one'}, 'componentRef': {'name': 'one'}}}},
        },
    },
    'runtimeConfig': {
        'gcsOutputDirectory': 'root', 'parameterValues': {'day': 'y'}, 'parameters': {'day': {'stringValue': 'z'}}
    },
}  # fmt: skip


def test_the_pipeline_is_one() -> None:
    with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
        json.dump(JOB, file)
        file.flush()
        assert job.load(file.name).parameters({}) == {'day': 'y'}


@settings(max_examples=300, deadline=None)
@given(changed(JOB) | PLAIN)
def test_a_compiled_pipeline(content: Any) -> None:
    with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
        json.dump(content, file)
        file.flush()

        def load() -> None:
            loaded = job.load(file.name)
            loaded.parameters({})

        ends_well(load, ValueError)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_a_file_that_is_no_pipeline(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix='.json') as file:
        file.write(content)
        file.flush()
        ends_well(lambda: job.load(file.name), ValueError)


CONNECTION = {'contact_points': ['127.0.0.1'], 'port': 9042, 'local_datacenter': 'dc1', 'keyspace': 'k'}
ARM = {'arm': 'a', 'model_id': 'm', 'version': '1', 'weight': 0.5, 'requests': '4', 'units': '2'}
MESSAGES = [
    (PusherConfig, cassandra_pb2.PusherConfig, {'connection': CONNECTION, 'experiment_id': 'e', 'model_id': 'm'}),
    (CassandraConnection, cassandra_pb2.CassandraConnection, {**CONNECTION, 'tls': {'ca_file': 'a'}}),
    (Verdict, cassandra_pb2.Verdict, {'experiment_id': 'e', 'verdict': 'ship', 'control': ARM, 'treatments': [ARM]}),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_messages(data: st.DataObject) -> None:
    kind, message, whole = data.draw(st.sampled_from(MESSAGES))
    text = json.dumps(data.draw(changed(whole) | PLAIN)) if data.draw(st.booleans()) else data.draw(st.text())
    ends_well(lambda: protos.from_json(kind, message, text), ValueError)


WORDS = st.sampled_from([
    'models', 'list', 'show', 'promote', 'rollback', 'schema', 'check', 'print', 'apply', 'scan', 'ingest', 'ab',
    'run', 'report', 'leaks', 'snapshot', 'sstable', 'describe', 'doctor', 'compile', '--keyspace', '--window',
    '--out', '--port', '--to', '--contact-points', '--replication', '--checkpoint', '--dead-letters', '--as-of',
    'arrow', 'rows.csv', '9', '127.0.0.1', '2013-01-01T00:00Z/2013-01-02T00:00Z', 'simple:1', '-', '',
])  # fmt: skip
ARGUMENTS = st.lists(WORDS | st.text(st.characters(exclude_characters='\0'), max_size=8), max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ARGUMENTS)
def test_arguments_of_the_command(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    for name in [name for name in os.environ if name.startswith('CASSANDRA_')]:
        monkeypatch.delenv(name)
    monkeypatch.setenv('CASSANDRA_CONTACT_POINTS', '127.0.0.1')
    monkeypatch.setenv('CASSANDRA_PORT', '9')  # where nothing answers
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, within(folder):
        Path('rows.csv').write_text('a,b\n1,2\n')
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main(arguments)
        assert code in (0, 2), arguments
        if code:
            assert os.listdir() == ['rows.csv'], arguments
    lines = [line for line in said.getvalue().splitlines() if line.startswith('tfx-cassandra: error: ')]
    assert len(lines) == (code == 2 and 'Usage: ' not in said.getvalue()), (arguments, said.getvalue())


@contextlib.contextmanager
def within(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def written(kind: str) -> bytes:
    table = pa.table({'a': [1, 2, 3], 'b': ['x', None, 'z'], 'c': [0.5, 1.5, None]})
    out = io.BytesIO()
    if kind == 'parquet':
        pq.write_table(table, out)
    elif kind == 'arrow':
        with pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    elif kind == 'csv':
        out.write(b'a,b,c\n1,x,0.5\n2,"y\nz",1.5\n3,,\n')
    else:
        out.write(b'{"a": 1, "b": "x"}\n{"a": [1, {"c": null}]}\n')
    return out.getvalue()


FILES = {kind: written(kind) for kind in ('csv', 'jsonl', 'parquet', 'arrow')}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(FILES)), st.data())
def test_damaged_files_of_rows(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f'rows.{kind}')
        path.write_bytes(content)

        def read() -> None:
            (source,) = find([str(path)])
            with reader(source, CsvFormat()) as (_, found):
                for records in found.read(found.fields or ['a']):
                    [records.row(i) for i in range(len(records.numbers))]
                    assert all(len(one.error.splitlines()) == 1 for one in records.broken)

        ends_well(read, ValueError)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(
    st.sampled_from(['model_id', 'prediction', 'version', 'unit', 'request_id', 'timestamp', 'confidence', 'features']),
    PLAIN | st.uuids() | st.datetimes() | st.datetimes(timezones=st.just(datetime.timezone.utc)) | st.binary(),
))  # fmt: skip
def test_calls_of_the_logger(arguments: dict[str, Any]) -> None:
    log = InferenceLogger(CassandraConnection())
    call = {'model_id': 'm', 'prediction': 0.5, **arguments}
    ends_well(lambda: log.log(call.pop('model_id'), call.pop('prediction'), **call), *WRONG)


@pytest.mark.integration
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), min_size=1, max_size=20))
def test_identifiers_are_quoted(session: Session, name: str) -> None:
    """A name is a name, whatever is in it."""
    found = session.execute(f'SELECT key AS {quoted(name)} FROM system.local')
    assert list(found.column_names) == [name]
