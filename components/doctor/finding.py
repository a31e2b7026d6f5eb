"""What a check finds: a number that was seen, and the change that is proposed."""

from __future__ import annotations

import dataclasses

SEVERITIES = ('info', 'warning', 'error')  # from the least


@dataclasses.dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
      check: The check, such as 'partition-size'.
      severity: 'info' for what may be meant so, 'warning' for what will hurt, 'error' for what loses or fails data now.
      where: A table, node, keyspace or program.
      seen: What was seen, with its number and the limit.
      changes: What to do, in order or to choose from: CQL, lines of cassandra.yaml, nodetool, or a sentence.
    """

    check: str
    severity: str
    where: str
    seen: str
    changes: tuple[str, ...]

    def is_at_least(self, severity: str) -> bool:
        """Returns whether the finding is as severe as `severity`, or more."""
        return SEVERITIES.index(self.severity) >= SEVERITIES.index(severity)


def megabytes(size: float) -> str:
    """Returns a size in bytes as text, in units of 1,000,000 bytes."""
    return f'{size / 1e6:,.1f} MB'


def duration(seconds: float) -> str:
    """Returns seconds as text in the greatest unit of which there is at least one."""
    for unit, length in (('day', 86400), ('hour', 3600), ('minute', 60)):
        if abs(seconds) >= length:
            number = f'{seconds / length:.4g}'
            return f'{number} {unit}' if number == '1' else f'{number} {unit}s'
    return f'{seconds:.3g} s'
