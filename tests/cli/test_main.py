"""The command: what goes wrong is one line and exit code 2, and every command has an example."""

from __future__ import annotations

import argparse

import pytest

from tfx_cassandra.components.cli import main as cli


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


def test_an_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.schema_cli.schema, 'statements', interrupted)
    assert cli.main(['schema', 'print']) == 130
    assert capsys.readouterr().err == 'tfx-cassandra: interrupted\n'
