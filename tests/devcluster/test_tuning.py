"""Tuning: what is printed is what is written, and what a running node says that it has."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml
from nodes import running

from tfx_cassandra.components import schema
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.devcluster import releases, tuning
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.tuning import FAMILIES, WORKLOADS, Tuning
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import DevClusterError

# The names of 4.0, as the tutorial has them.
OLD_NAME = re.compile(r'_in_(ms|mb|kb|seconds)\b|_(mb|kb)_per_sec\b')
UNITS = {'ms': 1, 's': 1000, 'KiB': 1 << 10, 'MiB': 1 << 20, 'GiB': 1 << 30, 'B': 1, '': 1}


def plain(value: object) -> object:
    """Returns a value in milliseconds, bytes or bytes a second; texts and mappings as they are."""
    found = re.fullmatch(r'([\d.]+)\s*([A-Za-z]*)(/s)?', str(value))
    if found is None or found[2] not in UNITS:
        return value
    return float(found[1]) * UNITS[found[2]]


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('workload', WORKLOADS)
def test_what_is_printed_is_what_is_set(workload: str, family: str, capsys: pytest.CaptureFixture) -> None:
    arguments = ['--workload', workload, '--version', family, '--heap', '4G', '--cores', '2']
    assert cli.main(['tune', *arguments]) == 0
    text = capsys.readouterr().out
    wanted = Tuning(workload, family, '4G', 2)
    assert yaml.safe_load(text) == wanted.yaml  # the statements stand in comments
    assert not any(map(OLD_NAME.search, wanted.yaml))
    for setting in (*wanted.settings, *wanted.table_options):
        assert f'# {setting.reason}\n' in text or f'# -- {setting.reason}\n' in text
        assert setting.reason.endswith('.')


@pytest.mark.parametrize('workload', WORKLOADS)
def test_the_statements_alone(workload: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['tune', '--workload', workload, '--part', 'cql', '--table', 'a', '--table', 'b"; DROP']) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line and not line.startswith('-- ')]
    assert {line.split(' WITH ')[0] for line in lines} == {
        'ALTER TABLE "ml_features"."a"', 'ALTER TABLE "ml_features"."b""; DROP"',
    }  # fmt: skip


def test_the_file_has_what_is_set_besides_the_nodes_own(tmp_path: pathlib.Path) -> None:
    for workload in WORKLOADS:
        (node,) = DevCluster(tmp_path / workload, tuning=workload, heap='512M').ring
        for release in releases.known():
            node.write_settings(release)
            written = yaml.safe_load((node.folder / 'cassandra.yaml').read_text())
            wanted = tuning.family_of(release)
            assert ({'memtable', 'sstable'} & set(written) == set()) or wanted == '5.0'
            assert written['listen_address'] == node.address
            assert all(name in written for name in Tuning(workload, wanted).yaml)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'workload': 'all'}, "workload: got 'all'"),
        ({'workload': 'serve', 'family': '4.0'}, "version: got '4.0'"),
        ({'workload': 'serve', 'heap': '8'}, "heap: got '8'"),
        ({'workload': 'serve', 'heap': '255M'}, "heap: got '255M'"),
        ({'workload': 'serve', 'cores': 0}, 'cores: got 0'),
    ],
)
def test_values_that_are_none(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Tuning(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('release', 'family'), [('4.1', '4.1'), ('4.1.10', '4.1'), ('5.0.9', '5.0'), ('5', ''), ('4.10', '')]
)
def test_the_family_of_a_release(release: str, family: str) -> None:
    if family:
        assert tuning.family_of(release) == family
    else:
        with pytest.raises(ValueError, match='version: got'):
            tuning.family_of(release)


def test_an_unknown_tuning_is_refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError, match="tuning: got 'fast', rule: one of ingest, serve, training"):
        DevCluster(tmp_path, tuning='fast')
    assert cli.main(['cluster', 'start', '--tuning', 'fast']) == 2
    assert "'fast' is not one of" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize('release', ['4.1.10', '5.0.9'])
@pytest.mark.parametrize('workload', WORKLOADS)
def test_a_running_node_has_the_values(workload: str, release: str, tmp_path: pathlib.Path) -> None:
    number = WORKLOADS.index(workload) + 3 * (release == '5.0.9')
    cluster = DevCluster(
        tmp_path, subnet=f'127.0.{200 + number}', jmx_port=7621 + number, heap='512M', version=release, tuning=workload
    )
    with running(cluster, {}, '-XX:TieredStopAtLevel=1'):
        connection = CassandraConnection(cluster.contact_points, keyspace='tuned')
        with connections.session(connection) as session:
            settings = {row.name: row.value for row in session.execute('SELECT name, value FROM system_views.settings')}
            with pytest.raises(DevClusterError, match='tuning: got None'):
                DevCluster(
                    tmp_path, subnet=cluster.subnet, jmx_port=cluster.jmx_port, heap='512M', version=release
                ).start()
            schema.apply(connection, schema.SimpleReplication(1))
            text = tuning.cql_text(Tuning(workload), '"tuned".feature_store')
            for statement in re.sub('--.*', '', text).split(';')[:-1]:
                session.execute(statement, timeout=60)
            table = session.execute(
                "SELECT * FROM system_schema.tables WHERE keyspace_name = 'tuned' AND table_name = 'feature_store'"
            ).one()
    (node,) = cluster.ring
    written = yaml.safe_load((node.folder / 'cassandra.yaml').read_text())
    for name in Tuning(workload, tuning.family_of(release)).yaml:
        value = written[name]
        if name == 'memtable':
            assert 'TrieMemtable' in settings['memtable.configurations']
        elif name == 'sstable':
            assert settings['sstable.selected_format'] == 'bti'
        else:
            assert plain(settings[name]) == plain(value), name
    for option in Tuning(workload).table_options:
        got = getattr(table, option.name)
        if isinstance(option.value, dict):
            got = {key: got[key].rpartition('.')[2] for key in option.value}
        assert got == option.value
