"""Notes what each fault was met with in a file of JSON lines, which tools/guarantees makes a table of."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tfx_cassandra.components.errors import TfxCassandraError

RESULTS = os.environ.get('TFX_CASSANDRA_FAULT_RESULTS')
EXECUTION = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')  # tells executions apart


class Outcome(NamedTuple):
    """What something ended with.

    Attributes:
      kind: 'equal' to the model, 'error' for one of the package's, or 'wrong'.
      said: The first line of the error.
    """

    kind: str
    said: str | None = None


def outcome_of(what: Callable[[], object]) -> Outcome:
    """Does something that raises MismatchError, or any error but the package's, where it is wrong."""
    try:
        what()
        return Outcome('equal')
    except Exception as error:
        kind = 'error' if isinstance(error, TfxCassandraError) else 'wrong'
        return Outcome(kind, f'{type(error).__name__}: {error}'.splitlines()[0])


def note(path: str, fault: str, outcome: Outcome, **facts: Any) -> None:
    """Adds a line to the file that TFX_CASSANDRA_FAULT_RESULTS names, or does nothing.

    Args:
      path: What was done.
      fault: What happened meanwhile.
      outcome: What it ended with.
      facts: What else the line has.
    """
    if RESULTS:
        line = {
            'path': path,
            'fault': fault,
            'outcome': outcome.kind,
            'said': outcome.said,
            'execution': EXECUTION,
            **facts,
        }
        with Path(RESULTS).open('a') as file:
            file.write(json.dumps(line) + '\n')
