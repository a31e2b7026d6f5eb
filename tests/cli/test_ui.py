"""The command that serves the status page: who it lets in, and what is refused before it listens."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cli import ui


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The servers that the command has made, none of which serves."""
    servers: list[Any] = []
    monkeypatch.setattr(ui, '_serve', servers.append)
    return servers


def test_on_this_machine_nobody_needs_a_token(served: list[Any], capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['ui', '--listen-port', '0']) == 0
    (server,) = served
    assert server.server_address[0] == '127.0.0.1'
    assert server.access.token is None
    assert server.access.names == {'localhost', '127.0.0.1'}
    assert re.fullmatch(r'status page: http://127\.0\.0\.1:\d+/\n', capsys.readouterr().err)


def test_beyond_this_machine_there_is_a_token(served: list[Any], capsys: pytest.CaptureFixture) -> None:
    arguments = ['ui', '--listen-port', '0', '--host', '0.0.0.0', '--allow-host', 'Status.Example.ORG.']
    assert [cli.main(arguments), cli.main(arguments)] == [0, 0]
    first, second = (server.access for server in served)
    assert len(first.token) > 40
    assert first.token != second.token
    assert first.session not in (second.session, first.token)
    assert 'status.example.org' in first.names
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition('=')[2] for line in lines] == [first.token, second.token]


def test_a_token_of_the_environment_is_not_printed(
    served: list[Any], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('UI_TOKEN', 'a token of some length')
    assert cli.main(['ui', '--listen-port', '0', '--token-env', 'UI_TOKEN']) == 0
    assert served[0].access.token == 'a token of some length'
    assert capsys.readouterr().err.endswith('/?token=...\n')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--token-env', 'NO_SUCH_VARIABLE'], "token-env: got 'NO_SUCH_VARIABLE', rule: a variable that holds"),
        (['--token-env', 'SHORT'], "token-env: got 'SHORT'"),
        (['--host', 'no.such.host.invalid'], "host: got 'no.such.host.invalid:8300', rule: an address"),
        (['--host', '192.0.2.1'], "host: got '192.0.2.1:8300', rule: an address"),
        (['--listen-port', '70000'], 'listen-port: got 70000, rule: an integer from 0 to 65535'),
        (['--sample', '0'], 'sample: got 0, rule: an integer from 1 to 1000'),
        (['--last-runs', '101'], 'last-runs: got 101'),
        (['--seconds', 'nan'], 'seconds: got nan'),
        (['--views', '/no/such/file'], "Invalid value for '--views'"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('SHORT', 'short')
    assert cli.main(['ui', *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'tfx-cassandra: error: {message}')


def test_views_that_are_none(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / 'views.json'
    path.write_text('{"views": [{"name": ""}]}')
    assert cli.main(['ui', '--views', str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('tfx-cassandra: error: ')
