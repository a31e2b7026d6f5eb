"""The options of `tfx-cassandra models rollout` that are wrong whatever the registry holds."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.cli import main as cli

ROLLOUT = ['models', 'rollout', 'e', '--to', 'kserve', '--name', 'flights']


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], 'rollout: got None, rule: one of --step, --percent and --rollback'),
        (['--step', '1', '--percent', '10'], "rollout: got 'step, percent', rule: one of"),
        (['--step', '0', '--rollback'], "rollout: got 'step, rollback', rule: one of"),
        (['--rollback', '--verdict', 'recorded'], 'rollback: got True, rule: without --verdict and --deploy'),
        (['--step', '1', '--deploy', 'm'], "deploy: got 'm', rule: for --to vertex"),
        (['--step', '1', '--machine-type', 'm'], "machine-type: got 'm', rule: with --deploy"),
        (['--step', '1', '--steps', '0,x,100'], "steps: got '0,x,100', rule: percentages that rise from 0 to 100"),
        (['--step', 'one'], "Invalid value for '--step': 'one' is not a valid integer."),
        (['--step', '1', '--to', 'seldon'], "Invalid value for '--to': 'seldon' is not one of"),
    ],
)
def test_wrong_options_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*ROLLOUT, *words]) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert (shown.out, line.startswith(f'tfx-cassandra: error: {message}')) == ('', True), line


def test_the_help_says_who_applies_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['models', 'rollout', '--help']) == 0
    assert 'a person applies the file' in ' '.join(capsys.readouterr().out.split())
