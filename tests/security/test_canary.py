"""A password and a key that are planted, and looked for in everything that is made or said with them."""

from __future__ import annotations

import dataclasses
import gzip
import logging
import pathlib
import pickle

import prometheus_client
import pytest
import role_uses
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tls_node import PASSWORD, TlsNode

from tfx_cassandra.components import CassandraExampleGen, ReadFromCassandra
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import CredentialsError
from tfx_cassandra.components.ui.page import Board, Settings
from tfx_cassandra.components.ui.source import Source
from tfx_cassandra.kubeflow import compiler, parametrize
from tfx_cassandra.kubeflow.settings import Settings as StepSettings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def secrets(node: TlsNode) -> tuple[bytes, ...]:
    """The password, and the first line of the client's key."""
    assert node.connection.tls is not None
    key = pathlib.Path(str(node.connection.tls.key_file)).read_text().splitlines()[1]
    return PASSWORD.encode(), key.encode()


def with_a_secret(folder: pathlib.Path, wanted: tuple[bytes, ...]) -> list[str]:
    """Returns the files that hold a secret, unpacked where they are compressed."""
    found = []
    for path in folder.rglob('*'):
        if path.is_file():
            content = path.read_bytes()
            content += gzip.decompress(content) if path.suffix == '.gz' else b''
            if any(secret in content for secret in wanted):
                found.append(str(path.relative_to(folder)))
    return found


@pytest.fixture
def canary(tls_node: TlsNode, monkeypatch: pytest.MonkeyPatch) -> CassandraConnection:
    """A connection, also of the environment's variables, as a role that may do everything."""
    root = tls_node.connection
    with connections.session(root) as session:
        session.execute(
            f"CREATE ROLE IF NOT EXISTS canary WITH PASSWORD = '{PASSWORD}' AND LOGIN = true AND SUPERUSER = true"
        )
        session.execute(role_uses.TABLE.format(keyspace=root.keyspace))
    role_uses.filled(root)
    return tls_node.as_role('canary', monkeypatch)


def run_pipeline(connection: CassandraConnection, folder: pathlib.Path) -> None:
    """Runs CassandraExampleGen by TFX, with metadata in a file."""
    component = CassandraExampleGen(connection, role_uses.WEATHER, role_uses.TRIPS, window=role_uses.WINDOW)
    stored = metadata.sqlite_metadata_connection_config(str(folder / 'metadata.sqlite'))
    whole = pipeline.Pipeline('canary', str(folder / 'root'), stored, [component])
    LocalDagRunner().run(whole)


def said(connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch) -> list[str | bytes]:
    """Returns reprs, pickles, compiled pipelines, metrics, the status page, and an error about the password."""
    component = CassandraExampleGen(connection, role_uses.WEATHER, window=role_uses.WINDOW)
    texts: list[str | bytes] = [repr(connection), str(connection), pickle.dumps(connection), repr(component)]
    texts.append(pickle.dumps(ReadFromCassandra(connection, 'trips')))
    built, opened = parametrize.built('backfill', connection, 'root', {'first': '2013-07-01', 'last': '2013-07-01'})
    settings = StepSettings('image', password_secret='cassandra/password', tls_secret='cassandra-tls')
    texts.append(compiler.compiled(built, opened, 'kfp', settings))
    texts.append(prometheus_client.generate_latest())
    with Source(connection) as source:
        texts.append(Board(source, Settings(views=(role_uses.WEATHER,), seconds=0)).render({}))
    other = dataclasses.replace(connection, request_timeout=31.0)  # which needs a session of its own
    monkeypatch.setenv('CASSANDRA_PASSWORD', f'{PASSWORD}!')
    with pytest.raises(CredentialsError) as caught:
        connections.acquire(other)
    monkeypatch.setenv('CASSANDRA_PASSWORD', PASSWORD)
    return [*texts, repr(caught.value)]


def test_nothing_that_is_made_or_said_holds_a_secret(
    tls_node: TlsNode,
    canary: CassandraConnection,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    for use in role_uses.USES.values():
        use(canary, tmp_path)
    run_pipeline(canary, tmp_path)
    for number, text in enumerate(said(canary, monkeypatch)):
        (tmp_path / f'said-{number}').write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / 'log').write_text(caplog.text)
    (tmp_path / 'shown').write_text(''.join(capfd.readouterr()))
    made = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert len(made) > 20
    assert 'canary' in (tmp_path / 'log').read_text()
    assert with_a_secret(tmp_path, secrets(tls_node)) == []
    with gzip.open(tmp_path / 'planted.gz', 'wb') as planted:  # what is looked for would be found
        planted.write(secrets(tls_node)[1])
    assert with_a_secret(tmp_path, secrets(tls_node)) == ['planted.gz']
