"""The A/B test of the demo: what is compared, on which requests. Nothing here imports TensorFlow or TFX."""

from __future__ import annotations

from collections.abc import Sequence

from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.pipelines.flight_delay.data import LEAD_TIME

EXPERIMENT = 'flight-delay-ab'
MODEL_ID = 'flight-delay'
ALIAS = 'champion'
REQUESTS_TABLE = 'inference_results_bucketed'
METRICS = (
    Metric('brier', 'squared_error:late', better='lower'),
    Metric('accuracy', 'correct:late', 'proportion', margin=0.02),
)


def requests_of(days: TimeWindow) -> TimeWindow:
    """Returns the times of the requests for flights that depart in `days`; each is made an hour before."""
    return TimeWindow(days.start - LEAD_TIME, days.end - LEAD_TIME)


def design(arms: Sequence[Arm], days: TimeWindow) -> Design:
    """Returns what the demo compares: the first arm with the others."""
    return Design(EXPERIMENT, arms[0], tuple(arms[1:]), requests_of(days), METRICS)
