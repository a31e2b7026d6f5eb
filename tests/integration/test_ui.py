"""The status page against a real Cassandra: what it shows, what it asks, and how it stands a cluster that is gone."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import nodes
import pytest
import status_data
from cassandra.cluster import Session
from cql_proxy import CqlProxy
from status_data import HOUR, NOW

from tfx_cassandra.components import schema
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.registry.registry import ModelRegistry
from tfx_cassandra.components.ui.features import Sampler, start_token
from tfx_cassandra.components.ui.page import Board, Settings
from tfx_cassandra.components.ui.source import Source

pytestmark = pytest.mark.integration

VISITS = FeatureView('visits', 'visits', ('shop',), 'at', ('spent', 'items'), ttl=3 * HOUR)
WEATHER = FeatureView(
    'weather', 'feature_store', ('model_id',), 'timestamp', ('temp', 'rain'), layout='long',
    feature_name_column='feature_name', value_column='value',
)  # fmt: skip


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    status_data.fill_registry(connection)
    status_data.fill_many(session, connection.keyspace)
    status_data.fill_tables(session, connection.keyspace)
    return connection


@pytest.fixture
def board(filled: CassandraConnection, tmp_path: pathlib.Path) -> Iterator[Board]:
    status_data.write_runs(tmp_path)
    with Source(filled) as source:
        yield Board(source, Settings(runs=str(tmp_path), views=(VISITS, WEATHER), seconds=0))


def test_the_page_shows_versions_with_aliases_lineage_and_intervals(board: Board) -> None:
    html = board.render({'experiment': 'flight-delay'})
    versions = re.findall(r'<li class="version">(.*?)</details>', html, re.DOTALL)
    assert len(versions) == 10
    (champion,) = [version for version in versions if 'champion' in version]
    assert '1700000597' in champion
    assert 'ship' in champion
    assert '2013-01-01 to 2013-03-01' in champion
    assert status_data.FINGERPRINT in champion
    assert 'href="#run-' in champion  # the run whose ledger has this fingerprint
    assert 'clicks: difference from the control' in html
    assert '3 of 3' not in html
    assert '1 of 1</b> nodes up' in html or 'nodes up' in html
    assert 'each token once' in html
    assert '1 gap, 3.85% of the ring' in html


def test_names_are_never_markup(board: Board) -> None:
    html = board.render({'experiment': status_data.HOSTILE, 'metrics': status_data.HOSTILE[:9]})
    assert html.count('<script') == 1  # its own
    assert 'onerror=window.hacked=1>' not in html
    assert '<img' not in html
    assert 'href="javascript' not in html
    assert not re.search(r'\sstyle=|\son[a-z]+=[^w]', html)
    assert len(re.findall('<li class="version">', html)) == 3


def test_five_hundred_versions_are_pages(board: Board, filled: CassandraConnection) -> None:
    seen: list[str] = []
    query = {'experiment': 'many'}
    while True:
        html = board.render(query)
        seen += re.findall(r'<h4><span>[^<]*</span> <code><span>(\d+)</span>', html)
        older = re.search(r'before=(\d+)#models">Older', html)
        if older is None:
            break
        query['before'] = older[1]
    assert seen == [str(number) for number in range(500)]
    with ModelRegistry(filled) as registry:
        assert [v.version for v in registry.list('many')] == seen  # the oracle
        assert set(registry.experiments()) == {'flight-delay', 'many', status_data.HOSTILE}
        assert len(registry.experiments(2)) == 2


def test_freshness_is_that_of_the_rows(filled: CassandraConnection, session: Session) -> None:
    now = NOW
    for start in (start_token(), -(2**63), 2**63 - 1):
        sampler = Sampler(session, filled.keyspace, 1000, start)
        spent, items = sampler.measure(VISITS, now)
        rows = list(session.execute(f'SELECT * FROM "{filled.keyspace}".visits'))
        newest: dict[str, tuple[datetime.datetime, object]] = {}
        for row in rows:  # the oracle: every row, without keys or order
            if row.shop not in newest or row.at > newest[row.shop][0]:
                newest[row.shop] = (row.at, row.items)
        ages = sorted(now.replace(tzinfo=None) - at for at, _ in newest.values())
        assert (spent.entities, now - spent.newest) == (20, ages[0])
        assert spent.missing == pytest.approx(sum(age >= VISITS.ttl for age in ages) / 20)
        known = [at for at, value in newest.values() if value is not None]
        assert items.newest.replace(tzinfo=None) == max(known)
        assert (items.missing, items.stale) == (1.0, True)
        temp, rain = sampler.measure(WEATHER, now)
        assert (temp.newest, temp.missing) == (now - HOUR, 0.0)
        assert (rain.newest, rain.missing, rain.median_age) == (None, 1.0, None)
        found = {(row.view, row.feature): row.newest for row in sampler.discovered(now)}
        assert found['JFK', 'wind_speed'] == now - 2 * HOUR
        assert len(found) == 4


def test_a_sample_is_bounded(filled: CassandraConnection, session: Session) -> None:
    sampler = Sampler(session, filled.keyspace, 7, start_token())
    assert [found.entities for found in sampler.measure(VISITS, NOW)] == [7, 7]
    assert len(sampler.discovered(NOW)) == 4


def test_the_page_only_selects(board: Board, filled: CassandraConnection) -> None:
    asked: list[str] = []

    def listen(future: object) -> None:
        query = future.query  # type: ignore[attr-defined]
        statement = getattr(query, 'prepared_statement', query)
        asked.append(statement.query_string)

    with board._source.session() as session:
        session.add_request_init_listener(listen)
        board.render({'experiment': 'flight-delay'})
        session.remove_request_init_listener(listen)
    assert len(asked) > 8
    assert {text.split()[0] for text in asked} == {'SELECT'}
    assert all('ALLOW FILTERING' not in text for text in asked)


def test_many_readers_are_one_read(filled: CassandraConnection) -> None:
    with Source(filled) as source:
        board = Board(source, Settings(seconds=60))
        reads = []
        health = board._health
        board._health = lambda: reads.append(1) or health()  # type: ignore[method-assign]
        for _ in range(5):
            board.render({})
    assert len(reads) == 1


def test_a_keyspace_without_the_schema(connection: CassandraConnection) -> None:
    with Source(dataclasses.replace(connection, keyspace='no_such_keyspace')) as source:
        html = Board(source, Settings(seconds=0)).render({})
    assert html.count('cannot be read.') == 3
    assert 'nodes up' in html


def test_an_empty_keyspace(connection: CassandraConnection, session: Session) -> None:
    empty = dataclasses.replace(connection, keyspace=f'{connection.keyspace}_empty')
    schema.apply(empty, schema.SimpleReplication(1))
    try:
        with Source(empty) as source:
            html = Board(source, Settings(seconds=0)).render({})
            assert 'This experiment has no version' in Board(source, Settings(seconds=0)).render({'experiment': 'x'})
    finally:
        session.execute(f'DROP KEYSPACE "{empty.keyspace}"', timeout=120)
    assert 'cannot be read' not in html
    assert 'No model has been pushed' in html
    assert 'The table <code>model_metrics</code> is empty' in html
    assert 'The table feature_store is empty' in html


def test_values_of_a_request_that_are_none(board: Board) -> None:
    for query in (
        {'before': 'x'},
        {'before': '9' * 15},
        {'before': '-1'},
        {'experiment': 'e' * 70_000},
        {'metrics': '\0'},
    ):
        html = board.render(query)
        assert 'nodes up' in html
    assert 'rule: milliseconds since 1970' in board.render({'experiment': 'many', 'before': '٣'})


def test_a_view_that_cannot_be_measured_does_not_hide_the_others(filled: CassandraConnection) -> None:
    lost = dataclasses.replace(VISITS, name='lost', table='no_such_table')
    scanned = dataclasses.replace(WEATHER, name='scanned', entity_columns=("metadata['user_id']",), features=('temp',))
    with Source(filled) as source:
        html = Board(source, Settings(views=(lost, scanned, VISITS), seconds=0)).render({})
    assert 'The features of view lost cannot be read.' in html
    assert 'The features of view scanned cannot be read.' in html
    assert html.count('visits') >= 2


def test_it_comes_back_when_cassandra_does(filled: CassandraConnection, session: Session) -> None:
    host = session.cluster.metadata.all_hosts()[0]
    address = re.sub(r'\.\d+$', '.101', host.address)
    proxied = dataclasses.replace(filled, contact_points=(address,))
    with Source(proxied) as source:
        board = Board(source, Settings(seconds=0))
        assert 'Cassandra does not answer.' in board.render({})  # never seen
        for _ in range(2):
            with CqlProxy(address, filled.port, (host.address, filled.port)):
                assert 'id="down"' not in board.render({'experiment': 'flight-delay'})
            html = board.render({'experiment': 'flight-delay'})
            assert 'id="down"' in html
            assert html.count('Not read: Cassandra does not answer.') == 3
            assert '<title>(down)' in html


@pytest.mark.slow
def test_select_is_enough(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = DevCluster(tmp_path, subnet='127.0.207', jmx_port=7631, heap='512M', authenticated=True)
    with nodes.running(cluster, {'authorizer': 'CassandraAuthorizer'}, '-XX:TieredStopAtLevel=1'):
        monkeypatch.setenv('SUPER', 'cassandra')
        monkeypatch.setenv('READER', 'secret')
        root = CassandraConnection(cluster.contact_points, keyspace='k', username='cassandra', password_env='SUPER')
        with connections.session(root) as session:
            schema.apply(root, schema.SimpleReplication(1))
            status_data.fill_registry(root)
            session.execute("CREATE ROLE reader WITH PASSWORD = 'secret' AND LOGIN = true")
            session.execute('GRANT SELECT ON KEYSPACE k TO reader')
        with Source(dataclasses.replace(root, username='reader', password_env='READER')) as source:
            html = Board(source, Settings(seconds=0)).render({'experiment': 'flight-delay'})
    assert html.count('<li class="version">') == 10
    assert 'cannot be read' not in html
    assert 'id="down"' not in html


@pytest.mark.slow
def test_a_ring_with_a_node_that_is_down(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other two answer: everything is shown, and the node is named as long as it is down."""
    cluster = DevCluster(tmp_path, 3, '127.0.208', storage_port=7208, jmx_port=7632, heap='512M')
    with nodes.running(cluster, {}, '-XX:TieredStopAtLevel=1'):
        connection = CassandraConnection(cluster.contact_points, keyspace='k', request_timeout=20.0)
        schema.apply(connection, schema.NetworkReplication({'dc1': 3}))
        status_data.fill_registry(connection)
        with connections.session(connection) as session:
            status_data.fill_tables(session, 'k')
        with Source(connection) as source:
            board = Board(source, Settings(views=(VISITS,), seconds=0))
            assert '3 of 3</b> nodes up' in board.render({})
            status = cluster.status()[0]  # the one that is asked first
            assert status.pid is not None
            os.kill(status.pid, signal.SIGKILL)
            status.node.wait_ended(status.pid)
            html = _once('2 of 3</b> nodes up', board)
            rows = dict(re.findall(r'<code>([\d.]+):\d+</code></th><td><span class="badge \w+">(\w+)<', html))
            first, *others = cluster.contact_points
            assert rows == {first: 'down'} | dict.fromkeys(others, 'up')
            assert ' versions</b> schema' not in html
            assert html.count('<li class="version">') == 10
            assert 'visits' in html
            assert 'cannot be read' not in html
            assert 'id="down"' not in html
            monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)  # or that cluster would be used
            cluster.start()
            _once('3 of 3</b> nodes up', board)


def _once(text: str, board: Board) -> str:
    """Returns the page as soon as it has a text: the driver takes seconds to notice what a node does."""
    deadline = time.monotonic() + 120
    while text not in (html := board.render({'experiment': 'flight-delay'})):
        assert time.monotonic() < deadline, html
        time.sleep(1)
    return html


def test_the_command_serves_until_it_is_ended(filled: CassandraConnection, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, '-m', 'tfx_cassandra.components.cli.main', 'ui', '--listen-port', '0']
    command += ['--contact-points', filled.contact_points[0], '--keyspace', filled.keyspace, '--runs', str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            url = re.fullmatch(r'status page: (http://127\.0\.0\.1:\d+/)\n', line)
            assert url is not None, line
            with urllib.request.urlopen(url[1], timeout=60) as answer:
                assert b'nodes up' in answer.read()
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 30
            assert process.wait(max(0.1, deadline - time.monotonic())) == 0
        finally:
            process.kill()
