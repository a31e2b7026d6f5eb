"""`tfx-cassandra doctor`: its exit codes, its two forms of output and its bad arguments, on facts given as values."""

from __future__ import annotations

import dataclasses
import json

import pytest
from doctor_facts import NOW, healthy, node, with_nodes, with_table

from tfx_cassandra.components import doctor as doctors
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.doctor.facts import Facts, Keyspace, Unread
from tfx_cassandra.components.errors import UnavailableError

ERROR = with_nodes(node(1), node(2), node(3, down='gone'))
INFO = with_table(default_ttl=0)


def examined(facts: Facts, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(doctors, 'gather', lambda *_, **__: facts)
    return cli.main(['doctor', *arguments])


@pytest.mark.parametrize(
    ('facts', 'arguments', 'code'),
    [
        (healthy(), [], 0),
        (INFO, [], 0),
        (INFO, ['--fail-on', 'info'], 1),
        (ERROR, [], 1),
        (ERROR, ['--fail-on', 'error'], 1),
        (ERROR, ['--fail-on', 'never'], 0),
    ],
)
def test_the_exit_code_is_for_ci(
    facts: Facts, arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examined(facts, monkeypatch, *arguments) == code


def test_a_cluster_that_cannot_be_examined_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gather(*_: object, **__: object) -> Facts:
        raise UnavailableError('contact_points: got x, rule: at least one answers CQL')

    monkeypatch.setattr(doctors, 'gather', gather)
    assert cli.main(['doctor']) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.endswith('tfx-cassandra: error: contact_points: got x, rule: at least one answers CQL\n')


def test_the_text_has_a_line_for_each_finding_and_its_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unread = (Unread('system_views.settings on 127.0.0.1:9042', 'Unauthorized: no', 'GRANT SELECT'), Unread('x', 'y'))
    examined(dataclasses.replace(ERROR, unread=unread), monkeypatch)
    assert capsys.readouterr().out.splitlines() == [
        'error: node-down: 127.0.0.3:9042: no answer (gone); 1 of 3 nodes of dc1 are down',
        '    nodetool status, and start the node',
        '    nodetool repair -pr, on the node if it was down for longer than max_hint_window (3h)',
        'not read: system_views.settings on 127.0.0.1:9042: Unauthorized: no; needs GRANT SELECT',
        'not read: x: y',
    ]
    examined(healthy(), monkeypatch)
    assert capsys.readouterr().out == 'shop: nothing found on 3 nodes, 1 tables\n'


def test_json_has_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    facts = dataclasses.replace(INFO, unread=(Unread('a', 'b', 'c'),))
    examined(facts, monkeypatch, '--format', 'json')
    document = json.loads(capsys.readouterr().out)
    (finding,) = document.pop('findings')
    assert document == {
        'keyspace': 'shop',
        'examined_at': NOW.isoformat(),
        'nodes': [f'127.0.0.{n}:9042' for n in (1, 2, 3)],
        'tables': ['events'],
        'partitions': [],
        'not_read': [{'what': 'a', 'reason': 'b', 'needs': 'c'}],
    }
    assert (finding['check'], finding['severity'], finding['where']) == ('twcs-windows', 'info', 'shop.events')
    assert [change.partition(' ')[0] for change in finding['changes']] == ['ALTER', 'ALTER']


@pytest.mark.parametrize(
    ('arguments', 'seen'),
    [
        (['--write-consistency', 'one'], ['warning: consistency: shop: events: ']),
        (['--write-consistency', 'one', '--read-consistency', 'ALL'], []),
        (
            ['--write-consistency', 'one', '--read-consistency', 'ONE'],
            ['warning: consistency: shop: events: your clients'],
        ),
    ],
)
def test_levels_of_your_own(
    arguments: list[str], seen: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examined(healthy(), monkeypatch, *arguments)
    found = [line for line in capsys.readouterr().out.splitlines() if ': consistency: ' in line]
    assert [line.startswith(start) for line, start in zip(found, seen, strict=True)] == [True] * len(seen)


def test_a_partition_limit_of_your_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert examined(healthy(), monkeypatch, '--partition-limit', '49.9') == 1
    assert 'has 50.0 MB on 127.0.0.1:9042, limit 49.9 MB' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--write-consistency', 'most'], "consistency: got 'most', rule: one of ALL, ANY"),
        (['--tables', ','], "tables: got ',', rule: names of tables, with commas"),
        (['--tables', 'a.b,c.d'], "tables: got 'a.b,c.d', rule: names of tables of one keyspace"),
        (['--partition-limit', '0'], "Invalid value for '--partition-limit': 0.0 is not in the range x>0."),
        (['--fail-on', 'much'], "Invalid value for '--fail-on': 'much' is not one of"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['doctor', *arguments]) == 2
    assert f'tfx-cassandra: error: {message}' in capsys.readouterr().err


def test_a_keyspace_without_replicas_here_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = healthy(keyspace=Keyspace('shop', 'NetworkTopologyStrategy', {'dc2': 3}))
    assert examined(facts, monkeypatch, '--fail-on', 'error') == 1
