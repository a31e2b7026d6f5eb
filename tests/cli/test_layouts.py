"""Options of `schema plan` and `schema copy` that are refused before anything is connected to."""

from __future__ import annotations

import datetime

import pytest

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cli.options import duration, rate


@pytest.mark.parametrize(
    ('text', 'a_second'), [('5/s', 5), ('0.5/m', 0.5 / 60), ('24/d', 24 / 86400), ('1.25/h', 1.25 / 3600)]
)
def test_a_rate_is_of_a_time(text: str, a_second: float) -> None:
    assert rate('rate', text) == pytest.approx(a_second)


def test_a_duration_has_a_unit() -> None:
    assert duration('ttl', '90d') == datetime.timedelta(90)
    assert duration('ttl', '90') == datetime.timedelta(seconds=90)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['plan', 't', '--rate', '5', '--retention', '1d'],
            "rate: got '5', rule: a number of rows a time, such as 5/s",
        ),
        (['plan', 't', '--rate', '5/y', '--retention', '1d'], "rate: got '5/y', rule"),
        (['plan', 't', '--rate', '5/s', '--retention', '1y'], "retention: got '1y', rule: a time such as 3600s"),
        (['copy', 'a', 'b', '--rate', '0'], 'rate: got 0.0, rule: above zero'),
        (['copy', 'a', 'b', '--consistency', 'MOST'], "consistency: got 'MOST', rule: one of"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['schema', *arguments]) == 2
    assert message in capsys.readouterr().err
