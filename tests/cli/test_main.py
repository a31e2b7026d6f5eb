"""The command: what goes wrong is one line and exit code 2, and every command has an example."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import click
import pytest

from tfx_cassandra.components import schema as schemas
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cli import options as cli_options
from tfx_cassandra.components.cli import scan as cli_scan
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan import source
from tfx_cassandra.components.scan.options import ReadRequest


def commands(command: click.Command, *words: str) -> list[tuple[str, ...]]:
    """Returns the words of a command and of all below it."""
    children = command.commands.items() if isinstance(command, click.Group) else ()
    return [words, *(found for name, child in children for found in commands(child, *words, name))]


@pytest.mark.parametrize('words', commands(cli.top), ids=' '.join)
def test_help_has_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    assert cli.main([*words, '--help']) == 0
    text = capsys.readouterr().out
    assert f'example:\n  {" ".join(["tfx-cassandra", *words])}' in text


@pytest.mark.parametrize('words', [[], ['models']])
def test_a_group_without_a_command_shows_its_help(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert (shown.out, 'Commands:' in shown.err) == ('', True)


def test_a_shell_completes_commands() -> None:
    environ = {
        **os.environ,
        '_TFX_CASSANDRA_COMPLETE': 'bash_complete',
        'COMP_WORDS': 'tfx-cassandra mo',
        'COMP_CWORD': '1',
    }
    command = [sys.executable, '-m', cli.__name__]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ['plain,models']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['schema', 'check', '--port', '1'], 'contact_points: got 127.0.0.1:1, rule: at least one answers CQL'),
        (['schema', 'check', '--port', '0'], 'port: got 0, rule: an integer from 1 to 65535'),
        (['schema', 'check', '--contact-points', 'no.host.invalid'], 'contact_points: got no.host.invalid:9042'),
        (['schema', 'apply', '--replication', 'many'], "replication: got 'many'"),
        (['schema', 'check', '--port', 'x'], "Invalid value for '--port': 'x' is not a valid integer."),
        (['scan'], "Missing argument 'TABLE'."),
        (['modls'], "No such command 'modls'."),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f'tfx-cassandra: error: {message}')


def test_every_command_is_there(capsys: pytest.CaptureFixture) -> None:
    assert set(cli.top.commands) == {
        'cluster',
        'schema',
        'ingest',
        'ab',
        'scan',
        'models',
        'metrics',
        'leaks',
        'compile',
        'run-job',
        'recurring-run',
        'ui',
        'tune',
        'doctor',
        'snapshot',
        'sstable',
    }
    assert cli.main(['nonsense']) == 2
    assert capsys.readouterr().err == "tfx-cassandra: error: No such command 'nonsense'.\n"


@pytest.mark.parametrize(('outcome', 'code'), [(0, 0), (1, 1), (ValueError('no'), 2), (OSError('no'), 2)])
def test_the_exit_code_is_that_of_the_command(
    outcome: object, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run(**_: object) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(cli.schema.commands['print'], 'callback', run)
    assert cli.main(['schema', 'print']) == code
    assert capsys.readouterr() == ('', 'tfx-cassandra: error: no\n' if code == 2 else '')


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f'{sys.executable} -m tfx_cassandra.components.cli.main schema print | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ['0']
    assert done.stderr == ''


@pytest.mark.parametrize(
    ('options', 'environ', 'fields'),
    [
        ([], {}, {}),
        ([], {'CASSANDRA_KEYSPACE': 'k', 'CASSANDRA_PORT': '9000'}, {'keyspace': 'k', 'port': 9000}),
        (['--keyspace', 'l'], {'CASSANDRA_KEYSPACE': 'k'}, {'keyspace': 'l'}),
        (['--contact-points', 'a,b,'], {'CASSANDRA_CONTACT_POINTS': 'c'}, {'contact_points': ('a', 'b')}),
        (['--port', '1', '--local-datacenter', 'east'], {}, {'port': 1, 'local_datacenter': 'east'}),
        (['--username', 'u'], {}, {'username': 'u', 'password_env': 'CASSANDRA_PASSWORD'}),
        (['--username', 'u', '--password-env', 'P'], {}, {'username': 'u', 'password_env': 'P'}),
        (['--password-env', 'P'], {'CASSANDRA_USERNAME': 'u'}, {'username': 'u', 'password_env': 'P'}),
    ],
)
def test_what_is_not_given_comes_from_the_environment(
    options: list[str], environ: dict[str, str], fields: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith('CASSANDRA_')]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    command = click.command()(cli_options.connection_options(lambda connection: connection))
    made = command.main(options, standalone_mode=False)
    assert made == CassandraConnection(**fields)  # type: ignore[arg-type]


def test_how_values_are_decoded_reaches_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def plan(request: ReadRequest) -> None:
        requests.append(request)
        raise ValueError('enough')

    monkeypatch.setattr(cli_scan, 'plan_splits', plan)
    monkeypatch.setattr(source.connections, 'session', lambda *_, **__: contextlib.nullcontext())
    assert cli.main(['scan', 't']) == 2
    assert cli.main(['scan', 't', '--invalid-text', 'replace', '--wide-varints', 'text']) == 2
    assert [request.options.decoding for request in requests] == [Decoding(), Decoding('replace', 'text')]


def test_an_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(schemas, 'statements', interrupted)
    assert cli.main(['schema', 'print']) == 130
    assert capsys.readouterr().err.strip() == 'tfx-cassandra: interrupted'  # click ends the line of the ^C first
