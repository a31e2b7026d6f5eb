"""Where a verdict goes in Cassandra, and what is told of one that cannot be read or recorded."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from cassandra.cluster import Session

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError, SchemaError, WriteError
from tfx_cassandra.components.experiment import record
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.results import ArmResult, Point, Verdict
from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

WINDOW = TimeWindow.parse('2026-01-01T00:00Z/2026-01-02T00:00Z')


def verdict(experiment: str, control: str, treatment: str, says: str) -> Verdict:
    """A test of two versions of one model, with one point of one metric."""
    arms = Arm('control', 'm', control, 0.5), Arm('treatment', 'm', treatment, 0.5)
    design = Design(experiment, arms[0], (arms[1],), WINDOW, (Metric('score', 'prediction'),))
    found = [ArmResult(arm.name, 'm', arm.version, 0.5, 7, 7, ()) for arm in arms]
    treatments = (dataclasses.replace(found[1], verdict=says),)
    points = (Point(WINDOW.start, 'treatment', 'score', 7, 0.5),)
    return Verdict(experiment, says, (), None, found[0], treatments, None, (), 0, 0, points, design)


@pytest.fixture
def experiment(request: pytest.FixtureRequest, connection: CassandraConnection) -> str:
    """An experiment with the versions 1 to 3 of a model."""
    name = request.node.name
    with ModelRegistry(connection) as registry:
        for number in (1, 2, 3):
            registry.record(ModelVersion(name, 'm', str(number), moment(number)))
    return name


def said(connection: CassandraConnection, experiment: str) -> dict[str, tuple[str | None, str | None]]:
    with ModelRegistry(connection) as registry:
        return {row.version: (row.ab_test_group, row.verdict) for row in registry.list(experiment)}


def test_arm_and_verdict_of_a_row_are_of_one_test(connection: CassandraConnection, experiment: str) -> None:
    first, second = verdict(experiment, '1', '2', 'ship'), verdict(experiment, '2', '3', 'hold')
    record.record(connection, first)
    assert said(connection, experiment) == {'1': ('control', None), '2': ('treatment', 'ship'), '3': (None, None)}
    for _ in range(2):
        record.record(connection, second)  # the winner is the next test's control
        assert said(connection, experiment) == {
            '1': ('control', None), '2': ('control', None), '3': ('treatment', 'hold'),
        }  # fmt: skip


NO_TAGS = r"^model_metrics: row: got fields \['tags'\], rule: columns of the table \(metric_name, "
NO_TABLE = r"^table: got 'model_metrics', rule: a table of keyspace .*; `tfx-cassandra schema apply` creates it$"


@pytest.mark.parametrize(
    ('statement', 'error', 'message'),
    [
        ('ALTER TABLE "{}".model_metrics DROP tags', WriteError, NO_TAGS),
        ('DROP TABLE "{}".model_metrics', SchemaError, NO_TABLE),
    ],
    ids=['column', 'table'],
)
def test_a_keyspace_without_the_time_series_is_one_line(
    connection: CassandraConnection,
    session: Session,
    experiment: str,
    statement: str,
    error: type[Exception],
    message: str,
) -> None:
    session.execute(statement.format(connection.keyspace), timeout=60)
    with pytest.raises(error, match=message) as caught:
        record.record(connection, verdict(experiment, '1', '2', 'ship'))
    assert '\n' not in str(caught.value)
    assert said(connection, experiment)['2'] == ('treatment', 'ship')


@pytest.mark.parametrize('text', ['', '{', '{"nonsense": 1}', '{"experiment_id": "e", "design": {}}'])
def test_a_file_that_is_no_verdict_is_one_line(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'verdict.json').write_text(text)
    with pytest.raises(
        RegistryError, match=r"^verdict: got '.*verdict.json', rule: a verdict as ABEvaluator writes it"
    ) as caught:
        read_verdict(str(tmp_path), 'e')
    assert '\n' not in str(caught.value)
