"""The command: what goes wrong is one line and exit code 2, and every command has an example."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import pytest

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cli import options as cli_options
from tfx_cassandra.components.driver.connection import CassandraConnection


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += parsers(child)
    return found


@pytest.mark.parametrize('parser', parsers(cli.parser()), ids=lambda parser: parser.prog)
def test_help_has_an_example(parser: argparse.ArgumentParser) -> None:
    text = parser.format_help()
    assert 'example:' in text
    assert f'  {parser.prog}' in text or '  tfx-cassandra' in text


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['schema', 'check', '--port', '1'], 'contact_points: got 127.0.0.1:1, rule: at least one answers CQL'),
        (['schema', 'check', '--port', '0'], 'port: got 0, rule: an integer from 1 to 65535'),
        (['schema', 'check', '--contact-points', 'no.host.invalid'], 'contact_points: got no.host.invalid:9042'),
        (['schema', 'apply', '--replication', 'many'], "replication: got 'many'"),
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
    top = cli.parser()
    (commands,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    assert set(commands.choices) == {'cluster', 'schema', 'ab', 'scan', 'models', 'leaks'}
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert 'tfx-cassandra: error: the following arguments are required: command' in capsys.readouterr().err


@pytest.mark.parametrize(('outcome', 'code'), [(0, 0), (1, 1), (ValueError('no'), 2), (OSError('no'), 2)])
def test_the_exit_code_is_that_of_the_command(
    outcome: object, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run(_: argparse.Namespace) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(cli.schema_cli, '_print', run)
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
    parser = argparse.ArgumentParser()
    cli_options.add_connection_arguments(parser)
    assert cli_options.connection_from(parser.parse_args(options)) == CassandraConnection(**fields)  # type: ignore[arg-type]


def test_an_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.schema_cli.schema, 'statements', interrupted)
    assert cli.main(['schema', 'print']) == 130
    assert capsys.readouterr().err == 'tfx-cassandra: interrupted\n'
