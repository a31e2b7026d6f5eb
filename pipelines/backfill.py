"""Backfill: the examples of many days, a component each, in parallel; a run that stops is continued.

CassandraExampleGen of the first day, CassandraExampleGen of the second, ...
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable

from tfx import v1 as tfx

from tfx_cassandra.components import CassandraExampleGen
from tfx_cassandra.components.errors import invalid

MAX_DAYS = 1000  # components of one pipeline


def create_pipeline(
    name: str,
    state: str,
    first: str,
    last: str,
    example_gen: Callable[[str], CassandraExampleGen],
) -> tfx.dsl.Pipeline:
    """Builds the pipeline.

    Args:
      name: The pipeline's name, lower case with dashes.
      state: Folder or URI of the artifacts.
      first, last: Days in UTC, as 2013-01-31; both are included.
      example_gen: Returns the component of a day, given its window as text.

    Returns:
      The pipeline. Its components are called `day-2013-01-31`, depend on nothing, and allow caching, so that a runner
      reads several days at once and a second run reads those alone that have failed.

    Raises:
      ValueError: The days are not in order, or too many.
    """
    start, end = (_day(field, text) for field, text in (('first', first), ('last', last)))
    count = (end - start).days + 1
    if not 1 <= count <= MAX_DAYS:
        raise invalid('last', last, f'a day from {first} on, at most {MAX_DAYS} days in all')
    components = []
    for number in range(count):
        day = start + datetime.timedelta(days=number)
        window = f'{day}T00:00Z/{day + datetime.timedelta(days=1)}T00:00Z'
        components.append(example_gen(window).with_id(f'day-{day}'))
    return tfx.dsl.Pipeline(
        pipeline_name=name, pipeline_root=os.path.join(state, name), components=components, enable_cache=True
    )


def _day(field: str, text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise invalid(field, text, 'a day such as 2013-01-31') from error
