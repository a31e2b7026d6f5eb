"""Where a verdict goes: files of the artifact, the arms' rows in `model_versions`, time series in `model_metrics`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tfx.dsl.io import fileio

from tfx_cassandra.components import protos
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.experiment.report import report
from tfx_cassandra.components.experiment.results import Point, Verdict, metric_values
from tfx_cassandra.components.experiment.verdict_file import VERDICT_FILE
from tfx_cassandra.components.registry.registry import ModelRegistry
from tfx_cassandra.components.write.model_metrics import MetricRow, write_metrics
from tfx_cassandra.proto import cassandra_pb2

REPORT_FILE = 'report.html'


def write_files(verdict: Verdict, uri: str) -> None:
    """Writes verdict.json and report.html into a directory; fileio knows its file system."""
    fileio.makedirs(uri)
    for name, content in (
        (VERDICT_FILE, protos.to_json(verdict, cassandra_pb2.Verdict)),
        (REPORT_FILE, report(verdict)),
    ):
        with fileio.open(os.path.join(uri, name), 'w') as file:
            file.write(content)


def record(connection: CassandraConnection, verdict: Verdict) -> None:
    """Writes the results into Cassandra, idempotently.

    Each arm's version gets the metrics of `results.metric_values` and the name of its arm; a treatment gets its
    verdict, and a control's verdict is cleared. Arm, verdict and metrics of a row are of the test recorded last.
    `model_metrics` gets the steps of the time series, under names such as
    `brier{ab=value,experiment=e,arm=treatment}` at the start of each step.

    Raises:
      RegistryError: An arm's version is not recorded in the experiment; the other arms' rows stay as they are.
      SchemaError: The keyspace lacks `model_metrics`; the arms' rows are written all the same.
      WriteError: The time series could not be written.
    """
    with ModelRegistry(connection) as registry:
        for arm in verdict.arms:
            try:
                registry.recorded(verdict.experiment_id, arm.model_id, arm.version)
            except RegistryError as error:
                raise RegistryError(f'arm {arm.arm}: {error}') from error
        for arm in verdict.arms:
            registry.add_metrics(
                verdict.experiment_id,
                arm.model_id,
                arm.version,
                metric_values(verdict, arm),
                ab_test_group=arm.arm,
                verdict=arm.verdict,
            )
    write_metrics(connection, _series(verdict))


def _series(verdict: Verdict) -> Iterator[MetricRow]:
    arms = {arm.arm: arm for arm in verdict.arms}
    for point in verdict.series:
        arm = arms[point.arm]
        tags = {
            'experiment_id': verdict.experiment_id,
            'arm': arm.arm,
            'version': arm.version,
            'window': str(verdict.design.window),
        }
        for name, value in series_values(verdict, point).items():
            yield MetricRow(arm.model_id, name, point.time, value, tags)


def series_values(verdict: Verdict, point: Point) -> dict[str, float]:
    """Returns the values of one point by their name in `model_metrics`."""
    labels = f'experiment={verdict.experiment_id},arm={point.arm}'
    values = {'n': point.n, 'value': point.value, 'difference': point.difference, 'low': point.low, 'high': point.high}
    return {f'{point.metric}{{ab={name},{labels}}}': float(v) for name, v in values.items() if v is not None}
