"""ABEvaluator's arguments <-> its execution properties."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from tfx_cassandra.components import protos
from tfx_cassandra.components.driver import properties as cluster
from tfx_cassandra.components.experiment.design import Arm, Design
from tfx_cassandra.components.experiment.options import EvaluationOptions
from tfx_cassandra.components.parameters import is_open, known, optional, property_of, text
from tfx_cassandra.components.window import EPOCH, MILLISECOND, TimeWindow, parse_moment, shifted
from tfx_cassandra.proto import cassandra_pb2


def run_paths(treatments: int) -> dict[str, str]:
    """Returns the execution properties that may be parameters of a run, and the fields that they set.

    Args:
      treatments: Number of treatments, each of which has a version.
    """
    versions = {
        f'treatment_{number + 1}_version': f'design.treatments.{number}.version' for number in range(treatments)
    }
    return {
        **cluster.paths(),
        'experiment_id': 'design.experiment_id',
        'window': 'design.window',
        'as_of': 'as_of',
        'control_version': 'design.control.version',
        **versions,
    }


def to_properties(
    connection: Any,
    experiment_id: Any,
    window: Any,
    arms: Sequence[Arm],
    as_of: Any,
    design: Mapping[str, Any],
    **options: Any,
) -> dict[str, Any]:
    """Returns the execution properties for the component's arguments, checked except for parameters.

    Args:
      connection, experiment_id, window, as_of: The component's arguments, or parameters for them.
      arms: The control and the treatments, whose versions may be parameters.
      design: The other fields of Design.
      options: The other fields of EvaluationOptions.

    Raises:
      ValueError: An argument breaks its rule; the message names field, value and rule.
    """
    window = window if is_open(window) else TimeWindow.parse(window)
    as_of = parse_moment('as_of', as_of) if isinstance(as_of, str) else as_of
    placeholder = _placeholder_window(design['series_step']) if is_open(window) else window
    control, *treatments = map(_checked, arms)
    settings = EvaluationOptions(
        cluster.checked(connection),
        Design(
            experiment_id=known('experiment_id', experiment_id, 'experiment'),
            window=known('window', window, placeholder),
            control=control,
            treatments=tuple(treatments),
            **design,
        ),
        as_of=known('as_of', as_of, None),
        **options,
    )
    paths = run_paths(len(treatments))
    versions = [name for name in paths if name.endswith('_version')]
    return {
        'config': protos.to_message(settings, cassandra_pb2.ABEvaluatorConfig(), paths.values()),
        **cluster.declared(connection),
        'experiment_id': property_of(experiment_id),
        'window': property_of(window),
        'as_of': property_of(as_of, datetime.datetime.isoformat),
        **{name: property_of(arm.version) for name, arm in zip(versions, arms, strict=True)},
    }


def _checked(arm: Arm) -> Arm:
    return dataclasses.replace(arm, version=known('arm.version', arm.version, f'of {arm.name}'))


def _placeholder_window(step: datetime.timedelta | None) -> TimeWindow:
    """Returns a window to check a design with; it fits any step of the time series."""
    length = max(step or datetime.timedelta(days=1), MILLISECOND)
    return TimeWindow(EPOCH, shifted('series_step', EPOCH, length))


def from_properties(properties: Mapping[str, Any]) -> EvaluationOptions:
    """Returns the configuration of a run.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    message = protos.parsed(properties['config'], cassandra_pb2.ABEvaluatorConfig())
    paths = run_paths(len(message.design.treatments))
    given = {path: text(properties, name) for name, path in paths.items()} | cluster.resolved(properties)
    given[paths['window']] = TimeWindow.parse(given[paths['window']])
    given[paths['as_of']] = optional(properties, 'as_of', lambda moment: parse_moment('as_of', moment))
    return protos.from_message(EvaluationOptions, message, given)
