"""A compiled pipeline as a recurring run of Kubeflow Pipelines: the body of POST /apis/v2beta1/recurringruns."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Annotated, Any

from tfx_cassandra.components.checks import Count, Name, Rule, check_fields
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.pipelines.vertex_local.job import Job, load

# A moment in UTC, filled in by KFP; the format is that of Go's time package.
SCHEDULED = '[[ScheduledTime.2006-01-02T15:04:05Z]]'
_MACROS = ('[[ScheduledTime', '[[CurrentTime', '[[Index]]', '[[RunUUID]]')

Cron = Annotated[
    str, Rule('6 fields, the first of them seconds, such as "0 30 2 * * *"', lambda text: len(text.split()) == 6)
]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a pipeline runs, and as what.

    Attributes:
      name: Shown in the list of recurring runs.
      cron: When it runs, in UTC. KFP's expressions begin with seconds, and it would read one of 5 fields otherwise.
      experiment: Id of KFP's experiment; None for the default one.
      namespace: Profile of the user, where KFP has several; None for one without profiles.
      service_account: Of the steps' pods; None for KFP's.
      concurrency: How many of its runs may run at once.
      catch_up: Whether runs that were missed, while KFP was down or the schedule paused, are made up for.
    """

    name: Name
    cron: Cron
    experiment: Name | None = None
    namespace: Name | None = None
    service_account: Name | None = None
    concurrency: Count = 1
    catch_up: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


def payload(
    file: str | os.PathLike[str], schedule: Schedule, parameters: Mapping[str, Any], pipeline_root: str | None = None
) -> dict[str, Any]:
    """Returns the recurring run of a compiled pipeline, as JSON.

    Args:
      file: What `tfx-cassandra compile --to kfp` wrote.
      schedule: When it runs.
      parameters: Values by name; a text may hold KFP's macros, such as `SCHEDULED`.
      pipeline_root: URI of the artifacts; None for KFP's.

    Raises:
      ValueError: The file is no compiled pipeline, a parameter is unknown or has no value, or each run would reuse
        the first one's examples.
      PipelineError: The pipeline has parts that cannot be handled.
    """
    job = load(file)
    values = job.parameters(parameters)
    _check_advance(job, values)
    spec: dict[str, Any] = dict(job.spec)
    if job.platform:
        platforms = {'kubernetes': {'deploymentSpec': {'executors': dict(job.platform)}}}
        spec = {'pipeline_spec': spec, 'platform_spec': {'platforms': platforms}}
    optional = {
        'experiment_id': schedule.experiment,
        'namespace': schedule.namespace,
        'service_account': schedule.service_account,
    }
    return {
        'display_name': schedule.name,
        'pipeline_spec': spec,
        'runtime_config': {'parameters': values, **({'pipeline_root': pipeline_root} if pipeline_root else {})},
        'trigger': {'cron_schedule': {'cron': schedule.cron}},
        'max_concurrency': str(schedule.concurrency),  # an int64, which JSON of protos has as a text
        'mode': 'ENABLE',
        'no_catchup': not schedule.catch_up,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _check_advance(job: Job, values: Mapping[str, Any]) -> None:
    """Raises ValueError for a rolling span whose examples KFP would take out of its cache: equal inputs, equal key."""
    span = values.get('span')
    rolls = isinstance(span, str) and span and not span.strip().isdigit() and '"last"' not in span
    varies = any(isinstance(value, str) and any(macro in value for macro in _MACROS) for value in values.values())
    components = [job.spec['root'], *job.spec['components'].values()]
    tasks = [task for component in components for task in ((component.get('dag') or {}).get('tasks') or {}).values()]
    cached = any((task.get('cachingOptions') or {}).get('enableCache') for task in tasks)
    if rolls and cached and not varies:
        rule = f'with a parameter that differs from run to run, such as as_of={SCHEDULED}, or a pipeline without cache'
        raise invalid('span', span, f'{rule}: KFP would reuse the examples of the first run')
