"""A cluster that asks for a password: one line for each way of not having it, and the password is never shown."""

from __future__ import annotations

import dataclasses
import io
import pathlib
from collections.abc import Iterator
from functools import partial

import pytest

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import CredentialsError
from tfx_cassandra.components.progress import step

pytestmark = pytest.mark.integration

SUBNET = '127.0.43'


@pytest.fixture(scope='module')
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraConnection]:
    """A connection with the right user name to a node that asks for passwords."""
    directory = tmp_path_factory.mktemp('guarded')
    cluster = DevCluster(directory, subnet=SUBNET, jmx_port=7443, heap='512M', authenticated=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
        patch.setenv('JAVA_TOOL_OPTIONS', '-XX:TieredStopAtLevel=1')
        cluster.start(partial(step, stream=io.StringIO()))
    yield CassandraConnection(cluster.contact_points, username='cassandra', password_env='GUARDED_PASSWORD')
    cluster.stop()


def test_the_right_password(guarded: CassandraConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GUARDED_PASSWORD', 'cassandra')
    with connections.session(guarded) as session:
        assert session.execute('LIST ROLES').one().role == 'cassandra'


def test_the_wrong_password(guarded: CassandraConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GUARDED_PASSWORD', 'open sesame')
    with pytest.raises(CredentialsError, match=r"^username: got 'cassandra', rule: a user whose password") as caught:
        connections.acquire(guarded)
    assert '\n' not in str(caught.value)
    assert 'open sesame' not in str(caught.value)


@pytest.mark.slow
def test_a_step_of_a_compiled_file_says_so(guarded: CassandraConnection, tmp_path: pathlib.Path) -> None:
    """The secret of the compiled file comes from this process's environment, with the wrong password."""
    pytest.importorskip('kfp', reason='compiling needs kfp: pip install "tfx-cassandra[kfp]"')
    from tfx_cassandra.kubeflow import compiler, parametrize
    from tfx_cassandra.kubeflow.settings import Settings
    from tfx_cassandra.pipelines import vertex_local

    built, opened = parametrize.built('backfill', guarded, str(tmp_path), {'first': '2013-07-01', 'last': '2013-07-01'})
    job = tmp_path / 'job.yaml'
    job.write_text(compiler.compiled(built, opened, 'kfp', Settings('none', password_secret='cassandra/password')))
    place = vertex_local.Place(environment={'GUARDED_PASSWORD': 'open sesame'})
    summary = vertex_local.run_job(job, runs=tmp_path / 'runs', place=place, stream=io.StringIO())
    (step_of_day,) = summary['tasks'].values()
    assert summary['state'] == 'FAILED'
    rule = "day-2013-07-01: error: username: got 'cassandra', rule: a user whose password"
    assert f'exit code 1: {rule}' in step_of_day['error']
    files = [path.read_text(errors='replace') for path in tmp_path.rglob('*') if path.is_file()]
    assert files
    assert not any('open sesame' in content for content in files)


def test_no_user_name(guarded: CassandraConnection) -> None:
    with pytest.raises(CredentialsError, match=r'^username: got no user name, rule: a user whose password'):
        connections.acquire(dataclasses.replace(guarded, username=None, password_env=None))


def test_no_password(guarded: CassandraConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('GUARDED_PASSWORD', raising=False)
    with pytest.raises(CredentialsError, match=r"^password_env: got 'GUARDED_PASSWORD', rule: a set environment"):
        connections.acquire(guarded)


def test_the_command_says_it_in_one_line(
    guarded: CassandraConnection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv('GUARDED_PASSWORD', 'open sesame')
    options = ['--contact-points', f'{SUBNET}.1', '--username', 'ada', '--password-env', 'GUARDED_PASSWORD']
    assert cli.main(['schema', 'check', *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfx-cassandra: error: username: got 'ada', rule: a user whose password 127.0.43.1:9042")
