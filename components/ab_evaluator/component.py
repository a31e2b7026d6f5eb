"""The declaration of ABEvaluator; executor.py does the work."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Literal

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import component_spec
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from tfx_cassandra.components.ab_evaluator import config, executor
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.checks import Count, Name, TableName, checked
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.experiment.design import Arm, Metric, Probability, Units
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.proto import cassandra_pb2

Parameter = RuntimeParameter | Placeholder


def _parameters(treatments: int) -> dict[str, ExecutionParameter]:
    return {
        'config': ExecutionParameter(type=cassandra_pb2.ABEvaluatorConfig),
        **{name: ExecutionParameter(type=str, optional=True) for name in config.run_paths(treatments)},
    }


class ABEvaluatorSpec(component_spec.ComponentSpec):
    """Execution properties and output of ABEvaluator with one treatment."""

    PARAMETERS = _parameters(1)
    INPUTS: dict[str, Any] = {}
    OUTPUTS = {executor.VERDICT_KEY: ChannelParameter(type=AbVerdict)}


class ABEvaluator(base_beam_component.BaseBeamComponent):
    """Compares model versions by their logged requests and outcomes, and decides which one to ship.

    Reads `inference_results` and `inference_outcomes`, writes each arm's metrics into its row of `model_versions` and
    the time series into `model_metrics`. The output `outputs['verdict']` is a directory with verdict.json (the proto
    Verdict) and report.html. Its custom properties are `experiment_id`, `verdict`, `winner` and `window`.

    Example:
      evaluator = ABEvaluator(
          connection=CassandraConnection.from_env(),
          experiment_id='flight-delay',
          control=Arm('control', 'flight-delay', '1700000000', 0.5),
          treatments=Arm('treatment', 'flight-delay', '1700000001', 0.5),
          window='2026-11-01T00:00Z/2026-11-02T00:00Z',
          metrics=[Metric('brier', 'squared_error:late', better='lower')])
    """

    SPEC_CLASS = ABEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        experiment_id: Name | Parameter,
        control: Arm,
        treatments: Arm | Sequence[Arm],
        window: TimeWindow | str | Parameter,
        metrics: Metric | Sequence[Metric],
        outcome_delay: datetime.timedelta = datetime.timedelta(days=1),
        alpha: Probability = 0.05,
        power: Probability = 0.8,
        decide_by: Literal['sequential', 'fixed'] = 'sequential',
        planned_units: Units = 10_000,
        least_units: Units = 100,
        srm_alpha: Probability = 0.001,
        aa_alpha: Probability = 0.001,
        series_step: datetime.timedelta | None = None,
        before: datetime.timedelta | None = None,
        requests_table: TableName = 'inference_results',
        consistency: Consistency = 'LOCAL_QUORUM',
        splits: Count | None = None,
        page_rows: Count = 5000,
        shards: Count = 64,
        as_of: datetime.datetime | str | Parameter | None = None,
    ) -> None:
        """Declares the component; nothing connects before it runs.

        `experiment_id`, `window`, `as_of`, the arms' versions and the connection's contact points, data center and
        keyspace may be RuntimeParameters or Placeholders of text, which are resolved and checked at run time.

        Args:
          connection: How to reach the cluster. Pipeline metadata stores it as plain text; it holds no secret.
          experiment_id: As in `model_versions`, where every arm's version must be recorded.
          control: The arm the others are compared with.
          treatments: The other arms.
          window: Times of the requests that count, half-open `[start, end)`; also as text, 'START/END' in ISO-8601.
          metrics: Goals and guardrails.
          outcome_delay: An outcome counts if its timestamp is less than this after its request's. If a metric uses
            outcomes, a request counts once it is this old, so that you may evaluate at any time.
          alpha: Probability of a false discovery among all goals of all treatments.
          power: Probability of finding the minimum detectable effect.
          decide_by: 'sequential' (valid however often it is evaluated) or 'fixed' (valid once).
          planned_units: Number of units, treatment and control together, at which the sequential interval is narrowest.
          least_units: Nothing is decided with fewer effective units in either arm; see Design.
          srm_alpha: The test is invalid if the p-value of the planned shares is below this.
          aa_alpha: The test is invalid if the control's two halves differ with a corrected p-value below this.
          series_step: Step of the time series; None for a twenty-fourth of the window.
          before: Length of the period before the window, for the covariate 'before'; for such a covariate only.
          requests_table: 'inference_results', 'inference_results_bucketed', or one with the same columns.
          consistency: Consistency level of every read.
          splits: Minimum number of token ranges that are read separately; None for 64.
          page_rows: Rows per page.
          shards: Parts in which requests and outcomes are joined; a worker holds one at a time.
          as_of: Time of the evaluation (aware datetime or ISO-8601 text), which the verdict records: requests must be
            `outcome_delay` old at this time if a metric uses outcomes. None for the time of the run.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        arms = (control, *((treatments,) if isinstance(treatments, Arm) else treatments))
        properties = config.to_properties(
            connection, experiment_id, window, arms, as_of,
            design={
                'metrics': metrics,
                'outcome_delay': outcome_delay, 'alpha': alpha, 'power': power, 'decide_by': decide_by,
                'planned_units': planned_units, 'least_units': least_units, 'srm_alpha': srm_alpha,
                'aa_alpha': aa_alpha, 'series_step': series_step, 'before': before,
            },
            requests_table=requests_table, read=ReadOptions(consistency, splits, page_rows), shards=shards,
        )  # fmt: skip
        # A specification has a fixed number of properties, and each arm's version needs one.
        spec = type('ABEvaluatorSpec', (ABEvaluatorSpec,), {'PARAMETERS': _parameters(len(arms) - 1)})
        super().__init__(spec=spec(verdict=types.Channel(type=AbVerdict), **properties))
